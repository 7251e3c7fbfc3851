r"""Clopper and Pearson: a lower bound on epsilon from the errors of a test over independent runs.

A test calls a run "in" or "out". Let a be the probability that it calls a retrained run "in", b that it calls an
unlearned run "out". For an \((\varepsilon,\delta)\)-unlearning method both (arXiv 1311.0776; as an audit 2006.07709)

\[ 1 - b \le e^\varepsilon a + \delta, \qquad 1 - a \le e^\varepsilon b + \delta. \]

With probability at least \(1-\alpha\), a and b are both at most their one-sided exact limits \(a^+, b^+\), each at
\(\alpha/2\). The quotients fall as a and b grow, so that

\[ \varepsilon_{lo} = \max\{0, \ln\tfrac{1-\delta-a^+}{b^+}, \ln\tfrac{1-\delta-b^+}{a^+}\} \]

is above epsilon with probability at most \(\alpha\). One pair of limits serves both directions of the definition.

**Thresholds.** The test is fixed without the judged runs. Several tests share alpha (Bonferroni): J tests get
\(\alpha/(2J)\) for each rate. A threshold chosen on the runs it is judged on makes the limits wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unlearn.audit.binomial import upper_limit
from unlearn.audit.epsilon.bound import Basis, LowerBound
from unlearn.audit.epsilon.inputs import Floats, check_alpha, check_certifiable, check_claim, check_count, check_delta
from unlearn.audit.epsilon.scores import RATES, Scores, tails, thresholds
from unlearn.errors import InputError

RUNS = (
    "each score comes from an independent run: seeds are drawn afresh, and one run has one canary",
    "unlearned and retrained runs differ in nothing but the records to be forgotten",
)
FIXED = "attack, threshold and direction were fixed without the judged runs"


def epsilon_of_rates(a: npt.ArrayLike, b: npt.ArrayLike, delta: float) -> Floats:
    """The smallest epsilon, at this delta, of a method for which a test has error rates a and b.

    Args:
        a: `[...]` rate of retrained runs called "in", above 0.
        b: `[...]` rate of unlearned runs called "out", above 0.
        delta: At least 0.

    Returns:
        `[...]` float64, at least 0.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(divide="ignore"):
        # A quotient below 1 says nothing, nor does one whose numerator is not positive.
        bounds: Floats = np.log(np.maximum(1.0, np.maximum((1 - delta - a) / b, (1 - delta - b) / a)))
    return bounds


def estimate_of_rates(a: float, b: float, delta: float) -> float | None:
    """The same for observed rates, which may be 0: then there is no finite estimate, hence None."""
    return float(epsilon_of_rates(a, b, delta)) if a > 0 and b > 0 else None


def certifiable_epsilon(n_in: int, n_out: int, *, delta: float, alpha: float, tests: int = 1) -> float:
    """The largest epsilon that these many runs could certify: with a test that made no error.

    Args:
        n_in: Runs that unlearned.
        n_out: Runs that retrained.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        tests: Tests that share it.

    Returns:
        Epsilon, at least 0; 0 says that nothing could be refuted.
    """
    a, b = (upper_limit(0, n, alpha / (2 * tests)) for n in (n_out, n_in))
    return float(epsilon_of_rates(a, b, delta))


def runs_needed(epsilon: float, *, delta: float, alpha: float, tests: int = 1) -> int:
    """The fewest runs a side that could certify an epsilon, with a test that made no error.

    Args:
        epsilon: To be certified.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        tests: Tests that share it.

    Returns:
        Runs that unlearn, and as many that retrain.

    Raises:
        InputError: If epsilon is so large that more than 2**50 would be needed.
    """
    check_alpha(alpha)
    check_delta(delta)

    def enough(n: int) -> bool:
        return certifiable_epsilon(n, n, delta=delta, alpha=alpha, tests=tests) >= epsilon

    above = 1
    while not enough(above):
        above *= 2
        if above > 2**50:
            raise InputError(f"no number of runs that anybody can make certifies an epsilon of {epsilon:g}")
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if enough(middle) else (middle, above)
    return above


