"""Ctrl-C waits for the end of a block, and comes then; what was taken is given back wherever it comes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from shards.interrupts import check, guarded, held
from tests.cases import ROOT


@pytest.fixture(autouse=True)
def _usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_comes_at_the_end_of_the_outermost_block() -> None:
    done = []

    def act() -> None:
        with held():
            with held():
                press()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert done == ["inner", "outer"]


def test_without_it_nothing_comes() -> None:
    with held(), held():
        pass


def test_check_lets_it_come_and_it_comes_once() -> None:
    done = []
    with held():
        check()
        press()
        with pytest.raises(KeyboardInterrupt):
            check()
        check()
        done.append("on")
    assert done == ["on"]


def test_an_error_of_the_block_is_not_lost() -> None:
    def act() -> None:
        with held():
            press()
            raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt) as found:
        act()
    assert isinstance(found.value.__context__, ValueError)


def test_a_handler_of_the_users_own_is_called_and_stays() -> None:
    told: list[int] = []

    def own(number: int, frame: object) -> None:
        del frame
        told.append(number)

    signal.signal(signal.SIGINT, own)
    with held():
        press()
        assert told == []
    assert told == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_who_ignores_it_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held():
        press()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_handler_that_is_set_inside_a_block_is_asked_from_then_on() -> None:
    told: list[int] = []

    def own(number: int, frame: object) -> None:
        del frame
        told.append(number)

    with held():
        signal.signal(signal.SIGINT, own)
        with held():
            press()
            assert told == []
        check()
        assert told == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_holds_nothing_up() -> None:
    inside, over = threading.Event(), threading.Event()

    def work() -> None:
        with held():
            inside.set()
            over.wait(10)
            check()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        press()
    over.set()
    thread.join()


def test_a_guarded_block_can_be_interrupted_and_gives_back() -> None:
    done = []

    @guarded
    def taken() -> Iterator[str]:
        done.append("taken")
        try:
            yield "it"
        finally:
            press()
            done.append("given back")

    def act(*, whole: bool) -> None:
        with taken() as it:
            assert it == "it"
            if not whole:
                press()
            done.append("block")

    with pytest.raises(KeyboardInterrupt):
        act(whole=False)
    assert done == ["taken", "given back"]
    with pytest.raises(KeyboardInterrupt):
        act(whole=True)
    assert done == ["taken", "given back", "taken", "block", "given back"]


def test_a_guarded_block_may_swallow_an_error() -> None:
    @guarded
    def forgiving() -> Iterator[None]:
        with suppress(ValueError):
            yield

    with forgiving():
        raise ValueError("forgiven")
    with pytest.raises(KeyError), forgiving():
        raise KeyError


@pytest.mark.parametrize(("made", "loses"), [("guarded", False), ("contextmanager", True)])
def test_wherever_it_comes_what_was_taken_is_given_back(made: str, *, loses: bool) -> None:
    # In a process of its own: errors raised where none can come leave the interpreter with an error half handled.
    command = [sys.executable, "-m", "tests.shards.pressed", made]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["pressed"] > 0.9 * found["lines"] > 50
    assert bool(found["lost"]) is loses, found["lost"]
