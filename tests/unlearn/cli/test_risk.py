"""Risk classes on the command line: declared by `create`, told by `ingest`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner, Result

from unlearn.cli.app import app

CLASSES = ("--risk-class", "guest:0:*", "--risk-class", "member:1-3:0-1")
ROLES = ("--target", "y", "--subject", "who", "--record-id", "row")


def unlearn(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(item) for item in arguments], prog_name="unlearn")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def people(first: int, n: int) -> pa.Table:
    rows = range(first, first + n)
    owners = [f"guest {i}" if i % 3 == 0 else f"member {i}" for i in (row % 12 for row in rows)]
    return pa.table(
        {
            "row": [f"r{row}" for row in rows],
            "who": owners,
            "kind": [name.split()[0] for name in owners],
            "age": [row % 40 / 8 + 0.1 for row in rows],
            "income": [row % 7 + 0.25 for row in rows],
            "y": [("no", "yes")[row % 2] for row in rows],
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An empty workspace with two classes."""
    folder = tmp_path / "run"
    made = unlearn("create", folder, "--learner", "ridge", "--shards", 4, "--slices", 2, *CLASSES, "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["risk_classes"] == {
        "guest": {"shards": [0, 0], "slices": [0, 1]},
        "member": {"shards": [1, 3], "slices": [0, 1]},
    }
    return folder


def test_classes_from_a_file_and_from_a_folder(run: Path, tmp_path: Path) -> None:
    csv.write_csv(people(0, 36), tmp_path / "people.csv")
    (tmp_path / "parts").mkdir()
    parquet.write_table(people(36, 36), tmp_path / "parts" / "0.parquet")
    for source in ("people.csv", "parts"):
        taken = unlearn("ingest", run, tmp_path / source, *ROLES, "--risk", "kind", "--json")
        assert taken.exit_code == 0, taken.stderr
        assert json.loads(taken.stdout)["records"] == 36
    trained = unlearn("train", run, "--workers", 1)
    assert trained.exit_code == 0, trained.stderr
    done = unlearn("forget", run, "--subject", "guest 3", "--subject", "member 4", "--json")
    assert json.loads(done.stdout)["request"]["n_records"] == 12
    # The column of classes is no feature: a file without it will do.
    csv.write_csv(people(0, 5).drop_columns(["kind", "y"]), tmp_path / "new.csv")
    assert unlearn("predict", run, tmp_path / "new.csv").stdout.count("\n") == 6


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ((), "none is given: give risk, 'guest' or 'member'"),
        (("--risk", "age_group"), "age_group"),
        (("--risk", "y"), "no risk class of this name was declared"),
        (("--risk", "row"), "no risk class of this name was declared"),
    ],
)
def test_ingest_says_what_is_wrong(column: tuple[str, ...], message: str, run: Path, tmp_path: Path) -> None:
    csv.write_csv(people(0, 36), tmp_path / "people.csv")
    said = unlearn("ingest", run, tmp_path / "people.csv", *ROLES, *column)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1
    assert message in said.stderr


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("guest",), 2, "is not NAME:SHARDS:SLICES"),
        (("guest:0",), 2, "is not NAME:SHARDS:SLICES"),
        ((":0:*",), 2, "is not NAME:SHARDS:SLICES"),
        (("guest:a:*",), 2, "is not NAME:SHARDS:SLICES"),
        (("guest:0-1-2:*",), 2, "is not NAME:SHARDS:SLICES"),
        (("guest:0:*", "guest:1:*"), 2, "given twice"),
        (("guest:4:*", "member:*:*"), 1, "they are 0 to 3"),
        (("guest:2-1:*", "member:*:*"), 1, "follow each other"),
        (("guest:0:*",), 1, "shard 1, so it would stay empty"),
    ],
)
def test_create_says_what_is_wrong(options: tuple[str, ...], status: int, message: str, tmp_path: Path) -> None:
    classes = [item for text in options for item in ("--risk-class", text)]
    said = unlearn("create", tmp_path / "run", "--learner", "ridge", "--shards", 4, "--slices", 2, *classes)
    assert (said.exit_code, said.stdout) == (status, "")
    assert message in " ".join(said.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