def clopper_pearson(
    false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float, alpha: float = 0.05, k: int = 1
) -> LowerBound:
    """A lower bound from one test that was fixed beforehand.

    Args:
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        k: Records deleted together.

    Returns:
        The bound.

    Raises:
        ConfigurationError: If alpha, delta or k cannot be.
        InputError: If a count cannot be, or runs are too few to refute anything.
    """
    check_errors(false_positives, n_out, false_negatives, n_in, delta=delta, alpha=alpha, k=k)
    certifiable = certifiable_epsilon(n_in, n_out, delta=delta, alpha=alpha)
    check_certifiable(certifiable, f"{n_in} unlearned and {n_out} retrained runs")
    a, b = upper_limit(false_positives, n_out, alpha / 2), upper_limit(false_negatives, n_in, alpha / 2)
    return LowerBound(
        method="Clopper-Pearson",
        epsilon=float(epsilon_of_rates(a, b, delta)),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.COVERAGE,
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
        assumptions=(*RUNS, FIXED),
    )


def clopper_pearson_grid(
    scores: Scores,
    calibration: npt.ArrayLike,
    *,
    delta: float,
    alpha: float = 0.05,
    rates: Sequence[float] = RATES,
    k: int = 1,
) -> LowerBound:
    """A lower bound over thresholds in both tails, set on other runs; they share alpha.

    Args:
        scores: Scores to be judged.
        calibration: `[n]` scores of further retrained runs, on which thresholds are set; see `hold_out`.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        rates: False positive rates of the thresholds, named before any score was seen; each in both tails.
        k: Records deleted together.

    Returns:
        The best bound of all thresholds.

    Raises:
        ConfigurationError: If alpha, delta, k or a rate cannot be.
        InputError: If a score cannot be, or runs are too few to refute anything.
    """
    check_claim(delta, alpha, k)
    seen = tails(scores, thresholds(calibration, rates))
    tests = len(seen.thresholds)
    certifiable = certifiable_epsilon(seen.n_in, seen.n_out, delta=delta, alpha=alpha, tests=tests)
    check_certifiable(certifiable, f"{seen.n_in} unlearned and {seen.n_out} retrained runs at {tests} thresholds")
    share = alpha / (2 * tests)
    a, b = upper_limit(seen.false_positives, seen.n_out, share), upper_limit(seen.false_negatives, seen.n_in, share)
    bounds = epsilon_of_rates(a, b, delta)
    best = int(bounds.argmax())
    positives, negatives = int(seen.false_positives[best]), int(seen.false_negatives[best])
    return LowerBound(
        method="Clopper-Pearson, grid of thresholds",
        epsilon=float(bounds[best]),
        delta=delta,
        confidence=1 - alpha,
        basis=Basis.COVERAGE,
        k=k,
        certifiable=certifiable,
        estimate=estimate_of_rates(positives / seen.n_out, negatives / seen.n_in, delta),
        evidence={
            "n_in": seen.n_in,
            "n_out": seen.n_out,
            "n_calibration": int(np.size(calibration)),
            "thresholds": tests,
            "false_positives": positives,
            "false_negatives": negatives,
        },
        multiplicity=f"one attack, one look; {tests} thresholds set on runs held out, Bonferroni",
        assumptions=(*RUNS, FIXED, "runs that thresholds were set on are not among those judged"),
    )


def check_errors(
    false_positives: int, n_out: int, false_negatives: int, n_in: int, *, delta: float, alpha: float, k: int
) -> None:
    """Refuse counts of errors that cannot be.

    Args:
        false_positives: Retrained runs called "in".
        n_out: Retrained runs.
        false_negatives: Unlearned runs called "out".
        n_in: Unlearned runs.
        delta: Of the claim.
        alpha: Total probability of a false alarm.
        k: Records deleted together.

    Raises:
        InputError: If there is no run on one side.
    """
    check_claim(delta, alpha, k)
    if n_in < 1 or n_out < 1:
        raise InputError(f"there must be runs on both sides, got {n_in} unlearned and {n_out} retrained")
    check_count("false positives", false_positives, n_out)
    check_count("false negatives", false_negatives, n_in)
