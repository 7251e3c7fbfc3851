"""Train in this process: thousands of small trainings, for which a worker process would only cost time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

from shards.digest import Json
from shards.environment import describe, environment_digest
from shards.executors.base import Environment, Executor, OnTurn, Program
from shards.executors.work import Work
from shards.train import ChainOrder, StepBuilt, build_chain


class Here(Executor):
    """Trains in the caller's process, one chain after another. Its numeric environment is whatever that has."""

    def environment(self, program: Program) -> Environment:
        """See `Executor.environment`."""
        description = _described(program.libraries)
        return Environment(environment_digest(description), description)

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        """See `Executor.perform`."""
        del program, on_turn
        for item in work:
            build_chain(ChainOrder.from_json(item.message()), partial(_tell, item), _ignore)


def _ignore(visits: int) -> None:
    del visits


def _tell(item: Work, built: StepBuilt) -> None:
    item.hear({"type": "built", **vars(built), "header": vars(built.header)})


@cache
def _described(libraries: tuple[str, ...]) -> dict[str, Json]:
    return describe(libraries)
