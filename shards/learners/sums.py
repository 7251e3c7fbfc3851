"""Learners whose model depends on the records through sums alone.

A shard's state is its sums, as integers: adding is exact, in whatever order and whatever grouping, and so is
subtracting. The shards' sums are added and one model is solved from the total.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.base import State
from shards.learners.merging import MergeLearner
from shards.task import Task

EXACT_INTEGER = 2**63 - 1


class SumLearner(MergeLearner):
    """Abstract: a part is sums over records, int64 arrays of shapes that depend on the task alone."""

    @abstractmethod
    def largest(self, task: Task) -> int:
        """Upper bound of what one record adds to any one sum, in absolute value."""

    def merge(self, states: Sequence[State]) -> State:
        """Add them."""
        return add(states)

    def without(self, whole: State, parts: Sequence[State]) -> State | None:
        """Subtract the parts."""
        return {name: total - sum(part[name] for part in parts) for name, total in whole.items()}

    def check_records(self, records: int, task: Task) -> None:
        """Refuse so many records that a sum could overflow.

        Args:
            records: How many.
            task: What is predicted.

        Raises:
            ConfigurationError: With how many, and what to do.
        """
        if records * self.largest(task) > EXACT_INTEGER:
            raise ConfigurationError(
                f"the sums of {records:,} records could overflow 64-bit integers: use coarser units"
            )


def add(states: Sequence[State]) -> dict[str, np.ndarray]:
    """Sums of sums; exact, where nothing can overflow."""
    total = {name: array.copy() for name, array in states[0].items()}
    for state in states[1:]:
        for name in total:
            total[name] += state[name]
    return total
