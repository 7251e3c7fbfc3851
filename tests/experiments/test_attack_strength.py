"""How strong the attacks are, measured with almost no work; and the known answers, where the posteriors are there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.attack_strength import location, speed
from experiments.attack_strength.location import FEW, MANY, measure_pool, train
from experiments.attack_strength.posteriors import DATA, measure_posteriors
from experiments.attack_strength.run import BENCHMARK
from experiments.attack_strength.speed import measure_speed

TINY: dict[str, Any] = {
    "seed": 0,
    "blocks": 2,
    "population": 40,
    "records": 160,
    "trials": 2,
    "few_trials": 2,
    "shokri_trials": 1,
    "shokri_shadows": 6,
    "loop_minibatches": 2,
    "rounds": 2,
    "network": {"hidden": [8], "epochs": 10, "batch_size": 16, "learning_rate": 0.1},
}


def few() -> tuple[np.ndarray, np.ndarray]:
    """Records of the shape of Location-30, with labels to be learned by heart."""
    random = np.random.default_rng(0)
    return (random.random((200, 80)) < 0.2).astype(np.float32), np.arange(200, dtype=np.int64) % 3


def test_every_figure_is_there_and_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (location, speed):
        monkeypatch.setattr(module, "location30", few)
    said: list[str] = []
    pool = train(TINY, said.append)
    figures = {figure.name: figure for figure in measure_pool("location", pool, TINY, said.append)}
    parts = (".auc", ".auc.low", ".auc.high", ".tpr_0.1", ".tpr_1", ".tpr_1.low")
    for name in (*(f"location.{attack}" for attack in (*MANY, "shokri")), *(f"few.{attack}" for attack in FEW)):
        assert {f"{name}{part}" for part in parts} <= figures.keys()
        assert figures[f"{name}.auc.low"].value < figures[f"{name}.auc.high"].value
    assert len(figures["location.lira_online.auc"].samples) == 2
    figures |= {figure.name: figure for figure in measure_speed(TINY, said.append)}
    assert all(math.isfinite(figure.value) for figure in figures.values())
    assert figures["speed.small.gain"].value > 0
    assert figures["speed.small.limit"].value > 0
    assert said


def test_the_configuration_is_complete() -> None:
    assert BENCHMARK.setting(quick=False).keys() == BENCHMARK.setting(quick=True).keys() == TINY.keys()


@pytest.mark.skipif(
    not Path(DATA, "location30_song_mittal").is_dir(), reason="needs UNLEARN_DATA/location30_song_mittal"
)
def test_the_known_answers_come_out() -> None:
    figures = {figure.name: figure for figure in measure_posteriors()}
    known = {
        "posteriors.members": 1.0,
        "posteriors.others": 0.626,
        "posteriors.gap": 0.687,
        "plain.loss.auc": 0.870,
        "defended.loss.auc": 0.690,  # MemGuard
    }
    assert {name for name, figure in figures.items() if figure.passed is not None} == known.keys()
    for name, value in known.items():
        assert round(figures[name].value, 3) == value, name
        assert figures[name].passed, name
