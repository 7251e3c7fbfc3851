"""`unlearn emulate`: a file of synthetic records, its guarantee beside it, and a workspace that trains on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from unlearn.cli.app import app
from unlearn.cli.emulate import METADATA

COLUMNS = "age,income,person,label"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for row in range(1500):
        kind = rng.integers(2)
        lines.append(
            f"{40 + 30 * kind + rng.normal():.3f},{1e4 + 1e5 * kind:.0f},p{row // 3},{'yes' if kind else 'no'}"
        )
    path = tmp_path / "people.csv"
    path.write_text("\n".join([COLUMNS, *lines]) + "\n", encoding="utf-8")
    return path


def run(people: Path, *arguments: str, output: str = "synthetic.parquet") -> tuple[int, str, Path]:
    to = people.parent / output
    usual = ["--target", "label", "--classes", "no,yes", "--epsilon", "5", "--delta", "1e-5", "--n", "800"]
    found = CliRunner().invoke(app, ["emulate", str(people), *usual, "--output", str(to), *arguments])
    return found.exit_code, found.output, to


LARGE = ("--option", 'features={"map": "raw", "unit": 1, "limit": 2e5}')
BOUNDS = ("--subject", "person", "--bounds", "0:120", "--bounds", "income=0:2e5")


def test_its_guarantee_goes_along(people: Path) -> None:
    status, said, to = run(people, *BOUNDS, "--json")
    assert status == 0, said
    table, document = pyarrow.parquet.read_table(to), json.loads(said)
    assert table.column_names == ["age", "income", "label"]
    assert table.num_rows == document["records"] == 800
    assert json.loads(table.schema.metadata[METADATA]) == document["guarantee"]
    assert document["guarantee"]["epsilon"] == pytest.approx(5, abs=1e-6)
    age, label = table["age"].to_numpy(), np.array(table["label"].to_pylist())
    assert np.median(age[label == "yes"]) > np.median(age[label == "no"]) + 15


def test_a_workspace_trains_on_it(people: Path) -> None:
    _, said, to = run(people, *BOUNDS, output="synthetic.csv")
    assert "800 synthetic records written" in said
    assert "epsilon 5 at delta 1e-05 for each subject" in said
    where = str(people.parent / "w")
    for command in (
        ["create", where, "--learner", "gaussian_nb", "--shards", "2", "--slices", "1", *LARGE],
        ["ingest", where, str(to), "--target", "label"],
        ["train", where],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bounds", "0:120"), "every feature must be a number"),
        (("--subject", "person", "--bounds", "age=0:120"), "--bounds: income has none; features are age, income"),
        (("--subject", "person", "--bounds", "0:1", "--bounds", "ages=0:1"), "--bounds: ages is no feature"),
        (("--subject", "person", "--bounds", "0-120"), "is not [COLUMN=]LOW:HIGH"),
        (("--subject", "person", "--bounds", "0:120", "--delta", "1.5"), "delta between 0 and 1, got 5.0 and 1.5"),
    ],
)
def test_refused(people: Path, arguments: tuple[str, ...], message: str) -> None:
    status, said, to = run(people, *arguments)
    assert status in {1, 2}
    assert message in " ".join(said.replace("│", " ").split())
    assert not to.exists()


def test_another_kind_of_file_is_refused_before_anything_is_read(people: Path) -> None:
    status, said, _ = run(people, *BOUNDS, output="synthetic.xlsx")
    assert status == 1
    assert "name a .parquet or .csv file" in said


def test_nothing_is_overwritten(people: Path) -> None:
    before = people.read_bytes()
    status, said, _ = run(people, *BOUNDS, output=people.name)
    assert status == 1
    assert "is there already" in said
    assert people.read_bytes() == before
    assert list(people.parent.iterdir()) == [people]
