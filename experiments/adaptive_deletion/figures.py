"""A measured indicator: 0.5 where deletion is exact, with an interval, and what theory says it can be at most."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

Z = 1.959964
"""Two-sided 95 %."""


@dataclass(frozen=True)
class Figure:
    """One line of the result.

    Attributes:
        name: Experiment and condition.
        setting: What was varied.
        indicator: Mean over the repetitions.
        low: Lower end of the 95 % interval.
        high: Upper end.
        bound: The most that any test can reach, where a theorem says so.
        more: Other numbers of the same runs.
    """

    name: str
    setting: dict[str, float | str]
    indicator: float
    low: float
    high: float
    bound: float | None = None
    more: dict[str, float] = field(default_factory=dict)


def figure(
    name: str,
    setting: dict[str, float | str],
    values: list[float],
    bound: float | None = None,
    more: dict[str, float] | None = None,
) -> Figure:
    """A figure from one value in [0, 1] per repetition, with Wilson's interval.

    Wilson's interval is for values 0 and 1. Others in between, such as a half for a tie, vary less, so for them it is
    wider than it need be.

    Args:
        name: Experiment and condition.
        setting: What was varied.
        values: `[repetitions]`.
        bound: What a theorem allows.
        more: Other numbers.

    Returns:
        The figure.
    """
    n, mean = len(values), float(np.mean(values))
    middle = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return Figure(name, setting, mean, middle - half, middle + half, bound, more or {})


def below(values: np.ndarray, targeted: np.ndarray) -> float:
    """Share of pairs of a targeted shard and another in which the targeted one has less; a tie counts half.

    Where the shards are exchangeable, the expectation is exactly 0.5.

    Args:
        values: `[S]` one number per shard.
        targeted: `[S]` bool.

    Returns:
        Between 0 and 1.
    """
    mine, others = values[targeted][:, None], values[~targeted][None, :]
    return float(((mine < others) + 0.5 * (mine == others)).mean())


def less(one: float, other: float) -> float:
    """1 if the first is less, 0 if the second is, a half for a tie."""
    return 1.0 if one < other else 0.5 if one == other else 0.0


def pair_bound(sigma: float, queries: int, votes: int) -> float | None:
    """The most that `less` can reach in expectation, between what was attacked and a fresh retraining.

    Labels whose counts differ by at most v votes are jointly no easier to tell apart than two normal distributions
    mu = v sqrt(2 q) / sigma apart (arXiv 1905.02383), for which it is Phi(mu / sqrt 2).

    Args:
        sigma: Noise on each count; 0 for none.
        queries: q, labels published.
        votes: v.

    Returns:
        The bound; None without noise.
    """
    return normal_cdf(votes * math.sqrt(queries) / sigma) if sigma else None


def guess_bound(sigma: float, queries: int, votes: int) -> float | None:
    """The most that a guess of one of two equally likely worlds can be right: Phi(mu / 2), with the same mu."""
    return normal_cdf(votes * math.sqrt(queries / 2) / sigma) if sigma else None


def normal_cdf(x: float) -> float:
    """Phi."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
