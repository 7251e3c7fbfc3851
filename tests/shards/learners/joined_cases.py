"""Tasks of many shapes, inputs for them, and shards trained a little."""

from __future__ import annotations

import numpy as np

from shards.learners.base import Features, Learner, Predictor, StepContext, StepData
from shards.task import FieldSchema, Task


def task_of(features: Features, classes: int, target: tuple[int, ...]) -> Task:
    """Classification into so many classes; or, for none, regression of a target of this shape."""
    schemas = {name: FieldSchema(x.shape[1:], x.dtype.str) for name, x in features.items()}
    if classes:
        return Task("classification", schemas, FieldSchema((), "<i8"), tuple(range(classes)))
    return Task("regression", schemas, FieldSchema(target, "<f8"))


def inputs(rng: np.random.Generator, n: int, shape: tuple[int, ...], density: float, dtype: str) -> np.ndarray:
    """Numbers of a dtype, of which this share is not zero."""
    values = rng.normal(scale=2.0, size=(n, *shape)) * (rng.random((n, *shape)) < density)
    return np.ascontiguousarray(np.rint(values).astype(dtype) if dtype != "<f8" else values)


def trained(learner: Learner, task: Task, count: int, seed: int) -> list[Predictor]:
    """Members that differ: each was trained a little on records of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for shard in range(count):
        features = {
            name: inputs(rng, 12, tuple(schema.shape), 0.7, schema.dtype) for name, schema in task.features.items()
        }
        target = (
            rng.integers(0, len(task.classes), 12)
            if task.kind == "classification"
            else rng.normal(size=(12, *task.target.shape))
        )
        data = StepData(features, target, np.zeros((12, 16), dtype=np.uint8))
        context = StepContext(task, root_seed=seed, shard=shard, position=0, visits=24)
        found.append(learner.predictor(learner.train_step(None, data, context), task))
    return found
