"""A rate with its interval, and whether it is within what was promised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

CHANCE = 1e-3
"""Probability that a rate of exactly alpha is called too high."""


@dataclass(frozen=True)
class Rate:
    """How often a bound was too high.

    Attributes:
        group: "ours", "peers' rule", or "outside its assumptions".
        setting: Of what mechanism.
        rule: The bound.
        count: Times that it was above the true epsilon.
        repetitions: Of how many.
        rate: The quotient.
        low: Exact 95 % interval of the rate.
        high: Its other end.
        median: Median of the bound; None where it was not worked out.
        truth: The true epsilon.
        within: Whether the count is at most what a rate of alpha gives, but for sampling error.
    """

    group: str
    setting: str
    rule: str
    count: int
    repetitions: int
    rate: float
    low: float
    high: float
    median: float | None
    truth: float
    within: bool


def rate_of(
    group: str,
    setting: str,
    rule: str,
    too_high: npt.ArrayLike,
    truth: float,
    alpha: float,
    *,
    median: float | None = None,
) -> Rate:
    """Count how often a bound is above the truth.

    Args:
        group: For the table.
        setting: For the table.
        rule: For the table.
        too_high: `[repetitions]` whether it is.
        truth: The true epsilon.
        alpha: Promised.
        median: Of the bound.

    Returns:
        The rate.
    """
    values = np.asarray(too_high, dtype=bool)
    count, n = int(values.sum()), len(values)
    return Rate(
        group=group,
        setting=setting,
        rule=rule,
        count=count,
        repetitions=n,
        rate=count / n,
        low=float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0,
        high=float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0,
        median=median,
        truth=truth,
        within=count <= int(binom.ppf(1 - CHANCE, n, alpha)),
    )


def rate_of_bounds(group: str, setting: str, rule: str, bounds: npt.ArrayLike, truth: float, alpha: float) -> Rate:
    """The same from the bounds themselves.

    Args:
        group: For the table.
        setting: For the table.
        rule: For the table.
        bounds: `[repetitions]`.
        truth: The true epsilon.
        alpha: Promised.

    Returns:
        The rate.
    """
    values = np.asarray(bounds, dtype=np.float64)
    # What equals the truth but for rounding is not above it.
    return rate_of(group, setting, rule, values > truth + 1e-9, truth, alpha, median=float(np.median(values)))
