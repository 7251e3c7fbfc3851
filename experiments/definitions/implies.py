"""Differential privacy implies approximate unlearning: private models that are left as they are, against retraining."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.definitions.digits import BLANK, LABEL, canaries, digits
from experiments.definitions.noisy import likelihood_ratio, logistic_minimum, noisy_sums, noisy_weights
from experiments.definitions.rows import Row, approximate, private
from shards.learners.base import StepContext, StepData
from shards.learners.private_torch import PrivateTorchLearner
from shards.task import FieldSchema, Task
from unlearn.methods.dp import deletion_guarantee, training_of

PART = "private, so approximately unlearnt"


def noisy(setting: Mapping[str, Any], alpha: float, rng: np.random.Generator) -> Iterator[Row]:
    """The survey's definition on models with pure differential privacy, and on one with too little noise.

    Args:
        setting: `[noisy]` of the configuration.
        alpha: Probability of a false alarm.
        rng: All randomness.

    Yields:
        A line a check.
    """
    runs, epsilon = setting["runs"], setting["epsilon"]
    values = rng.random(setting["records"])
    for k in setting["deleted"]:
        # The largest values there may be are deleted: the worst case of the proof.
        kept = np.append(values, np.ones(k))
        seen = tuple(noisy_sums(of, epsilon, runs, rng) for of in (kept, values, values))
        yield approximate(PART, "noisy sum, left as it is", k, k * epsilon, seen, alpha)
    x, y, far = two_classes(setting["records"], max(setting["deleted"]), rng)
    for k in setting["deleted"]:
        for times, name in ((1.0, "noisy logistic regression"), (setting["understated"], "the same, too little noise")):
            if times > 1 and k > 1:
                continue
            yield approximate(
                PART if times == 1 else "planted mistake",
                f"{name}, left as it is",
                k,
                k * epsilon,
                _logistic(x, y, far[:k], setting, times, rng),
                alpha,
            )


def _logistic(
    x: np.ndarray, y: np.ndarray, far: np.ndarray, setting: Mapping[str, Any], times: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of noisy regressions with and without records on the wrong side; noise is so many times too small."""
    regularisation, epsilon, runs = setting["regularisation"], setting["epsilon"], setting["runs"]
    with_them = np.concatenate([x, far]), np.append(y, -np.ones(len(far)))
    kept, retrained = (logistic_minimum(*of, regularisation) for of in (with_them, (x, y)))
    scale = 1 / (epsilon * regularisation) / times

    def published(w: np.ndarray) -> np.ndarray:
        return likelihood_ratio(noisy_weights(w, scale, runs, rng), kept, retrained, scale)

    return published(kept), published(retrained), published(retrained)


def two_classes(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits in brief, odd against even, and k records where no digit is.

    Three features, since noise for many hides a record better than the proof says: how bright the upper and the lower
    half are, and a pixel that is blank in every digit, and 1 in the records to delete.

    Args:
        n: Digits.
        k: Records to delete.
        rng: The choice of digits.

    Returns:
        Features `[n, 3]` of norm at most 1, classes `[n]` of -1 and 1, and features `[k, 3]`.
    """
    x, y, _, _ = digits(n, rng)
    brief = np.column_stack([x[:, :32].mean(axis=1), x[:, 32:].mean(axis=1), x[:, BLANK]])
    far = np.zeros((k, 3))
    far[:, -1] = 1.0
    return brief / np.maximum(1, np.linalg.norm(brief, axis=1, keepdims=True)), np.where(y % 2 == 1, 1.0, -1.0), far


def learner_runs(
    setting: Mapping[str, Any], sgd: Mapping[str, Any], alpha: float, rng: np.random.Generator
) -> Iterator[Row]:
    """DP-SGD as a workspace trains it, over and over, with a canary and without.

    Args:
        setting: `[learner]` of the configuration.
        sgd: `[sgd]` of it.
        alpha: Probability of a false alarm.
        rng: The choice of digits; noise and batches are fresh and secret.

    Yields:
        One line.
    """
    x, y, _, _ = digits(sgd["records"], rng)
    learner = PrivateTorchLearner(
        "mlp",
        {"hidden": []},
        noise_multiplier=setting["noise_multiplier"],
        clip_norm=sgd["clip_norm"],
        records=sgd["records"],
        batch_size=sgd["batch_size"],
        steps=setting["steps"],
        delta=setting["delta"],
        optimizer_args={"lr": sgd["rate"]},
    )
    more_x, more_y = canaries(1)
    kept = np.concatenate([x, more_x]), np.append(y, more_y)
    seen = tuple(_canary_weights(learner, *of, setting["runs"]) for of in (kept, (x, y), (x, y)))
    bound = deletion_guarantee(training_of(learner, 1), 1, setting["delta"])
    name = "DP-SGD by Opacus, left as it is"
    yield private(PART, name, 1, bound.epsilon, setting["delta"], seen, alpha)


def _canary_weights(learner: PrivateTorchLearner, x: np.ndarray, y: np.ndarray, runs: int) -> np.ndarray:
    """What each training has learnt of the blank pixel for the canary's class, `[runs]`."""
    task = Task("classification", {"x": FieldSchema((64,), "<f8")}, FieldSchema((), "<i8"), tuple(range(10)))
    data = StepData({"x": x}, y, np.zeros((len(y), 16), dtype=np.uint8))
    context = StepContext(task, root_seed=0, shard=0, position=0, visits=1)
    scores = []
    for _ in range(runs):
        weights = learner.train_step(None, data, context)["module/0.weight"][:, BLANK]
        scores.append(weights[LABEL] - np.delete(weights, LABEL).mean())
    return np.array(scores, dtype=np.float64)
