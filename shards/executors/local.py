"""Train on this machine: spawned worker processes, one thread each, kept warm between calls."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shards import interrupts
from shards.errors import ConfigurationError
from shards.executors.base import TURN_SECONDS, Environment, Executor, OnTurn, Program
from shards.executors.process import Worker, close_workers
from shards.executors.process import warm as _warm
from shards.executors.work import Loss, Work

__all__ = ["LocalExecutor", "close_workers"]


@dataclass
class _Run:
    """State of one call of `LocalExecutor.perform`."""

    program: Program
    waiting: list[Work]
    answers: queue.SimpleQueue[tuple[Worker, Any]] = field(default_factory=queue.SimpleQueue)
    busy: dict[Worker, Work] = field(default_factory=dict)

    def start(self) -> None:
        """Give the first piece that waits to a worker."""
        work = self.waiting.pop(0)
        worker = _warm.take(self.program)
        worker.answer_to(self.answers)
        self.busy[worker] = work
        worker.send(work.message())

    def handle(self, worker: Worker, answer: Any) -> None:
        """Act on one answer; None says that the worker is gone."""
        work = self.busy.get(worker)
        if work is None:
            return
        if answer is None:
            del self.busy[worker]
            worker.kill()
            if not work.is_done:
                work.lost(Loss.WORKER)
                self.waiting.insert(0, work)
        elif work.hear(answer):
            del self.busy[worker]
            _warm.give_back(self.program, worker)

    def stop(self, numbers: Collection[int]) -> None:
        """Give up some of the work; nobody is at it any more afterwards."""
        self.waiting = [work for work in self.waiting if work.number not in numbers]
        for worker in [worker for worker, work in self.busy.items() if work.number in numbers]:
            del self.busy[worker]
            worker.kill()


class LocalExecutor(Executor):
    """Train on this machine's cores.

    Args:
        n_workers: Worker processes at most; None for one per core this process may use.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        if n_workers is not None and n_workers < 1:
            raise ConfigurationError(f"n_workers must be at least 1, got {n_workers}")
        self.n_workers = n_workers or len(_usable_cores())

    def environment(self, program: Program) -> Environment:
        """See `Executor.environment`."""
        worker = _warm.take(program)
        try:
            found = worker.environment
        except BaseException:
            worker.kill()
            raise
        _warm.give_back(program, worker)
        return found

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        """See `Executor.perform`."""
        run = _Run(program, list(work))
        turn = time.monotonic() + TURN_SECONDS
        # Ctrl-C comes once a turn: never between a worker and the note of what it is at.
        with interrupts.held(), _stopping(run):
            while run.waiting or run.busy:
                interrupts.check()
                while run.waiting and len(run.busy) < self.n_workers:
                    run.start()
                with contextlib.suppress(queue.Empty):
                    run.handle(*run.answers.get(timeout=max(turn - time.monotonic(), 0)))
                if time.monotonic() >= turn:
                    on_turn(run.stop)
                    turn = time.monotonic() + TURN_SECONDS


@contextlib.contextmanager
def _stopping(run: _Run) -> Iterator[None]:
    """Whatever ends the run, Ctrl-C included: afterwards none of its workers is at work."""
    try:
        yield
    finally:
        for worker in run.busy:
            worker.kill()


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
