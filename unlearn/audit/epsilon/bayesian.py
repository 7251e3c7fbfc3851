r"""Zanella-Béguelin et al. (arXiv 2206.05199): a *credible* lower bound on epsilon.

Under Jeffreys' prior, the error rates a and b of a test that was fixed beforehand have independent posteriors
Beta(x + 1/2, n - x + 1/2). Epsilon is at least the larger of \(\ln\frac{1-\delta-a}{b}\) and
\(\ln\frac{1-\delta-b}{a}\), each of which has a posterior too. The bound is the largest e with

\[ \min\{\Pr[b \ge (1-\delta-a)e^{-e}],\; \Pr[b \ge 1-\delta-e^{e}a]\} \le \alpha/2, \]

that is, the larger of both posteriors' \(\alpha/2\)-quantiles, so that epsilon is below it with posterior probability
\(\alpha/2\) at most. The paper takes a quantile of the posterior of the larger one, at once for both orientations of
the test. Neither is done here: the larger of two noisy numbers is too high on average, and with both orientations the
bound is above 0 for *every* evidence, exact retraining included.

Credible is not covered: under repetition the bound is too high about as often as alpha says, with no guarantee. It is
reported beside a bound with coverage, never instead of it, and `check_bound` refutes nothing with it.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.special import betainc, betaincinv

from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.clopper_pearson import FIXED, RUNS, check_errors, estimate_of_rates
from unlearn.audit.epsilon.inputs import Floats, check_certifiable
from unlearn.audit.epsilon.search import last_rejected
from unlearn.errors import ConfigurationError

_PANELS = 32
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def bayesian(
    false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float, alpha: float = 0.05, k: int = 1
) -> LowerBound:
    """A credible lower bound from one test that was fixed beforehand.

    Args:
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: Of the claim.
        alpha: Posterior probability that epsilon is below the bound.
        k: Records deleted together.

    Returns:
        The bound; its confidence is a posterior probability.

    Raises:
        ConfigurationError: If alpha, delta or k cannot be, or alpha is not below one half.
        InputError: If a count cannot be, or runs are too few for any result above 0.
    """
    check_errors(false_positives, n_out, false_negatives, n_in, delta=delta, alpha=alpha, k=k)
    if alpha >= 0.5:
        raise ConfigurationError(f"a lower credible bound needs alpha below one half, got {alpha!r}")
    certifiable = credible_epsilon(0, n_out, 0, n_in, delta=delta, alpha=alpha)
    check_certifiable(certifiable, f"{n_in} unlearned and {n_out} retrained runs")
    return LowerBound(
        method="Bayesian, Jeffreys prior",
        epsilon=credible_epsilon(false_positives, n_out, false_negatives, n_in, delta=delta, alpha=alpha),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.CREDIBLE,
        k=k,
        certifiable=certifiable,
        estimate=estimate_of_rates(false_positives / n_out, false_negatives / n_in, delta),
        evidence={
            "n_in": int(n_in),
            "n_out": int(n_out),
            "false_positives": int(false_positives),
            "false_negatives": int(false_negatives),
        },
        multiplicity="one attack, one threshold, one look",
        assumptions=(*RUNS, FIXED, "both error rates have Jeffreys' prior, independently"),
    )


def credible_epsilon(
    false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float, alpha: float
) -> float:
    """The larger of both quotients' quantiles at half of alpha.

    Args:
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: Of the claim.
        alpha: Posterior probability that epsilon is below.

    Returns:
        Epsilon, at least 0.
    """
    return last_rejected(
        lambda epsilon: (
            posterior_below(epsilon, false_positives, n_out, false_negatives, n_in, delta=delta) <= alpha / 2
        )
    )


def posterior_below(
    epsilon: float, false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float
) -> float:
    """Posterior probability that a quotient implies at most an epsilon, for the quotient that makes it smaller.

    Args:
        epsilon: At least 0.
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: Of the claim.

    Returns:
        The probability; it rises with epsilon.
    """
    rates, weights = _posterior(false_positives + 0.5, n_out - false_positives + 0.5)
    # e^epsilon a is compared with 1, so that a large epsilon must not overflow.
    scaled = np.exp(np.minimum(700.0, epsilon + np.log(rates)))
    other = (false_negatives + 0.5, n_in - false_negatives + 0.5)
    return min(
        float(weights @ (1 - betainc(*other, np.clip(least, 0, 1))))
        for least in ((1 - delta - rates) * math.exp(-epsilon), 1 - delta - scaled)
    )


@cache
def _posterior(one: float, other: float) -> tuple[Floats, Floats]:
    """Nodes and weights for a mean over a Beta posterior: Gauss-Legendre on its quantiles, finer near both ends."""
    # Quantiles make the integrand bounded however peaked the posterior is; cosines crowd panels where it bends.
    edges = (1 - np.cos(np.linspace(0, math.pi, _PANELS + 1))) / 2
    half = np.diff(edges)[:, None] / 2
    levels = (edges[:-1, None] + half * (1 + _NODES)).ravel()
    return betaincinv(one, other, levels), (half * _WEIGHTS).ravel()
