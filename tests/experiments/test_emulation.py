"""Training on an emulation, with few images: every figure is there, and more privacy costs more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.emulation import run
from experiments.emulation.run import BENCHMARK
from experiments.forget_exact.run import Images
from tests.cases import digits


def some() -> Images:
    X, y = digits()
    large = (np.kron(X.reshape(-1, 8, 8)[:, :7, :7], np.ones((1, 4, 4))) * 255 / X.max()).astype(np.uint8)
    flat = large.reshape(len(large), -1)
    return Images(flat[:1500], y[:1500], np.arange(1500) // 30, flat[1500:], y[1500:])


def test_every_figure_is_there_and_privacy_costs_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "mnist", some)
    setting = BENCHMARK.setting(quick=True)
    setting["epsilons"] = [0.1, 50.0]
    setting["units"] = {name: {**unit, "delta": 1e-4} for name, unit in setting["units"].items()}
    found = {figure.name: figure.value for figure in BENCHMARK.measure(setting, tmp_path, lambda _: None)}
    names = [f"{unit}.{epsilon}" for unit in ("image", "writer") for epsilon in ("0.1", "50")]
    assert set(found) == {"real", *names, *(f"{name}.ten" for name in names)}
    assert found["real"] > found["image.50"] > found["image.0.1"]
    assert found["image.50"] > 0.6
    assert all(found[f"{name}.ten"] > float(name.split(".", 1)[1]) for name in names)
