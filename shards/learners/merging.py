"""Learners whose shards' states merge into the state of all records: sharded, and still one model.

A part is the state of some records. Merging parts knows no order and no grouping, as far as any prediction can tell,
and the part of all records is the merger of the parts they are split into. So the model solved from it is the model of
all records, however they are placed: sharding costs no accuracy, and says only how much is worked out again when
somebody is forgotten.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData
from shards.task import Task

RECORDS = "records"
"""What every state says: how many records it is of, int64 scalar."""


class MergeLearner(Learner):
    """Abstract: `part` of some records, `merge` of parts, and `solve` for a model from the whole.

    `aggregation="sum"` joins the shards; any other rule solves each shard's own model.
    """

    @abstractmethod
    def part(self, data: StepData, task: Task) -> State:
        """The state of some records, maybe none, without their number.

        Args:
            data: The records.
            task: What is predicted.

        Returns:
            Name to array of whole numbers.
        """

    @abstractmethod
    def merge(self, states: Sequence[State]) -> State:
        """The state of several states' records together.

        Args:
            states: At least one; none of them is changed.

        Returns:
            A new state.
        """

    @abstractmethod
    def solve(self, whole: State, task: Task) -> Predictor:
        """The model of some records: a pure function of their state.

        Args:
            whole: Their state, of at least one record.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]` or targets `[n, ...]`, float64.
        """

    @abstractmethod
    def check_records(self, records: int, task: Task) -> None:
        """Refuse more records than can be exact.

        Args:
            records: How many.
            task: What is predicted.
        """

    def without(self, whole: State, parts: Sequence[State]) -> State | None:
        """Take parts out of a whole, leaving exactly what a merger of the others would be.

        Args:
            whole: A merger of these parts and others; it is not changed.
            parts: What is to go.

        Returns:
            The rest; None if that would be no faster than merging the others again.
        """
        del whole, parts
        return None

    def visits(self, records: int, n_slices: int) -> int:
        """One visit each, if all are new."""
        del n_slices
        return records

    def budget(self, new: int, records: int, n_slices: int) -> int:
        """One visit for each record of the step's own slice: what came before is in the parent's state."""
        del records, n_slices
        return max(new, 1)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Merge the state of what is new into the parent's.

        Args:
            parent: State after the previous step, or None.
            data: Records of slices 1..r; the parent's are their beginning.
            context: Constants; no seed is used.

        Returns:
            Name to array of whole numbers.
        """
        seen = 0 if parent is None else int(parent[RECORDS])
        self.check_records(len(data), context.task)
        new = StepData({n: array[seen:] for n, array in data.features.items()}, data.target[seen:], data.tokens[seen:])
        found = {**self.part(new, context.task), RECORDS: np.array(len(new), dtype=np.int64)}
        context.progress(max(len(new), 1))
        return found if parent is None else self.merge([parent, found])

    def predictor(self, state: State, task: Task) -> Predictor:
        """The model of a state's records, solved when it is first asked.

        Args:
            state: One shard's, or merged.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]` or targets `[n, ...]`, float64; an error when asked, if there
            are more records than can be exact.
        """
        solved = list[Predictor]()

        def predict(features: Features) -> np.ndarray:
            if not solved:
                self.check_records(int(state[RECORDS]), task)
                solved.append(self.solve(state, task))
            return solved[0](features)

        return predict

    def joined(self, states: Iterable[State], task: Task) -> Predictor:
        """The model of several states' records together, solved when it is first asked."""
        return self.predictor(self.merge(list(states)), task)


def stacked(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """All features of each record in one row, in the task's order.

    Args:
        features: Feature name to array `[n, *shape]` of numbers.

    Returns:
        `[n, width]` float64.
    """
    return np.concatenate([np.reshape(f, (len(f), -1)).astype(np.float64) for f in features.values()], axis=1)
