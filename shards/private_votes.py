"""Labels by a noisy vote: what the shards say, published so that no single subject shows, on a budget.

Every shard casts one vote for a row, or none; Gaussian noise is added to every class's count, and only the
class with the largest noisy count is published (the mechanism of PATE, arXiv 1802.08908, section 4.1):

    label(x) = argmax_c ( n_c(x) + N(0, sigma²) )

**Sensitivity.** All records of a subject are in one shard, and no other shard's state depends on them. So with or
without the subject, at most one vote differs: it moves (one count down, one up: L2 distance √2), appears or
disappears (distance 1). For v votes that may differ together the distance is at most v √2.

**Accounting.** One label is rho-zCDP (arXiv 1605.02065) with rho = (v√2)² / (2 sigma²) = v² / sigma²; the
argmax is post-processing. Labels compose by adding, also where rows, requests and updates of the shards are chosen in
between depending on earlier labels: given those, the counts differ by v votes again. q labels are q rho-zCDP, and
so (ε, δ)-DP, for every order a > 1, with (arXiv 2004.00010, proposition 12)

    ε = q rho a + log((a - 1) / a) - (log δ + log a) / (a - 1).

**What that says about requests that depend on what was published.** Retraining exactly is a promise for requests
chosen without looking. Gupta et al. (arXiv 2106.04378) add the missing part: exact for such requests, and
differentially private in what was published, gives a guarantee for requests that do look. Two statements of that
kind hold here. F(r, D) denotes the trained shards for randomness r (placement key and seeds) and data D; exactness
means that after requests T the state is F(r, D - T), however it was reached. Y are the labels published so far, and T
is any function of Y and of coins of its own.

1.  *As if the subject had never been there* (`votes=1`; for a group of g subjects min(g, S)). Let u be removed and
    its shard rebuilt. Then (Y, F(r, D - T - u)) is (ε, δ)-close to the same pair in a world without u from the start.
    Proof: fix r and everyone's coins. Y is (ε, δ)-DP in u's records by the above; given Y, the second part is the
    same function of Y in both worlds, since T follows from Y and exactness leaves no trace of u. So what *others*
    ask for on account of u, and what that does to the model, is covered too, which no retraining can achieve.
2.  *As if trained afresh* (`votes=S`, the yardstick of Gupta et al.). Let r' be fresh and independent. Then
    (Y, F(r, D - T)) is (ε, δ)-close to (Y, F(r', D - T)).
    Proof: two values of r differ in at most S votes, so Y given r and Y given r'' are (ε, δ)-close for all r, r''.
    For an event A: P[(r, Y) ∈ A] = E_r P[Y ∈ A_r | r] ≤ E_r E_r''(e^ε P[Y ∈ A_r | r''] + δ) = e^ε P[(r', Y) ∈ A] + δ,
    and back alike. The state is a function of (r, Y).
    Gupta et al. pass through max-information, which costs less where the randomness consists of many independent
    parts with little say each. Shards of a partition are not independent, so all of r is one part here. The price
    is S times the noise, more than most uses can pay.

**What is not covered.**

-   The states. Whoever sees a shard's state before or between requests sees more than Y. In statement 1 the state
    after rebuilding may be seen, not the one between forgetting and recovering: which shard is missing tells where
    the subject was. In statement 2 nothing else may have been seen.
-   When requests come, how long an answer or a rebuild takes, and how many shards have a state.
-   u's own request, and replies to it: whoever sees that u asked knows that u was there.
-   Anything published in another way: probabilities, vote shares, labels without noise, receipts, audits.
-   Labels kept by someone who asked: they are Y. A label stored to be served again must go with those it depends on.
-   Noise is added in floating point; the proofs are about real numbers.

A budget counts over the life of the data, in every process. Write the new count down before handing out labels: a
crash must not give answers for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shards.errors import BudgetSpentError, ConfigurationError, InputError, NotServingError

Noise = Callable[[tuple[int, int]], np.ndarray]
"""Shape to independent standard normal numbers, float64."""

LARGEST = 1e100
"""Sigma and epsilon are at most this, and at least its inverse: squares and counts of labels stay finite."""

MAX_VOTES = 2**31 - 1

_ORDERS = 1.0 + np.logspace(-4, 9, 6_000)
"""Orders a to choose from; each gives a valid bound, and neighbours differ by half a per cent."""


@dataclass(frozen=True)
class PrivateVotes:
    """A noisy vote and its budget.

    Attributes:
        sigma: Standard deviation of the noise on each count, in votes.
        max_epsilon: The epsilon that all labels together may reach.
        delta: The delta it is stated for.
        votes: Votes that may differ together: 1 for a subject, S for "as if trained afresh".
    """

    sigma: float
    max_epsilon: float
    delta: float
    votes: int = 1

    def __post_init__(self) -> None:
        for name in ("sigma", "max_epsilon"):
            value = getattr(self, name)
            if not (_is_real(value) and 1 / LARGEST <= value <= LARGEST):
                raise ConfigurationError(
                    f"{name} must be a number from {1 / LARGEST:g} to {LARGEST:g}, above which nothing can be counted, "
                    f"got {value!r}"
                )
        if not (_is_real(self.delta) and 0 < self.delta < 1):
            raise ConfigurationError(f"delta must be a number between 0 and 1, got {self.delta!r}")
        if isinstance(self.votes, bool) or not isinstance(self.votes, int) or not 1 <= self.votes <= MAX_VOTES:
            raise ConfigurationError(f"votes must be a whole number from 1 to {MAX_VOTES:,}, got {self.votes!r}")

    def epsilon(self, queries: int) -> float:
        """Epsilon after that many labels, at this delta.

        Args:
            queries: Labels published, at least 0.

        Returns:
            Epsilon; 0 for no labels.

        Raises:
            InputError: If the number is negative.
        """
        if queries < 0:
            raise InputError(f"the number of labels cannot be negative, got {queries}")
        return zcdp_epsilon(queries * (self.votes / self.sigma) ** 2, self.delta)

    def queries_allowed(self) -> int:
        """The most labels that keep within the budget."""
        above = 1
        while self.epsilon(above) <= self.max_epsilon:
            above *= 2
        within = above // 2
        while above - within > 1:
            middle = (above + within) // 2
            within, above = (middle, above) if self.epsilon(middle) <= self.max_epsilon else (within, middle)
        return within

    def spend(self, published: int, asked: int) -> int:
        """Count further labels, or refuse.

        Args:
            published: Labels published before.
            asked: Labels asked for now, one a row.

        Returns:
            The new count, to be written down before the labels are handed out.

        Raises:
            InputError: If a number is negative.
            BudgetSpentError: If they would break the budget; nothing is counted then.
        """
        if published < 0 or asked < 0:
            raise InputError(f"numbers of labels cannot be negative, got {published} and {asked}")
        if asked and self.epsilon(published + asked) > self.max_epsilon:
            allowed = self.queries_allowed()
            raise BudgetSpentError(
                f"{asked} more labels would exceed the privacy budget: epsilon {self.max_epsilon:g} at delta "
                f"{self.delta:g} with sigma {self.sigma:g} allows {allowed}, of which {published} were published "
                f"({max(allowed - published, 0)} left). Ask for fewer rows; a larger budget is a weaker promise to "
                "everyone in the data, and has to be declared as such"
            )
        return published + asked

    def labels(self, counts: np.ndarray, noise: Noise) -> np.ndarray:
        """Noisy labels; whoever calls this has spent `len(counts)` before.

        Args:
            counts: `[n, classes]` votes.
            noise: Where the noise comes from: `shards.noise.system_normal`, unless it is a test.

        Returns:
            `[n]` int64.
        """
        return noisy_labels(counts, self.sigma, noise)


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def zcdp_epsilon(rho: float, delta: float) -> float:
    """Epsilon of what is rho-zCDP, at a delta; the best over a grid of orders.

    Args:
        rho: At least 0.
        delta: Between 0 and 1.

    Returns:
        Epsilon, at least 0.
    """
    if rho == 0:
        return 0.0
    bounds = rho * _ORDERS + np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    return max(0.0, float(bounds.min()))


def vote_counts(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Count each shard's vote for its most probable class; the lowest index wins a tie.

    Args:
        outputs: Class probabilities `[n, classes]` of every shard that has a state; a shard without one abstains.

    Returns:
        `[n, classes]` int64.

    Raises:
        NotServingError: If no shard has a state.
        InputError: If shapes differ or a probability is not a number.
    """
    if not outputs:
        raise NotServingError("no shard has a trained state, so there are no votes: ingest records and train first")
    arrays = [np.asarray(output, dtype=np.float64) for output in outputs]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 2:
        raise InputError(f"every shard must answer with [rows, classes], all the same, got {sorted(shapes)}")
    if any(np.isnan(array).any() for array in arrays):
        raise InputError("a shard answered with a probability that is not a number, which is no vote")
    counts = np.zeros(arrays[0].shape, dtype=np.int64)
    rows = np.arange(len(counts))
    for array in arrays:
        counts[rows, array.argmax(axis=1)] += 1
    return counts


def noisy_labels(counts: np.ndarray, sigma: float, noise: Noise) -> np.ndarray:
    """The class with the largest count after adding noise to each.

    Args:
        counts: `[n, classes]` votes.
        sigma: Standard deviation of the noise, in votes.
        noise: Where the noise comes from.

    Returns:
        `[n]` int64.

    Raises:
        InputError: If the counts have no classes or the wrong number of axes.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or not counts.shape[1]:
        raise InputError(f"counts must be [rows, classes], got shape {counts.shape}")
    rows, classes = counts.shape
    labels: np.ndarray = (counts + sigma * noise((rows, classes))).argmax(axis=1)
    return labels.astype(np.int64)
