"""Where the time goes that is not spent on training: a stopwatch around the functions of each kind of work."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from shards import placement, records, slicefile, store_local
from unlearn import intake
from unlearn.ledger import Ledger

Seconds = dict[str, float]

_PARTS: dict[str, list[tuple[Any, str]]] = {
    "check and copy": [(intake, "make_records"), (intake, "fit_task"), (records.Records, "take")],
    "placement": [(intake, "place"), (intake, "grouped"), (placement, "keyed_tokens")],
    "digests": [(slicefile, "commitments"), (slicefile, "slice_digest")],
    "files": [
        (slicefile, "write"),
        (slicefile, "read"),
        (store_local.ShardFolder, "stage"),
        (store_local.ShardFolder, "publish"),
        (store_local.ShardFolder, "load"),
    ],
    "ledger": [(Ledger, name) for name, value in vars(Ledger).items() if callable(value) and not name.startswith("_")],
}


@contextmanager
def stopwatch(clock: Callable[[], float] = time.perf_counter) -> Iterator[Seconds]:
    """Time the work of this process by kind; a kind called inside another counts for the outer one alone.

    Args:
        clock: What tells the time, in seconds: wall time, or that of the processor.

    Yields:
        Kind to seconds, filled while the block runs.
    """
    seconds: Seconds = dict.fromkeys(_PARTS, 0.0)
    depth = 0

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            started = clock()
            try:
                return function(*args, **kwargs)
            finally:
                depth -= 1
                if not depth:
                    seconds[kind] += clock() - started

        return call

    with ExitStack() as patches:
        for kind, functions in _PARTS.items():
            for owner, name in functions:
                patches.enter_context(patch.object(owner, name, timed(kind, getattr(owner, name))))
        yield seconds
