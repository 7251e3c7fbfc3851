"""The converse is false: models that are unlearnt exactly and are not private at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.definitions.digits import digits
from experiments.definitions.implies import two_classes
from experiments.definitions.many import train_plain
from experiments.definitions.noisy import logistic_minimum
from experiments.definitions.rows import Row, exactness, private
from unlearn.audit import check_exact
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson

EXACT, PRIVATE = "unlearnt exactly", "and not private"
SOME_RUNS = (10, 100)
"""Numbers of runs that are looked at beside all of them."""

TESTED = 200
"""Runs of each kind that a permutation test compares: it takes their distances by pairs."""


def converse(
    setting: Mapping[str, Any],
    noisy: Mapping[str, Any],
    sgd: Mapping[str, Any],
    alpha: float,
    rng: np.random.Generator,
) -> Iterator[Row]:
    """Retraining on deletion, of a learner without any randomness and of one with some.

    Args:
        setting: `[converse]` of the configuration.
        noisy: `[noisy]` of it, for the regression.
        sgd: `[sgd]` of it.
        alpha: Probability of a false alarm.
        rng: All randomness.

    Yields:
        A line a check.
    """
    yield from _deterministic(setting["runs"], noisy, alpha, rng)
    yield from _random(setting, sgd, alpha, rng)


def _deterministic(runs: int, noisy: Mapping[str, Any], alpha: float, rng: np.random.Generator) -> Iterator[Row]:
    """Logistic regression without noise: the minimum, each time."""
    x, y, far = two_classes(noisy["records"], 1, rng)
    with_it = np.concatenate([x, far]), np.append(y, -1.0)
    regularisation = noisy["regularisation"]
    kept = np.array([logistic_minimum(*with_it, regularisation) for _ in range(runs)])
    unlearnt = np.array([logistic_minimum(x, y, regularisation) for _ in range(runs)])
    retrained = np.array([logistic_minimum(x, y, regularisation) for _ in range(runs)])
    name = "logistic regression, retrained on deletion"
    yield exactness(EXACT, name, 1, check_exact(unlearnt[:TESTED], retrained[:TESTED], rng, alpha=alpha))
    # Fixed beforehand, by what the record does to any regression: does the weight of the blank pixel differ from 0?
    missed, alarms = kept[:, -1] == 0, retrained[:, -1] != 0
    for n in (*(some for some in SOME_RUNS if some < runs), runs):
        lower = clopper_pearson(int(alarms[:n].sum()), n, int(missed[:n].sum()), n, delta=0.0, alpha=alpha)
        certifiable = lower.certifiable
        name = f"the same before the deletion, {n} runs"
        yield Row(PRIVATE, name, "none", 1, 0.0, np.inf, lower.epsilon, None, certifiable, None, "no claim", n)


def _random(
    setting: Mapping[str, Any], sgd: Mapping[str, Any], alpha: float, rng: np.random.Generator
) -> Iterator[Row]:
    """Stochastic gradient descent without noise: first weights and batches are random, every time."""
    x, y, more_x, more_y = digits(sgd["records"], rng)
    wrong = (more_y[:1] + 1) % 10
    with_it = np.concatenate([x, more_x[:1]]), np.append(y, wrong)

    def scores(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        models = train_plain(x, y, sgd["rate"], setting["steps"], sgd["batch_size"], setting["random_runs"], rng)
        return -models.losses(more_x[:1], wrong)

    kept, unlearnt, retrained, more = scores(*with_it), scores(x, y), scores(x, y), scores(x, y)
    name = "stochastic gradient descent, retrained on deletion"
    yield exactness(EXACT, name, 1, check_exact(unlearnt[:TESTED], retrained[:TESTED], rng, alpha=alpha))
    name = "the same before the deletion, a mislabelled digit"
    yield private(PRIVATE, name, 1, np.inf, 0.0, (kept, retrained, more), alpha)
