"""A figure with its interval, or the statement that there were too few samples for one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from unlearn.audit.binomial import lower_limit, upper_limit
from unlearn.errors import InputError

Verdict = Literal["measured", "too few samples"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """What was estimated.

    Attributes:
        value: The point estimate; None where there is none to give.
        low: Lower end of the interval.
        high: Upper end.
        confidence: With what probability, at least, such an interval holds the truth.
        method: How the interval was made, and what it assumes.
        verdict: `"too few samples"`: the interval holds, and says too little to be quoted as a result.
        note: What else a reader has to know.
    """

    value: float | None
    low: float
    high: float
    confidence: float
    method: str
    verdict: Verdict = "measured"
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON; an end that is not finite is None."""
        return as_json(self)


def as_json(result: Any) -> dict[str, Any]:
    """A frozen result as JSON values, in which a number that is not finite is None.

    Args:
        result: A dataclass.

    Returns:
        Its fields by name.
    """
    return {name: _plain(value) for name, value in asdict(result).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checked_confidence(confidence: float) -> float:
    """Check a confidence level.

    Args:
        confidence: In (0, 1).

    Returns:
        It.

    Raises:
        InputError: If it is another.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}")
    return confidence


def proportion(count: int, n: int, confidence: float = CONFIDENCE, note: str = "") -> Estimate:
    """A share of independent trials, with Clopper and Pearson's interval.

    Args:
        count: Successes.
        n: Trials.
        confidence: Of the interval.
        note: For the reader.

    Returns:
        The estimate; "too few samples" where there was no trial.

    Raises:
        InputError: If counts are impossible.
    """
    if not 0 <= count <= n:
        raise InputError(f"{count} of {n} is no share")
    tail = (1 - checked_confidence(confidence)) / 2
    verdict: Verdict = "measured" if n else "too few samples"
    value = count / n if n else None
    low, high = float(lower_limit(count, n, tail)), float(upper_limit(count, n, tail))
    return Estimate(value, low, high, confidence, "Clopper-Pearson", verdict, note)


def mean(values: np.ndarray, confidence: float = CONFIDENCE, note: str = "") -> Estimate:
    """A mean of independent values, with Student's interval.

    Args:
        values: `[n]` finite.
        confidence: Of the interval.
        note: For the reader.

    Returns:
        The estimate; "too few samples" where there are less than two values.

    Raises:
        InputError: If a value is not finite.
    """
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(f"a mean is of finite numbers [n], got shape {found.shape}")
    method = "Student's t: values independent, their mean about normal"
    checked_confidence(confidence)
    n = len(found)
    if n < 2:
        value = float(found[0]) if n else None
        return Estimate(value, -math.inf, math.inf, confidence, method, "too few samples", note)
    middle = float(found.mean())
    half = float(t.ppf((1 + confidence) / 2, n - 1) * found.std(ddof=1) / math.sqrt(n))
    return Estimate(middle, middle - half, middle + half, confidence, method, "measured", note)


def paired_difference(
    first: np.ndarray, second: np.ndarray, confidence: float = CONFIDENCE, note: str = ""
) -> Estimate:
    """Difference of two shares of the same records: the interval rests on the records where the two differ.

    The shares of records that are so in the first alone, and in the second alone, each have a Clopper-Pearson interval
    at half the error; their difference holds with at least the stated confidence, whatever n.

    Args:
        first: `[n]` bool.
        second: `[n]` bool, of the same records in the same order.
        confidence: Of the interval.
        note: For the reader.

    Returns:
        Share of the first minus share of the second.

    Raises:
        InputError: If these are no bools of one shape.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.dtype != np.bool_ or b.dtype != np.bool_ or a.shape != b.shape or a.ndim != 1:
        raise InputError(f"give bools of the same records, got {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    n, more, less = len(a), int((a & ~b).sum()), int((~a & b).sum())
    tail = (1 - checked_confidence(confidence)) / 4
    low = float(lower_limit(more, n, tail) - upper_limit(less, n, tail))
    high = float(upper_limit(more, n, tail) - lower_limit(less, n, tail))
    method = "Clopper-Pearson of the records that differ, by Bonferroni"
    verdict: Verdict = "measured" if n else "too few samples"
    return Estimate((more - less) / n if n else None, low, high, confidence, method, verdict, note)
