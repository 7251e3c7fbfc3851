r"""Mahloujifar et al. (arXiv 2410.22235): lower bounds from one run, by the whole trade-off curve.

Each of m canaries has a secret drawn uniformly from an alphabet of k letters (in or out: k = 2; which of S shards: k
= S). From the output c' secrets are guessed, c rightly. Let f be a trade-off function that the mechanism keeps to for
one canary's secret given all others, and \(\bar f = 1 - f\), which is concave. Write \(p_j\) for the probability of
exactly j right guesses, and

\[ r_i = \sum_{j \ge i} \tfrac jm p_j, \qquad h_i = \sum_{j \ge i} \tfrac{c'-j}m p_j. \]

*The constraint.* Take one canary l and the event that l is guessed as the letter s and at least i of the *other*
guesses are right. Replacing l's secret changes the output's distribution within f and nothing else of the event.
Averaging over letters and canaries, with Jensen's inequality, gives \(r_{i+1} \le \bar f(h_i/(k-1))\), that is \(h_i
\ge (k-1)\,\bar f^{-1}(r_{i+1})\). Also \(r_i + h_i = \frac{c'}m \Pr[\ge i]\), and a probability \(p_i\) adds to both
in the ratio i : c'-i.

*The recursion.* Suppose that \(\Pr[\ge c] = \tau\). Put all of it on c exactly; from c-1 down to 0, add as little as
the constraint asks for. This keeps the total mass as small as it can be: moving mass from j to j-1 lowers r and
raises h, which loosens every later constraint. If even so the total exceeds \(c'/m\), that is, probability 1, then
\(\Pr[\ge c] < \tau\) under f. With tau = alpha the candidate f is rejected.

Two families of candidates. (epsilon, delta): \(\bar f^{-1}(y) = \max\{0, (y-\delta)e^{-\varepsilon},
1-\delta-e^\varepsilon(1-y)\}\), with no assumption. Gaussian: \(\bar f^{-1}(y) = \Phi(\Phi^{-1}(y) - \mu)\), a
GDP-conditional bound. Candidates are nested, so that the largest
rejected one is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import ndtr, ndtri

from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.gdp import GAUSSIAN, gdp_epsilon
from unlearn.audit.epsilon.inputs import check_certifiable, check_delta_below, check_k
from unlearn.audit.epsilon.one_run import COINS, Guesses, odds
from unlearn.audit.epsilon.search import last_rejected
from unlearn.errors import ConfigurationError

Inverse = Callable[[float], float]
"""From y to the least x at which one minus the trade-off function reaches y."""


def rejects(guesses: Guesses, inverse: Inverse, tau: float, letters: int = 2) -> bool:
    """Whether so many right guesses have probability below tau under a trade-off function.

    Args:
        guesses: What came of guessing.
        inverse: The inverse of one minus the trade-off function.
        tau: The probability.
        letters: Size of the alphabet of secrets.

    Returns:
        Whether that is shown; False says nothing.
    """
    m, total, right = guesses.m, guesses.r, guesses.v
    r, h = tau * right / m, tau * (total - right) / m
    for i in range(right - 1, -1, -1):
        least = (letters - 1) * inverse(r)
        if least > h:
            r += i / (total - i) * (least - h)
            h = least
        if r + h > total / m:
            return True
    return False


def approximate_inverse(epsilon: float, delta: float) -> Inverse:
    """Of (epsilon, delta)-DP.

    Args:
        epsilon: At least 0.
        delta: In [0, 1).

    Returns:
        The function.
    """
    shrink, grow = math.exp(-epsilon), math.exp(epsilon)

    def inverse(y: float) -> float:
        return max(0.0, (y - delta) * shrink, 1 - delta - grow * (1 - y))

    return inverse


def gaussian_inverse(mu: float) -> Inverse:
    """Of mu-GDP.

    Args:
        mu: At least 0.

    Returns:
        The function.
    """

    def inverse(y: float) -> float:
        return 0.0 if y <= 0 else 1.0 if y >= 1 else float(ndtr(ndtri(y) - mu))

    return inverse


def one_run_fdp(guesses: Guesses, *, delta: float, alpha: float = 0.05, letters: int = 2, k: int = 1) -> LowerBound:
    """A lower bound from one run, by the trade-off curve of (epsilon, delta) itself.

    Args:
        guesses: What came of guessing.
        delta: Of the claim, below alpha.
        alpha: Total probability of a false alarm.
        letters: Size of the alphabet of secrets; 2 for in or out.
        k: Records that one secret is about.

    Returns:
        The bound, without an assumption about the mechanism.

    Raises:
        ConfigurationError: If alpha, delta or the alphabet cannot be.
        InputError: If guesses are too few to refute anything.
    """
    _check(delta, alpha, letters, k)

    def bound(seen: Guesses) -> float:
        return last_rejected(lambda epsilon: rejects(seen, approximate_inverse(epsilon, delta), alpha, letters))

    return _result("one run, f-DP (Mahloujifar et al.)", bound, guesses, {}, Basis.COVERAGE, delta, alpha, letters, k)


def one_run_gdp(guesses: Guesses, *, delta: float, alpha: float = 0.05, letters: int = 2, k: int = 1) -> LowerBound:
    """A GDP-conditional lower bound from one run.

    Args:
        guesses: What came of guessing.
        delta: That epsilon is stated for, above 0 and below alpha.
        alpha: Total probability of a false alarm.
        letters: Size of the alphabet of secrets; 2 for in or out.
        k: Records that one secret is about.

    Returns:
        The bound; mu is among its evidence.

    Raises:
        ConfigurationError: If alpha, delta or the alphabet cannot be.
        InputError: If guesses are too few to refute anything.
    """
    _check(delta, alpha, letters, k)
    if delta == 0:
        raise ConfigurationError("a Gaussian mechanism has no finite epsilon at delta 0: state a delta above 0")

    def mu(seen: Guesses) -> float:
        return last_rejected(lambda candidate: rejects(seen, gaussian_inverse(candidate), alpha, letters))

    def bound(seen: Guesses) -> float:
        return gdp_epsilon(mu(seen), delta)

    name, more = "one run, f-DP of Gaussian mechanisms (Mahloujifar et al.)", {"mu": mu(guesses)}
    return _result(name, bound, guesses, more, Basis.GDP, delta, alpha, letters, k)


def _check(delta: float, alpha: float, letters: int, k: int) -> None:
    check_delta_below(delta, alpha)
    check_k(k)
    if letters < 2:
        raise ConfigurationError(f"a secret has at least 2 letters, got {letters!r}")


def _result(
    method: str,
    bound: Callable[[Guesses], float],
    guesses: Guesses,
    more: dict[str, float],
    basis: Basis,
    delta: float,
    alpha: float,
    letters: int,
    k: int,
) -> LowerBound:
    certifiable = bound(Guesses(guesses.m, guesses.r, guesses.r))
    check_certifiable(certifiable, f"{guesses.r} guesses about {guesses.m} canaries")
    secret = (f"each canary's secret was drawn uniformly from {letters} letters, independent of everything else",)
    about = COINS if letters == 2 else (*secret, *COINS[1:])
    return LowerBound(
        method=method,
        epsilon=bound(guesses),
        delta=delta,
        confidence=1 - alpha,
        basis=basis,
        k=k,
        certifiable=certifiable,
        estimate=odds(guesses) if letters == 2 else None,
        evidence={**more, "canaries": guesses.m, "guesses": guesses.r, "right": guesses.v, "letters": letters},
        multiplicity="one attack, one number of guesses, one look",
        assumptions=(*about, GAUSSIAN) if basis is Basis.GDP else about,
    )
