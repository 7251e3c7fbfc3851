"""The learner that certified removal works on, and what its budget charges, against slow references."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from shards.errors import ConfigurationError
from shards.learners.base import StepContext, StepData
from shards.task import FieldSchema, Task
from shards.train import learner_from
from unlearn.audit.epsilon.gdp import gdp_delta
from unlearn.methods.certified import OutputPerturbation
from unlearn.methods.certified_budget import MOST_LEFT, Promise, promise_of
from unlearn.methods.certified_learner import CertifiedLearner, heads, removal_config

RNG = np.random.default_rng(4)
N, D = 50, 3
X = RNG.normal(size=(N, D)) * 0.4
BINARY = (X[:, 0] + 0.3 * RNG.normal(size=N) > 0).astype(np.int64)
THREE = RNG.integers(0, 3, N)
NUMBERS = X @ RNG.normal(size=(D, 2)) + 0.1


class Silence:
    """In place of noise."""

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)

    def uniform(self, size: int) -> np.ndarray:
        raise AssertionError(size)

    def seed(self) -> int:
        raise AssertionError


def task(kind: Any, classes: tuple[int, ...] = (), outputs: int = 2) -> Task:
    target = FieldSchema((outputs,), "<f8") if kind == "regression" else FieldSchema((), "<i8")
    return Task(kind, {"x": FieldSchema((D,), "<f8")}, target, classes)


CASES = {
    "binary": (task("classification", (0, 1)), BINARY),
    "three classes": (task("classification", (0, 1, 2)), THREE),
    "numbers": (task("regression"), NUMBERS),
}


def trained(learner: CertifiedLearner, given: Task, target: np.ndarray) -> np.ndarray:
    """Published weights of one step."""
    data = StepData({"x": X}, target, np.zeros((len(target), 16), np.uint8))
    context = StepContext(given, 0, 0, 0, len(target))
    return np.array(learner.train_step(None, data, context)["weights"])


def reference(learner: CertifiedLearner, rows: slice, given: Task, target: np.ndarray) -> np.ndarray:
    """The optimum by a general minimiser, a head after the other."""
    x = np.concatenate([X[rows], np.ones((len(X[rows]), 1))], axis=1)
    penalty = learner.regularisation * len(x) / 2
    columns = []
    for head in range(heads(given)):
        if given.kind == "regression":
            y = target[rows][:, head]
            found = np.linalg.solve(x.T @ x + 2 * penalty * np.eye(D + 1), x.T @ y)
        else:
            sign = np.where(target[rows] == (1 if heads(given) == 1 else head), 1.0, -1.0)
            found = minimize(
                lambda w, s=sign: np.logaddexp(0, -s * (x @ w)).sum() + penalty * w @ w,
                np.zeros(D + 1),
                jac=lambda w, s=sign: x.T @ (-s / (1 + np.exp(s * (x @ w)))) + 2 * penalty * w,
                options={"gtol": 1e-10},
            ).x
        columns.append(found)
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", CASES)
def test_training_ends_at_the_optimum_and_adds_the_noise_that_is_declared(name: str) -> None:
    given, target = CASES[name]
    learner = CertifiedLearner(0.01, scale=0.02)
    learner.check(given)
    expected = reference(learner, slice(None), given, target)
    runs = np.stack([trained(learner, given, target) - expected for _ in range(60)])
    assert runs.std() == pytest.approx(0.02, rel=0.3)  # six standard errors
    assert np.abs(runs.mean(0)).max() < 6 * 0.02 / math.sqrt(60)
    assert len(np.unique(runs[:, 0, 0])) > 8


@pytest.mark.parametrize("name", CASES)
def test_removal_ends_where_retraining_does(name: str) -> None:
    """From noisy weights far away, and no further from retraining than what is charged."""
    given, target = CASES[name]
    learner = CertifiedLearner(0.01, scale=0.5, tolerance=1e-4)
    rest = slice(7, None)
    start = {"weights": trained(learner, given, target)}
    quiet = replace(learner, scale=1e-9)  # the grid that weights are rounded to is as fine as the noise
    removed = quiet.removed(start, {"x": X[rest]}, target[rest], given, Silence())["weights"]
    distance = np.linalg.norm(removed - reference(learner, rest, given, target))
    assert distance <= learner.promise.charge(heads(given)) * learner.scale
    assert distance < 0.05 * np.linalg.norm(start["weights"] - removed)


@pytest.mark.parametrize("name", CASES)
def test_more_is_charged_than_what_is_measured(name: str) -> None:
    """The charge of `OutputPerturbation`, which measures, is never above that of counts."""
    given, target = CASES[name]
    learner = CertifiedLearner(0.01, scale=0.1, tolerance=1e-5)
    quiet = replace(learner, scale=1e-9)
    weights = quiet.removed({"weights": np.zeros((D + 1, heads(given)))}, {"x": X}, target, given, Silence())["weights"]
    measured = OutputPerturbation(0.1, 1e-5).charge(learner.problem({"x": X}, target, given), torch.tensor(weights))
    assert measured <= learner.promise.charge(heads(given)) * (1 + 1e-3)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("removals", [1, 7])
def test_what_is_spent_is_the_smallest_epsilon_of_the_composed_gaussian(columns: int, removals: int) -> None:
    promise = Promise(0.01, 0.1, 1e-5, 1.0, 1e-4)
    mu = math.sqrt(removals) * 2 * math.sqrt(columns) * 1e-5 / (0.01 * 0.1)
    spent = promise.spent(columns, removals)
    assert gdp_delta(mu, spent * 1.000001) <= 1e-4 < gdp_delta(mu, spent * 0.999999)
    assert spent == OutputPerturbation(0.1, 1e-5).epsilon({"mu_squared": mu**2}, 1e-4)


@pytest.mark.parametrize("columns", [1, 2, 10])
def test_the_budget_ends_at_the_last_removal_that_keeps_the_promise(columns: int) -> None:
    promise = Promise(0.01, 0.1, 2e-5, 1.0, 1e-4)
    capacity = promise.capacity(columns)
    assert capacity > 0
    assert promise.spent(columns, capacity) <= promise.epsilon < promise.spent(columns, capacity + 1)
    assert promise.certificate(columns, 0) == {
        "epsilon": 1.0,
        "delta": 1e-4,
        "heads": columns,
        "spent": 0.0,
        "left": capacity,
    }
    assert promise.certificate(columns, capacity + 1)["left"] == 0
    assert Promise(1.0, 1.0, 1e-15, 1.0, 1e-4).capacity(columns) == MOST_LEFT
    assert CertifiedLearner().promise.capacity(1) == pytest.approx(2_463_368, rel=1e-6), "decision 0033"


def test_what_cannot_keep_a_promise_is_refused() -> None:
    for wrong in ({"scale": 0.0}, {"epsilon": math.nan}, {"delta": 1.0}, {"tolerance": True}, {"regularisation": "x"}):
        with pytest.raises(ConfigurationError):
            CertifiedLearner(**wrong)
    with pytest.raises(ConfigurationError, match="intercept"):
        CertifiedLearner(intercept=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="for no removal"):
        CertifiedLearner(scale=1e-9, tolerance=1e-9).check(CASES["binary"][0])
    with pytest.raises(ConfigurationError, match="declare all there may be"):
        CertifiedLearner().check(task("classification", (4,)))
    with pytest.raises(ConfigurationError, match="stays above"):
        trained(CertifiedLearner(tolerance=1e-19, scale=1.0), *CASES["binary"])
    with pytest.raises(ConfigurationError, match="finite"):
        CertifiedLearner().problem({"x": np.full((1, D), np.nan)}, BINARY[:1], CASES["binary"][0])


def test_predictions_are_those_of_the_heads() -> None:
    learner = CertifiedLearner(intercept=False)
    scores = np.array([[2.0, -1.0, 0.0], [-900.0, -900.0, -900.0]])
    inputs, weights = np.eye(2, D), np.zeros((D, 3))
    weights[:2] = scores
    said = learner.predictor({"weights": weights}, task("classification", (0, 1, 2)))({"x": inputs})
    each = 1 / (1 + np.exp(-scores[0]))
    np.testing.assert_allclose(said, [each / each.sum(), np.full(3, 1 / 3)], rtol=1e-12)
    two = learner.predictor({"weights": weights[:, :1]}, task("classification", (0, 1)))({"x": inputs})
    np.testing.assert_allclose(two[0], [1 - each[0], each[0]], rtol=1e-12)
    numbers = learner.predictor({"weights": weights[:, :2]}, task("regression"))({"x": inputs})
    np.testing.assert_array_equal(numbers, scores[:, :2])


def test_it_is_described_and_made_again() -> None:
    learner = CertifiedLearner(1, scale=0.1)
    made = learner_from({"class": "unlearn.methods.certified_learner:CertifiedLearner", "params": learner.params()})
    assert made == learner
    assert learner.params()["regularisation"] == 1.0
    assert not learner.reproducible
    config = removal_config(learner, {})
    assert promise_of(config) == learner.promise
    assert config["when_spent"] == "retrain"


@pytest.mark.parametrize("extreme", [{"tolerance": 1e-200}, {"regularisation": 1e-200, "scale": 1e-200}])
def test_constants_that_no_number_holds_are_refused(extreme: dict[str, float]) -> None:
    usual = {"regularisation": 1e-3, "scale": 1e-3, "tolerance": 1e-10, "epsilon": 1.0, "delta": 1e-4}
    assert Promise(**usual).capacity(1) > 0
    with pytest.raises(ConfigurationError, match="out of what numbers hold"):
        Promise(**usual | extreme)


@pytest.mark.parametrize("epsilon", [1e101, 10**400, math.inf, math.nan])
def test_a_promise_that_no_receipt_can_state_is_refused(epsilon: float) -> None:
    assert CertifiedLearner(0.01, scale=0.1, epsilon=1e100).epsilon == 1e100
    with pytest.raises(ConfigurationError, match="epsilon must be a finite number above 0, 1e"):
        CertifiedLearner(0.01, scale=0.1, epsilon=epsilon)
