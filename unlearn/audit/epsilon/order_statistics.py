r"""Xiang et al. (arXiv 2509.08704): lower bounds from one run by order statistics, *where canaries leak independently*.

Suppose that the output consists of m parts, part i depending on coin i alone, with noise of its own: white-box canary
gradients in orthogonal directions, say. Each part is then a post-processing of a draw from the pair of distributions
that dominates the mechanism, and the best guesser names the r coins with the largest absolute privacy loss |L|, each
right with probability \(1/(1+e^{-|L|})\). Any other choice of r guesses has a stochastically smaller number of right
ones. That number v can be computed:

*(epsilon, delta)*: |L| is infinite with probability delta and epsilon otherwise; with N ~ Bin(m, delta) coins laid
open, v ~ min(N, r) + Bin(r - min(N, r), q), \(q = 1/(1+e^{-\varepsilon})\).

*mu-GDP*: \(L \sim N(\mu^2/2, \mu^2)\) given the coin. Given that the (r+1)-th largest |L| is l, the r larger ones are
independent draws from above l, so v ~ Bin(r, A/(A+B)) with \(A = \Phi(\mu/2 - l/\mu)\), \(B = \Phi(-\mu/2 - l/\mu)\),
and A + B ~ Beta(r+1, m-r). (All guessed, r = m: \(Bin(m, \Phi(\mu/2))\).)

**Where it does not hold.** A mechanism that lays everything open at once with probability delta is (0, delta)-DP for
each coin, and not of this form. Its v is m with probability delta, whereas N above is hardly ever large. `one_run`
allows for such bursts; this file does not, and says so in the basis of its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import bdtrc, betaincinv, ndtr
from scipy.stats import binom

from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.gdp import GAUSSIAN, gdp_epsilon
from unlearn.audit.epsilon.inputs import Floats, check_certifiable, check_delta_below, check_k
from unlearn.audit.epsilon.one_run import COINS, Guesses, odds
from unlearn.audit.epsilon.search import last_rejected
from unlearn.errors import ConfigurationError

INDEPENDENT = "what the output says about a canary depends on that canary's coin alone, with noise of its own"
_PANELS = 24
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def order_statistics(guesses: Guesses, *, delta: float, alpha: float = 0.05, k: int = 1) -> LowerBound:
    """A lower bound for an (epsilon, delta)-DP mechanism that treats canaries independently.

    Args:
        guesses: What came of guessing.
        delta: Of the claim, below alpha.
        alpha: Total probability of a false alarm.
        k: Records that one coin put in or left out.

    Returns:
        The bound, conditional on independence.

    Raises:
        ConfigurationError: If alpha or delta cannot be.
        InputError: If guesses are too few to refute anything.
    """
    check_delta_below(delta, alpha)
    check_k(k)

    def bound(seen: Guesses) -> float:
        return last_rejected(lambda epsilon: approximate_p_value(seen, epsilon, delta) <= alpha)

    name = "one run, order statistics (Xiang et al.)"
    return _result(name, bound(guesses), bound, guesses, {}, Basis.INDEPENDENT, delta, alpha, k)


def order_statistics_gdp(guesses: Guesses, *, delta: float, alpha: float = 0.05, k: int = 1) -> LowerBound:
    """A lower bound for a Gaussian mechanism that treats canaries independently.

    Args:
        guesses: What came of guessing.
        delta: That epsilon is stated for, above 0 and below alpha.
        alpha: Total probability of a false alarm.
        k: Records that one coin put in or left out.

    Returns:
        The bound, conditional on both; mu is among its evidence.

    Raises:
        ConfigurationError: If alpha or delta cannot be.
        InputError: If guesses are too few to refute anything.
    """
    check_delta_below(delta, alpha)
    check_k(k)
    if delta == 0:
        raise ConfigurationError("a Gaussian mechanism has no finite epsilon at delta 0: state a delta above 0")

    def mu(seen: Guesses) -> float:
        return last_rejected(lambda candidate: gaussian_p_value(seen, candidate) <= alpha)

    def bound(seen: Guesses) -> float:
        return gdp_epsilon(mu(seen), delta)

    name, found = "one run, order statistics of Gaussian mechanisms (Xiang et al.)", mu(guesses)
    more = {"mu": found}
    return _result(name, gdp_epsilon(found, delta), bound, guesses, more, Basis.GDP_INDEPENDENT, delta, alpha, k)


def approximate_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """The largest probability of as many right guesses about independent canaries under (epsilon, delta)-DP.

    Args:
        guesses: What came of guessing.
        epsilon: At least 0.
        delta: In [0, 1).

    Returns:
        The probability.
    """
    m, r, v = guesses.m, guesses.r, guesses.v
    if v == 0:
        return 1.0
    q = 1 / (1 + math.exp(-epsilon))
    opened = np.arange(v)  # with v coins open or more, there are enough right guesses for certain
    rest = bdtrc(v - 1 - opened, r - opened, q)
    return min(1.0, float(binom.pmf(opened, m, delta) @ rest) + float(binom.sf(v - 1, m, delta)))


def gaussian_p_value(guesses: Guesses, mu: float) -> float:
    """The largest probability of as many right guesses about independent canaries under mu-GDP.

    Args:
        guesses: What came of guessing.
        mu: At least 0.

    Returns:
        The probability.
    """
    m, r, v = guesses.m, guesses.r, guesses.v
    if v == 0:
        return 1.0
    if r == m or mu == 0:
        return float(bdtrc(v - 1, r, ndtr(mu / 2)))
    edges = (1 - np.cos(np.linspace(0, math.pi, _PANELS + 1))) / 2
    half = np.diff(edges)[:, None] / 2
    tail = betaincinv(r + 1, m - r, (edges[:-1, None] + half * (1 + _NODES)).ravel())
    right = _right_beyond(tail, mu)
    return min(1.0, float((half * _WEIGHTS).ravel() @ bdtrc(v - 1, r, right)))


def _right_beyond(tail: Floats, mu: float) -> Floats:
    """Probability that a guess is right, among privacy losses so large that a share `tail` is larger still."""
    low, high = np.zeros_like(tail), np.full_like(tail, mu * (mu / 2 + 40))
    for _ in range(60):
        middle = (low + high) / 2
        larger = ndtr(mu / 2 - middle / mu) + ndtr(-mu / 2 - middle / mu) > tail
        low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    right, wrong = ndtr(mu / 2 - low / mu), ndtr(-mu / 2 - low / mu)
    quotient: Floats = right / (right + wrong)
    return quotient


def _result(
    method: str,
    epsilon: float,
    bound: Callable[[Guesses], float],
    guesses: Guesses,
    more: dict[str, float],
    basis: Basis,
    delta: float,
    alpha: float,
    k: int,
) -> LowerBound:
    certifiable = bound(Guesses(guesses.m, guesses.r, guesses.r))
    check_certifiable(certifiable, f"{guesses.r} guesses about {guesses.m} canaries")
    about = (*COINS, INDEPENDENT)
    return LowerBound(
        method=method,
        epsilon=epsilon,
        delta=delta,
        confidence=1 - alpha,
        basis=basis,
        k=k,
        certifiable=certifiable,
        estimate=odds(guesses),
        evidence={**more, "canaries": guesses.m, "guesses": guesses.r, "right": guesses.v},
        multiplicity="one attack, one number of guesses, one look",
        assumptions=(*about, GAUSSIAN) if basis is Basis.GDP_INDEPENDENT else about,
    )
