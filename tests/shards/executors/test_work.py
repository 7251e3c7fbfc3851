"""What an answer or a lost worker means for a piece of work, without any worker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.calls import CallOrder
from shards.errors import (
    CallError,
    CodeError,
    DamageError,
    EnvironmentMismatchError,
    InputError,
    StorageError,
    TrainingError,
    WorkerLostError,
)
from shards.executors.work import ATTEMPTS, ATTEMPTS_OF_NODES, CallWork, ChainWork, Loss, first_of, largest_first
from shards.train import ChainOrder, SliceFile, StepOrder

MOST = {Loss.WORKER: ATTEMPTS, Loss.MEMORY: ATTEMPTS, Loss.NODE: ATTEMPTS_OF_NODES}


def order(shard: int = 3, steps: int = 3, visits: int = 5, first: int = 0) -> ChainOrder:
    return ChainOrder(
        folder="/nowhere",
        shard=shard,
        learner={},
        task={},
        root_seed=0,
        environment="e",
        code="c",
        parent=None if first == 0 else f"key {first - 1}",
        slices=tuple(SliceFile(f"slice {i}", 1, "d") for i in range(first + steps)),
        steps=tuple(StepOrder(i, f"key {i}", i + 1, visits) for i in range(first, first + steps)),
    )


def built(position: int) -> dict[str, Any]:
    names = ("key", "parent", "environment", "content", "payload", "salt")
    header = {**dict.fromkeys(names, "x"), "shard": 3, "position": position, "records": 1}
    return {"type": "built", "header": header, "staged": f"staged {position}", "visits": 5, "seconds": 0.5}


class Told:
    """Takes down what a piece of work tells."""

    def __init__(self, chain: ChainOrder | None = None) -> None:
        self.built: list[int] = []
        self.progress: list[tuple[int, int, int]] = []
        self.work = ChainWork(
            chain or order(),
            lambda step: self.built.append(step.header.position),
            lambda shard, position, visits: self.progress.append((shard, position, visits)),
        )


def call() -> tuple[CallWork, list[int]]:
    returned: list[int] = []
    return CallWork(CallOrder(7, "m:f", 1, "e", "c", "/nowhere/x"), returned.append), returned


def test_a_chain_is_done_step_by_step() -> None:
    told = Told()
    assert (told.work.number, told.work.size, told.work.name()) == (3, 15, "shard 3, step 0")
    assert told.work.message() == order().to_json()
    assert not told.work.hear({"type": "progress", "position": 0, "visits": 2})
    for position in range(3):
        assert not told.work.is_done
        assert not told.work.hear(built(position))
    assert told.work.is_done
    assert told.work.size == 0
    assert told.work.hear({"type": "done"})
    assert (told.built, told.progress) == ([0, 1, 2], [(3, 0, 2)])


def test_what_is_left_starts_from_the_last_step_that_was_built() -> None:
    told = Told()
    told.work.hear(built(0))
    left = ChainOrder.from_json(told.work.message())
    assert (left.parent, [step.position for step in left.steps], len(left.slices)) == ("key 0", [1, 2], 3)
    assert told.work.name() == "shard 3, step 1"


def test_the_next_part_is_one_step_with_the_slices_it_visits() -> None:
    told = Told(order(first=2))
    part = ChainOrder.from_json(told.work.next_message())
    assert (part.parent, [step.position for step in part.steps], len(part.slices)) == ("key 1", [2], 3)
    work, _ = call()
    assert work.next_message() == work.message()


def test_a_call_is_done_when_it_returned() -> None:
    work, returned = call()
    assert (work.number, work.size, work.name(), work.is_done) == (7, 1, "m:f, item 7", False)
    assert not work.hear({"type": "returned"})
    assert (work.is_done, returned) == (True, [7])
    assert work.hear({"type": "done"})


def test_errors_of_user_code_name_where_they_happened(caplog: pytest.LogCaptureFixture) -> None:
    answer = {"type": "error", "message": "ValueError: no", "traceback": "line 1", "position": 2}
    told = Told()
    assert told.work.hear(answer)  # the worker is free for others
    assert caplog.messages == ["training shard 3, step 2 failed; other shards go on"]  # and nothing a record may be in
    failure = told.work.failure
    assert told.work.is_done
    assert failure is not None
    assert str(failure).startswith("training shard 3, step 2 failed: ValueError: no")
    assert (failure.shard, failure.position, failure.traceback) == (3, 2, "line 1")
    assert first_of([failure]) is failure
    with pytest.raises(TrainingError, match=r"shard 3, step 2 failed[^$]*of 2 other shards failed too: 5, 3"):
        raise first_of([failure, TrainingError("no", 5, 0, ""), failure])
    with pytest.raises(CallError, match="m:f, item 7 failed: ValueError: no") as called:
        call()[0].hear(answer)
    assert (called.value.number, called.value.traceback) == (7, "line 1")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("damage", DamageError),
        ("mismatch", EnvironmentMismatchError),
        ("code", CodeError),
        ("input", InputError),
        ("storage", StorageError),
    ],
)
def test_our_own_errors_are_told_as_they_are(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^just this$"):
        Told().work.hear({"type": kind, "message": "just this"})


@pytest.mark.parametrize(
    ("loss", "said"),
    [(Loss.WORKER, "worker process died"), (Loss.MEMORY, "lack of memory"), (Loss.NODE, "node was lost")],
)
def test_it_is_given_up_after_so_many_losses_in_a_row(loss: Loss, said: str) -> None:
    told = Told()
    for _ in range(MOST[loss] - 1):
        told.work.lost(loss)
    with pytest.raises(WorkerLostError, match=f"shard 3, step 0: .*{said} {MOST[loss]} times") as caught:
        told.work.lost(loss, "It was ended by SIGSEGV")
    assert "It was ended by SIGSEGV" in str(caught.value)
    assert "what was built is kept" in str(caught.value)


@given(st.lists(st.sampled_from([*Loss, None, "progress"]), max_size=60))
def test_losses_of_a_kind_count_until_a_step_is_built(events: list[Loss | str | None]) -> None:
    """Against the plain reading: count back to the last step that was built."""
    told = Told(order(steps=61))
    for at, event in enumerate(events):
        if event is None:
            told.work.hear(built(at))
        elif isinstance(event, Loss):
            last = max((i for i in range(at) if events[i] is None), default=-1)
            if events[last + 1 : at + 1].count(event) >= MOST[event]:
                with pytest.raises(WorkerLostError):
                    told.work.lost(event)
                return
            told.work.lost(event)
        else:
            told.work.hear({"type": "progress", "position": 0, "visits": 1})


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), unique_by=lambda item: item[0]))
def test_the_largest_begins_first_and_the_lower_number_among_equals(sizes: list[tuple[int, int]]) -> None:
    chains = [Told(order(shard, steps)).work for shard, steps in sizes]
    ordered = [(chain.size, chain.number) for chain in largest_first(chains)]
    assert ordered == [(5 * steps, shard) for shard, steps in sorted(sizes, key=lambda item: (-item[1], item[0]))]
