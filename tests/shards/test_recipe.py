"""A key changes with every input of its step and with nothing else; nothing looks ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.learners.base import epoch_visits
from shards.recipe import Constants, Recorded, SliceInput, Step, chain

CONSTANTS = Constants({"class": "m:L", "params": {"lr": 0.1}}, "code", "task", 7, 3)
SLICES = [SliceInput(4, "d0"), SliceInput(0, "empty"), SliceInput(5, "d2"), SliceInput(1, "d3")]


def visits(new: int, records: int, n_slices: int) -> int:
    del new
    return epoch_visits(10, records, n_slices)


def steps(
    constants: Constants = CONSTANTS, slices=SLICES, recorded=None, environment: str = "env", shard=1
) -> list[Step]:
    return chain(constants, shard, slices, recorded or {}, environment, visits)


def test_every_input_is_in_the_key() -> None:
    """A hyper-parameter, the code, the task, the seed, R, the shard, a record of any slice, the environment."""
    last = steps()[-1].key
    others = [
        steps(replace(CONSTANTS, learner={"class": "m:L", "params": {"lr": 0.2}})),
        steps(replace(CONSTANTS, learner={"class": "m:M", "params": {"lr": 0.1}})),
        steps(replace(CONSTANTS, code="edited")),
        steps(replace(CONSTANTS, task="other")),
        steps(replace(CONSTANTS, root_seed=8)),
        steps(replace(CONSTANTS, n_slices=4)),
        steps(shard=2),
        steps(environment="other"),
        *(
            steps(slices=[replace(s, digest="changed") if i == j else s for j, s in enumerate(SLICES)])
            for i in range(len(SLICES))
        ),
    ]
    keys = [other[-1].key for other in others]
    assert last not in keys
    assert len(set(keys)) == len(keys)


def test_the_budget_is_in_the_key() -> None:
    other = chain(CONSTANTS, 1, SLICES, {}, "env", lambda *counts: visits(*counts) + 1)
    assert {step.key for step in other}.isdisjoint(step.key for step in steps())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 8))
def test_later_slices_change_no_earlier_key(counts: list[int], cut: int) -> None:
    slices = [SliceInput(n, f"d{i}-{n}") for i, n in enumerate(counts)]
    whole, prefix = steps(slices=slices), steps(slices=slices[:cut])
    assert whole[: len(prefix)] == prefix


def test_a_step_without_records_is_void_and_an_empty_slice_after_records_is_not() -> None:
    found = steps(slices=[SliceInput(0, "e"), SliceInput(2, "d"), SliceInput(0, "e")])
    assert [(step.position, step.records) for step in found] == [(1, 2), (2, 2)]
    assert found[0].parent is None
    assert found[1].parent == found[0].key
    assert steps(slices=[SliceInput(0, "e")] * 3) == []


def test_built_steps_are_recognised_by_key_and_keep_their_environment() -> None:
    old = steps(environment="old")
    recorded = {step.position: Recorded(step.key, step.environment) for step in old[:2]}
    found = steps(recorded=recorded, environment="new")
    assert [step.built for step in found] == [True, True, False, False]
    assert [step.environment for step in found] == ["old", "old", "new", "new"]
    assert found[2].parent == old[1].key
    assert found[2].key != old[2].key


def test_a_recorded_step_whose_inputs_changed_is_built_anew() -> None:
    recorded = {step.position: Recorded(step.key, "env") for step in steps()}
    changed = [SLICES[0], SLICES[1], replace(SLICES[2], digest="rewritten"), SLICES[3]]
    assert [step.built for step in steps(slices=changed, recorded=recorded)] == [True, True, False, False]


@given(st.integers(1, 500), st.integers(1, 20), st.fractions(min_value="1/100", max_value=50))
def test_budget_is_rounded_up_and_never_zero(records: int, n_slices: int, epochs) -> None:
    found = epoch_visits(epochs, records, n_slices)
    exact = 2 * epochs * records / (n_slices + 1)
    assert found >= 1
    assert 0 <= found - exact < 1


@pytest.mark.parametrize("n_slices", [1, 2, 5, 7])
def test_slicing_costs_what_unsliced_training_costs(n_slices: int) -> None:
    per_slice = 60
    total = sum(epoch_visits(20, per_slice * r, n_slices) for r in range(1, n_slices + 1))
    unsliced = 20 * per_slice * n_slices
    assert unsliced <= total <= unsliced + n_slices
