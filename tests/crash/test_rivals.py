"""Two processes do the same script in one workspace at once, and clocks go wrong: it ends as it always does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.crash.lanes import Lanes, Usual
from tests.crash.shim import Fault
from tests.crash.test_faults import check

BOTH_LIVE = [(Fault.NONE, 0), (Fault.NONE, 0)]


def test_two_processes(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    check(lanes.rivals("two processes at once", [BOTH_LIVE] * 5), tell)


def test_two_processes_of_which_one_is_killed(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    rivals = [[(Fault.KILL, at), (Fault.NONE, 0)] for at in range(5, 500, 70)]
    check(lanes.rivals("two processes at once, one killed", rivals), tell)


def test_the_clock_jumps(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    """By up to twenty years forwards or backwards, with every look at it."""
    check(lanes.rivals("clock jumps by years", [[(Fault.NONE, 0)]] * 8, clock=True), tell)


def test_the_clock_of_the_tests_does_jump(lanes: Lanes) -> None:
    years = lanes.years()
    assert len(set(years)) > 10
    assert any(later < before for before, later in pairwise(years))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_processes_with_wrong_clocks_many_times(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    check(lanes.rivals("two processes at once, clocks jump", [BOTH_LIVE] * 100, clock=True), tell)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
def test_two_processes_of_which_one_is_killed_at_every_operation(
    lanes: Lanes, usual: Usual, tell: Callable[[str], None]
) -> None:
    rivals = [[(Fault.KILL, at), (Fault.NONE, 0)] for at in range(1, 600)]
    check(lanes.rivals("two processes at once, one killed", rivals), tell)
