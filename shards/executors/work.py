"""A piece of work under way: what is left of it, what its worker's answers mean, and when it is given up.

Decisions only: no process is started here, and no file is touched. Every executor asks the same questions.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from shards.calls import CallOrder
from shards.digest import Json
from shards.errors import (
    CallError,
    CodeError,
    DamageError,
    EnvironmentMismatchError,
    InputError,
    StorageError,
    TrainingError,
    UnlearnError,
    WorkerLostError,
)
from shards.store import CheckpointHeader
from shards.train import ChainOrder, StepBuilt

LOG = logging.getLogger("shards.training")
"""Says at once what is raised only when the other shards are done."""

ATTEMPTS = 3
"""How often a step or a call is tried when its worker dies."""

ATTEMPTS_OF_NODES = 10
"""How often when a whole node goes away: then it is rarely the step's fault."""

OnBuilt = Callable[[StepBuilt], None]
"""Called with each staged step, in the caller's thread, in the order of its chain."""

OnProgress = Callable[[int, int, int], None]
"""Called with (shard, position, record-visits made in that step), in the caller's thread."""

OnReturned = Callable[[int], None]
"""Called with the number of a call whose value is written, in the caller's thread."""


class Loss(StrEnum):
    """Why a worker is gone."""

    WORKER = "the worker process died"
    MEMORY = "the worker process was ended for lack of memory"
    NODE = "the worker's node was lost"


KINDS: dict[str, type[UnlearnError]] = {
    "damage": DamageError,
    "mismatch": EnvironmentMismatchError,
    "code": CodeError,
    "input": InputError,
    "storage": StorageError,
}
"""Answers that are errors of ours, told as they are: trying again would not help."""


class Work(ABC):
    """Abstract: one subclass per kind of work."""

    def __init__(self) -> None:
        self._losses: dict[Loss, int] = {}

    @property
    @abstractmethod
    def number(self) -> int:
        """What to stop it by: the shard, or the number of the call."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How much work it is, in units of its kind."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether nothing is left to do."""

    @abstractmethod
    def message(self) -> Json:
        """What to tell a worker: what is left to do."""

    @abstractmethod
    def next_message(self) -> Json:
        """What to tell a worker that is to do the next part alone."""

    @abstractmethod
    def name(self) -> str:
        """What is to be done next, for people."""

    @abstractmethod
    def _told(self, answer: Any) -> None:
        """Act on an answer that is good news."""

    @abstractmethod
    def _failed(self, answer: Any) -> bool:
        """Act on the user's code having raised: whether the worker is free again, unless that ends everything."""

    def hear(self, answer: Any) -> bool:
        """Act on an answer.

        Args:
            answer: What the worker said, from JSON.

        Returns:
            Whether the worker is free again.

        Raises:
            UnlearnError: If the answer is an error.
        """
        kind = answer["type"]
        if kind == "done":
            return True
        if kind == "error":
            return self._failed(answer)
        if kind in KINDS:
            raise KINDS[kind](answer["message"])
        self._told(answer)
        return False

    def lost(self, loss: Loss, said: str = "") -> None:
        """Note that the worker is gone in the middle of it; the rest is to be tried again.

        Args:
            loss: Why.
            said: More about it, for the message.

        Raises:
            WorkerLostError: If it was tried often enough.
        """
        self._losses[loss] = self._losses.get(loss, 0) + 1
        if self._losses[loss] < (ATTEMPTS_OF_NODES if loss is Loss.NODE else ATTEMPTS):
            return
        raise WorkerLostError(
            f"{self.name()}: {loss} {self._losses[loss]} times in a row, perhaps for lack of memory: use fewer workers "
            f"at a time, more memory for each, or smaller shards, then repeat; what was built is kept{said and '. '}"
            f"{said}"
        )

    def _advanced(self) -> None:
        """What was lost before is forgiven once something was achieved."""
        self._losses.clear()


