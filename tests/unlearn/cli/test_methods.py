"""`unlearn methods`: what it prints where, and how it exits."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unlearn.cli.app import app
from unlearn.cli.methods import EXAMPLE, MEANINGS
from unlearn.methods import METHODS
from unlearn.methods.base import Guarantee


def unlearn(line: str) -> Result:
    result = CliRunner().invoke(app, shlex.split(line), prog_name="unlearn")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(line: str) -> Any:
    result = unlearn(f"{line} --json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_table_names_every_method_with_its_guarantee() -> None:
    said = unlearn("methods")
    assert (said.exit_code, said.stderr) == (0, "")
    rows = [[part.strip() for part in line.split("│")[1:-1]] for line in said.stdout.splitlines() if "│" in line]
    assert [(row[0], row[1]) for row in rows if row[0]] == [
        (name, method.card.guarantee.value) for name, method in METHODS.items()
    ]
    assert "empirical: nothing is guaranteed" in said.stdout


def test_the_meaning_of_every_guarantee_is_known() -> None:
    assert set(MEANINGS) == {guarantee.value for guarantee in Guarantee}


@pytest.mark.parametrize("name", METHODS)
def test_one_method_is_shown_in_full(name: str) -> None:
    card, config = METHODS[name].card, METHODS[name].config
    said = unlearn(f"methods {name}").stdout
    flat = " ".join(said.split())
    for text in (card.title, f"guarantee: {card.guarantee.value}", card.statement, card.citation, *card.published):
        assert " ".join(text.split()) in flat
    for field in dataclasses.fields(config):
        assert f"│ {field.name} " in said


def test_machines_read_the_same() -> None:
    listed = document("methods")["methods"]
    assert [item["name"] for item in listed] == list(METHODS)
    shown = document("methods scrub-rewind")
    assert shown in listed
    assert shown["guarantee"] == "empirical"
    assert "held-out set" in shown["needs"]
    defaults = {item["name"]: item["default"] for item in shown["settings"]}
    assert defaults == dataclasses.asdict(METHODS["scrub_rewind"].config())
    # Every setting says what it is, also those that are documented where they are inherited from.
    assert all(item["description"] for method in listed for item in method["settings"])


def test_a_name_nobody_has_is_a_misuse() -> None:
    for name, hint in (("scrubb", "did you mean 'scrub'?"), ("?", "there are retrain, fine_tune")):
        said = unlearn(f"methods {name}")
        assert (said.exit_code, said.stdout) == (2, "")
        assert hint in " ".join(said.stderr.replace("│", " ").split())


@pytest.mark.parametrize("line", [line.strip() for line in EXAMPLE.splitlines() if line.startswith("  ")])
def test_examples_of_the_help_run(line: str) -> None:
    assert unlearn(line.removeprefix("unlearn ")).exit_code == 0
