"""Where work is done: the contract every executor keeps.

An executor decides where and in what order; never what. The same orders give the same bytes on every
executor, with any number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.calls import CallOrder, call_environment, call_key, read_value
from shards.code import code_digest, reference
from shards.digest import Json
from shards.executors.work import CallWork, ChainWork, OnBuilt, OnProgress, Work, first_of, largest_first
from shards.train import ChainOrder

TURN_SECONDS = 0.1
"""How often, about, a run looks up from its work."""

Stop = Callable[[Collection[int]], None]
"""Makes chains of some shards void: when it returns, nobody trains them, and nothing of theirs is told any more."""

OnTurn = Callable[[Stop], None]
"""Called every `TURN_SECONDS` or so while work is under way, in the caller's thread; may stop some of it."""


def carry_on(stop: Stop) -> None:
    """Look up from the work, and stop nothing."""
    del stop


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
        occasion: A name that nobody else uses, for workers that did nothing before; empty: any that are warm will do.
    """

    libraries: tuple[str, ...]
    code: str
    occasion: str = ""


class Executor(ABC):
    """Abstract: one subclass per place to run."""

    @abstractmethod
    def environment(self, program: Program) -> Environment:
        """Start a worker if there is none, and say what its numeric environment is.

        Args:
            program: What it must have loaded.

        Returns:
            The environment, the same for all workers.

        Raises:
            EnvironmentMismatchError: If workers differ.
        """

    @abstractmethod
    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        """Have workers do independent pieces of work; return when all are done.

        Whatever ends it early, no worker is at it any more when it returns or raises.

        Args:
            program: What workers must have loaded.
            work: The pieces, those to begin first at the front; each is told the answers of its worker.
            on_turn: Called now and then.

        Raises:
            UnlearnError: What a piece makes of its worker's answer, if that is an error.
            WorkerLostError: If workers died again and again on one piece.
        """

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        """Train chains, those with the most work first; return when all are done.

        Shards owe nothing to each other: where the user's code raises in one, the others are trained all the same.

        Whatever ends it early, no worker is writing any more when it returns or raises.

        Args:
            program: What workers must have loaded.
            orders: One per shard.
            on_built: Told of every staged step.
            on_progress: Told of progress within steps.
            on_turn: Called now and then; may stop the chains of some shards.

        Raises:
            TrainingError: If the user's code raised, at the end; names shard and step.
            DamageError: If a stored file did not match its digest.
            StorageError: If a worker does not reach the store, or the store fails.
            WorkerLostError: If workers died again and again on one step.
            EnvironmentMismatchError: If a worker's environment or code is not what the orders were made for.
        """
        chains = [ChainWork(order, on_built, on_progress) for order in orders]
        self.perform(program, largest_first(chains), on_turn)
        failures = [chain.failure for chain in chains if chain.failure is not None]
        if failures:
            failure = first_of(failures)
            raise failure

    def map(
        self,
        function: Callable[[Any], Any] | str,
        items: Sequence[Json],
        folder: str | Path | None,
        *,
        libraries: Sequence[str] = ("numpy",),
        on_done: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """Call a function with each item, in workers with the same pinned environment as training.

        Repeat it after an interruption: what returned is in the folder, and is not called again, as long as function,
        code, environment and item are the same.

        Args:
            function: A function of a file that can be imported, or its reference `"package.module:name"`. Called with
                an item; all it depends on besides (seeds, paths) belongs into the item.
            items: JSON values.
            folder: Where values are kept; made if there is none. All workers must see it. None: they are small and
                without arrays, come back with the workers' answers, and nothing is kept.
            libraries: Import names of the numeric libraries the function uses: workers load them, and their versions
                belong to the environment.
            on_done: Told the number of each item whose value is there.

        Returns:
            The values, in the order of the items: JSON with numpy arrays in it; tuples come back as lists.

        Raises:
            CallError: If the function raised; names the item. What returned is kept.
            InputError: If a value cannot be kept.
            CodeError: If other processes could not find the function.
            WorkerLostError: If workers died again and again on one item.
        """
        named = function if isinstance(function, str) else reference(function)
        code = code_digest([named])
        program = Program(tuple(libraries), code.digest)
        environment = call_environment(self.environment(program).digest, code)
        if folder is None:
            orders = [CallOrder(n, named, item, environment, code.source, "") for n, item in enumerate(items)]
            answered = [CallWork(order, on_done or (lambda _number: None)) for order in orders]
            self.perform(program, answered, carry_on)
            return [work.value for work in answered]
        kept = Path(folder).absolute()
        kept.mkdir(parents=True, exist_ok=True)
        files = [kept / f"{call_key(named, item, environment, code.source)}.safetensors" for item in items]
        calls: dict[Path, CallWork] = {}
        numbers: dict[Path, list[int]] = {}
        for number, file in enumerate(files):
            numbers.setdefault(file, []).append(number)

        def returned(number: int) -> None:
            for one in numbers[files[number]]:
                if on_done is not None:
                    on_done(one)

        for file, (first, *_) in numbers.items():
            if file.exists():
                returned(first)
            else:
                order = CallOrder(first, named, items[first], environment, code.source, str(file))
                calls[file] = CallWork(order, returned)
        self.perform(program, list(calls.values()), carry_on)
        return [read_value(file) for file in files]
