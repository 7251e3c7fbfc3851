"""Ctrl-C at any line of Python, and the process lives on: nothing acknowledged is lost, and nothing stays locked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from tests.crash.lanes import Lanes, Usual


def some(lines: Sequence[int], number: int, seed: int) -> list[tuple[int, int]]:
    """Lines of the script, drawn at random: as many of each step."""
    random = Random(seed)
    return [(at % len(lines), random.randint(1, lines[at % len(lines)])) for at in range(number)]


@pytest.mark.parametrize("number", [60, pytest.param(5_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(7200)])])
def test_at_some_lines(number: int, lanes: Lanes, usual: Usual, tell: Callable[[str], None]) -> None:
    outcome = lanes.interrupts("Ctrl-C", some(lanes.lines(), number, seed=number))
    tell(outcome.line)
    # Hardly any is missed: a line in a destructor, where Python passes errors over.
    assert outcome.tried >= number * 0.95
    assert outcome.failures == (), f"{len(outcome.failures)} failures, the first:\n{outcome.failures[0]}"
