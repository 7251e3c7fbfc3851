"""Rules that other tools use, written anew from what their sources do; each says whether it reports an epsilon above 0.

Names are of the tool whose rule it is. All are given the scores in and out of the null, which are exchangeable.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, betaincinv

from unlearn.audit.binomial import upper_limit

Floats = npt.NDArray[np.float64]


def _roc(ins: Floats, outs: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """True and false positives at "at or above" every score."""
    cuts = np.unique(np.concatenate([ins, outs]))
    return (
        len(ins) - np.searchsorted(np.sort(ins), cuts, side="left"),
        len(outs) - np.searchsorted(np.sort(outs), cuts, side="left"),
    )


def tensorflow_privacy(ins: Floats, outs: Floats, alpha: float) -> float:
    """`EpsilonLowerBound`, Clopper-Pearson: the best of all thresholds and four ratios, each at alpha, delta 0."""
    true, false = _roc(ins, outs)
    n_in, n_out = len(ins), len(outs)

    def low(count: npt.NDArray[np.int64], n: int) -> Floats:
        return 1 - upper_limit(n - count, n, alpha / 2)

    def high(count: npt.NDArray[np.int64], n: int) -> Floats:
        return upper_limit(count, n, alpha / 2)

    ratios = [
        low(true, n_in) / high(false, n_out),
        low(n_out - false, n_out) / high(n_in - true, n_in),
        low(false, n_out) / high(true, n_in),
        low(n_in - true, n_in) / high(n_out - false, n_out),
    ]
    return max(0.0, math.log(max(float(ratio.max()) for ratio in ratios)))


def privacy_guard(ins: Floats, outs: Floats, alpha: float, delta: float) -> float:
    """`compute_acc_auc_ci_epsilon`: the best of all thresholds in one direction, each at alpha."""
    true, false = _roc(ins, outs)
    a, b = upper_limit(false, len(outs), alpha / 2), upper_limit(len(ins) - true, len(ins), alpha / 2)
    best = max(float(((1 - b - delta) / a).max()), float(((1 - a - delta) / b).max()))
    return max(0.0, math.log(best))


def privacy_meter(scores: Floats, coins: npt.NDArray[np.bool_], alpha: float) -> float:
    """`compute_abstain_attack_results`, delta 0: the best of a grid of numbers of guesses in and out."""
    ordered = coins[np.argsort(scores)]
    m = len(ordered)
    step = int(math.sqrt(m))
    pairs = [(out, first) for first in range(0, m, step) for out in range(0, first, step)]
    k_out, first_in = np.array(pairs).T
    members = np.concatenate([[0], np.cumsum(ordered)])
    right = (k_out - members[k_out]) + (members[m] - members[first_in])
    return _best_of_one_run(right, k_out + m - first_in, alpha)


def best_threshold(scores: Floats, coins: npt.NDArray[np.bool_], alpha: float) -> float:
    """One run, no abstaining, delta 0: the threshold with the most right guesses, as if it had been fixed."""
    ordered = coins[np.argsort(scores)]
    members = np.concatenate([[0], np.cumsum(ordered)])
    below = np.arange(len(ordered) + 1)
    right = (below - members) + (members[-1] - members)
    return _best_of_one_run(right, np.full_like(right, len(ordered)), alpha)


def _best_of_one_run(right: npt.NDArray[np.int64], guesses: npt.NDArray[np.int64], alpha: float) -> float:
    """The largest epsilon with P[Bin(r, q) >= v] = alpha: q is a quantile of a Beta distribution."""
    some = right > 0
    right, guesses = right[some], guesses[some]
    rejected = bdtrc(right - 1, guesses, 0.5) < alpha
    if not rejected.any():
        return 0.0
    right, guesses = right[rejected], guesses[rejected]
    with np.errstate(divide="ignore"):
        q = betaincinv(right, guesses - right + 1, alpha)
        return float(np.log(q / (1 - q)).max())
