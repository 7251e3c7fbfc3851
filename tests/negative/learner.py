"""A learner of class means, cheap enough to train in every test. Referred to as `"tests.negative.learner:Means"`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData
from shards.task import Kind, Task


@dataclass(frozen=True)
class Means(Learner):
    """Moves each class's mean towards its records one by one, so that their order and the parent's state count."""

    rate: float = 0.1

    kernel: ClassVar[str] = "means/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    def kinds(self) -> tuple[Kind, ...]:
        return ("classification",)

    def params(self) -> dict[str, Any]:
        return {"rate": self.rate}

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Means:
        return cls(**params)

    def code(self) -> tuple[str, ...]:
        return ("tests.negative.learner:Means",)

    def check(self, task: Task) -> None:
        pass

    def visits(self, records: int, n_slices: int) -> int:
        return records

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        x = data.features["x"].astype(np.float64)
        shape = (len(context.task.classes), x.shape[1])
        noise = np.random.default_rng(context.seed("start")).normal(scale=0.01, size=shape)
        means = noise if parent is None else parent["means"].copy()
        for row, k in zip(x, data.target, strict=True):
            means[k] += self.rate * (row - means[k])
        return {"means": means}

    def predictor(self, state: State, task: Task) -> Predictor:
        means = state["means"]

        def predict(features: Features) -> np.ndarray:
            distance = ((features["x"][:, None, :].astype(np.float64) - means) ** 2).sum(axis=2)
            likely = np.exp(distance.min(axis=1, keepdims=True) - distance)
            return likely / likely.sum(axis=1, keepdims=True)

        return predict
