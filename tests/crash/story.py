"""The script of operations to which every fault is applied, with what it leaves when nothing goes wrong.

To extend it, add a `Step`: what is done, under which name, and what is gone for good once it was acknowledged.
A step can be repeated at any time, however often it was begun before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from shards.digest import Json
from shards.environment import describe, environment_digest
from shards.executors.base import Environment, Executor, OnTurn, Program, carry_on
from shards.executors.work import OnBuilt, OnProgress, Work
from shards.train import ChainOrder, build_chain
from tests.negative.learner import Means
from unlearn import Workspace
from unlearn.errors import InputError

S, R = 2, 2
CLASSES = [0, 1]


class Light(Executor):
    """Trains in this process, where a learner is so cheap that a worker would only cost time."""

    def environment(self, program: Program) -> Environment:
        description = _described(program.libraries)
        return Environment(environment_digest(description), description)

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        for order in orders:
            build_chain(order, on_built, lambda visits: None)

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        raise AssertionError("there are no workers here, and the script calls no function in one")


@cache
def _described(libraries: tuple[str, ...]) -> dict[str, Json]:
    return describe(libraries)


@dataclass(frozen=True)
class Item:
    """A record."""

    row: int
    subject: str

    @property
    def id(self) -> str:
        return f"record-{self.row:03d}-of-the-fault-matrix"

    @property
    def values(self) -> np.ndarray:
        values: np.ndarray = _values()[self.row]
        return values

    @property
    def needles(self) -> tuple[bytes, ...]:
        """What must be found nowhere once it is forgotten."""
        return (self.id.encode(), self.values.tobytes())


@cache
def _values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def _person(number: int) -> str:
    return f"person-{number}-of-the-fault-matrix"


FIRST = tuple(Item(row, _person(row % 5)) for row in range(12))
SECOND = tuple(Item(row, _person(row % 5)) for row in range(12, 19) if row % 5 != 3)
PEOPLE = (_person(3), _person(1))
ROWS = ("record-002-of-the-fault-matrix", "record-015-of-the-fault-matrix")
"""A record of the first batch, and one of the second."""


def remaining(batch: Sequence[Item]) -> list[Item]:
    """The records of a batch that the script does not forget."""
    return [item for item in batch if item.subject not in PEOPLE and item.id not in ROWS]


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: Its name.
        act: Does it, and returns the id of the request it made, or an empty string.
        forgets: What is nowhere on the disk any more once it was acknowledged.
        key: Idempotency key of the request it makes.
        carries_out: Idempotency key of the request that is forgotten once it was acknowledged.
    """

    name: str
    act: Callable[[Workspace], str]
    forgets: tuple[bytes, ...] = ()
    key: str = ""
    carries_out: str = ""


def ingest(workspace: Workspace, batch: Sequence[Item]) -> None:
    """Ingest records as one batch."""
    workspace.ingest(
        np.array([item.values for item in batch]),
        np.array([item.row % 2 for item in batch]),
        record_ids=[item.id for item in batch],
        subjects=[item.subject for item in batch],
    )


def create(path: Path) -> Workspace:
    """A workspace with the script's constants."""
    return Workspace.create(path, Means(), n_shards=S, n_slices=R, classes=CLASSES, random_state=7, executor=Light())


def reopen(path: Path) -> Workspace:
    """The workspace, or a new one if it was never created."""
    return Workspace.open(path, executor=Light()) if path.exists() else create(path)


def _ingest(number: int, batch: Sequence[Item]) -> Step:
    def act(workspace: Workspace) -> str:
        if workspace.status().batches == number:
            try:
                ingest(workspace, batch)
            except InputError:
                # Another process may have done it between the two: then the records are there already.
                if workspace.status().batches == number:
                    raise
        return ""

    return Step(f"ingest {number}", act)


def _do(name: str, act: Callable[[Workspace], object]) -> Step:
    def acted(workspace: Workspace) -> str:
        act(workspace)
        return ""

    return Step(name, acted)


def _needles(items: Sequence[Item], people: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(needle for item in items for needle in item.needles) + tuple(person.encode() for person in people)


def _forget(name: str, *, people: Sequence[str] = (), rows: Sequence[str] = (), gone: Sequence[Item]) -> Step:
    def act(workspace: Workspace) -> str:
        return workspace.forget(list(people) or None, list(rows) or None, idempotency_key=name).id

    return Step(name, act, forgets=_needles(gone, people), key=name, carries_out=name)


def _submit(name: str, *, people: Sequence[str], rows: Sequence[str]) -> Step:
    return Step(name, lambda workspace: workspace.submit(people, rows, idempotency_key=name).id, key=name)


def _process(name: str, *, people: Sequence[str], gone: Sequence[Item]) -> Step:
    def act(workspace: Workspace) -> str:
        workspace.process()
        return ""

    return Step("process", act, forgets=_needles(gone, people), carries_out=name)


def _of(person: str, *rows: str) -> list[Item]:
    return [item for item in (*FIRST, *SECOND) if item.subject == person or item.id in rows]


STEPS = (
    _ingest(0, FIRST),
    _do("train", lambda workspace: workspace.train(progress=False)),
    _forget("forget a person", people=PEOPLE[:1], gone=_of(PEOPLE[0])),
    _forget("forget a record", rows=ROWS[:1], gone=_of("", ROWS[0])),
    _do("recover", lambda workspace: workspace.recover(progress=False)),
    _ingest(1, SECOND),
    _submit("submit", people=PEOPLE[1:], rows=ROWS[1:]),
    _process("submit", people=PEOPLE[1:], gone=_of(PEOPLE[1], ROWS[1])),
    _do("recover again", lambda workspace: workspace.recover(progress=False)),
)
