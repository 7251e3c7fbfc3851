"""The load on the ledger, measured with almost none: every figure is there, and what it counts is counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import SGDClassifier

from experiments.bench_ledger.clients import _count
from experiments.bench_ledger.run import BENCHMARK
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


@pytest.mark.slow
def test_every_figure_is_there_and_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "result.json"
    replace(BENCHMARK, where=tmp_path / "runs").run(TINY, output)
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


def test_full_and_quick_settings_differ_in_the_load_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    assert full["clients"] == quick["clients"]
    assert all(quick[name] < full[name] for name in full.keys() - {"clients"})
