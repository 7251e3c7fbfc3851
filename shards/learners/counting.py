"""Counted features, a chunk at a time: what learners out of exact sums have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.base import StepData
from shards.learners.feature_maps import EXACT_FLOAT, FeatureMap, count, largest_count
from shards.learners.merging import stacked
from shards.task import Kind, Task

CHUNK_BYTES = 2**26
"""Features of so many records at once are held in memory."""


MOST_TARGET = 2**20
"""Counts of a target at most."""


def check_numbers(task: Task, learner: str, kinds: tuple[Kind, ...] = ("classification", "regression")) -> None:
    """Refuse features that are no numbers, and tasks of another kind.

    Args:
        task: What is predicted.
        learner: Whose task it is to be, for the message.
        kinds: The kinds of task it can be trained on.

    Raises:
        ConfigurationError: With what does not fit.
    """
    if task.kind not in kinds:
        raise ConfigurationError(f"{learner} predicts classes, and the task is {task.kind}: use RidgeLearner")
    wrong = [name for name, schema in task.features.items() if not _is_number(schema.dtype)]
    if wrong:
        raise ConfigurationError(
            f"{learner} takes numbers, and {', '.join(wrong)} is none: encode it by a public rule first"
        )


def given(task: Task) -> int:
    """How many numbers the features of one record are."""
    return sum(math.prod(schema.shape) for schema in task.features.values())


def chunks(features: FeatureMap, data: StepData, task: Task, largest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counted features and targets, of so few records at once that float64 adds their products up exactly.

    Args:
        features: The feature map.
        data: Records, maybe none.
        task: What is predicted.
        largest: What one record adds to a sum at most, in absolute value.

    Yields:
        Features `[m, d]` float64, whole numbers, and targets `[m, ...]` as they were given.
    """
    # So many whole numbers add up to less than 2^53, where float64 adds without rounding, in any order.
    exact, width = EXACT_FLOAT // largest, given(task)
    step = max(1, min(exact, CHUNK_BYTES // (8 * (features.width(width) + width))))
    for start in range(0, len(data), step):
        rows = slice(start, start + step)
        yield features.counts(stacked({name: array[rows] for name, array in data.features.items()})), data.target[rows]


def summed(shapes: Mapping[str, tuple[int, ...]], parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add parts up.

    Args:
        shapes: Name to shape, since there may be no parts.
        parts: Name to whole numbers of that shape.

    Returns:
        Name to int64 array.
    """
    total = {name: np.zeros(shape, dtype=np.int64) for name, shape in shapes.items()}
    for part in parts:
        for name, value in part.items():
            total[name] += value.astype(np.int64)
    return total


def positive(name: str, value: Any) -> float:
    """Refuse what is no positive number.

    Args:
        name: Of a constant, for the message.
        value: What was given.

    Returns:
        It, as a float.

    Raises:
        ConfigurationError: If it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def target_limits(unit: Any, limit: Any) -> tuple[float, float]:
    """Check in what targets of a regression are counted.

    Args:
        unit: What one count of a target is worth.
        limit: Largest target in absolute terms.

    Returns:
        Both, as floats.

    Raises:
        ConfigurationError: If one is out of range.
    """
    worth, most = positive("target_unit", unit), positive("target_limit", limit)
    if not 1 <= most / worth <= MOST_TARGET:
        raise ConfigurationError(
            f"target_limit must be 1 to {MOST_TARGET:,} times target_unit, got {most:g} and {worth:g}"
        )
    return worth, most


def target_largest(task: Task, unit: float, limit: float) -> int:
    """Largest count of a target in absolute terms."""
    return 1 if task.kind == "classification" else largest_count(limit, unit)


def target_counts(target: np.ndarray, task: Task, unit: float, limit: float) -> np.ndarray:
    """Targets in whole numbers.

    Args:
        target: `[m, ...]` as they were given.
        task: What is predicted.
        unit: What one count of a number is worth.
        limit: Largest number in absolute terms.

    Returns:
        `[m, columns]` float64: zeros and ones of classes, or counts.
    """
    if task.kind == "classification":
        return one_hot(target, task)
    return count(np.reshape(target, (len(target), columns(task))), unit, largest_count(limit, unit), "target")


def columns(task: Task) -> int:
    """How many numbers a target is counted in."""
    return len(task.classes) if task.kind == "classification" else math.prod(task.target.shape)


def one_hot(target: np.ndarray, task: Task) -> np.ndarray:
    """Class indices `[m]` as zeros and ones `[m, classes]`, float64."""
    chosen: np.ndarray = np.eye(len(task.classes))[target]
    return chosen


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities out of logarithms.

    Args:
        scores: `[n, classes]`, minus infinity for a class that nobody has; one of a row is finite.

    Returns:
        `[n, classes]`, adding up to 1.
    """
    shares: np.ndarray = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def log_priors(counts: np.ndarray) -> np.ndarray:
    """Logarithms of the classes' shares of the records; minus infinity for a class that nobody has.

    Args:
        counts: `[classes]`, records of each.

    Returns:
        `[classes]` float64.
    """
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(counts / counts.sum())
    return found


def symmetric(upper: np.ndarray, d: int) -> np.ndarray:
    """A symmetric matrix out of its upper triangle.

    Args:
        upper: `[d (d + 1) / 2]`, by rows.
        d: Its size.

    Returns:
        `[d, d]`, of the same dtype.
    """
    found = np.zeros((d, d), dtype=upper.dtype)
    start = 0
    for row in range(d):
        found[row, row:] = found[row:, row] = upper[start : start + d - row]
        start += d - row
    return found


def _is_number(dtype: str) -> bool:
    return dtype != "str" and np.dtype(dtype).kind in "biuf"
