r"""Gaussian differential privacy (arXiv 1905.02383): bounds that hold *if* the mechanism is Gaussian DP.

A mechanism is \(\mu\)-GDP if telling its two output distributions apart is no easier than telling N(0, 1) from N(mu,
1): every test has \(b \ge \Phi(\Phi^{-1}(1-a) - \mu)\). Hence \(\mu \ge \Phi^{-1}(1-a) - \Phi^{-1}(b)\), which falls
as a and b grow, so exact limits on both give a lower bound on mu (as an audit, arXiv 2302.07956). It is symmetric:
swapping the two distributions gives the same inequality. Exactly,

\[ \delta(\varepsilon) = \Phi(\mu/2 - \varepsilon/\mu) - e^\varepsilon \Phi(-\mu/2 - \varepsilon/\mu). \]

A mechanism that is not GDP may have any epsilon at that delta. So a bound of this kind is labelled "GDP-conditional",
and refutes only claims that are themselves made for a Gaussian mechanism.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

from unlearn.audit.binomial import upper_limit
from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.clopper_pearson import FIXED, RUNS, check_errors
from unlearn.audit.epsilon.inputs import Floats, check_certifiable, check_claim, check_delta
from unlearn.audit.epsilon.scores import RATES, Scores, tails, thresholds
from unlearn.audit.epsilon.search import last_rejected
from unlearn.errors import ConfigurationError

GAUSSIAN = "the mechanism is Gaussian differentially private, or dominated by one that is; nothing here checks that"


def gdp_delta(mu: float, epsilon: float) -> float:
    """The smallest delta of a mu-GDP mechanism at an epsilon.

    Args:
        mu: At least 0.
        epsilon: At least 0.

    Returns:
        Delta in [0, 1).
    """
    if mu == 0:
        return 0.0
    larger = float(log_ndtr(mu / 2 - epsilon / mu))
    smaller = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    # Both terms may be tiny and nearly equal: the difference is taken of logarithms.
    return max(0.0, -math.exp(larger) * math.expm1(min(0.0, smaller - larger)))


def gdp_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon of a mu-GDP mechanism at a delta.

    Args:
        mu: At least 0.
        delta: Above 0 unless mu is 0.

    Returns:
        Epsilon, at least 0.

    Raises:
        ConfigurationError: If mu is negative or not finite, or delta is not between 0 and 1.
    """
    if not (math.isfinite(mu) and mu >= 0):
        raise ConfigurationError(f"mu must be a finite number of at least 0, got {mu!r}")
    check_delta(delta)
    if mu == 0 or gdp_delta(mu, 0.0) <= delta:
        return 0.0
    if delta == 0:
        raise ConfigurationError("a Gaussian mechanism has no finite epsilon at delta 0: state a delta above 0")
    return last_rejected(lambda epsilon: gdp_delta(mu, epsilon) > delta)


def gdp_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose GDP implies (epsilon, delta).

    Args:
        epsilon: At least 0.
        delta: Between 0 and 1.

    Returns:
        Mu, at least 0.

    Raises:
        ConfigurationError: If epsilon is negative or delta is not strictly between 0 and 1.
    """
    if not epsilon >= 0 or not 0 < delta < 1:
        raise ConfigurationError(f"epsilon must be at least 0 and delta between 0 and 1, got {epsilon!r}, {delta!r}")
    return last_rejected(lambda mu: gdp_delta(mu, epsilon) <= delta)


def mu_of_rates(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """The smallest mu of a GDP mechanism for which a test has error rates a and b.

    Args:
        a: `[...]` rate of retrained runs called "in", in (0, 1].
        b: `[...]` rate of unlearned runs called "out", in (0, 1].

    Returns:
        `[...]` float64, at least 0.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    useless = (a >= 1) | (b >= 1)
    return np.where(useless, 0.0, np.maximum(0.0, -ndtri(np.where(useless, 0.5, a)) - ndtri(np.where(useless, 0.5, b))))


def gdp(
    false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float, alpha: float = 0.05, k: int = 1
) -> LowerBound:
    """A GDP-conditional lower bound from one test that was fixed beforehand.

    Args:
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: That epsilon is stated for, above 0.
        alpha: Total probability of a false alarm.
        k: Records deleted together.

    Returns:
        The bound; mu is among its evidence.

    Raises:
        ConfigurationError: If alpha, delta or k cannot be.
        InputError: If a count cannot be, or runs are too few to refute anything.
    """
    check_errors(false_positives, n_out, false_negatives, n_in, delta=delta, alpha=alpha, k=k)
    errors = np.array([[false_positives], [false_negatives]])
    return _bound("GDP", errors, n_out, n_in, delta, alpha, k, {}, "one attack, one threshold, one look")


def gdp_grid(
    scores: Scores,
    calibration: npt.ArrayLike,
    *,
    delta: float,
    alpha: float = 0.05,
    rates: Sequence[float] = RATES,
    k: int = 1,
) -> LowerBound:
    """A GDP-conditional lower bound over thresholds in both tails, set on other runs; they share alpha.

    Args:
        scores: Scores to be judged.
        calibration: `[n]` scores of further retrained runs, on which thresholds are set.
        delta: That epsilon is stated for, above 0.
        alpha: Total probability of a false alarm.
        rates: False positive rates of the thresholds, named before any score was seen.
        k: Records deleted together.

    Returns:
        The best bound of all thresholds; mu is among its evidence.

    Raises:
        ConfigurationError: If alpha, delta, k or a rate cannot be.
        InputError: If a score cannot be, or runs are too few to refute anything.
    """
    check_claim(delta, alpha, k)
    seen = tails(scores, thresholds(calibration, rates))
    tests = len(seen.thresholds)
    errors = np.stack([seen.false_positives, seen.false_negatives])
    more = {"n_calibration": int(np.size(calibration)), "thresholds": tests}
    paid = f"one attack, one look; {tests} thresholds set on runs held out, Bonferroni"
    return _bound("GDP, grid of thresholds", errors, seen.n_out, seen.n_in, delta, alpha, k, more, paid)


def _bound(
    method: str,
    errors: npt.NDArray[np.int64],
    n_out: int,
    n_in: int,
    delta: float,
    alpha: float,
    k: int,
    more: dict[str, int],
    multiplicity: str,
) -> LowerBound:
    if delta == 0:
        raise ConfigurationError("a Gaussian mechanism has no finite epsilon at delta 0: state a delta above 0")
    share = alpha / (2 * errors.shape[1])
    certifiable = gdp_epsilon(float(mu_of_rates(upper_limit(0, n_out, share), upper_limit(0, n_in, share))), delta)
    check_certifiable(certifiable, f"{n_in} unlearned and {n_out} retrained runs")
    bounds = mu_of_rates(upper_limit(errors[0], n_out, share), upper_limit(errors[1], n_in, share))
    best = int(bounds.argmax())
    positives, negatives = int(errors[0, best]), int(errors[1, best])
    seen = positives > 0 and negatives > 0
    mu_seen = float(mu_of_rates(positives / n_out, negatives / n_in)) if seen else None
    return LowerBound(
        method=method,
        epsilon=gdp_epsilon(float(bounds[best]), delta),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.GDP,
        k=k,
        certifiable=certifiable,
        estimate=None if mu_seen is None else gdp_epsilon(mu_seen, delta),
        evidence={
            "mu": float(bounds[best]),
            "n_in": int(n_in),
            "n_out": int(n_out),
            **more,
            "false_positives": positives,
            "false_negatives": negatives,
        },
        multiplicity=multiplicity,
        assumptions=(*RUNS, FIXED, GAUSSIAN),
    )
