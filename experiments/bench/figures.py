"""A measured figure, and how samples become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Short name, unique.
        what: What was measured, in words.
        value: The figure.
        unit: `"x"` for a ratio, `"s"`, `"MB"`, `"share"` or `"visits"`.
        goal: The figure should be at most this; None if there is no goal.
        ours: Our side in absolute terms (seconds, unless the unit says otherwise), or None.
        baseline: The other side, or None.
        samples: Everything that was measured for it.
    """

    name: str
    what: str
    value: float
    unit: str
    goal: float | None = None
    ours: float | None = None
    baseline: float | None = None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the goal was reached; None if there is none."""
        return None if self.goal is None else self.value <= self.goal

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON."""
        samples = {name: [round(value, 6) for value in values] for name, values in self.samples.items()}
        return {**vars(self), "passed": self.passed, "samples": samples}


def ratio(name: str, what: str, goal: float | None, ours: Sequence[float], baseline: Sequence[float]) -> Figure:
    """Median of ratios of pairs that were measured one right after the other.

    Args:
        name: Short name.
        what: What was measured.
        goal: At most, or None.
        ours: Seconds.
        baseline: Seconds, as many.

    Returns:
        The figure.
    """
    ratios = [a / b for a, b in zip(ours, baseline, strict=True)]
    samples = {"ratio": ratios, "ours": ours, "baseline": baseline}
    return Figure(name, what, median(ratios), "x", goal, median(ours), median(baseline), samples)
