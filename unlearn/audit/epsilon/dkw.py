r"""Dvoretzky, Kiefer and Wolfowitz: a lower bound on epsilon over every threshold at once.

With n independent scores, the empirical distribution lies nowhere below the true one by more than e, except with
probability \(\exp(-2ne^2)\), provided that this is at most one half (Massart 1990); the same for above. This holds for
any distribution, ties included, and for "above" as well as "at or above" a threshold, as limits of one another.

Calling "in" what is above a threshold needs an upper limit on the retrained runs' upper tail and on the unlearned runs'
lower tail: two one-sided bands. Calling "in" what is below needs the two others. So four bands share alpha:

\[ e_n = \sqrt{\ln(4/\alpha) / (2n)}, \qquad a^+ = a + e_{n_{out}}, \quad b^+ = b + e_{n_{in}} \]

for all thresholds and both orientations together, and the best may be picked in hindsight. With \(\ln(2/\alpha)\) only
one orientation, fixed beforehand, would be covered.
"""

from __future__ import annotations

import math

import numpy as np

from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.clopper_pearson import RUNS, epsilon_of_rates, estimate_of_rates
from unlearn.audit.epsilon.inputs import check_certifiable, check_claim
from unlearn.audit.epsilon.scores import Counts, Scores

BANDS = 4
"""One-sided bands that share alpha: above and below, for unlearned and for retrained runs."""


def band(n: int, alpha: float) -> float:
    """Half-width of each band.

    Args:
        n: Scores.
        alpha: For all four bands together.

    Returns:
        A difference of rates, above 0.
    """
    return math.sqrt(math.log(BANDS / alpha) / (2 * n))


def dkw(scores: Scores, *, delta: float, alpha: float = 0.05, k: int = 1) -> LowerBound:
    """A lower bound over all thresholds and both orientations.

    Args:
        scores: Scores to be judged; none need be held out.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        k: Records deleted together.

    Returns:
        The best bound of all thresholds.

    Raises:
        ConfigurationError: If alpha, delta or k cannot be.
        InputError: If runs are too few to refute anything.
    """
    check_claim(delta, alpha, k)
    n_in, n_out = len(scores.ins), len(scores.outs)
    wide_in, wide_out = band(n_in, alpha), band(n_out, alpha)
    certifiable = float(epsilon_of_rates(min(1.0, wide_out), min(1.0, wide_in), delta))
    check_certifiable(certifiable, f"{n_in} unlearned and {n_out} retrained runs, by bands over all thresholds,")
    positives, negatives = all_errors(scores)
    a, b = np.minimum(1, positives / n_out + wide_out), np.minimum(1, negatives / n_in + wide_in)
    bounds = epsilon_of_rates(a, b, delta)
    best = int(bounds.argmax())
    return LowerBound(
        method="Dvoretzky-Kiefer-Wolfowitz band",
        epsilon=float(bounds[best]),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.COVERAGE,
        k=k,
        certifiable=certifiable,
        estimate=estimate_of_rates(positives[best] / n_out, negatives[best] / n_in, delta),
        evidence={
            "n_in": n_in,
            "n_out": n_out,
            "false_positives": int(positives[best]),
            "false_negatives": int(negatives[best]),
        },
        multiplicity="one attack, one look; all thresholds in both directions, by simultaneous bands",
        assumptions=(*RUNS, "the attack was fixed without the judged runs; the threshold need not be"),
    )


def all_errors(scores: Scores) -> tuple[Counts, Counts]:
    """Errors of every test "above a threshold" and "at or below it", for thresholds between all scores.

    Args:
        scores: Scores.

    Returns:
        False positives and false negatives, `[2 J]` int64 each.
    """
    cuts = np.unique(np.concatenate([scores.ins, scores.outs]))
    low_in = np.searchsorted(np.sort(scores.ins), cuts, side="right")
    low_out = np.searchsorted(np.sort(scores.outs), cuts, side="right")
    n_in, n_out = len(scores.ins), len(scores.outs)
    return np.concatenate([n_out - low_out, low_out]), np.concatenate([low_in, n_in - low_in])
