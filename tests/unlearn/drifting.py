"""A learner whose arithmetic depends on a numeric switch of its process."""

from __future__ import annotations

import os

import numpy as np

from shards.learners.base import State, StepContext, StepData
from tests.negative.learner import Means

SWITCH = "OMP_TEST_DRIFT"
"""Like the switches of numeric libraries: part of the environment's digest, and it changes bits."""


class Drifting(Means):
    """Class means, moved by what the switch says."""

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        state = super().train_step(parent, data, context)
        drift = float(os.environ.get(SWITCH, "0"))
        return {name: value + drift if np.asarray(value).dtype.kind == "f" else value for name, value in state.items()}
