"""Ctrl-C waits while something is half done.

Python raises KeyboardInterrupt between any two instructions of the main thread: also between taking a lock and
entering the block that would release it, or inside a database library that is not made for it. In a program that ends
the kernel clears up; in a notebook, which lives on, the lock is then held by nobody and for ever.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Signal:
    """The handler of Ctrl-C while there are blocks of this module; only the main thread is ever interrupted."""

    def __init__(self) -> None:
        self._blocks = 0
        self._held = 0
        self._came = False
        self._before: Callable[[int, FrameType | None], Any] = signal.default_int_handler

    def begin(self) -> None:
        """A block begins: whoever handled Ctrl-C until now, also if since the last block, is asked when it is over."""
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and before != self._handle:
            self._before = before
            if not self._blocks:
                self._came = False
            signal.signal(signal.SIGINT, self._handle)
        self._blocks += 1

    def end(self) -> None:
        """A block ends; the last one gives Ctrl-C back to whoever had it."""
        self._blocks -= 1
        if not self._blocks and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)
        if not self._held:
            self.let()

    def hold(self) -> None:
        """Remember the signal from now on."""
        self._held += 1

    def release(self) -> None:
        """No longer, if nobody else wants it held."""
        self._held -= 1

    def let(self) -> None:
        """Do what would have been done when the signal came, if it came."""
        came, self._came = self._came, False
        if came:
            self._before(signal.SIGINT, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held or _is_here(frame):
            self._came = True
        else:
            self._before(number, frame)


def _is_here(frame: FrameType | None) -> bool:
    """Whether this module is at work: between its instructions, nothing may come either."""
    here = _is_here.__code__.co_filename
    while frame is not None:
        if frame.f_code.co_filename == here:
            return True
        frame = frame.f_back
    return False


_signal = _Signal()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


class held(AbstractContextManager[None]):  # noqa: N801 - reads as a word: `with held():`
    """Ctrl-C waits until the end of the block, and is raised there; blocks may be inside one another.

    Keep the block short, or call `check` where it waits. Other threads, and programs that ignore the signal, are left
    as they are; a handler of the user's own is called at the end.
    """

    def __init__(self) -> None:
        self._counts = _is_main()

    def __enter__(self) -> None:
        """Begin."""
        if self._counts:
            _signal.begin()
            _signal.hold()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; raises what was held up."""
        if self._counts:
            _signal.release()
            _signal.end()


def check() -> None:
    """Be interrupted here, inside `held`, if Ctrl-C was pressed: to be called where something waits or repeats."""
    if _is_main():
        _signal.let()


def guarded(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """`contextlib.contextmanager` for what must be given back: no Ctrl-C between having it and the block, nor after.

    The block itself can be interrupted. What comes before and after the `yield` is `held`.

    Args:
        function: A generator function that yields once.

    Returns:
        A function that makes the context manager.
    """
    make = contextmanager(function)

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return _Guarded(make(*args, **kwargs))

    return made


class _Guarded(AbstractContextManager[T]):
    """Holds Ctrl-C while another context manager begins and ends."""

    def __init__(self, inner: AbstractContextManager[T]) -> None:
        self._inner = inner
        self._counts = _is_main()

    def __enter__(self) -> T:
        if self._counts:
            _signal.begin()
        has = False
        try:
            with held():
                value = self._inner.__enter__()
                has = True
            return value
        except BaseException as error:
            if has:
                self.__exit__(type(error), error, error.__traceback__)
            elif self._counts:
                _signal.end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            with held():
                return self._inner.__exit__(kind, error, traceback)
        finally:
            if self._counts:
                _signal.end()
