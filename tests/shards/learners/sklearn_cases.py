"""Small tasks for SklearnLearner, with data drawn for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from shards.learners.base import StepContext, StepData
from shards.learners.sklearn import SklearnLearner
from shards.task import FieldSchema, Task

CLASSES = Task("classification", {"x": FieldSchema((4,), "<f8")}, FieldSchema((), "<i8"), classes=("a", "b", "c", "d"))
VALUES = Task("regression", {"x": FieldSchema((4,), "<f8")}, FieldSchema((), "<f8"))
TABLE = Task(
    "classification",
    {"word": FieldSchema((), "str"), "number": FieldSchema((), "<f8"), "text": FieldSchema((), "str")},
    FieldSchema((), "<i8"),
    classes=("no", "yes"),
)


def data(n: int = 50, task: Task = CLASSES, seed: int = 0, classes: tuple[int, ...] = (0, 1, 3)) -> StepData:
    """Records of a task, features normal or words, classes drawn from some of those declared."""
    rng = np.random.default_rng(seed)
    features: dict[str, np.ndarray] = {}
    for name, schema in task.features.items():
        if schema.dtype == "str":
            words = np.array(["green red", "blue red", "grey", "blue"])
            features[name] = words[rng.integers(0, 4, n)]
        else:
            features[name] = rng.normal(size=(n, *schema.shape))
    target = np.array(classes)[rng.integers(0, len(classes), n)]
    if task.kind == "regression":
        target = rng.normal(size=(n, *task.target.shape))
    return StepData(features, target, rng.integers(0, 256, (n, 16)).astype(np.uint8))


def context(visits: int = 120, task: Task = CLASSES, position: int = 0, seen: list[int] | None = None) -> StepContext:
    """A step of shard 2 under root seed 7."""
    progress = seen.append if seen is not None else lambda visits: None
    return StepContext(task, root_seed=7, shard=2, position=position, visits=visits, progress=progress)


def digest(learner: SklearnLearner, *args: Any) -> str:
    """Content digest of a step."""
    return learner.content_digest(learner.train_step(*args))
