"""The index of experiments: current, complete, with figures of the results alone; and running them all goes on."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import __main__ as runner
from experiments.index import HERE, SENTENCES, Experiment, duration, experiments, finding, read, table

NAMES = [item.name for item in experiments()]


def made(result: Any = None, **changes: Any) -> Experiment:
    """An experiment."""
    usual = {"question": "Why?", "command": "python -m experiments.why", "quick": None, "data": (), "picture": None}
    return Experiment(**{"name": "why", "result": result, **usual, **changes})


def test_the_table_is_current() -> None:
    """If not: python -m experiments.index."""
    assert table(experiments()) in (HERE / "README.md").read_text(encoding="utf-8")


def test_every_experiment_is_in_the_table() -> None:
    folders = {path.parent.name for path in HERE.glob("*/result.json")}
    assert folders <= set(NAMES)
    index = (HERE / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"({name}/README.md)" in index
    for link in re.findall(r"\]\(([^)]+)\)", index):
        assert (HERE / link).is_file(), link


def test_sentences_are_of_experiments_there_are() -> None:
    assert set(SENTENCES) <= set(NAMES)


def test_figures_come_from_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SENTENCES, "why", "found {a.b:c|.1%} and {d|,.0f}")  # type: ignore[arg-type]
    figures = [{"name": "a.b:c", "value": 0.125, "passed": True}, {"name": "d", "value": 1234.4, "passed": False}]
    assert finding(made({"figures": figures})) == "found 12.5 % and 1,234; 1 of 2 goals reached"
    assert finding(made({"figures": figures[:1]})) == "1 of 1 goals reached"
    assert finding(made({"figures": []})) == ""


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"seconds": 42.4}, "42 s"),
        ({"seconds": 119.0}, "2 min"),
        ({"seconds": 9000}, "2.5 h"),
        ({"processor_seconds": 240}, "4 min of processor time"),
        ({"minutes": 5.1}, "5 min"),
        ({}, ""),
        ({"seconds": 42.4, "command": "python -m experiments.why --quick"}, ""),
    ],
)
def test_durations(result: Any, said: str) -> None:
    assert duration(made(result)) == said


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "# Why?\n\n    python -m experiments.why             # minutes\n    python -m experiments.why --quick\n\n"
        "Needs the data (`UNLEARN_DATA/one`,\n`two`), and `no_data`.\n"
    )
    (tmp_path / "result.json").write_text(json.dumps({"figures": []}))
    found = read(tmp_path)
    assert (found.question, found.command) == ("Why?", "python -m experiments.why")
    assert (found.quick, found.data) == ("python -m experiments.why --quick", ("one", "two"))
    (tmp_path / "README.md").write_text("# Why?\n\nNobody knows.\n")
    with pytest.raises(ValueError, match="names no command"):
        read(tmp_path)
    (tmp_path / "README.md").write_text("Why?\n")
    with pytest.raises(ValueError, match="does not begin with a title"):
        read(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_data_that_is_needed_is_named_so_that_the_runner_looks_for_it(name: str) -> None:
    text = (HERE / name / "README.md").read_text(encoding="utf-8")
    assert ("UNLEARN_DATA" in text) == bool(read(HERE / name).data)
    # A command with something before it would not be found.
    assert not re.findall(r"^    \S+=\S* python ", text, re.MULTILINE)


def test_what_is_run() -> None:
    quick, whole = made({}, quick="python -m experiments.why --quick"), made({}, name="whole")
    found = [quick, whole, made(None, name="no_result"), made({}, name="faults", command="make test-exhaustive")]
    assert runner.chosen(found, [], full=False) == [("why", "python -m experiments.why --quick")]
    begun = made(None, name="begun", quick="python -m experiments.begun --quick")
    assert runner.chosen([begun], [], full=False) == [("begun", "python -m experiments.begun --quick")]
    assert runner.chosen([begun], [], full=True) == []
    assert [name for name, _ in runner.chosen(found, [], full=True)] == ["why", "whole"]
    assert runner.chosen(found, ["whole"], full=True) == [("whole", "python -m experiments.why")]
    with pytest.raises(ValueError, match="whole: no quick form"):
        runner.chosen(found, ["whole"], full=False)
    with pytest.raises(ValueError, match="no experiment 'nothing': choose from why, whole"):
        runner.chosen(found, ["nothing"], full=False)


def test_it_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    work = [
        made({}, name="bad", quick="python -c 'raise SystemExit(3)'"),
        made({}, name="good", quick="python -c 'print(7)'"),
        made({}, name="hungry", quick="python -c 'raise SystemExit(3)'", data=("absent",)),
    ]
    monkeypatch.setattr(runner, "experiments", lambda: work)
    monkeypatch.setattr(sys, "argv", ["experiments"])
    monkeypatch.setenv("UNLEARN_DATA", str(tmp_path))
    assert runner.main() == 1
    said = capfd.readouterr().out
    for text in ("bad: FAILED with status 3", "good: done", "hungry: left out, without UNLEARN_DATA/absent"):
        assert text in said
    assert said.endswith("2 of 3 ended well; failed: bad\n")
    monkeypatch.setattr(sys, "argv", ["experiments", "good"])
    assert runner.main() == 0
