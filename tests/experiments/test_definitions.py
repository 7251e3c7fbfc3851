"""Definitions on measured models: mechanisms against their proofs, many trainings against the learner, every line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import kstest

from experiments.definitions import claimed, implies
from experiments.definitions.digits import BLANK, canaries, digits
from experiments.definitions.many import Models, Setting, train_plain, train_private
from experiments.definitions.noisy import likelihood_ratio, logistic_minimum, noisy_sums, noisy_weights
from experiments.definitions.run import measure, read_setting, run
from shards.learners.base import StepContext, StepData
from shards.learners.private_torch import PrivateTorchLearner
from shards.task import FieldSchema, Task

RNG = np.random.default_rng(3)

TINY: dict[str, Any] = {
    "seed": 0,
    "alpha": 0.05,
    "noisy": {
        "runs": 3000,
        "epsilon": 1.0,
        "deleted": [1],
        "understated": 10.0,
        "regularisation": 4.0,
        "records": 60,
    },
    "learner": {"runs": 16, "noise_multiplier": 1.5, "steps": 2, "delta": 1e-3},
    "converse": {"runs": 110, "random_runs": 120, "steps": 60},
    "claimed": {"runs": 60, "noise_multipliers": [6.0], "deleted": [1], "steps": 10, "delta": 1e-3},
    "sgd": {"records": 60, "batch_size": 6, "clip_norm": 1.0, "rate": 0.5},
}


# --- mechanisms -----------------------------------------------------------------------------------------------


def test_the_minimum_is_the_minimum() -> None:
    x, y = RNG.normal(size=(40, 3)) / 3, RNG.choice([-1.0, 1.0], 40)
    found = minimize(
        lambda w: np.logaddexp(0, -y * (x @ w)).sum() + 0.7 * (w**2).sum() / 2, np.zeros(3), options={"gtol": 1e-8}
    )
    np.testing.assert_allclose(logistic_minimum(x, y, 0.7), found.x, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_k_records_move_the_minimum_by_at_most_k_over_lambda(k: int) -> None:
    nearest = 0.0
    for _ in range(30):
        x = RNG.normal(size=(20, 3))
        x /= np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True))
        y = RNG.choice([-1.0, 1.0], 20)
        moved = logistic_minimum(x, y, 2.0) - logistic_minimum(x[k:], y[k:], 2.0)
        nearest = max(nearest, float(np.linalg.norm(moved)) * 2.0 / k)
    assert 0.2 < nearest <= 1


def test_the_noise_has_its_density_and_likelihood_ratios_keep_to_epsilon() -> None:
    noise = noisy_weights(np.zeros(3), 0.5, 20_000, RNG)
    length = np.linalg.norm(noise, axis=1)
    assert kstest(length, "gamma", args=(3, 0, 0.5)).pvalue > 1e-3
    assert np.abs((noise / length[:, None]).mean(axis=0)).max() < 0.03
    # In one dimension that is Laplace noise.
    assert kstest(noisy_weights(np.zeros(1), 0.5, 20_000, RNG)[:, 0], "laplace", args=(0, 0.5)).pvalue > 1e-3
    kept, retrained = np.array([0.25, 0.0, 0.0]), np.zeros(3)
    ratios = likelihood_ratio(noise, kept, retrained, 0.5)
    assert np.abs(ratios).max() <= 0.5 + 1e-12
    density = [np.exp(-np.linalg.norm(noise - at, axis=1) / 0.5) for at in (kept, retrained)]
    np.testing.assert_allclose(ratios, np.log(density[0] / density[1]), atol=1e-9)


def test_the_noisy_sum_is_laplace() -> None:
    sums = noisy_sums(np.array([0.5, 1.0]), 2.0, 20_000, RNG)
    assert kstest(sums - 1.5, "laplace", args=(0, 0.5)).pvalue > 1e-3


# --- many trainings -------------------------------------------------------------------------------------------


class Drawn:
    """A source for the learner that draws what `train_private` draws."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.standard_normal((1, *shape))[0]

    def uniform(self, size: int) -> np.ndarray:
        return self.rng.random((1, size))[0]

    def seed(self) -> int:
        return 0


