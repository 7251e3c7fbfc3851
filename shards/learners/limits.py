"""Refuse values that a learner cannot count, before they are taken in: afterwards every training would fail on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from shards.errors import InputError
from shards.learners.base import Features
from shards.learners.feature_maps import FeatureMap, largest_count
from shards.task import Task

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
