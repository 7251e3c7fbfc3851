"""A worker process with a pinned numeric environment, and the thread that reads its answers; kept warm between calls.

Workers are plain subprocesses speaking JSON over pipes: nothing is pickled, the user's script is not imported
again, and interactive sessions need no `if __name__ == "__main__"`. Every executor trains in this same process,
wherever it runs, so that none can give other bytes.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.digest import Json
from shards.environment import has_avx512, pinned_variables
from shards.errors import WorkerLostError
from shards.executors.base import Environment, Program

MOST_OVERHEARD = 8192
"""Bytes of what user code prints that are passed on at once."""


def path_for_workers() -> list[str]:
    """Where this process looks for code, as workers are to do, whatever their current folder is."""
    return [str(Path(entry).resolve()) for entry in sys.path]


class Worker:
    """One worker process and the threads that read what it says.

    Args:
        program: What it has to load.
        path: Where it looks for code; None: where this process does.
        overheard: Whether what user code prints is among its answers (`"said"`), else it goes to this process's
            standard error.
    """

    def __init__(self, program: Program, path: Sequence[str] | None = None, *, overheard: bool = False) -> None:
        command = [sys.executable, "-P", "-m", "shards.executors.worker", *program.libraries]
        variables = pinned_variables(os.environ, avx512=has_avx512())
        variables["PYTHONPATH"] = os.pathsep.join(path_for_workers() if path is None else path)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module  # nosec B603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if overheard else None,
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
        if overheard:
            threading.Thread(target=self._overhear, daemon=True).start()

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

    def how_it_ended(self) -> str:
        """How the process ended, for people; waits until it has."""
        status = self._process.wait()
        return f"It was ended by {signal.Signals(-status).name}" if status < 0 else f"Its exit status was {status}"

    def answer_to(self, answers: queue.SimpleQueue[tuple[Worker, Any]] | None) -> None:
        """Where answers go from now on; the last one, at the process's end, is None."""
        with self._lock:
            self._answers = answers
            if self._ended and answers is not None:
                answers.put((self, None))

    def send(self, message: Json) -> None:
        """Hand over an order; a worker that died meanwhile is noticed by its last answer."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once, with all that user code started in it, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _overhear(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - opened above
        while said := os.read(self._process.stderr.fileno(), MOST_OVERHEARD):
            with self._lock:
                if self._answers is not None and not self._ended:
                    self._answers.put((self, {"type": "said", "text": said.decode(errors="replace")}))

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
    """Idle workers of this process, by program and path; ended with it."""

    def __init__(self) -> None:
        self._idle: dict[tuple[Program, tuple[str, ...], str | None], list[Worker]] = {}
        self._lock = threading.Lock()
        atexit.register(self.clear)

    def take(self, program: Program, path: Sequence[str] | None = None, *, overheard: bool = False) -> Worker:
        """An idle worker, or a new one; in one process, all are overheard or none is."""
        while True:
            with self._lock:
                idle = self._idle.get(self._key(program, path))
                worker = idle.pop() if idle else None
            if worker is None:
                return Worker(program, path, overheard=overheard)
            if worker.alive:
                return worker

    def give_back(self, program: Program, worker: Worker, path: Sequence[str] | None = None) -> None:
        """Keep a worker for later; those of other programs are let go, so that few stay in memory."""
        worker.answer_to(None)
        with self._lock:
            key = self._key(program, path)
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
    def _key(program: Program, path: Sequence[str] | None) -> tuple[Program, tuple[str, ...], str | None]:
        # Which accelerators a worker sees is settled when it starts.
        return program, tuple(sys.path if path is None else path), os.environ.get("CUDA_VISIBLE_DEVICES")


warm = _WarmWorkers()


def close_workers() -> None:
    """End the idle worker processes; the next training starts new ones."""
    warm.clear()
