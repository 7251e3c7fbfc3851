"""What an audit costs, on data small enough to say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.bench_audit import run
from shards.learners.neighbours import NeighboursLearner
from shards.records import Records, make_records
from unlearn.demo import DemoData

SETTING: dict[str, Any] = {"n_shards": 2, "n_slices": 1, "n_forget": 40, "repeats": 2, "shadows": 4}


def made_up(first: int, n: int) -> Records:
    rng = np.random.default_rng(first)
    names = [f"row-{i}" for i in range(first, first + n)]
    return make_records(rng.normal(size=(n, 4)), rng.integers(0, 3, n), record_ids=names)


def test_each_audit_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "load", lambda: DemoData("noise", made_up(0, 160), made_up(1000, 60)))
    learner = NeighboursLearner(1, {"map": "raw", "unit": 1 / 64, "limit": 8.0})
    monkeypatch.setattr(run, "default_learner", lambda data: learner)
    figures = {figure.name: figure for figure in run.measure_audits(SETTING, tmp_path, lambda line: None)}
    assert figures.keys() == {"demo.labels", "demo.attacks", "demo.shadows"}
    for figure in figures.values():
        assert len(figure.samples) == 2
        assert 0 < min(figure.samples) <= figure.value
        assert "41 forgotten records" in figure.what


def test_every_setting_has_its_entries() -> None:
    for quick in (True, False):
        assert {*SETTING, "network", "rounds", "loop_minibatches", "test_repeats"} == run.BENCHMARK.setting(
            quick=quick
        ).keys()
