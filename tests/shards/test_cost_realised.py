"""The exact cost of a layout against the recipe's own steps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.cost_realised import Budget, Rebuilt, count_records, recovery_cost, training_cost
from shards.errors import InputError
from shards.learners.base import epoch_visits
from shards.recipe import Constants, Recorded, SliceInput, Step, chain


def epochs(new: int, records: int, n_slices: int) -> int:
    """Three passes, rounded as learners do."""
    return epoch_visits(Fraction(3), records, n_slices)


def sums(new: int, records: int, n_slices: int) -> int:
    """The budget of learners of sums."""
    return max(new, 1)


def steps_of(records: np.ndarray, versions: np.ndarray, n_slices: int, budget: Budget, built: list[Step]) -> list[Step]:
    """The recipe of all shards; a slice whose version differs has other content."""
    constants = Constants({"class": "m:L", "params": {}}, "code", "task", 0, n_slices)
    found = []
    for shard, row in enumerate(records):
        slices = [
            SliceInput(int(n), f"{shard} {at} {versions[shard, at]}" if n else "nothing") for at, n in enumerate(row)
        ]
        recorded = {step.position: Recorded(step.key, "here") for step in built if step.shard == shard}
        found += chain(constants, shard, slices, recorded, "here", budget)
    return found


def built(steps: list[Step]) -> Rebuilt:
    return Rebuilt(len({step.shard for step in steps}), len(steps), sum(step.visits for step in steps))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), budget=st.sampled_from([epochs, sums]))
def test_recovery_costs_the_steps_that_the_recipe_misses(data: st.DataObject, budget: Budget) -> None:
    n_shards, n_slices, batches = (data.draw(st.integers(1, 3)) for _ in range(3))
    positions = n_slices * batches
    cells = st.lists(st.integers(0, 4), min_size=n_shards * positions, max_size=n_shards * positions)
    records = np.array(data.draw(cells)).reshape(n_shards, positions)
    where = np.repeat(np.argwhere(records >= 0), records.ravel(), axis=0)
    chosen = data.draw(st.sets(st.integers(0, len(where) - 1))) if len(where) else set()
    gone = where[sorted(chosen)]
    lost = count_records(n_shards, positions, gone)

    before = steps_of(records, np.zeros_like(records), n_slices, budget, [])
    after = steps_of(records - lost, lost, n_slices, budget, before)
    assert recovery_cost(records, gone, n_slices, budget) == built([step for step in after if not step.built])
    assert training_cost(records, n_slices, budget) == built(before)


def test_counts_are_those_of_the_places() -> None:
    assert count_records(2, 3, np.array([[0, 0], [1, 2], [1, 2]])).tolist() == [[1, 0, 0], [0, 0, 2]]
    assert count_records(1, 2, np.empty((0, 2))).tolist() == [[0, 0]]


@pytest.mark.parametrize("where", [[[0, 3]], [[2, 0]], [[-1, 0]], [[0, -1]]])
def test_places_outside_are_refused(where: list[list[int]]) -> None:
    with pytest.raises(InputError, match="outside"):
        count_records(2, 3, np.array(where))


def test_a_slice_cannot_lose_more_than_it_holds() -> None:
    with pytest.raises(InputError, match="slice 1 of shard 0 holds 1 records"):
        recovery_cost(np.array([[2, 1]]), np.array([[0, 1], [0, 1]]), 2, epochs)
