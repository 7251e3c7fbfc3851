"""Ctrl-C at the n-th line of Python that is executed, in whichever module it is.

The interpreter looks for signals when a function begins, after a call and when it jumps back. Almost any line will do
then, but not the one where a block of `with` has ended and its context manager is about to be called: no signal can
come there, and an error raised there all the same would find nobody to give back what was taken.
"""

from __future__ import annotations

import dis
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Lines:
    """Counts lines as they are executed, and presses Ctrl-C at one of them.

    Attributes:
        count: How many there were so far; none are counted after Ctrl-C.
        where: Where Ctrl-C was pressed: the innermost calls.
    """

    def __init__(self, at: int) -> None:
        self.count = 0
        self.where = ""
        self._at = at

    def __call__(self, frame: FrameType, event: str, _: Any) -> Lines:
        """Be told of a call or a line by the interpreter."""
        if event == "line":
            self.count += 1
            if self.count >= self._at > 0 and not _leaves_a_block(frame):
                self._press(frame)
        return self

    def _press(self, frame: FrameType) -> None:
        sys.settrace(None)
        calls = []
        at: FrameType | None = frame
        while at is not None:
            at.f_trace = None
            calls.append(f"{at.f_code.co_name} ({at.f_code.co_filename.rpartition('/')[2]}:{at.f_lineno})")
            at = at.f_back
        self.where = " < ".join(calls[:8])
        signal.raise_signal(signal.SIGINT)


def _leaves_a_block(frame: FrameType) -> bool:
    """Whether the next thing to happen is that a context manager is told of the end of its block."""
    following = [item for item in dis.get_instructions(frame.f_code) if item.offset >= frame.f_lasti][:3]
    ends = [item.opname == "LOAD_CONST" and item.argval is None for item in following]
    return following[0].opname == "PUSH_EXC_INFO" or ends == [True] * 3


@contextmanager
def lines(at: int) -> Iterator[Lines]:
    """Count the lines executed in the block, and press Ctrl-C at one; 0: at none."""
    # Where the tests run in the background, they and their children ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counted = Lines(at)
    sys.settrace(counted)
    try:
        yield counted
    finally:
        sys.settrace(None)
