"""Planted mistakes are found: a search for faults that finds nothing proves nothing by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.lanes import Lanes, Outcome, opened
from tests.crash.mistakes import MISTAKES, Mistake
from tests.crash.shim import Fault
from tests.crash.story import STEPS
from tests.crash.test_interrupts import some
from tests.negative.doubles import MARKS

pytestmark = pytest.mark.apart

QUICK = (
    "publish-without-syncing-the-folder",
    "publish-without-rename",
    "slice-not-synced",
    "finished-before-destruction",
    "refused-deletion-ignored",
)


def search(mistake: Mistake, lanes: Lanes) -> Outcome:
    """Look for what the mistake breaks, with the kind of fault that it names, until something is found."""
    match mistake.reveals:
        case "rivals":
            return lanes.rivals("", [[(Fault.NONE, 0)] * 2] * 20, stop=True)
        case "clock":
            return lanes.rivals("", [[(Fault.NONE, 0)]] * 10, clock=True, stop=True)
        case "power":
            traced = lanes.record()
            numbers = [number for number, step in enumerate(STEPS) if step.name in mistake.steps]
            points = [point for number in numbers for point in traced.around(number)]
            return lanes.losses("", traced, points, mixed=1, stop=True)
        case "interrupt":
            numbers = [number for number, step in enumerate(STEPS) if step.name in mistake.steps]
            places = [place for place in some(lanes.lines(), 4_000, seed=1) if place[0] in numbers]
            return lanes.interrupts("", places[:400], stop=True)
        case name:
            fault = Fault[name]
            # Of the many writes, most do the same to the same file.
            every = [p for p in lanes.usual.places(fault.counts) if STEPS[p[0]].name in mistake.steps]
            places = [p for p in every if " WRITE " not in p[2]] + [p for p in every if " WRITE " in p[2]][::3]
            return lanes.faults("", fault, [p[:2] for p in places], stop=True)


def find(mistake: Mistake, library: Path, folder: Path, tell: Callable[[str], None]) -> None:
    marks = folder / "marks"
    with opened(library, folder, mistake=mistake.name, variables={MARKS: str(marks)}) as lanes:
        # Without a fault, the mistake does no harm: that is what makes it one of this kind.
        lanes.prepare()
        outcome = search(mistake, lanes)
    assert {line.split()[1] for line in marks.read_text().splitlines()} == {edit.module for edit in mistake.edits}
    assert outcome.failures, f"not found by {outcome.tried} faults: {mistake.mistake}"
    assert re.search(mistake.says, outcome.failures[0]), outcome.failures[0]
    tell(f"{mistake} was found by fault {outcome.tried}")


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m.name in QUICK], ids=str)
def test_it_is_found(mistake: Mistake, library: Path, tmp_path: Path, tell: Callable[[str], None]) -> None:
    find(mistake, library, tmp_path, tell)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m.name not in QUICK], ids=str)
def test_it_is_found_too(mistake: Mistake, library: Path, tmp_path: Path, tell: Callable[[str], None]) -> None:
    find(mistake, library, tmp_path, tell)


def test_names_are_unique() -> None:
    names = [mistake.name for mistake in MISTAKES]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
