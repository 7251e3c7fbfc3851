"""What recovering costs exactly, of a layout that is there: how many records each slice of each shard holds.

It counts the very steps that the recipe demands, and asks the learner's own budget, so that it equals what a build
reports, record-visit for record-visit; `tests/unlearn/test_predicted_visits.py` compares with workspaces. For what is
to be expected before anything is placed, see `cost_expected`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.errors import InputError

Budget = Callable[[int, int, int], int]
"""A learner's `budget`: `(records of the slice, records so far, n_slices)` to record-visits."""


@dataclass(frozen=True)
class Rebuilt:
    """What a build comes to.

    Attributes:
        shards: Shards in which something is built.
        steps: Steps built.
        visits: Record-visits made.
    """

    shards: int
    steps: int
    visits: int


def count_records(n_shards: int, n_positions: int, where: np.ndarray) -> np.ndarray:
    """Count the records of every slice.

    Args:
        n_shards: S.
        n_positions: Slices of all batches: R for each batch.
        where: `[n, 2]` integers: shard and position of each record.

    Returns:
        `[n_shards, n_positions]` int64.

    Raises:
        InputError: If a shard or a position is none of these.
    """
    rows = np.asarray(where, dtype=np.int64).reshape(-1, 2)
    if len(rows) and (rows.min() < 0 or rows[:, 0].max() >= n_shards or rows[:, 1].max() >= n_positions):
        raise InputError(
            f"a record lies outside of {n_shards} shards and {n_positions} slices: count shards and positions from 0"
        )
    flat = np.bincount(rows[:, 0] * n_positions + rows[:, 1], minlength=n_shards * n_positions)
    return flat.astype(np.int64).reshape(n_shards, n_positions)


def training_cost(records: np.ndarray, n_slices: int, budget: Budget) -> Rebuilt:
    """Cost of training everything from nothing.

    Args:
        records: `[S, positions]` integers: records of every slice, by shard and position.
        n_slices: R, slices of a batch; positions count the slices of all batches.
        budget: The learner's.

    Returns:
        The cost.
    """
    return _cost(records, np.zeros(len(records), dtype=np.int64), n_slices, budget)


def recovery_cost(records: np.ndarray, gone: np.ndarray, n_slices: int, budget: Budget) -> Rebuilt:
    """Cost of recovering from requests together, all steps having been built before.

    A shard restarts at the earliest slice that lost a record, and trains on what is left.

    Args:
        records: `[S, positions]` integers: records of every slice before the requests.
        gone: `[n, 2]` integers: shard and position of each record that is forgotten, one row a record.
        n_slices: R, slices of a batch.
        budget: The learner's.

    Returns:
        The cost.

    Raises:
        InputError: If a slice loses more records than it holds.
    """
    lost = count_records(records.shape[0], records.shape[1], gone)
    left = records - lost
    if (left < 0).any():
        shard, position = np.argwhere(left < 0)[0]
        raise InputError(f"slice {position} of shard {shard} holds {records[shard, position]} records and loses more")
    never = records.shape[1]
    first = np.where((lost > 0).any(axis=1), (lost > 0).argmax(axis=1), never)
    return _cost(left, first, n_slices, budget)


def _cost(records: np.ndarray, first: np.ndarray, n_slices: int, budget: Budget) -> Rebuilt:
    """Cost of every shard's steps from its position `first` on; a step over no records at all is void."""
    shards = steps = visits = 0
    so_far = np.cumsum(records, axis=1)
    for shard in np.flatnonzero(first < records.shape[1]):
        chain = [
            budget(int(new), int(total), n_slices)
            for new, total in zip(records[shard, first[shard] :], so_far[shard, first[shard] :], strict=True)
            if total
        ]
        shards += bool(chain)
        steps += len(chain)
        visits += sum(chain)
    return Rebuilt(shards, steps, visits)
