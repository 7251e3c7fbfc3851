"""What is claimed for k deletions, beside what an auditor finds who trains the same model many times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.definitions.digits import BLANK, LABEL, canaries, digits
from experiments.definitions.many import Models, Setting, train_private
from experiments.definitions.rows import Row, private
from unlearn.methods.dp import Training, deletion_guarantee

PART = "claimed and measured"


def claimed_and_measured(
    setting: Mapping[str, Any], sgd: Mapping[str, Any], alpha: float, rng: np.random.Generator
) -> Iterator[Row]:
    """DP-SGD on digits with 1 and 10 records more, of three kinds, against trainings without them.

    Args:
        setting: `[claimed]` of the configuration.
        sgd: `[sgd]` of it.
        alpha: Probability of a false alarm.
        rng: All randomness.

    Yields:
        A line for each noise, number and kind.
    """
    x, y, more_x, more_y = digits(sgd["records"], rng)
    runs, delta = setting["runs"], setting["delta"]
    for noise in setting["noise_multipliers"]:
        rate = sgd["batch_size"] / sgd["records"]
        how = Setting(noise, sgd["clip_norm"], rate, sgd["batch_size"], sgd["rate"], setting["steps"])
        retrained, calibrating = (train_private(x, y, how, runs, rng) for _ in range(2))
        accuracy = retrained.accuracy(more_x[-300:], more_y[-300:])
        for k in setting["deleted"]:
            epsilon = deletion_guarantee(Training(noise, rate, setting["steps"], sgd["records"]), k, delta).epsilon
            for kind, (extra_x, extra_y, score) in _kinds(k, more_x, more_y).items():
                kept = train_private(np.concatenate([x, extra_x]), np.append(y, extra_y), how, runs, rng)
                seen = score(kept), score(retrained), score(calibrating)
                row = private(PART, f"DP-SGD, noise {noise:g}: {kind}", k, epsilon, delta, seen, alpha)
                yield replace(row, accuracy=accuracy)


def _kinds(
    k: int, x: np.ndarray, y: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray, Callable[[Models], np.ndarray]]]:
    """Records to delete, by kind, with the score that finds them; larger where they seem to have been there."""
    canary_x, canary_y = canaries(k)
    wrong = (y[:k] + 1) % 10

    def of_canaries(models: Models) -> np.ndarray:
        weights = models.weights[:, :, BLANK].astype(np.float64)
        moved: np.ndarray = weights[:, LABEL] - np.delete(weights, LABEL, axis=1).mean(axis=1)
        return moved

    return {
        "canaries": (canary_x, canary_y, of_canaries),
        "mislabelled digits": (x[:k], wrong, lambda models: -models.losses(x[:k], wrong)),
        "digits": (x[:k], y[:k], lambda models: -models.losses(x[:k], y[:k])),
    }
