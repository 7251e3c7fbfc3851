"""What people are likeliest to get wrong on the command line, and what they are told: what, where, what to do.

Each ends with one line and status 1, or, where the command line itself is wrong, with status 2. Nothing is changed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unlearn.cli.test_cli import ROLES, document, refused, unlearn, write_people
from tests.unlearn.helpers import held, logical
from unlearn import Workspace
from unlearn.cli.build import say_empty

HEADER = "row,person,age,income,buys\n"

FILES = {
    "empty.csv": "",
    "header.csv": HEADER,
    "missing.csv": HEADER + "n1,x1,,0.5,no\n",
    "unlabelled.csv": HEADER + "n1,x1,30,0.5,\nn2,x2,30,0.5,no\n",
    "words.csv": HEADER + "n1,x1,old,0.5,no\n",
    "not_available.csv": HEADER + "n1,x1,30,0.5,no\nn2,NA,30,0.5,no\nn3,,30,0.5,no\n",
    "cities.csv": "row,person,city,buys\nn1,x1,Leeds,a\nn2,x2,Rome,b\n",
    "third.csv": HEADER + "n1,x1,30,0.5,perhaps\n",
    "wider.csv": "row,person,age,income,height,buys\nn1,x1,30,0.5,180,no\n",
    "no_target.csv": "row,person,age,income\nn1,x1,30,0.5\n",
    "semicolons.csv": "row;person;age;income;buys\nn1;x1;30;0.5;no\n",
    "commas.csv": "row;person;age;income;buys\nn1;x1;30;0,5;no\n",
    "longer.csv": "row,person,age,income,buys\nn1,x1,30,0.5,no\nn2,somebody,30,0.5,no,more\n",
    "broken.py": "import no_such_package\n",
    "raising.py": "raise RuntimeError('the data is not here')\n",
    "typo.py": "def net(input_shape, n_outputs)\n    return 1\n",
    "note.txt": "mine",
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained workspace that has forgotten somebody, another without records, and what goes wrong."""
    home = tmp_path_factory.mktemp("likely")
    write_people(home / "people.csv")
    for name, text in FILES.items():
        (home / name).write_text(text, encoding="utf-8")
    (home / "latin.csv").write_bytes((HEADER + "n1,J\xf6rg,30,0.5,no\n").encode("latin-1"))
    np.savez(home / "no_y.npz", X=np.ones((3, 2)))
    (home / "foreign").mkdir()
    (home / "foreign" / "note.txt").write_text("mine")
    for arguments in (
        ("create", home / "run", "--learner", "sgd", "--shards", 2, "--slices", 1, "--random-state", 0),
        ("ingest", home / "run", home / "people.csv", *ROLES),
        ("train", home / "run", "--workers", 1),
        ("forget", home / "run", "--subject", "w3", "--idempotency-key", "case-1"),
        ("create", home / "fresh", "--learner", "sgd", "--classes", "a,b"),
        ("key", home / "fresh", "--output", home / "other.pem"),
    ):
        assert unlearn(*arguments).exit_code == 0, arguments
    shutil.copy(next((home / "run" / "receipts").iterdir()), home / "receipt.json")
    return home


