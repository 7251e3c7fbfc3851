"""A worker process with a pinned numeric environment, and the thread that reads its answers; kept warm between calls.

Workers are plain subprocesses speaking JSON over pipes: nothing is pickled, the user's script is not imported
again, and interactive sessions need no `if __name__ == "__main__"`. Every executor trains in this same process,
wherever it runs, so that none can give other bytes.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.digest import Json
from shards.environment import has_avx512, pinned_variables
from shards.errors import WorkerLostError
from shards.executors.base import Environment, Program

MOST_READ = 65536
"""Bytes read from a worker at once."""

MOST_KEPT = 2000
"""Characters kept of what a worker says while it starts, in case it does not."""

GROUP_SECONDS = 1.0
"""How long to wait for what a killed worker started to be gone as well."""


def path_for_workers() -> list[str]:
    """Where this process looks for code, as workers are to do, whatever their current folder is."""
    return [str(Path(entry).resolve()) for entry in sys.path]


class Worker:
    """One worker process and the thread that reads what it says.

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
        self._is_gone = False
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
        self._said_at_start = ""
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
            said = self._said_at_start.strip()
            raise WorkerLostError(
                f"a worker process ended while starting (exit status {self._process.wait()})"
                + (f". It said: {said}" if said else ": its own message is above")
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
        if self._is_gone:
            return
        if self._process.returncode is None:  # else waited for already: its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        # The kernel ends the others of its group as soon as it gets to them. Who inherits them is to take note of it,
        # and may not care to: then the group stays, with nobody alive in it.
        deadline = time.monotonic() + GROUP_SECONDS
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                time.sleep(0.001)
        self._is_gone = True

    def _listen(self) -> None:
        """Read answers, and what is overheard, until the process ends.

        Whatever was printed before an answer is told before it: it is in its pipe by the time the answer is read.
        """
        assert self._process.stdout is not None  # noqa: S101 - opened above
        answers, printed = self._process.stdout.fileno(), self._process.stderr
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        begun = b""
        with selectors.DefaultSelector() as pipes:
            pipes.register(answers, selectors.EVENT_READ)
            if printed is not None:
                os.set_blocking(printed.fileno(), False)
                pipes.register(printed.fileno(), selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in pipes.select()}
                read = os.read(answers, MOST_READ) if answers in ready else None
                if printed is not None and self._overhear(printed.fileno(), decoder):
                    pipes.unregister(printed.fileno())
                    printed = None
                if read is None:
                    continue
                *lines, begun = (begun + read).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                if not read:
                    self._tell(None)
                    self._greeted.set()  # whoever still waits for the greeting finds that there is none
                    return

    def _overhear(self, pipe: int, decoder: codecs.IncrementalDecoder) -> bool:
        """Pass on all that was printed up to now; returns whether that was the last."""
        while True:
            try:
                said = os.read(pipe, MOST_READ)
            except BlockingIOError:
                return False
            if not said:
                return True
            text = decoder.decode(said)
            if not self._greeted.is_set():
                self._said_at_start = (self._said_at_start + text)[-MOST_KEPT:]
            if text:
                self._tell({"type": "said", "text": text})

    def _take(self, answer: Any) -> None:
        if answer["type"] == "hello":
            self._environment = Environment(answer["environment"], answer["description"])
            self._greeted.set()
        else:
            self._tell(answer)

    def _tell(self, answer: Any) -> None:
        with self._lock:
            self._ended = answer is None
            if self._answers is not None:
                self._answers.put((self, answer))


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
