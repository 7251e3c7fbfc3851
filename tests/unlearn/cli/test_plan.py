"""`unlearn plan`: what it prints where, and how it exits."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unlearn.cli.app import app
from unlearn.cli.plan import EXAMPLE

SMALL = "plan --records 50000 --subjects 5000 --requests-per-day 3 --visits-per-second 4000 --cores 2"
CURVE = "--accuracy 1:0.95,20:0.93,100:0.88 --worst-accuracy 0.92"
NOWHERE = f"{SMALL} --effect-hours 0.001 --most-behind 0.000001"


def unlearn(line: str) -> Result:
    result = CliRunner().invoke(app, shlex.split(line), prog_name="unlearn")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(line: str, status: int = 0) -> Any:
    result = unlearn(f"{line} --json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def test_a_plan_in_words() -> None:
    said = unlearn(f"{SMALL} {CURVE} --deadline-hours 24 --current 4x2 --simulate 60")
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith("recommended: sharded training, 20 x ")
    for text in (
        "Sharding pays",
        "now",
        "certified(ε, δ)",
        "simulated 60 days",
        "To switch",
        "Left undone",
        "0.930",
        "by number of shards",
    ):
        assert text in said.stdout


def test_a_plan_for_machines() -> None:
    found = document(f"{SMALL} {CURVE} --deadline-hours 24 --simulate 60 --risk 0.1:0.8 --seed 3")
    chosen = found["plan"]["chosen"]
    assert (chosen["family"], chosen["guarantee"], chosen["design"]["shards"]) == ("sharded training", "exact", 20)
    assert chosen in found["plan"]["options"]
    assert found["constraints"]["risks"] == [{"subjects": 0.1, "requests": 0.8}]
    assert found["simulated"]["requests"] > 100
    assert document(f"{SMALL} --deadline-hours 24")["simulated"] is None


def test_a_plan_that_keeps_classes_apart() -> None:
    skewed = f"{SMALL} {CURVE} --deadline-hours 24 --risk 0.05:0.8 --current 20x5"
    apart = f"{skewed} --risk-class guest:0:* --risk-class member:1-19:2-4"
    found = document(apart)["plan"]
    assert found["current"]["design"]["regions"] == [
        {"shards": [0, 0], "slices": None},
        {"shards": [1, 19], "slices": [2, 4]},
    ]
    assert "risk classes apart" in unlearn(apart).stdout
    assert (
        found["current"]["predicted"]["visits_per_day"]
        < document(skewed)["plan"]["current"]["predicted"]["visits_per_day"]
    )


def test_the_examples_of_the_help_run() -> None:
    lines = EXAMPLE.replace("\\\n", "").splitlines()[2:]
    assert len(lines) == 5
    for line in lines:
        result = unlearn(line.strip().removeprefix("unlearn "))
        assert result.exit_code == 0, (line, result.output)


def test_families_are_explained() -> None:
    said = unlearn(f"{SMALL} {CURVE} --deadline-hours 24 --explain --least exact")
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith("fits the situation: compartmentalisation, exact (the cheapest by the cost model")
    assert "Meanwhile output control can hide it; that removes nothing." in said.stdout
    assert "output control, suppression (not removal)." in said.stdout
    found = document(f"{SMALL} --explain --convex --access weights,data")
    assert found["situation"]["access"] == ["data", "weights"]
    assert found["explained"]["recommended"]["claim"] == "certified"
    assert len(found["explained"]["advice"]) == 6


def test_no_family_fits() -> None:
    line = f"{SMALL} --explain --access logits"
    said = unlearn(line)
    assert (said.exit_code, said.stderr) == (1, "error: no family keeps the situation\n")
    assert document(line, status=1)["explained"]["recommended"] is None


def test_nothing_fits() -> None:
    said = unlearn(NOWHERE)
    assert (said.exit_code, said.stderr) == (1, "error: nothing that is exact keeps the constraints\n")
    assert "does not fit" in said.stdout
    assert document(NOWHERE, status=1)["plan"]["chosen"] is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--subjects 50001", "subjects must be from 1"),
        ("--accuracy 1:0.9", "belong together"),
        ("--risk 0.5:0.9,0.6:0.1", "more than 1"),
        ("--simulate 0.001", "simulate longer"),
        ("--current 20x5 --risk 0.1:0.5 --risk-class a:0:*", "places 1 risk classes"),
        ("--explain --epsilon 0", "epsilon must be a positive number, not 0.0"),
        ("--explain --unknown-records", "cannot name the records"),
        ("--current 20x5 --risk 0.1:0.5 --risk-class a:20:* --risk-class b:*:*", "they are 0 to 19"),
    ],
)
def test_constraints_that_make_no_sense_are_one_line(more: str, message: str) -> None:
    said = unlearn(f"{SMALL} {more}")
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1
    assert message in said.stderr


@pytest.mark.parametrize(
    "line",
    [
        "plan",
        "plan --records many --requests-per-day 3 --visits-per-second 4000",
        "plan --records 1.5 --requests-per-day 3 --visits-per-second 4000",
        "plan --records inf --requests-per-day 3 --visits-per-second 4000",
        f"{SMALL} --cores 0",
        f"{SMALL} --accuracy 20 --worst-accuracy 0.9",
        f"{SMALL} --accuracy 1.5:0.9 --worst-accuracy 0.9",
        f"{SMALL} --risk 0.5",
        f"{SMALL} --current 20",
        f"{SMALL} --explain --access data,keys",
        f"{SMALL} --explain --least removal",
        f"{SMALL} --least exact",
        f"{SMALL} --explain --simulate 90",
        f"{SMALL} --current 0x5",
        f"{SMALL} --current 2x5 --risk-class guest",
    ],
)
def test_misuse(line: str) -> None:
    said = unlearn(line)
    assert (said.exit_code, said.stdout) == (2, "")
    assert "Traceback" not in said.stderr
