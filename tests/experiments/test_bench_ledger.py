"""The load on the ledger, measured with almost none: every figure is there, and what it counts is counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import SGDClassifier

from experiments.bench_ledger.clients import _count
from experiments.bench_ledger.figures import Figure
from experiments.bench_ledger.run import read_setting, run
from unlearn import Workspace

TINY: dict[str, Any] = {
    "clients": [[1, 3], [2, 2]],
    "requests": 3,
    "repeats": 1,
    "subjects": 50,
    "events": 3_000,
    "appends": 20,
    "proofs": 10,
    "verified": 1_000,
}


def test_every_figure_is_there_and_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "result.json"
    run(TINY, output, tmp_path / "runs")
    lines = capsys.readouterr().out.splitlines()
    figures = {figure["name"]: figure for figure in json.loads(output.read_text())["figures"]}
    assert figures.keys() == {
        *("disk.write", "submit.1x3", "submit.2x2", "subjects.submit", "subjects.forget", "subjects.receipt"),
        *("log.append_first", "log.append_last", "log.slowdown", "log.verify", "log.verify_workspace"),
        *(
            f"proof.{kind}.{n}.{what}"
            for kind in ("inclusion", "consistency")
            for n in (1000, 3000)
            for what in ("ms", "rows")
        ),
    }
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in figures.values())
    assert all(figure["passed"] for name, figure in figures.items() if name.endswith(".rows"))
    assert not list((tmp_path / "runs").iterdir())
    missed = [f"missed: {name}" for name, figure in figures.items() if figure["passed"] is False]
    assert [line for line in lines if line.startswith("missed: ")] == missed == lines[len(lines) - len(missed) :]


def test_goals_that_are_missed_are_named_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [
        Figure("slow", "too slow", 2.0, "s", at_most=1.0),
        Figure("quick", "quick enough", 1.0, "s", at_most=1.0),
        Figure("few", "too few", 1.0, "1/s", at_least=2.0),
        Figure("any", "without a goal", 1.0, "s"),
    ]
    monkeypatch.setattr("experiments.bench_ledger.run.measure", lambda *_: figures)
    run(TINY, tmp_path / "result.json", tmp_path / "runs")
    assert capsys.readouterr().out.splitlines()[-2:] == ["missed: slow", "missed: few"]


def test_requests_that_are_missing_or_there_twice_fail_the_run(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", SGDClassifier(), n_shards=2, classes=[0, 1])
    workspace.submit(subjects=["warm"])
    for key in ("a", "b"):
        workspace.submit(subjects=[key], idempotency_key=key)
    _count(workspace, 0, {"a", "b"})
    for keys in ({"a"}, {"a", "b", "c"}, {"a", "c"}):
        with pytest.raises(AssertionError):
            _count(workspace, 0, keys)
    workspace.close()


def test_bounds() -> None:
    assert Figure("a", "", 1.0, "s").passed is None
    assert Figure("a", "", 1.0, "s", at_most=1.0).passed
    assert not Figure("a", "", 1.1, "s", at_most=1.0).passed
    assert Figure("a", "", 1.0, "s", at_least=1.0).passed
    assert not Figure("a", "", 0.9, "s", at_least=1.0).passed


def test_full_and_quick_settings_differ_in_the_load_only() -> None:
    full, quick = read_setting(quick=False), read_setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    assert full["clients"] == quick["clients"]
    assert all(quick[name] < full[name] for name in full.keys() - {"clients"})
