"""Attacks on convolutional networks, measured with almost no work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from experiments.attack_strength.location import measure_pool
from experiments.attack_strength_images import run
from experiments.attack_strength_images.network import SmallConvolution, Training
from experiments.attack_strength_images.run import BENCHMARK, train
from experiments.benchmark import Figure

TRAINING = Training(epochs=2, batch_size=16, learning_rate=0.05, momentum=0.9, widths=(2, 2, 2))

TINY: dict[str, Any] = {
    "seed": 0,
    "blocks": 2,
    "population": 20,
    "records": 160,
    "trials": 2,
    "few_trials": 1,
    "shokri_trials": 1,
    "shokri_shadows": 6,
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "widths": [2, 2, 2],
}


def few(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with the labels of ten classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8), np.arange(count, dtype=np.int64) % 10


def test_every_figure_is_there_and_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "cifar", few)
    said: list[str] = []
    figures: list[Figure] = measure_pool("cifar", train(TINY, said.append), TINY, said.append)
    assert {"cifar.members", "cifar.lira_online.auc", "few.rmia_offline.auc"} <= {figure.name for figure in figures}
    assert all(math.isfinite(figure.value) for figure in figures)
    assert "8 of 8 models of about 80 images" in said


def test_the_configuration_is_complete() -> None:
    assert BENCHMARK.setting(quick=False).keys() == BENCHMARK.setting(quick=True).keys() == TINY.keys()


def test_a_seed_decides_everything_and_leaves_the_generators_alone() -> None:
    import torch

    X, y = few(40)
    before = torch.get_rng_state()
    first, second, other = (SmallConvolution(TRAINING, seed).fit(X, y).predict_proba(X) for seed in (3, 3, 4))
    assert (first == second).all()
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), before)
