"""The power fails at any moment: whatever of the unsynced writes and names is lost, nothing acknowledged is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.crash import simulator
from tests.crash.lanes import Lanes, Usual, selected
from tests.crash.shim import Counted, Fault
from tests.crash.test_faults import check

BEFORE = {
    Fault.KILL: "killed, then power loss",
    Fault.IO_ERROR: "input/output error, then power loss",
}


def test_at_some_moments(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    traced = lanes.record()
    check(lanes.losses("power loss", traced, traced.moments(0.025), mixed=1), tell)


@pytest.mark.exhaustive
@pytest.mark.timeout(28800)
def test_at_every_moment(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    traced = lanes.record()
    check(lanes.losses("power loss", traced, traced.moments(), mixed=3, seed=1), tell)


@pytest.mark.exhaustive
@pytest.mark.timeout(28800)
def test_and_again_while_it_is_settled(lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    traced = lanes.record()
    check(lanes.losses("power loss twice", traced, traced.moments(0.15), mixed=1, again=3), tell)


@pytest.mark.parametrize("fault", BEFORE, ids=lambda fault: fault.name)
def test_after_some_faults(fault: Fault, lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    # Right before a folder is synced: whoever goes on finds the names as they should be, and not durable.
    places = [place for place in usual.places(Counted.ANY) if re.search(r" SYNC \S+ [^.]+$", place[2])]
    check(lanes.losses_after(BEFORE[fault], fault, selected(places, 12), mixed=0), tell)


@pytest.mark.exhaustive
@pytest.mark.timeout(28800)
@pytest.mark.parametrize("fault", BEFORE, ids=lambda fault: fault.name)
def test_after_every_fault(fault: Fault, lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    places = [(step, at) for step, at, _ in usual.places(Counted.ANY)]
    check(lanes.losses_after(BEFORE[fault], fault, places, mixed=1), tell)


def test_the_trace_holds_all_that_happened(lanes: Lanes, usual: Usual) -> None:
    """The disk that loses nothing is, file by file, what the process left: SQLite's writes are seen too."""
    traced = lanes.record()
    disk = simulator.Disk(traced.entries[0].path)
    for done in traced.entries:
        disk.apply(done)
    found = simulator.scan(traced.file.with_suffix(""))
    assert disk.kept() == found
    assert any(name.endswith("ledger.db") and data for name, data in found.items())
    assert any(done.data[:16] == b"SQLite format 3\0" for done in traced.entries)
