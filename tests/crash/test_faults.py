"""A fault at one operation on a file, or of the clock: nothing acknowledged is lost, and the script ends as always."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.lanes import Lanes, Outcome, Usual, selected
from tests.crash.shim import Fault

KINDS = {
    Fault.KILL: ("killed before an operation", 50),
    Fault.TORN: ("killed in half a write", 30),
    Fault.SHORT: ("half a write", 15),
    Fault.IO_ERROR: ("input/output error", 50),
    Fault.FULL_ONCE: ("disk full once", 30),
    Fault.FULL_FOR_GOOD: ("disk full for good", 20),
    Fault.NO_CLOCK: ("the clock fails", 20),
}
"""What each is called, and at how many operations it is tried in the fast run."""


def check(outcome: Outcome, tell: Callable[[str], None]) -> None:
    tell(outcome.line)
    assert outcome.failures == (), f"{len(outcome.failures)} failures, the first:\n{outcome.failures[0]}"


@pytest.mark.parametrize("fault", KINDS, ids=lambda fault: fault.name)
def test_at_some_operations(fault: Fault, lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    name, number = KINDS[fault]
    outcome = lanes.faults(name, fault, selected(usual.places(fault.counts), number))
    # A few may be missed where a run does fewer operations than the run that was counted.
    assert outcome.tried >= number * 0.95
    check(outcome, tell)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", KINDS, ids=lambda fault: fault.name)
def test_at_every_operation(fault: Fault, lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    places = usual.places(fault.counts)
    outcome = lanes.faults(KINDS[fault][0], fault, [(step, at) for step, at, _ in places])
    assert outcome.tried >= len(places) * 0.95
    check(outcome, tell)
