"""Deletions from exact sums, measured with almost no work: every figure is there, and another state fails the run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.forget_exact import run
from experiments.forget_exact.run import ACCURACY, BENCHMARK, DELETION_MS, DRIFT, Deletion, Images, Model
from shards.learners.ridge import RidgeLearner
from tests.cases import digits

TINY: dict[str, Any] = {
    "n_shards": 3,
    "writers": 3,
    "records": 2,
    "together": 5,
    "alpha": 1.0,
    "var_smoothing": 0.1,
    "trees": {"n_shards": 2, "writers": 1, "trees": 10, "depth": 5, "low": 0.0, "high": 1.0},
    "features": {"map": "gradients", "height": 8, "columns": 8, "size": 3, "stride": 2},
}


OTHERS = ("accuracy", "train", "writer.total", "writer.summing", "writer.cpu")


def few() -> Images:
    X, y = digits()
    return Images(X[:120], y[:120], np.arange(120) // 10, X[-50:], y[-50:])


def test_every_figure_is_there_and_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "mnist", few)
    figures = {figure.name: figure for figure in BENCHMARK.measure(TINY, tmp_path, lambda line: None)}
    parts = ("", ".forget", ".recover", ".summing", ".predict", ".cpu", ".all", ".drift")
    assert figures.keys() == {
        *("accuracy", "train", "together", "deleted", "accuracy_left"),
        *(f"{kind}{part}" for kind in ("writer", "record") for part in parts),
        *(f"{name}.{what}" for name in ("naive_bayes", "trees") for what in OTHERS),
    }
    assert all(math.isfinite(figure.value) and figure.value > 0 for figure in figures.values())
    assert figures["deleted"].value == 3 * 10 + 2 + 5
    assert len(figures["writer"].samples) == 3
    assert {name: (item.at_least, item.at_most) for name, item in figures.items() if item.passed is not None} == {
        "accuracy": (ACCURACY, None),
        "writer": (None, DELETION_MS),
        "writer.drift": (None, DRIFT),
        "record": (None, DELETION_MS),
        "record.drift": (None, DRIFT),
    }


def test_another_state_fails_the_run(tmp_path: Path) -> None:
    model = Model(tmp_path / "lived", few(), RidgeLearner(1.0, TINY["features"]), 3)
    model.delete([5])
    run.check_equal(model, tmp_path / "right")
    model.gone.add(6)
    with pytest.raises(AssertionError, match="not that of a fresh training"):
        run.check_equal(model, tmp_path / "wrong")


def test_drift_is_the_last_quarter_over_the_first() -> None:
    found = [Deletion(forget, 1.0, 1.0, 1.0, 1.0) for forget in (8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 18.0, 18.0)]
    figures = {figure.name: figure.value for figure in run._of("x", "of x", found, 1.0)}
    assert figures["x.drift"] == 2.0
    assert figures["x.all"] == pytest.approx(0.072)


def test_full_and_quick_settings_differ_in_the_amount_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    assert {name for name in full if full[name] != quick[name]} == {"writers", "records"}
