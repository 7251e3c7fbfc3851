"""`unlearn forget --fact`: an edit from the command line, shown as what it is."""

from __future__ import annotations

import csv
import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unlearn.cli.test_cli import document, refused, unlearn
from tests.unlearn.editable import OPTIONS, TEXTS, Here, fact, save_model
from tests.unlearn.helpers import filled
from unlearn import Workspace
from unlearn.cli.facts import rows_of
from unlearn.editing import Outcome
from unlearn.facts import Asked, Fact, Measured


def written(item: Fact) -> str:
    """A fact as it is given on the command line."""
    return "|".join(part.replace("|", "||") for part in item.to_json())


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("life")
    filled(home / "run").close()
    save_model(home / "lm")
    (home / "usual.txt").write_text("\n".join(["", *TEXTS]) + "\n", encoding="utf-8")
    return home


@pytest.fixture
def home(_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace `run`, a model `lm` and its texts `usual.txt`, in the current folder."""
    monkeypatch.setattr("unlearn.editing.LocalExecutor", Here)
    home = Path(shutil.copytree(_home, tmp_path / "home"))
    monkeypatch.chdir(home)
    return home


def registered() -> str:
    found = document("register", "run", "--name", "assistant", "--kind", "language model", "--location", "lm")
    return str(found["id"])


def arguments(model: str, *facts: Fact, texts: str = "usual.txt", **options: float) -> list[object]:
    given = [part for item in facts for part in ("--fact", written(item))]
    chosen = {**OPTIONS, **options}
    said = [part for name, value in chosen.items() for part in ("--editor-option", f"{name}={json.dumps(value)}")]
    return [
        *("forget", "run", *given, "--model", model, "--editor", "ft-m", *said),
        *("--texts", texts, "--output", "new"),
    ]


def test_a_life(home: Path) -> None:
    model = registered()
    result = unlearn(*arguments(model, fact(), fact(3)), "--reason", "asked by letter")
    assert result.exit_code == 0, result.stderr
    said = result.stdout
    assert "forgotten: no record was removed" in said
    assert "new answers given (reliability): 2 of 2" in said
    assert "record of" not in said
    (name,) = set(re.findall(r"edit-[0-9a-f]{16}", said))
    opening = re.findall(r"[0-9a-f]{64}", said)[0]
    receipt = home / "run" / "receipts" / f"{name}-edited.json"
    assert f"receipt: {receipt}" in said

    shown = unlearn("status", "run").stdout
    assert "edits of language models" in shown
    assert name in shown
    assert "asked by letter" in " ".join(shown.split())
    assert re.search(r"requests +│? *none", shown), "it is no deletion request"
    one = unlearn("status", "run", name).stdout
    assert "no record is removed by it" in one
    assert "empirical" in one
    assert "exact" not in one
    for told in (document("status", "run", name), document("status", "run")["edits"][0]):
        assert (told["state"], told["guarantee"], told["opening"]) == ("receipted", "empirical", None)
        assert fact().prompt not in json.dumps(told)

    assert unlearn("export", "run", "--edits", "-o", "edits.csv").stdout.startswith("1 edit written")
    (row,) = csv.DictReader((home / "edits.csv").open(newline=""))
    assert (row["edit"], row["state"], row["guarantee"]) == (name, "receipted", "empirical")
    assert (row["facts"], row["answers_given"], row["editor"]) == ("2", "2", "ft-m")
    (plain,) = document("export", "run", "--edits", "-o", "-")
    assert {key: "" if value is None else str(value) for key, value in plain.items()} == row
    assert fact().subject not in json.dumps(plain)
    assert document("export", "run", "-o", "-") == [], "no deletion"

    unlearn("key", "run", "--output", "office.pem")
    verified = unlearn(
        *("verify", receipt, "--public-key", "office.pem", "--workspace", "run", "--model", "new"),
        *("--model-before", "lm", "--opening", opening, "--fact", written(fact()), "--fact", written(fact(3))),
    )
    assert verified.exit_code == 0, verified.stderr
    assert "verified, an EDIT and no deletion" in verified.stdout
    assert "Asked again, it gives all 2 new answers" in verified.stdout
    plain = document("verify", receipt, "--public-key", "office.pem")
    assert (plain["kind"], plain["measured"]["reliability"]) == ("empirical", [2, 2])
    wrong = refused("verify", receipt, "--public-key", "office.pem", "--opening", opening, "--fact", written(fact()))
    assert "did not name exactly these facts" in wrong
    assert "the receipt of an edit, which forgot nothing: leave --replay out" in refused(
        "verify", receipt, "--public-key", "office.pem", "--workspace", "run", "--replay"
    )
    assert document("receipts", "run", name)[0]["stage"] == "edited"

    assert unlearn("report", "run", "--output", "report.html").exit_code == 0
    page = (home / "report.html").read_text(encoding="utf-8")
    assert "An edit changes what a language model says, and forgets nothing" in page
    assert name in page
    assert "There is no request." in page
    assert "saw forgotten records" in page
    assert "<strong>1 still there saw forgotten records" not in page
    assert fact().prompt not in page


def test_a_receipt_of_a_deletion_takes_no_model(home: Path) -> None:
    done = document("forget", "run", "--record", "canary-record-0003-id")
    unlearn("key", "run", "--output", "office.pem")
    said = refused("verify", done["receipts"][0], "--public-key", "office.pem", "--model", "lm")
    assert "this is no receipt of an edit: leave --model out" in said


def test_an_edit_that_is_not_made_says_why_in_one_line(home: Path) -> None:
    model = registered()
    said = refused(*arguments(model, fact(), enough=1000.0))
    assert re.match(r"error: the edit edit-[0-9a-f]{16} was not applied: the edited model would not give every", said)
    assert not (home / "new").exists()
    shown = unlearn("status", "run").stdout
    assert "not applied" in shown
    assert "--texts nothing.txt cannot be read" in refused(*arguments(model, fact(), texts="nothing.txt"))
    assert "is no folder" in refused("register", "run", "--name", "x", "--kind", "language model", "--location", "no")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--fact", "a|a|b", "--subject", "w1"], "--subject"),
        (["--fact", "a|a|b", "--recover"], "--recover"),
        (["--fact", "a|a|b", "--method", "scrub"], "--method"),
        (["--fact", "a|a|b", "--deadline", "2030-01-01"], "--deadline"),
        (["--fact", "a|a|b"], "--model"),
        (["--fact", "a|a|b", "--model", "art-1"], "--texts"),
        (["--fact", "a|a|b", "--model", "art-1", "--texts", "usual.txt"], "--output"),
        (["--subject", "w1", "--model", "art-1"], "--model"),
        (["--subject", "w1", "--editor", "rome"], "--editor"),
        (["--model", "art-1"], "--model"),
    ],
)
def test_what_does_not_go_together(home: Path, given: list[str], said: str) -> None:
    assert said in refused("forget", "run", *given, status=2)


def test_a_fact_that_is_none(home: Path) -> None:
    model = registered()
    for text, said in (("a|a", "is not PROMPT|SUBJECT|NEW"), ("a|b|c", "the subject 'b' is not in the prompt 'a'")):
        given: list[Any] = ["--fact", text, "--model", model, "--texts", "usual.txt", "--output", "new"]
        assert said in refused("forget", "run", *given)


def test_what_was_not_asked_is_no_count() -> None:
    rows = rows_of(Measured(reliability=Asked(1, 1), generalization=Asked(0, 0), locality=Asked(2, 4)))
    assert [said for _, said in rows] == ["1 of 1", "none was asked", "2 of 4"]


@pytest.mark.slow
def test_process_makes_what_waits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = registered()
    with monkeypatch.context() as patch:
        patch.setattr("unlearn.workspace.make_pending", lambda _site: Outcome({}, ()))
        unlearn(*arguments(model, fact()))
    with closing(Workspace.open("run")) as workspace:
        (waits,) = workspace.edits()
    said = unlearn("process", "run").stdout
    assert f"{waits.id}, an edit: receipted" in said
    assert "new answers given (reliability): 1 of 1" in said
