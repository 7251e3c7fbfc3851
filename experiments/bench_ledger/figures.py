"""A measured figure, with the bound it should keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Short name, unique.
        what: What was measured, in words.
        value: The figure.
        unit: Of the figure.
        at_least: A lower bound, or None.
        at_most: An upper bound, or None.
        samples: What the figure is the median of.
    """

    name: str
    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    samples: Sequence[float] = ()

    @property
    def passed(self) -> bool | None:
        """Whether it keeps its bound; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "passed": self.passed}
