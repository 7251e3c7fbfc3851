"""The worker process: `python -m shards.executors.worker LIBRARY …`.

Its numeric environment was pinned by whoever started it. It reads chain orders from standard input, one JSON
document a line, and answers the same way on what was its standard output; the standard output that user code
sees goes to standard error. It exits as soon as its input ends, also in the middle of a step, so that nobody
trains on behalf of a driver that is gone.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow  # noqa: F401 - loaded for later: every chain reads slices, and who waits for a worker waits for it here

from shards.calls import CallOrder, make_call, small_value, write_value
from shards.code import code_digest
from shards.digest import Json
from shards.environment import describe, environment_digest, step_environment
from shards.errors import CodeError, DamageError, EnvironmentMismatchError, InputError, StorageError
from shards.location import open_shard
from shards.train import ChainOrder, StepBuilt, build_chain, code_of, learner_from

PROGRESS_SECONDS = 0.2
"""At most one progress message in this many seconds."""

MOST_SAID = 20_000
"""Characters of a message or traceback at most: answers travel, and are to stay small."""


def main(libraries: list[str]) -> None:
    """Serve orders until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    # Whoever listens is to hear what user code prints when it prints it, and before the answer that follows.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def answer(kind: str, **fields: Json) -> None:
        try:
            answers.write(json.dumps({"type": kind, **fields}) + "\n")
        except BrokenPipeError:
            _end()  # the driver is gone, and nobody else is to hear of it

    _pin_torch(libraries)
    _load_skops_without_torch(libraries)
    description = describe(libraries)
    environment = environment_digest(description)
    answer("hello", environment=environment, description=description)
    orders = _read_in_background()
    while True:
        _serve(orders.get(), environment, answer)


def _pin_torch(libraries: list[str]) -> None:
    """One thread, deterministic kernels only: what torch cannot be told by environment variables."""
    if "torch" not in libraries:
        return
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def _load_skops_without_torch(libraries: list[str]) -> None:
    """Spare a scikit-learn worker seconds and half a gigabyte.

    skops lists all of scikit-learn's estimators when it loads, which walks over a package of adapters that load
    torch if it is there; where it is not, the walk goes on without. Nothing else runs in this process yet.
    """
    if "sklearn" not in libraries or "torch" in libraries:
        return
    sys.meta_path.insert(0, _NoTorch)
    try:
        import skops.io  # noqa: F401 - loaded for later
    finally:
        sys.meta_path.remove(_NoTorch)


class _NoTorch(MetaPathFinder):
    """An import hook for which torch does not exist."""

    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse torch; leave everything else to the next finder."""
        del path, target
        if fullname.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{fullname} is not loaded for this", name=fullname)


def _read_in_background() -> queue.SimpleQueue[Any]:
    """Read orders in a thread, which ends the process when the driver is gone."""
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        _end()

    threading.Thread(target=read, daemon=True).start()
    return orders


def _end() -> None:
    """End at once, and with this process all that user code started in it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


Answer = Callable[..., None]


def _serve(message: Any, environment: str, answer: Answer) -> None:
    """Carry out one order and say how it went."""
    position: list[int] = []
    try:
        if "call" in message:
            order = CallOrder.from_json(message)
            value = make_call(order, environment)
            try:
                said = {} if _kept(order, value) else {"value": small_value(value)}
            except InputError as error:
                answer("input", message=f"{order.function}, item {order.number}: {error}")
                return
            answer("returned", **said)
        else:
            _train(ChainOrder.from_json(message), environment, answer, position)
    except DamageError as error:
        answer("damage", message=str(error))
    except StorageError as error:
        answer("storage", message=str(error))
    except EnvironmentMismatchError as error:
        answer("mismatch", message=str(error))
    except CodeError as error:
        answer("code", message=f"{error} (as a worker on {platform.node()} found it)")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything; all of it is reported
        answer(
            "error",
            message=f"{type(error).__name__}: {error}"[:MOST_SAID],
            traceback=traceback.format_exc()[-MOST_SAID:],
            position=position[-1] if position else None,
        )
    else:
        answer("done")


def _kept(order: CallOrder, value: Any) -> bool:
    """Write a value where the order says, if it does."""
    if order.result:
        write_value(Path(order.result), value)
    return bool(order.result)


def _train(order: ChainOrder, environment: str, answer: Answer, position: list[int]) -> None:
    """Build a chain; the last of `position` is the step under way."""
    last = [time.monotonic()]
    coming = iter(step.position for step in order.steps)
    position.append(next(coming))

    def emit(built: StepBuilt) -> None:
        answer(
            "built",
            header=asdict(built.header),
            staged=built.staged,
            visits=built.visits,
            seconds=built.seconds,
        )
        position.append(next(coming, position[-1]))

    def progress(visits: int) -> None:
        now = time.monotonic()
        if now - last[0] >= PROGRESS_SECONDS:
            last[0] = now
            answer("progress", position=position[-1], visits=visits)

    with open_shard(order.folder, order.fence).writing():
        _check(order, environment)
        build_chain(order, emit, progress)


def _check(order: ChainOrder, environment: str) -> None:
    learner = learner_from(order.learner)
    code = code_digest(code_of(learner))
    if order.environment != step_environment(environment, learner.kernel, code.distributions):
        raise EnvironmentMismatchError(
            f"shard {order.shard}: the worker's numeric environment {environment[:12]} is not the one the recipe was "
            "written for: restart the program, so that recipe and workers agree"
        )
    if code.source != order.code:
        raise EnvironmentMismatchError(
            f"shard {order.shard}: the learner's code changed on disk while the program runs: start it again"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