class ChainWork(Work):
    """A shard's chain of steps.

    Args:
        order: What to build.
        on_built: Told of each staged step.
        on_progress: Told of progress within steps.
    """

    def __init__(self, order: ChainOrder, on_built: OnBuilt, on_progress: OnProgress) -> None:
        super().__init__()
        self._rest = order
        self._on_built = on_built
        self._on_progress = on_progress
        self.failure: TrainingError | None = None
        """What the user's code raised: this chain is given up then, and no other."""

    @property
    def number(self) -> int:
        """The shard."""
        return self._rest.shard

    @property
    def size(self) -> int:
        """Record-visits left to make."""
        return sum(step.visits for step in self._rest.steps)

    @property
    def is_done(self) -> bool:
        """Whether every step is staged, or the next one cannot be."""
        return self.failure is not None or not self._rest.steps

    def message(self) -> Json:
        """The rest of the order."""
        return self._rest.to_json()

    def next_message(self) -> Json:
        """The next step alone."""
        return self._rest.first().to_json()

    def name(self) -> str:
        """Shard and step."""
        steps = self._rest.steps
        return f"shard {self._rest.shard}" + (f", step {steps[0].position}" if steps else "")

    def _told(self, answer: Any) -> None:
        if answer["type"] == "progress":
            self._on_progress(self._rest.shard, answer["position"], answer["visits"])
            return
        header = CheckpointHeader(**answer["header"])
        self._on_built(StepBuilt(header, answer["staged"], answer["visits"], answer["seconds"]))
        self._rest = self._rest.after(1)
        self._advanced()

    def _failed(self, answer: Any) -> bool:
        shard, position = self._rest.shard, answer["position"]
        self.failure = TrainingError(
            f"training shard {shard}, step {position} failed: {answer['message']}\n"
            f"What was built before is kept. The worker's traceback:\n{answer['traceback']}",
            shard,
            position,
            answer["traceback"],
        )
        # Without what was raised, which may quote a record: a log is kept where nobody would look for one.
        LOG.warning("training shard %d, step %d failed; other shards go on", shard, position)
        return True


class CallWork(Work):
    """A call of a function.

    Args:
        order: What to call.
        on_returned: Told when it returned.
    """

    def __init__(self, order: CallOrder, on_returned: OnReturned) -> None:
        super().__init__()
        self._order = order
        self._on_returned = on_returned
        self._has_returned = False
        self.value: Json = None
        """What it returned, if that came back with the answer."""

    @property
    def number(self) -> int:
        """The call's number."""
        return self._order.number

    @property
    def size(self) -> int:
        """One."""
        return 1

    @property
    def is_done(self) -> bool:
        """Whether it returned."""
        return self._has_returned

    def message(self) -> Json:
        """The order."""
        return self._order.to_json()

    def next_message(self) -> Json:
        """The same: a call has no parts."""
        return self.message()

    def name(self) -> str:
        """Function and item."""
        return f"{self._order.function}, item {self._order.number}"

    def _told(self, answer: Any) -> None:
        self.value = answer.get("value")
        self._has_returned = True
        self._on_returned(self._order.number)

    def _failed(self, answer: Any) -> bool:
        raise CallError(
            f"{self.name()} failed: {answer['message']}\nWhat returned before is kept. The worker's traceback:\n"
            f"{answer['traceback']}",
            self._order.number,
            answer["traceback"],
        )


def first_of(failures: Sequence[TrainingError]) -> TrainingError:
    """The error to raise where the training of several shards failed.

    Args:
        failures: Of each, at least one.

    Returns:
        The first, which names the other shards.
    """
    first, *others = failures
    if not others:
        return first
    shards = ", ".join(str(error.shard) for error in others)
    message = f"{first}\nThe training of {len(others)} other shards failed too: {shards}"
    return TrainingError(message, first.shard, first.position, first.traceback)


def largest_first(work: Sequence[Work]) -> list[Work]:
    """In the order to begin them in, so that the last to end does not begin late."""
    return sorted(work, key=lambda item: (-item.size, item.number))
