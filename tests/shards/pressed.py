"""Press Ctrl-C at every line of taking things, of a block, and of giving them back; say at which lines one is lost."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from shards import interrupts
from tests.crash.interrupt import lines

MAKERS: dict[str, Callable[..., Any]] = {
    "guarded": interrupts.guarded,
    "contextmanager": contextlib.contextmanager,
}


def press_everywhere(made: Callable[..., Any]) -> dict[str, Any]:
    """Try every line.

    Args:
        made: What makes a context manager out of a generator function.

    Returns:
        How many lines there are, at how many Ctrl-C was heard, and at which something was not given back.
    """
    has: list[str] = []
    done: list[str] = []

    @made
    def taken(name: str) -> Iterator[None]:
        has.append(name)
        try:
            yield
        finally:
            has.remove(name)

    @made
    def both() -> Iterator[None]:
        with taken("first"), taken("second"):
            yield

    def act() -> None:
        with both(), taken("third"):
            done.append("block")

    with lines(0) as usual:
        act()
    kept, lost = [], []
    for at in range(1, usual.count + 1):
        try:
            with lines(at) as counted:
                act()
        except KeyboardInterrupt as error:
            kept.append(error)  # and with it, all frames it went through
        if has:
            lost.append(f"at line {at}: {counted.where}")
            has.clear()
    return {"lines": usual.count, "pressed": len(kept), "lost": lost}


if __name__ == "__main__":
    print(json.dumps(press_everywhere(MAKERS[sys.argv[1]])))
