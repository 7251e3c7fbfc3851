"""Learners that misbehave on purpose, for the tests of executors. Referred to as `"executor_learners:Name"`."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shards.learners.base import Learner, Predictor, State, StepContext, StepData
from shards.task import Kind, Task


@dataclass(frozen=True)
class Counting(Learner):
    """Adds up what it sees; `trouble` says what goes wrong, `flag` names a file that remembers it happened."""

    trouble: str = ""
    flag: str = ""

    kernel: ClassVar[str] = "counting/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    def kinds(self) -> tuple[Kind, ...]:
        return ("classification",)

    def params(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Counting:
        return cls(**params)

    def code(self) -> tuple[str, ...]:
        return ("executor_learners:Counting",)

    def check(self, task: Task) -> None:
        pass

    def visits(self, records: int, n_slices: int) -> int:
        return records

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        if context.position == 1 and context.shard == 1:
            self._make_trouble()
        before = np.zeros(1) if parent is None else parent["sum"]
        return {"sum": before + data.features["x"].sum() + context.seed("any") % 1000}

    def _make_trouble(self) -> None:
        flag = Path(self.flag)
        if self.trouble == "raise":
            raise RuntimeError("the learner's own words")
        if self.trouble == "print":
            print("to standard output")  # must not be taken for an answer
        if self.trouble == "die once" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "die":
            flag.write_text(flag.read_text() + "x" if flag.exists() else "x")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "hang":
            flag.write_text(str(os.getpid()))
            time.sleep(600)

    def predictor(self, state: State, task: Task) -> Predictor:
        n = len(task.classes)
        return lambda features: np.full((len(features["x"]), n), 1 / n)
