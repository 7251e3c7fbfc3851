"""Bounds by trade-off curves, against a linear programme, exact mechanisms and bursts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom, norm

from unlearn.audit.epsilon.bound import Basis
from unlearn.audit.epsilon.gdp import gdp_epsilon
from unlearn.audit.epsilon.one_run import Guesses, one_run
from unlearn.audit.epsilon.one_run_fdp import (
    approximate_inverse,
    gaussian_inverse,
    one_run_fdp,
    one_run_gdp,
    rejects,
)
from unlearn.errors import ConfigurationError, InputError


def test_inverse_of_the_approximate_curve_by_search() -> None:
    epsilon, delta = 0.7, 0.05
    inverse = approximate_inverse(epsilon, delta)
    x = np.linspace(0, 1, 1_000_001)
    curve = 1 - np.maximum.reduce(
        [np.zeros_like(x), 1 - delta - math.exp(epsilon) * x, math.exp(-epsilon) * (1 - delta - x)]
    )
    for y in (0.0, 0.03, 0.1, 0.4, 0.8, 0.97):
        assert inverse(y) == pytest.approx(x[np.argmax(curve >= y - 1e-12)], abs=2e-6)


def test_inverse_of_the_gaussian_curve() -> None:
    inverse = gaussian_inverse(1.3)
    for x in (1e-6, 0.2, 0.9):
        assert inverse(float(norm.cdf(norm.ppf(x) + 1.3))) == pytest.approx(x)
    assert (inverse(0.0), inverse(1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("m", "r", "letters"), [(20, 20, 2), (30, 12, 2), (15, 15, 4)])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.8, 0.0), (0.5, 0.02)])
def test_the_recursion_is_the_optimum_of_its_linear_programme(
    m: int, r: int, letters: int, epsilon: float, delta: float
) -> None:
    """The largest probability of c or more right guesses that the constraints allow, by linear programming.

    The inverse of the approximate curve is a maximum of linear functions, so its constraints are linear.
    """
    shrink, grow = math.exp(-epsilon), math.exp(epsilon)
    rows, limits = [], []
    for i in range(r):
        upper_mass = np.array([(j / m if j >= i + 1 else 0.0) for j in range(r + 1)])
        lower_mass = np.array([((r - j) / m if j >= i else 0.0) for j in range(r + 1)])
        # h_i >= (k - 1) max(0, (y - delta) / e, 1 - delta - e (1 - y)) at y = r_{i+1}
        rows.append((letters - 1) * shrink * upper_mass - lower_mass)
        limits.append((letters - 1) * shrink * delta)
        rows.append((letters - 1) * grow * upper_mass - lower_mass)
        limits.append(-(letters - 1) * (1 - delta - grow))
    for right in (r // 2 + 2, (3 * r) // 4 + 1, r):
        goal = np.array([-1.0 if j >= right else 0.0 for j in range(r + 1)])
        solved = linprog(goal, A_ub=np.array(rows), b_ub=limits, A_eq=np.ones((1, r + 1)), b_eq=[1.0])
        most = -solved.fun
        inverse = approximate_inverse(epsilon, delta)
        if most < 0.99:  # where the constraints allow any probability, nothing can be rejected
            assert rejects(Guesses(m, r, right), inverse, most * 1.001 + 1e-9, letters)
        assert not rejects(Guesses(m, r, right), inverse, most * 0.999, letters)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.0, 0.002), (1.0, 0.0), (1.0, 0.002), (2.0, 0.005)])
def test_coverage_against_bursts_of_every_size(epsilon: float, delta: float) -> None:
    m, alpha = 40, 0.1
    bounds = np.array([one_run_fdp(Guesses(m, m, v), delta=delta, alpha=alpha).epsilon for v in range(m + 1)])
    q = 1 / (1 + math.exp(-epsilon))
    worst = 0.0
    for size in range(1, m + 1):
        often = min(1.0, m * delta / size)
        v = np.arange(m + 1)
        pmf = (1 - often) * binom.pmf(v, m, q) + often * binom.pmf(v - size, m - size, q)
        worst = max(worst, float(pmf[bounds > epsilon + 1e-9].sum()))
    assert worst <= alpha
    assert worst > 0.1 * alpha


def test_coverage_of_gaussian_canaries() -> None:
    """All guessed by the sign: right with probability Phi(mu / 2), independently."""
    m, alpha, mu = 100, 0.05, 1.0
    bounds = np.array([one_run_gdp(Guesses(m, m, v), delta=1e-5, alpha=alpha).evidence["mu"] for v in range(50, m + 1)])
    assert float(binom.pmf(np.arange(50, m + 1), m, norm.cdf(mu / 2))[bounds > mu].sum()) <= alpha
    assert bounds.max() > mu


@pytest.mark.parametrize("letters", [3, 10])
def test_coverage_of_shard_labels(letters: int) -> None:
    """Guesses that know nothing are right with probability 1 / letters."""
    m, alpha = 100, 0.05
    bounds = np.array(
        [one_run_fdp(Guesses(m, m, v), delta=1e-5, alpha=alpha, letters=letters).epsilon for v in range(m + 1)]
    )
    false_alarm = float(binom.pmf(np.arange(m + 1), m, 1 / letters)[bounds > 0].sum())
    assert 0.001 < false_alarm <= alpha
    assert bounds[60] > one_run_fdp(Guesses(m, m, 60), delta=1e-5).epsilon


def test_resolves_small_mu() -> None:
    found = one_run_gdp(Guesses(10_000, 10_000, 5150), delta=1e-5)
    assert 0 < found.evidence["mu"] < 0.1
    assert found.epsilon == pytest.approx(gdp_epsilon(found.evidence["mu"], 1e-5))
    assert found.basis is Basis.GDP


def test_tighter_than_the_union_over_bursts_where_delta_matters() -> None:
    guesses = Guesses(1000, 200, 165)
    assert one_run_fdp(guesses, delta=1e-3).epsilon > one_run(guesses, delta=1e-3).epsilon + 0.3


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not below alpha"):
        one_run_fdp(Guesses(100, 100, 90), delta=0.05)
    with pytest.raises(ConfigurationError, match="no finite epsilon at delta 0"):
        one_run_gdp(Guesses(100, 100, 90), delta=0.0)
    with pytest.raises(ConfigurationError, match="at least 2 letters"):
        one_run_fdp(Guesses(100, 100, 90), delta=1e-5, letters=1)
    with pytest.raises(InputError, match="too few samples"):
        one_run_fdp(Guesses(100, 2, 2), delta=1e-5)
