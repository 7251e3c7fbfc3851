"""Killed from outside at random moments: the plain truth to which the chosen operations of `test_faults` are a lens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.crash.lanes import Lanes, Usual
from tests.crash.story import STEPS


def kill(lanes: Lanes, usual: Usual, number: int, seed: int) -> tuple[str, list[str], Counter[str]]:
    """Kill that many processes, in the creation and in every step in turn, at some moment of the time it takes."""
    chance = Random(seed)
    targets = [at % (len(STEPS) + 1) - 1 for at in range(number)]
    # The creation takes about as long as the first step, with which it was measured.
    moments = [(step, chance.random() * usual.seconds[max(step, 0)]) for step in targets]
    return lanes.kills("kill -9 at a random moment", moments)


def check(found: tuple[str, list[str], Counter[str]], number: int, tell: Callable[[str], None]) -> None:
    line, failures, during = found
    tell(f"{line}; under way: {dict(sorted(during.items()))}")
    assert failures == []
    assert sum(during.values()) >= number * 0.5
    # All but those that hit the start of a process, or came between two steps.
    assert during["between steps"] < number / 3


def test_at_some_random_moments(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    check(kill(lanes, usual, 20, seed=0), 20, tell)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_at_many_random_moments(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    check(kill(lanes, usual, 300, seed=1), 300, tell)
