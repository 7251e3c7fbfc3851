"""A figure after every deletion: looking often finds something by chance, so all points hold together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, checked_confidence
from unlearn.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """One look.

    Attributes:
        deleted: Records deleted until then.
        estimate: What was measured.
    """

    deleted: int
    estimate: Estimate


@dataclass(frozen=True)
class Curve:
    """A figure over successive deletions.

    Attributes:
        name: Of the figure.
        confidence: With which all points' intervals hold together.
        points: In the order of deletions.
    """

    name: str
    confidence: float
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def curve(
    name: str,
    deleted: Sequence[int],
    samples: Sequence[T],
    estimator: Callable[[T, float], Estimate],
    confidence: float = CONFIDENCE,
) -> Curve:
    """Estimate at each look, with the error spread over a number of looks that is fixed beforehand.

    Args:
        name: Of the figure.
        deleted: Records deleted until each look, increasing.
        samples: What is measured at each.
        estimator: `(sample, confidence)` to an estimate, such as `auc`.
        confidence: With which all intervals are to hold together, by Bonferroni.

    Returns:
        The curve.

    Raises:
        InputError: If there is no look, counts differ, or deletions do not increase.
    """
    if not deleted or len(deleted) != len(samples) or list(deleted) != sorted(set(deleted)) or deleted[0] < 0:
        raise InputError(f"give one sample a look, and increasing numbers of deletions, got {len(samples)}, {deleted}")
    each = 1 - (1 - checked_confidence(confidence)) / len(deleted)
    points = tuple(Point(count, estimator(sample, each)) for count, sample in zip(deleted, samples, strict=True))
    return Curve(name, confidence, points)
