"""Learners that misbehave on purpose, for the tests of executors. Referred to as `"executor_learners:Name"`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shards.errors import DamageError
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
        if self.trouble == "raise together":
            self._raise_together(context.shard)
        if context.position == 1 and context.shard == 1:
            self._make_trouble()
        before = np.zeros(1) if parent is None else parent["sum"]
        return {"sum": before + data.features["x"].sum() + context.seed("any") % 1000}

    def _make_trouble(self) -> None:
        flag = Path(self.flag)
        if self.trouble == "raise":
            if self.flag:
                flag.write_text(flag.read_text() + "x" if flag.exists() else "x")
            raise RuntimeError("the learner's own words")
        if self.trouble == "print":
            print("to standard output")  # must not be taken for an answer
            print("to standard error: é", file=sys.stderr)
        if self.trouble == "die once" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "die":
            flag.write_text(flag.read_text() + "x" if flag.exists() else "x")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "last words":
            os.write(2, b"the last words\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "gluttony":
            flag.write_text(flag.read_text() + "x" if flag.exists() else "x")
            kept = []
            for _ in range(75):  # 3 GB, no more: it is another's memory as well
                kept.append(np.ones(5_000_000))
                time.sleep(0.05)
            time.sleep(60)
        if self.trouble == "hang with a child":
            child = subprocess.Popen(["sleep", "600"])
            flag.write_text(f"{os.getpid()} {child.pid}")
            time.sleep(600)
        if self.trouble == "hang":
            flag.write_text(str(os.getpid()))
            time.sleep(600)

    def _raise_together(self, shard: int) -> None:
        """Raise once two shards are at it, what ends the training of all."""
        here = Path(self.flag)
        here.mkdir(exist_ok=True)
        (here / str(shard)).touch()
        until = time.monotonic() + 60
        while len(list(here.iterdir())) < 2:
            if time.monotonic() > until:
                raise TimeoutError("no other shard came")
            time.sleep(0.01)
        raise DamageError("the learner's own words")

    def predictor(self, state: State, task: Task) -> Predictor:
        n = len(task.classes)
        return lambda features: np.full((len(features["x"]), n), 1 / n)


@dataclass(frozen=True)
class Slow(Counting):
    """The same sums, with a pause in every step."""

    pause: float = 0.0

    def code(self) -> tuple[str, ...]:
        return ("executor_learners:Slow",)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        time.sleep(self.pause)
        return super().train_step(parent, data, context)


@dataclass(frozen=True)
class Depending(Counting):
    """The same sums, said to depend on a library of which nodes have different versions."""

    libraries: ClassVar[tuple[str, ...]] = ("numpy", "some_numeric_library")

    def code(self) -> tuple[str, ...]:
        return ("executor_learners:Depending",)
