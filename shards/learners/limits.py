"""Refuse values that a learner cannot count, before they are taken in: afterwards every training would fail on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from shards.errors import InputError
from shards.learners.base import Features
from shards.learners.feature_maps import FeatureMap, largest_count
from shards.task import Task

LARGEST: Mapping[str, float] = {
    "float16": 65504.0,
    "bfloat16": 2.0**128 - 2.0**120,
    "float32": 2.0**128 - 2.0**104,
}
"""Largest number of each dtype of fewer than 64 bits."""

STANDARDIZED = 1e140
"""Largest number whose square can be summed in float64 over as many records as there may be."""

CHUNK_BYTES = 2**26
"""So many values at once are looked at as float64."""


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


def check_sizes(records: Features, task: Task, dtype: str | None, *, standardize: bool) -> None:
    """Refuse records with a feature that would be infinite as it is computed with, and then so would every weight.

    Args:
        records: Feature name to array `[n, *shape]` of numbers.
        task: What is predicted.
        dtype: What features are computed with in; None: their own.
        standardize: Whether they are standardised first, in float64.

    Raises:
        InputError: If one is too large.
    """
    for name, values in records.items():
        largest = STANDARDIZED if standardize else LARGEST.get(dtype or values.dtype.name, math.inf)
        another = "another learner" if standardize else "another learner, or with standardize=True"
        _refuse_larger(largest, values, partial(_feature, task, name), another)


def check_target_sizes(largest: float, target: np.ndarray, task: Task) -> None:
    """Refuse targets that are too large to be computed with; classes never are.

    Args:
        largest: Largest number in absolute terms.
        target: `[n, ...]` as they were given.
        task: What is predicted.

    Raises:
        InputError: If one is larger.
    """
    if task.kind == "regression":
        _refuse_larger(largest, target, lambda _: "the target", "another learner")


def _refuse_larger(largest: float, values: np.ndarray, what: Callable[[int], str], another: str) -> None:
    """Refuse values, and say where the worst of either sign is."""
    for at in (values.argmax(), values.argmin()) if values.size else ():
        found = float(values.flat[at])
        if abs(found) > largest:
            row, place = _where(values, at)
            raise InputError(
                f"{what(place)} holds {found:g} in row {row}, and the learner computes with numbers up to {largest:g}: "
                f"scale by public constants before ingest, or create the workspace with {another}; nothing was ingested"
            )


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
