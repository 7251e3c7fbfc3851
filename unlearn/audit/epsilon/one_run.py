r"""Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846): a lower bound on epsilon from one run with many canaries.

Each of m canaries was put in or left out by a fair coin of its own. From the output alone, r coins are guessed, v of
them rightly; the others are passed over.

*Without delta.* Given the output and all other coins, the odds of a coin are at most \(e^\varepsilon\), so a guess is
right with probability at most \(q = 1/(1+e^{-\varepsilon})\); guess after guess, v is dominated by Bin(r, q).

*With delta.* Of the two output distributions of a coin, a part of mass at most delta has larger odds. Call a coin bad
if the output fell into that part: then its guess may be right for certain. The number N of bad coins has mean at most
2 m delta (the paper's constant), but *any* distribution with that mean: bad coins may all come together. The most
that \(\Pr[Bin(r,q) + N \ge v]\) can gain is linear in the mean, with the best slope over all sizes i of such a burst:

\[ p(\varepsilon,\delta) = \Pr[Bin(r,q) \ge v] + 2m\delta \max_{1 \le i \le v} \tfrac1i \Pr[v > Bin(r,q) \ge v-i]. \]

It is m, the canaries, not r, the guesses. The bound is an epsilon at which p is still at most alpha; see `search` for
why that needs no argument that p is monotone.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc
from scipy.stats import binom

from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.inputs import (
    check_certifiable,
    check_count,
    check_delta_below,
    check_disjoint,
    check_k,
    score_array,
)
from unlearn.audit.epsilon.search import last_rejected
from unlearn.errors import InputError

COINS = (
    "each canary was in or out by a fair coin of its own, independent of everything else",
    "guesses were made from the published output alone",
    "how many canaries are guessed in and out was fixed before coins were seen",
)


@dataclass(frozen=True)
class Guesses:
    """What came of guessing coins.

    Attributes:
        m: Canaries.
        r: Guesses; the other canaries were passed over.
        v: Right guesses.
    """

    m: int
    r: int
    v: int

    def __post_init__(self) -> None:
        if self.m < 1:
            raise InputError(f"there must be a canary, got {self.m}")
        check_count("guesses", self.r, self.m)
        check_count("right guesses", self.v, self.r)
        if not self.r:
            raise InputError("no canary was guessed, so there is nothing to judge: guess some of them")


def guess(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    guess_in: int,
    guess_out: int,
    in_ids: Sequence[Hashable] | None = None,
    out_ids: Sequence[Hashable] | None = None,
) -> Guesses:
    """Guess "in" for the canaries with the largest scores and "out" for those with the smallest.

    Ties at a cut count as if broken in the worst way, since the order in which canaries are listed may tell their
    coins.

    Args:
        in_scores: `[n]` scores of canaries whose coin said in; larger means more as if in.
        out_scores: `[n]` scores of canaries whose coin said out.
        guess_in: Guesses "in", fixed before coins were seen.
        guess_out: Guesses "out", fixed before coins were seen.
        in_ids: Ids of the canaries in; None: not given, so that nothing about them is checked.
        out_ids: Ids of the canaries out.

    Returns:
        Canaries, guesses and right guesses.

    Raises:
        InputError: If a score is not a number, there are too few canaries, or a canary is in and out.
    """
    ins, outs = (np.asarray(scores, dtype=np.float64) for scores in (in_scores, out_scores))
    pooled = score_array("canaries", np.concatenate([ins.ravel(), outs.ravel()]))
    if ins.ndim != 1 or outs.ndim != 1:
        raise InputError(f"scores of canaries must be one number each, got shapes {ins.shape} and {outs.shape}")
    if in_ids is not None and out_ids is not None:
        check_disjoint(in_ids, out_ids, "canaries in and canaries out")
    for name, count in (("guesses in", guess_in), ("guesses out", guess_out), ("guesses", guess_in + guess_out)):
        check_count(name, count, len(pooled))
    right = _right(ins, outs, guess_in) + _right(-outs, -ins, guess_out)
    return Guesses(len(pooled), guess_in + guess_out, right)


def _right(sought: npt.NDArray[np.float64], others: npt.NDArray[np.float64], guesses: int) -> int:
    """Right ones among the largest scores, where ties at the cut go to the others first."""
    if not guesses:
        return 0
    cut = np.sort(np.concatenate([sought, others]))[-guesses]
    above = int((sought > cut).sum())
    left = guesses - above - int((others > cut).sum())
    return above + max(0, left - int((others == cut).sum()))


def one_run_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """A bound on the probability of as many right guesses under (epsilon, delta)-DP.

    Args:
        guesses: What came of guessing.
        epsilon: Of the claim, at least 0.
        delta: Of the claim.

    Returns:
        At most 1.
    """
    m, r, v = guesses.m, guesses.r, guesses.v
    if v == 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    p = float(bdtrc(v - 1, r, q))
    if delta:
        # Running sums of P[v - 1], P[v - 1] + P[v - 2], ...: a burst of i bad coins lifts so much over the line.
        bursts = np.cumsum(binom.pmf(np.arange(v - 1, -1, -1), r, q)) / np.arange(1, v + 1)
        p += 2 * m * delta * float(bursts.max())
    return min(1.0, p)


def one_run(guesses: Guesses, *, delta: float, alpha: float = 0.05, k: int = 1) -> LowerBound:
    """A lower bound from one run.

    Args:
        guesses: What came of guessing.
        delta: Of the claim, below alpha.
        alpha: Total probability of a false alarm.
        k: Records that one coin put in or left out.

    Returns:
        The bound.

    Raises:
        ConfigurationError: If alpha or delta cannot be, or delta is not below alpha.
        InputError: If guesses are too few to refute anything.
    """
    check_delta_below(delta, alpha)
    check_k(k)
    certifiable = _bound(Guesses(guesses.m, guesses.r, guesses.r), delta, alpha)
    check_certifiable(certifiable, f"{guesses.r} guesses about {guesses.m} canaries")
    return LowerBound(
        method="one run (Steinke et al.)",
        epsilon=_bound(guesses, delta, alpha),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.COVERAGE,
        k=k,
        certifiable=certifiable,
        estimate=odds(guesses),
        evidence={"canaries": guesses.m, "guesses": guesses.r, "right": guesses.v},
        multiplicity="one attack, one number of guesses, one look",
        assumptions=COINS,
    )


def odds(guesses: Guesses) -> float | None:
    """Logarithm of right over wrong guesses, at least 0: what the guesses say without any allowance for chance."""
    wrong = guesses.r - guesses.v
    return max(0.0, math.log(guesses.v / wrong)) if guesses.v and wrong else None if not wrong else 0.0


def _bound(guesses: Guesses, delta: float, alpha: float) -> float:
    return last_rejected(lambda epsilon: one_run_p_value(guesses, epsilon, delta) <= alpha)
