"""What every estimator refuses, each with a reason: no number is returned for evidence that cannot carry one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from unlearn.errors import ConfigurationError, InputError, some

Floats = npt.NDArray[np.float64]


def check_alpha(alpha: float) -> None:
    """Refuse a probability of false alarms that is none.

    Args:
        alpha: Total probability of a false alarm.

    Raises:
        ConfigurationError: If it is not strictly between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ConfigurationError(f"alpha, the probability of a false alarm, must be between 0 and 1, got {alpha!r}")


def check_delta(delta: float) -> None:
    """Refuse a delta that is none.

    Args:
        delta: Of an (epsilon, delta) claim.

    Raises:
        ConfigurationError: If it is not in [0, 1).
    """
    if not 0 <= delta < 1:
        raise ConfigurationError(f"delta must be at least 0 and below 1, got {delta!r}")


def check_delta_below(delta: float, alpha: float) -> None:
    """Refuse a delta that one run can never be told apart from.

    Args:
        delta: Of an (epsilon, delta) claim.
        alpha: Total probability of a false alarm.

    Raises:
        ConfigurationError: If delta is not below alpha.
    """
    check_alpha(alpha)
    check_delta(delta)
    if delta >= alpha:
        raise ConfigurationError(
            f"delta {delta!r} is not below alpha {alpha!r}: a mechanism that reveals everything with probability delta "
            "does so in one run more often than a false alarm may happen, so one run can refute nothing. "
            "Audit several runs, or state a smaller delta"
        )


def check_k(k: int) -> None:
    """Refuse a number of deleted records that is none.

    Args:
        k: Records deleted together.

    Raises:
        ConfigurationError: If it is below 1.
    """
    if k < 1:
        raise ConfigurationError(f"k, the number of records deleted together, must be at least 1, got {k!r}")


def check_claim(delta: float, alpha: float, k: int) -> None:
    """Refuse what no claim can say, or no audit of one.

    Args:
        delta: Of an (epsilon, delta) claim.
        alpha: Total probability of a false alarm.
        k: Records deleted together.

    Raises:
        ConfigurationError: If one of them cannot be.
    """
    check_alpha(alpha)
    check_delta(delta)
    check_k(k)


def check_count(name: str, count: int, total: int) -> None:
    """Refuse a count outside its range.

    Args:
        name: What is counted, for the message.
        count: The count.
        total: Of how many.

    Raises:
        InputError: If it is not an integer from 0 to the total.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 <= count <= total:
        raise InputError(f"{name} must be a whole number from 0 to {total}, got {count!r}")


def check_certifiable(certifiable: float, what: str) -> None:
    """Refuse evidence that no result could have turned into a refutation.

    Args:
        certifiable: The largest epsilon that could have been certified.
        what: The evidence, in words.

    Raises:
        InputError: If that is not above 0.
    """
    if not certifiable > 0:
        raise InputError(
            f"{what} could certify no epsilon above 0 even if the attack were right every time: too few samples for "
            "this alpha and delta. Collect more"
        )


def score_array(name: str, scores: npt.ArrayLike) -> Floats:
    """Scores as an array; infinities may stay, since only their order matters.

    Args:
        name: Whose scores, for the message.
        scores: `[n]`.

    Returns:
        `[n]` float64.

    Raises:
        InputError: If there are none, there is more than one axis, or one is not a number.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"scores of {name} must be one number each, at least one, got shape {array.shape}")
    bad = np.flatnonzero(np.isnan(array))
    if bad.size:
        raise InputError(
            f"{bad.size} of {array.size} scores of {name} are not a number (the first at position {bad[0]}): a failed "
            "attack is no evidence. Find out why, or give them the score of a blind guess"
        )
    return array


def check_disjoint(first: Iterable[Any], second: Iterable[Any], what: str) -> None:
    """Refuse ids on both sides of a comparison.

    Args:
        first: Ids of one side.
        second: Ids of the other.
        what: The two sides, for the message.

    Raises:
        InputError: If one is on both.
    """
    both = sorted(set(first) & set(second), key=str)
    if both:
        raise InputError(f"{len(both)} ids are on both sides of {what}: {some([str(one) for one in both])}")
