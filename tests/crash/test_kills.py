"""Killed from outside at random moments: the plain truth to which the chosen operations of `test_faults` are a lens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.crash.lanes import Lanes, Usual
from tests.crash.story import STEPS

UNSURE = ("between steps", "create")
"""Where a kill is not known to have hit an operation: it may have come before the first, or between two."""


def kill(lanes: Lanes, usual: Usual, number: int, chance: Random) -> tuple[list[str], Counter[str]]:
    """Kill that many processes, in the creation and in every step in turn, at some moment of the time it takes."""
    targets = [at % (len(STEPS) + 1) - 1 for at in range(number)]
    # The creation takes about as long as the first step, with which it was measured.
    moments = [(step, chance.random() * usual.seconds[max(step, 0)]) for step in targets]
    _, failures, during = lanes.kills("kill -9 at a random moment", moments)
    return failures, during


def kill_until(lanes: Lanes, usual: Usual, wanted: int, together: int, seed: int, tell: Callable[[str], None]) -> None:
    """Go on until so many are confirmed to have been killed in the middle of an operation.

    How many of those that are aimed hit depends on how busy the machine is; five times as many have to do.
    """
    chance, during = Random(seed), Counter[str]()
    while (hit := sum(count for name, count in during.items() if name not in UNSURE)) < wanted:
        assert during.total() < 5 * wanted, f"only {hit} of {during.total()} kills hit an operation: {during}"
        failures, more = kill(lanes, usual, together, chance)
        assert failures == []
        assert more, "nothing was killed"
        during += more
    tell(
        f"kill -9 at a random moment: {during.total()} processes, of which {hit} are confirmed to have been in "
        f"the middle of an operation; nothing lost; {dict(sorted(during.items()))}"
    )


def test_at_some_random_moments(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    kill_until(lanes, usual, 10, 20, seed=0, tell=tell)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_at_many_random_moments(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    kill_until(lanes, usual, 100, 60, seed=1, tell=tell)
