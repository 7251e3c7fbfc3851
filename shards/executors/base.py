"""Where chains are trained: the contract every executor keeps.

An executor decides where and in what order; never what. The same orders give the same bytes on every
executor, with any number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shards.digest import Json
from shards.train import ChainOrder, StepBuilt


@dataclass(frozen=True)
class Environment:
    """The numeric environment of an executor's workers.

    Attributes:
        digest: What goes into keys.
        description: What it was computed from, for people and receipts.
    """

    digest: str
    description: Json


@dataclass(frozen=True)
class Program:
    """What workers must have loaded before they can train.

    Attributes:
        libraries: Import names of the numeric libraries.
        code: Digest of the user's code and of what it imports.
    """

    libraries: tuple[str, ...]
    code: str


OnBuilt = Callable[[StepBuilt], None]
"""Called with each staged step, in the caller's thread, in the order of its chain."""

OnProgress = Callable[[int, int, int], None]
"""Called with (shard, position, record-visits made in that step), in the caller's thread."""


class Executor(ABC):
    """Abstract: one subclass per place to run."""

    @abstractmethod
    def environment(self, program: Program) -> Environment:
        """Start a worker if there is none, and say what its numeric environment is.

        Args:
            program: What it must have loaded.
        """

    @abstractmethod
    def run(self, program: Program, orders: Sequence[ChainOrder], on_built: OnBuilt, on_progress: OnProgress) -> None:
        """Train chains; return when all are done.

        Whatever ends it early, no worker is writing any more when it returns or raises.

        Args:
            program: What workers must have loaded.
            orders: One per shard.
            on_built: Told of every staged step.
            on_progress: Told of progress within steps.

        Raises:
            TrainingError: If the user's code raised; names shard and step.
            DamageError: If a stored file did not match its digest.
            StorageError: If a worker does not reach the store, or the store fails.
            WorkerLostError: If workers died again and again on one step.
            EnvironmentMismatchError: If a worker's environment or code is not what the orders were made for.
        """
