"""Small tasks, records and steps for the tests of learners out of exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from shards.learners.base import Learner, State, StepContext, StepData
from shards.task import FieldSchema, Task

CLASSES = Task("classification", {"x": FieldSchema((4,), "<f4")}, FieldSchema((), "<i8"), (0, 1, 2))
NUMBERS = Task("regression", {"x": FieldSchema((4,), "<f4")}, FieldSchema((), "<f8"))


def given(x: Any, y: Any) -> StepData:
    """Records of these features and targets."""
    return StepData({"x": np.asarray(x, dtype=np.float32)}, np.asarray(y), np.zeros((len(y), 16), dtype=np.uint8))


def records(n: int, seed: int = 0) -> StepData:
    """Records of three classes that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return given(rng.normal(size=(n, 4)) + y[:, None] * [0.5, 1.0, -1.0, 0.0], y)


def some(data: StepData, rows: Any) -> StepData:
    """Some of the records."""
    return StepData({name: f[rows] for name, f in data.features.items()}, data.target[rows], data.tokens[rows])


def step(learner: Learner, parent: State | None, data: StepData, task: Task = CLASSES, position: int = 0) -> State:
    """Train one step."""
    return learner.train_step(parent, data, StepContext(task, 0, 0, position, max(len(data), 1)))


def same(one: State, other: State) -> bool:
    """Whether two states are equal, and whole numbers."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype == np.int64 and np.array_equal(one[name], other[name]) for name in one
    )


def rounded(data: StepData, unit: float) -> np.ndarray:
    """The features as a learner counts them."""
    counted: np.ndarray = np.rint(data.features["x"].astype(np.float64) / unit) * unit
    return counted
