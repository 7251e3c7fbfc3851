"""Learners whose model depends on the records through sums alone.

A shard's state is its sums, as integers: adding is exact, in whatever order and whatever grouping. The shards'
sums are added and one model is solved from the total, so it is the model of all records, however they are placed:
sharding costs no accuracy, and says only how much is summed again when somebody is forgotten.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData
from shards.task import Task

RECORDS = "records"
"""Name of the sum that every state has: how many records there are, int64 scalar."""

EXACT_INTEGER = 2**63 - 1


class SumLearner(Learner):
    """Abstract: `sums` of records, and `solve` for a model from their total.

    `aggregation="sum"` joins the shards; any other rule solves each shard's own model.
    """

    @abstractmethod
    def sums(self, data: StepData, task: Task) -> State:
        """Sums over some records, maybe none: name to int64 array, of shapes that depend on the task alone.

        Raises:
            ConfigurationError: If a value is outside of what was declared.
        """

    @abstractmethod
    def solve(self, sums: State, task: Task) -> Predictor:
        """The model of some sums: a pure function of them.

        Args:
            sums: Name to int64 array, `"records"` among them, of at least one record.
            task: What is predicted.
        """

    @abstractmethod
    def largest(self, task: Task) -> int:
        """Upper bound of what one record adds to any one sum, in absolute value."""

    def visits(self, records: int, n_slices: int) -> int:
        """One visit each, if all are new."""
        del n_slices
        return records

    def budget(self, new: int, records: int, n_slices: int) -> int:
        """One visit for each record of the step's own slice: what came before is in the parent's sums."""
        del records, n_slices
        return max(new, 1)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Add the sums of what is new to the parent's.

        Args:
            parent: State after the previous step, or None.
            data: Records of slices 1..r; the parent's are their beginning.
            context: Constants; no seed is used.

        Returns:
            Name to int64 array.

        Raises:
            ConfigurationError: If a value is outside of what was declared, or sums could overflow.
        """
        seen = 0 if parent is None else int(parent[RECORDS])
        self._check(len(data), context.task)
        new = StepData({name: array[seen:] for name, array in data.features.items()}, data.target[seen:], data.tokens)
        found = {**self.sums(new, context.task), RECORDS: np.array(len(data) - seen, dtype=np.int64)}
        context.progress(max(len(data) - seen, 1))
        return found if parent is None else add([parent, found])

    def predictor(self, state: State, task: Task) -> Predictor:
        """One shard's own model, solved when it is first asked."""
        return self.joined([state], task)

    def joined(self, states: Iterable[State], task: Task) -> Predictor:
        """The model of several shards' records together, solved when it is first asked.

        Args:
            states: Their states, at least one.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]` or targets `[n, ...]`, float64; a `ConfigurationError` when
            asked, if the sums could overflow.
        """
        parts, solved = list(states), list[Predictor]()

        def predict(features: Features) -> np.ndarray:
            if not solved:
                solved.append(self.solve(self._total(parts, task), task))
            return solved[0](features)

        return predict

    def _total(self, states: Sequence[State], task: Task) -> State:
        self._check(sum(int(state[RECORDS]) for state in states), task)
        return add(states)

    def _check(self, records: int, task: Task) -> None:
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


def stacked(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """All features of each record in one row, in the task's order.

    Args:
        features: Feature name to array `[n, *shape]` of numbers.

    Returns:
        `[n, width]` float64.
    """
    return np.concatenate([np.reshape(f, (len(f), -1)).astype(np.float64) for f in features.values()], axis=1)
