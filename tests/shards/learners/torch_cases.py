"""A small task for TorchLearner, its data, and how the tests look at states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from shards.digest import digest_arrays
from shards.learners.base import StepContext, StepData
from shards.learners.torch import TorchLearner
from shards.task import FieldSchema, Task

N = 37
_rng = np.random.default_rng(0)


def classification(features: Mapping[str, np.ndarray], classes: int = 3) -> Task:
    """A task of classifying records with these features."""
    schemas = {name: FieldSchema(x.shape[1:], x.dtype.str) for name, x in features.items()}
    return Task("classification", schemas, FieldSchema((), "<i8"), tuple(range(classes)))


def regression(x: np.ndarray, shape: tuple[int, ...] = ()) -> Task:
    """A task of predicting values of a shape from one feature."""
    return Task("regression", {"x": FieldSchema(x.shape[1:], x.dtype.str)}, FieldSchema(shape, "<f8"))


X = _rng.normal(size=(N, 6))
DATA = StepData({"x": X}, _rng.integers(0, 3, N), _rng.integers(0, 256, (N, 16), dtype=np.uint8))
TASK = classification({"x": X})
CONTEXT = StepContext(TASK, root_seed=5, shard=2, position=0, visits=100)


def learner(module: str = "user_modules:make", **settings: object) -> TorchLearner:
    """A learner of a module of `user_modules`, with few settings of its own."""
    return TorchLearner(module, **settings)  # type: ignore[arg-type]


def take(data: StepData, rows: object) -> StepData:
    """Some of the records."""
    return StepData({k: v[rows] for k, v in data.features.items()}, data.target[rows], data.tokens[rows])  # type: ignore[index]


def weights(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The module's part of a state, by the names of its state dict."""
    return {key.partition("/")[2]: value for key, value in state.items() if key.startswith("module/")}


def same(state: Mapping[str, np.ndarray], module: torch.nn.Module) -> bool:
    """Whether a state holds exactly the weights of a module."""
    expected = {name: value.numpy() for name, value in module.state_dict().items()}
    return digest_arrays(weights(state)) == digest_arrays(expected)