@pytest.fixture
def home(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the current one; mistakes change nothing in it."""
    monkeypatch.chdir(pristine)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return pristine


MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a wrong path": ("train nowhere", ("nowhere is not a workspace", "unlearn create")),
    "a folder of somebody else": ("train foreign", ("foreign is not a workspace", "unlearn create")),
    "creating into a folder that is in use": ("create foreign --learner sgd", ("not empty", "choose another folder")),
    "a file that is not there": ("ingest run peple.csv {roles}", ("peple.csv is not a file", "give the path")),
    "no such column": (
        "ingest run people.csv --target buy --subject person --record-id row",
        ("no target column 'buy'", "'age', 'income', 'buys'"),
    ),
    "no such subject column": (
        "ingest run people.csv --target buys --subject pesron --record-id row",
        ("no subject column 'pesron'", "'person'"),
    ),
    "no column named": ("ingest run people.csv", ("people.csv: no target column named", "'buys'")),
    "labels missing": ("ingest run no_target.csv {roles}", ("no target column 'buys'", "'age', 'income'")),
    "a label missing": ("ingest run unlabelled.csv {roles}", ("'buys' misses a value in row 0", "fill in or drop")),
    "arrays without labels": ("ingest run no_y.npz", ("no_y.npz holds arrays ['X']", "expected X (or x) and y")),
    "an unknown subject": ("forget run --subject nobody", ("'nobody'", "check the ids", "nothing was changed")),
    "a subject taken for a record": ("forget run --record w5", ("'w5'", "whether they name subjects or records")),
    "a class that was not declared": (
        "ingest run third.csv {roles}",
        ("'perhaps'", "declared are 'no', 'yes'", "correct y, or declare every class"),
    ),
    "other classes than declared": ("ingest fresh people.csv {roles}", ("'no', 'yes'; declared are 'a', 'b'",)),
    "training before ingest": ("train fresh", ("fresh holds no records yet", "ingest some first")),
    "predicting before training": ("predict fresh people.csv", ("fresh holds no records", "ingest and train first")),
    "forgetting twice": ("forget run --subject w3", ("forgotten before ('w3')", "leave them out, or repeat")),
    "an idempotency key for somebody else": (
        "forget run --subject w5 --idempotency-key case-1",
        ("'case-1' was used for another request",),
    ),
    "ingesting twice": ("ingest run people.csv {roles}", ("already in the workspace", "give new records other ids")),
    "verifying with the wrong key": (
        "verify receipt.json --public-key other.pem",
        ("step 2 (the signature): no trusted key signed it", "issued by somebody else"),
    ),
    "a key that is not there": ("verify receipt.json --public-key no.pem", ("no.pem", "check the path")),
    "a key that is none": ("verify receipt.json --public-key note.txt", ("no public key in PEM", ".pub.pem")),
    "a receipt that is none": ("verify note.txt --public-key other.pem", ("step 1 (the file)", "JSON")),
    "a factory that is not there": ("create x --learner nets:net", ("'nets:net' leads nowhere", "check the name")),
    "a factory whose import is not there": ("create x --learner broken:net", ("no_such_package", "check the name")),
    "a factory with a typing error": ("create x --learner typo:net", ("expected ':' (typo.py, line 1)",)),
    "a factory that raises": (
        "create x --learner raising:net",
        ("RuntimeError while it was imported (the data is not here)", "repair it", "--debug"),
    ),
    "a learner's name with a typing error": ("create x --learner mpl", ("no learner 'mpl'", "did you mean mlp?")),
    "a dot for a colon": (
        "create x --learner sklearn.linear_model.SGDClassifier",
        ("did you mean sklearn.linear_model:SGDClassifier?",),
    ),
    "a missing value": ("ingest run missing.csv {roles}", ("'age' misses a value in row 0", "fill in or drop")),
    "a value called NA": (
        "ingest run not_available.csv {roles}",
        (
            "'person' misses a value in row 1 and 1 more, counted from 0",
            "an empty cell, NA, N/A, null and nan without quotes",
        ),
    ),
    "a column of words": (
        "ingest fresh cities.csv {roles}",
        ("SGDClassifier takes numbers and no text (city)", "a pipeline that begins with a ColumnTransformer"),
    ),
    "words among numbers": ("ingest run words.csv {roles}", ("hold text", "'age'", "correct those values")),
    "another shape in a later batch": (
        "ingest run wider.csv {roles}",
        ("['age', 'income', 'height'], but the first batch declared ['age', 'income']", "nothing was changed"),
    ),
    "another shape to predict from": (
        "predict run wider.csv --features age,income,height",
        ("names 3 of the 2 columns", "give age, income, or leave the option out"),
    ),
    "an empty file": ("ingest run empty.csv {roles}", ("empty.csv cannot be read as csv (Empty CSV file)",)),
    "a header alone": ("ingest run header.csv {roles}", ("no rows below it", "give a file with records")),
    "another encoding": ("ingest run latin.csv {roles}", ("latin.csv cannot be read", "save it as UTF-8")),
    "another separator": ("ingest run semicolons.csv {roles}", ("separated by ';'", "save it with commas")),
    "another separator, and commas": ("ingest run commas.csv {roles}", ("separated by ';'", "save it with commas")),
    "a row too long": ("ingest run longer.csv {roles}", ("Expected 5 columns, got 6 in a row)", "correct it")),
    "a request that is not there": ("status run req-0", ("knows no request 'req-0'", "`unlearn status` lists them")),
    "an artefact that is not there": ("retire run art-0", ("no artefact 'art-0'", "`unlearn artefacts` lists them")),
    "a file to write in no folder": (
        "predict run people.csv --out no/such/out.csv",
        ("no/such/out.csv", "No such file", "check the path"),
    ),
    "a method for a sharded model": ("forget run --subject w9 --method scrub", ("one model", "leave the method out")),
    "a method's name with a typing error": (
        "forget run --subject w9 --method scrubb",
        ("no method 'scrubb'", "did you mean 'scrub'?"),
    ),
    "an attack's name with a typing error": (
        "audit run --records people.csv {roles} --held-out people.csv --attack los",
        ("no attack 'los'", "did you mean 'loss'?"),
    ),
    "an audit before recovery": ("audit run --records people.csv {roles}", ("nothing to compare", "unlearn recover")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(home: Path, mistake: str) -> None:
    line, said = MISTAKES[mistake]
    before = logical(home / "run")
    message = refused(*line.format(roles=" ".join(ROLES)).split())
    for text in said:
        assert text in message
    assert logical(home / "run") == before
    assert not (home / "x").exists()


MISUSES = {
    "an option's name with a typing error": ("create x --lerner sgd", "--learner"),
    "an option cut short": ("create x --learner sgd --shard 3", "--shards"),
    "a command with a typing error": ("trian run", "'train'"),
    "a word for a number": ("create x --learner sgd --shards many", "--shards"),
    "a day that is none": ("submit run --subject w9 --deadline tomorrow", "%Y-%m-%d"),
    "an option of all commands after one": ("forget run -q", "-q stands before the command: unlearn -q forget"),
    "nobody named": ("forget run", "give --subject, --record or --ids-from"),
    "replay without the workspace": ("verify receipt.json --public-key other.pem --replay", "the workspace is needed"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_names_what_was_meant(home: Path, misuse: str) -> None:
    line, said = MISUSES[misuse]
    message = refused(*line.split(), status=2)
    assert said in " ".join(message.replace("│", " ").split())
    assert not (home / "x").exists()


def test_a_workspace_that_another_process_writes_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearn.workspace.LOCK_SECONDS", 0.05)
    monkeypatch.setattr(Workspace._writing.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    workspace = Workspace.open(home / "run")
    with held(workspace) as pid:
        message = refused("forget", "run", "--subject", "w9")
    workspace.close()
    assert f"process id {pid}" in message
    assert "nothing was changed" in message


def test_a_folder_that_may_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refused("create", "x", "--learner", "sgd")
    assert "Read-only file system" in message
    assert str(home / "x") in message


def test_an_extra_that_is_not_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 'pip install "sisa-unlearn[ray]"' in refused("train", "run", "--executor", "ray")


def test_a_database_that_is_gone(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    (tmp_path / "run" / "ledger.db").unlink()
    message = refused("status", tmp_path / "run")
    assert "ledger.db is missing: restore it from a copy" in message


def test_a_deadline_that_has_passed_is_pointed_out(home: Path, tmp_path: Path) -> None:
    """It may be so, for a request that came late: it is accepted, and shown as overdue."""
    run = shutil.copytree(home / "run", tmp_path / "run")
    said = unlearn("submit", run, "--subject", "w9", "--deadline", "2020-01-01")
    assert said.exit_code == 0
    assert "2020-01-01 00:00:00 UTC, which has passed" in said.stdout
    assert "which has passed" not in unlearn("submit", run, "--subject", "w11").stdout
    (request,) = [item["id"] for item in document("status", run)["request_list"] if "2020" in item["deadline"]]
    overdue = unlearn("status", run, "--overdue", "--json")
    assert overdue.exit_code == 1
    assert [item["id"] for item in json.loads(overdue.stdout)] == [request]


def test_too_many_shards_for_the_records_are_pointed_out(home: Path, tmp_path: Path) -> None:
    lines = Path("people.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    document("create", tmp_path / "run", "--learner", "sgd", "--shards", 9, "--slices", 1)
    document("ingest", tmp_path / "run", tmp_path / "few.csv", *ROLES)
    said = unlearn("train", tmp_path / "run", "--workers", 1).stdout
    assert "of 9 shards have no records and abstain: for 4 records, fewer shards learn more" in said


@pytest.mark.parametrize(
    ("serving", "behind", "aggregation", "told"),
    [(4, (), "mean", True), (9, (), "mean", False), (4, (5,), "mean", False), (4, (), "sum", False)],
)
def test_only_shards_that_stay_empty_are_pointed_out(
    serving: int, behind: tuple[int, ...], aggregation: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    status = SimpleNamespace(serving=serving, n_shards=9, behind=behind, records=4)
    say_empty(SimpleNamespace(status=lambda: status, declaration=SimpleNamespace(aggregation=aggregation)))  # type: ignore[arg-type]
    assert ("abstain" in capsys.readouterr().out) is told
