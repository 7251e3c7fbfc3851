"""A learner that stops in every step until it is let go, so that something can be done to it at that moment."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from shards.learners.base import State, StepContext, StepData
from tests.unlearn.hoarding import Hoarding

SECONDS = 120.0
"""After which a step goes on by itself: no test leaves a process behind."""


@dataclass(frozen=True)
class Gated(Hoarding):
    """Says in a folder where it is, and waits there for the file that lets it go on."""

    gates: str = ""

    kernel: ClassVar[str] = "gated/1"

    def params(self) -> dict[str, Any]:
        return {"gates": self.gates}

    def code(self) -> tuple[str, ...]:
        return ("tests.unlearn.gated:Gated",)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        gates = Path(self.gates)
        here = f"{context.shard}-{context.position}"
        if gates.is_dir():
            (gates / f"at-{here}").write_text(str(os.getpid()))
            until = time.monotonic() + SECONDS
            while not ((gates / f"go-{here}").exists() or (gates / "go").exists()) and time.monotonic() < until:
                time.sleep(0.005)
        return super().train_step(parent, data, context)