def test_many_trainings_are_those_of_the_learner() -> None:
    x, y, _, _ = digits(60, np.random.default_rng(0))
    more_x, more_y = canaries(2)
    x, y = np.concatenate([x, more_x]), np.append(y, more_y)
    learner = PrivateTorchLearner(
        "mlp",
        {"hidden": []},
        noise_multiplier=0.8,
        clip_norm=0.9,
        records=60,
        batch_size=12,
        steps=7,
        delta=1e-3,
        optimizer_args={"lr": 0.5},
    )
    task = Task("classification", {"x": FieldSchema((64,), "<f8")}, FieldSchema((), "<i8"), tuple(range(10)))
    data = StepData({"x": x}, y, np.zeros((len(y), 16), dtype=np.uint8))
    zero = {
        "module/0.weight": np.zeros((10, 64), dtype=np.float32),
        "module/0.bias": np.zeros(10, dtype=np.float32),
    }
    state = learner.train_with(Drawn(), zero, data, StepContext(task, 0, 0, 0, 1))
    setting = Setting(0.8, 0.9, 12 / 60, 12, 0.5, 7)
    models = train_private(x, y, setting, 1, np.random.default_rng(7))
    np.testing.assert_allclose(models.weights[0], state["module/0.weight"], atol=2e-5)
    np.testing.assert_allclose(models.biases[0], state["module/0.bias"], atol=2e-5)
    assert np.abs(models.weights).max() > 0.1
    # Every training has batches and noise of its own.
    two = train_private(x, y, setting, 2, np.random.default_rng(7))
    assert not np.allclose(two.weights[0], two.weights[1], atol=0.01)


def test_losses_and_accuracy() -> None:
    models = Models(np.zeros((2, 10, 64)), np.zeros((2, 10)))
    models.biases[1, 4] = 50.0
    x = np.zeros((4, 64))
    np.testing.assert_allclose(models.losses(x, np.full(4, 4)), [math.log(10), 0.0], atol=1e-9)
    assert models.accuracy(x, np.full(4, 4)) == 0.5


def test_plain_training_learns() -> None:
    x, y, more_x, more_y = digits(200, np.random.default_rng(0))
    models = train_plain(x, y, 0.5, 300, 20, 3, np.random.default_rng(0))
    assert models.accuracy(more_x[:300], more_y[:300]) > 0.85
    assert not np.allclose(models.weights[0], models.weights[1])


def test_the_blank_pixel_is_blank() -> None:
    x, _, more_x, _ = digits(100, RNG)
    assert not x[:, BLANK].any()
    assert not more_x[:, BLANK].any()
    assert canaries(3)[0][:, BLANK].all()


# --- the experiment -------------------------------------------------------------------------------------------


def test_every_line_is_there_and_says_what_theory_says(tmp_path: Path) -> None:
    run(TINY, tmp_path / "result.json")
    document = json.loads((tmp_path / "result.json").read_text())
    rows = document["rows"]
    by_part: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    assert {part: len(found) for part, found in by_part.items()} == {
        implies.PART: 3,
        "planted mistake": 1,
        "unlearnt exactly": 2,
        "and not private": 4,
        claimed.PART: 3,
    }
    assert all(row["verdict"] == "not refuted" for row in by_part[implies.PART] + by_part[claimed.PART])
    assert all(row["bound"] <= row["claimed"] for row in by_part[implies.PART] + by_part[claimed.PART])
    (mistake,) = by_part["planted mistake"]
    assert mistake["verdict"] == "refuted"
    assert mistake["bound"] > mistake["claimed"]
    assert by_part[implies.PART][0]["bound"] > 0.6
    assert all(row["verdict"] == "not refuted" for row in by_part["unlearnt exactly"])
    deterministic = by_part["and not private"][:3]
    assert [row["runs"] for row in deterministic] == [10, 100, 110]
    # A perfect test every time: whatever so many runs can show, they show.
    assert all(row["bound"] == row["certifiable"] for row in deterministic)
    assert deterministic[0]["bound"] < deterministic[1]["bound"] < deterministic[2]["bound"]
    assert document["setting"] == TINY


def test_equal_settings_give_equal_lines_but_for_secret_noise() -> None:
    quick = TINY | {"noisy": TINY["noisy"] | {"runs": 300}, "learner": TINY["learner"] | {"runs": 14}}
    twice = [[row for row in measure(quick) if "Opacus" not in row.model] for _ in range(2)]
    assert twice[0] == twice[1]


def test_quick_is_less_of_the_same() -> None:
    full, quick = read_setting(quick=False), read_setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    for name, value in full.items():
        if isinstance(value, dict):
            assert value.keys() == quick[name].keys() == TINY[name].keys()
            changed = {key for key in value if value[key] != quick[name][key]}
            assert changed <= {"runs", "random_runs"}
