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
        mean: Mean of the bound; None where only "above 0" was worked out.
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
    mean: float | None
    truth: float
    within: bool


def rate_of(
    group: str, setting: str, rule: str, bounds: npt.ArrayLike, truth: float, alpha: float, *, mean: bool = True
) -> Rate:
    """Count how often bounds are above the truth.

    Args:
        group: For the table.
        setting: For the table.
        rule: For the table.
        bounds: `[repetitions]`.
        truth: The true epsilon.
        alpha: Promised.
        mean: Whether the bounds are numbers that have a mean, rather than 0 and 1.

    Returns:
        The rate.
    """
    values = np.asarray(bounds, dtype=np.float64)
    # What equals the truth but for rounding is not above it.
    count, n = int((values > truth + 1e-9).sum()), len(values)
    return Rate(
        group=group,
        setting=setting,
        rule=rule,
        count=count,
        repetitions=n,
        rate=count / n,
        low=float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0,
        high=float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0,
        mean=float(values.mean()) if mean else None,
        truth=truth,
        within=count <= int(binom.ppf(1 - CHANCE, n, alpha)),
    )
