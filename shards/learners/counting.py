"""Counted features, a chunk at a time: what learners out of exact sums have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from shards.errors import ConfigurationError, InputError
from shards.learners.base import Features, StepData
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


def check_features(features: FeatureMap, records: Features, task: Task, option: str = "") -> None:
    """Refuse records whose features a map does not take, as far as that can be told before it is worked out.

    Args:
        features: The feature map.
        records: Feature name to array `[n, *shape]` of numbers.
        task: What is predicted.
        option: Of the learner, to declare a larger limit, for the message; as a rule, that of the map.

    Raises:
        InputError: If a value is not finite or too large.
    """
    if features.takes is None:
        return
    unit, limit = features.takes
    declared = "limit" if "limit" in features.to_json() else "input_limit"
    option = option or f'features={{"map": "{features.kind}", "{declared}": …}}'
    for name, values in records.items():
        _refuse(values, unit, limit, partial(_feature, task, name), option)


def check_no_less(least: float, records: Features, unit: float, task: Task) -> None:
    """Refuse records with features that are too small, to the nearest unit.

    Args:
        least: Smallest value, in units.
        records: Feature name to array `[n, *shape]` of numbers.
        unit: What one count is worth.
        task: What is predicted.

    Raises:
        InputError: If a value is.
    """
    for name, values in records.items():
        smallest = values.min(initial=0)
        if np.rint(smallest / unit) < least:
            row, place = _where(values, values.argmin())
            raise InputError(
                f"{_feature(task, name, place)} holds {smallest:g} in row {row}, and the learner takes "
                f"{least * unit:g} or more: encode it by a public rule, or choose another learner; nothing was ingested"
            )


def check_target(target: np.ndarray, task: Task, unit: float, limit: float) -> None:
    """Refuse targets that cannot be counted; classes always can.

    Args:
        target: `[n, ...]` as they were given.
        task: What is predicted.
        unit: What one count of a number is worth.
        limit: Largest number in absolute terms.

    Raises:
        InputError: If one is not finite or too large.
    """
    if task.kind == "regression":
        _refuse(target, unit, limit, lambda _: "the target", "target_limit=…")


def _refuse(values: np.ndarray, unit: float, limit: float, what: Callable[[int], str], option: str) -> None:
    """Refuse values that `count` would refuse, and say where one is, the worst of the first chunk that has any."""
    largest = largest_count(limit, unit)
    step = max(1, CHUNK_BYTES // (8 * max(1, math.prod(values.shape[1:]))))
    for start in range(0, len(values), step):
        some = values[start : start + step].astype(np.float64)
        sizes = np.nan_to_num(np.abs(np.rint(some / unit)), nan=np.inf)
        if sizes.max(initial=0) <= largest:
            continue
        row, place = _where(sizes, sizes.argmax())
        raise InputError(
            f"{what(place)} holds {some[row].flat[place]:g} in row {start + row}, and the learner takes "
            f"{largest * unit:g} in absolute value at most: scale by public constants before ingest, or create the "
            f"workspace with a larger limit ({option} for the learner); nothing was ingested"
        )


def _where(values: np.ndarray, at: Any) -> tuple[int, int]:
    """Row, and place within the row, of what stands at a place of all."""
    row, place = divmod(int(at), math.prod(values.shape[1:]))
    return row, place


def _feature(task: Task, name: str, place: int) -> str:
    """What to call a number among those of a record."""
    shape = task.features[name].shape
    if len(task.features) == 1 and len(task.columns) == math.prod(shape):
        return f"feature {task.columns[place]!r}"
    where = ", ".join(str(at) for at in np.unravel_index(place, shape)) if shape else ""
    return f"feature {name!r}{where and f'[{where}]'}"


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
