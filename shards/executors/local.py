"""Train on this machine: spawned worker processes, one thread each, kept warm between calls.

Workers are plain subprocesses speaking JSON over pipes: nothing is pickled, the user's script is not imported
again, and interactive sessions need no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.environment import has_avx512, pinned_variables
from shards.errors import (
    ConfigurationError,
    DamageError,
    EnvironmentMismatchError,
    StorageError,
    TrainingError,
    UnlearnError,
    WorkerLostError,
)
from shards.executors.base import Environment, Executor, OnBuilt, OnProgress, Program
from shards.store import CheckpointHeader
from shards.train import ChainOrder, StepBuilt

ATTEMPTS = 3
"""How often a step is tried when its worker dies."""


class Worker:
    """One worker process and the thread that reads its answers."""

    def __init__(self, program: Program) -> None:
        command = [sys.executable, "-P", "-m", "shards.executors.worker", *program.libraries]
        variables = pinned_variables(os.environ, avx512=has_avx512())
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module  # nosec B603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            # A session of its own: Ctrl-C reaches the driver, which decides what becomes of the workers.
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[tuple[Worker, Any]] | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._environment: Environment | None = None
        self._greeted = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def environment(self) -> Environment:
        """What the worker found its numeric environment to be; waits until it has started.

        Returns:
            The environment.

        Raises:
            WorkerLostError: If it ended instead.
        """
        self._greeted.wait()
        if self._environment is None:
            raise WorkerLostError(
                f"a worker process ended while starting (exit status {self._process.wait()}): its own message is above"
            )
        return self._environment

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def answer_to(self, answers: queue.SimpleQueue[tuple[Worker, Any]] | None) -> None:
        """Where answers go from now on; the last one, at the process's end, is None."""
        with self._lock:
            self._answers = answers
            if self._ended and answers is not None:
                answers.put((self, None))

    def send(self, order: ChainOrder) -> None:
        """Hand over an order; a worker that died meanwhile is noticed by its last answer."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order.to_json()).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once, with all that user code started in it, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - opened above
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def _listen(self) -> None:
        while True:
            answer = self._read()
            if answer is not None and answer["type"] == "hello":
                self._environment = Environment(answer["environment"], answer["description"])
                self._greeted.set()
                continue
            with self._lock:
                self._ended = answer is None
                if self._answers is not None:
                    self._answers.put((self, answer))
            if answer is None:
                self._greeted.set()  # whoever still waits for the greeting finds that there is none
                return


class _WarmWorkers:
    """Idle workers of this process, by program; ended with it."""

    def __init__(self) -> None:
        self._idle: dict[tuple[Program, tuple[str, ...]], list[Worker]] = {}
        self._lock = threading.Lock()
        atexit.register(self.clear)

    def take(self, program: Program) -> Worker:
        """An idle worker, or a new one."""
        while True:
            with self._lock:
                idle = self._idle.get(self._key(program))
                worker = idle.pop() if idle else None
            if worker is None:
                return Worker(program)
            if worker.alive:
                return worker

    def give_back(self, program: Program, worker: Worker) -> None:
        """Keep a worker for later; those of other programs are let go, so that few stay in memory."""
        worker.answer_to(None)
        with self._lock:
            key = self._key(program)
            idle = self._idle.setdefault(key, [])
            idle.append(worker)
            surplus = [
                w for k, group in self._idle.items() if k[0].libraries == key[0].libraries and k != key for w in group
            ]
            self._idle = {k: group for k, group in self._idle.items() if not set(group) & set(surplus)}
        for old in surplus:
            old.kill()

    def clear(self) -> None:
        """End every idle worker."""
        with self._lock:
            workers = [worker for group in self._idle.values() for worker in group]
            self._idle.clear()
        for worker in workers:
            worker.kill()

    @staticmethod
    def _key(program: Program) -> tuple[Program, tuple[str, ...]]:
        return program, tuple(sys.path)


_warm = _WarmWorkers()


def close_workers() -> None:
    """End the idle worker processes; the next training starts new ones."""
    _warm.clear()


@dataclass
class _Job:
    """An order under way: what is left of it, and how often its next step was tried."""

    order: ChainOrder
    done: int = 0
    attempts: int = 1

    def rest(self) -> ChainOrder:
        return self.order.after(self.done)


@dataclass
class _Run:
    """State of one call of `LocalExecutor.run`."""

    program: Program
    waiting: list[_Job]
    on_built: OnBuilt
    on_progress: OnProgress
    answers: queue.SimpleQueue[tuple[Worker, Any]] = field(default_factory=queue.SimpleQueue)
    busy: dict[Worker, _Job] = field(default_factory=dict)

    def start(self) -> None:
        """Give the longest waiting chain to a worker."""
        job = self.waiting.pop(0)
        worker = _warm.take(self.program)
        worker.answer_to(self.answers)
        self.busy[worker] = job
        worker.send(job.rest())

    def handle(self, worker: Worker, answer: Any) -> None:
        """Act on one answer."""
        job = self.busy.get(worker)
        if job is None:
            return
        order = job.order
        if answer is None:
            del self.busy[worker]
            worker.kill()
            self._retry(job)
        elif answer["type"] == "progress":
            self.on_progress(order.shard, answer["position"], answer["visits"])
        elif answer["type"] == "built":
            header = CheckpointHeader(**answer["header"])
            self.on_built(StepBuilt(header, answer["staged"], answer["visits"], answer["seconds"]))
            job.done += 1
            job.attempts = 1
        elif answer["type"] == "done":
            del self.busy[worker]
            _warm.give_back(self.program, worker)
        else:
            raise _error(order, answer)

    def _retry(self, job: _Job) -> None:
        rest = job.rest()
        if not rest.steps:
            return
        if job.attempts >= ATTEMPTS:
            raise WorkerLostError(
                f"shard {rest.shard}, step {rest.steps[0].position}: the worker process died {ATTEMPTS} times in a "
                "row, perhaps for lack of memory: use fewer workers or smaller shards, then train again; what was "
                "built is kept"
            )
        job.attempts += 1
        self.waiting.insert(0, job)


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
        found = worker.environment
        _warm.give_back(program, worker)
        return found

    def run(self, program: Program, orders: Sequence[ChainOrder], on_built: OnBuilt, on_progress: OnProgress) -> None:
        """See `Executor.run`; the chains with the most work go first."""
        longest_first = sorted(orders, key=lambda o: (-sum(step.visits for step in o.steps), o.shard))
        run = _Run(program, [_Job(order) for order in longest_first], on_built, on_progress)
        with _stopping(run):
            while run.waiting or run.busy:
                while run.waiting and len(run.busy) < self.n_workers:
                    run.start()
                run.handle(*run.answers.get())


@contextlib.contextmanager
def _stopping(run: _Run) -> Iterator[None]:
    """Whatever ends the run, Ctrl-C included: afterwards none of its workers is at work."""
    try:
        yield
    finally:
        for worker in run.busy:
            worker.kill()


def _error(order: ChainOrder, answer: Any) -> UnlearnError:
    if answer["type"] == "damage":
        return DamageError(answer["message"])
    if answer["type"] == "storage":
        return StorageError(answer["message"])
    if answer["type"] == "mismatch":
        return EnvironmentMismatchError(answer["message"])
    return TrainingError(
        f"training shard {order.shard}, step {answer['position']} failed: {answer['message']}\n"
        f"What was built before is kept. The worker's traceback:\n{answer['traceback']}",
        order.shard,
        answer["position"],
        answer["traceback"],
    )


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
