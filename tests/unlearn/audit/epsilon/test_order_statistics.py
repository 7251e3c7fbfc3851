"""Bounds for canaries that leak independently, against enumeration and simulation; and where they fail."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm

from unlearn.audit.epsilon.bound import Basis
from unlearn.audit.epsilon.one_run import Guesses, one_run
from unlearn.audit.epsilon.one_run_fdp import one_run_gdp
from unlearn.audit.epsilon.order_statistics import (
    approximate_p_value,
    gaussian_p_value,
    order_statistics,
    order_statistics_gdp,
)
from unlearn.errors import ConfigurationError


@pytest.mark.parametrize(("m", "r"), [(6, 6), (6, 3), (5, 1)])
def test_approximate_p_value_by_enumeration(m: int, r: int) -> None:
    """Every pattern of open coins, and every outcome of the guesses about the others."""
    epsilon, delta = 0.9, 0.2
    q = 1 / (1 + math.exp(-epsilon))
    distribution = np.zeros(r + 1)
    for pattern in product([0, 1], repeat=m):
        opened = min(sum(pattern), r)
        chance = delta ** sum(pattern) * (1 - delta) ** (m - sum(pattern))
        for outcome in product([0, 1], repeat=r - opened):
            distribution[opened + sum(outcome)] += chance * math.prod(q if right else 1 - q for right in outcome)
    for v in range(r + 1):
        assert approximate_p_value(Guesses(m, r, v), epsilon, delta) == pytest.approx(distribution[v:].sum())


@pytest.mark.parametrize(("m", "r", "mu"), [(50, 10, 1.0), (40, 40, 0.5), (100, 3, 2.0), (30, 29, 1.0)])
def test_gaussian_p_value_by_simulation(m: int, r: int, mu: float) -> None:
    rng, repetitions = np.random.default_rng(0), 40_000
    coins = rng.random((repetitions, m)) < 0.5
    scores = rng.normal(size=(repetitions, m)) + mu * coins
    order = np.argsort(np.abs(scores - mu / 2), axis=1)[:, m - r :]
    guessed = np.take_along_axis(scores, order, axis=1) > mu / 2
    right = (guessed == np.take_along_axis(coins, order, axis=1)).sum(axis=1)
    for v in range(r // 2, r + 1, max(1, r // 6)):
        p = gaussian_p_value(Guesses(m, r, v), mu)
        error = 4 * math.sqrt(max(p * (1 - p), 1e-4) / repetitions)
        assert float(np.mean(right >= v)) == pytest.approx(p, abs=error)


def test_nothing_leaks_at_zero() -> None:
    guesses = Guesses(30, 12, 9)
    coin = float(binom.sf(8, 12, 0.5))
    assert gaussian_p_value(guesses, 0.0) == pytest.approx(coin)
    assert gaussian_p_value(guesses, 1e-9) == pytest.approx(coin, rel=1e-6)
    assert approximate_p_value(guesses, 0.0, 0.0) == pytest.approx(coin)


def test_all_guessed_is_the_error_of_the_best_test() -> None:
    assert gaussian_p_value(Guesses(20, 20, 15), 1.2) == pytest.approx(float(binom.sf(14, 20, norm.cdf(0.6))))


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.02), (1.0, 0.02), (2.0, 0.0)])
def test_coverage_where_coins_are_revealed_by_themselves(epsilon: float, delta: float) -> None:
    m, alpha = 60, 0.1
    right = delta + (1 - delta) / (1 + math.exp(-epsilon))
    line = next(v for v in range(20, m + 1) if approximate_p_value(Guesses(m, m, v), epsilon, delta) <= alpha)
    assert alpha / 5 < binom.sf(line - 1, m, right) <= alpha
    above, below = (order_statistics(Guesses(m, m, v), delta=delta, alpha=alpha).epsilon for v in (line, line - 1))
    assert above > epsilon - 1e-9
    assert below <= epsilon
    assert approximate_p_value(Guesses(m, m, line), above, delta) <= alpha
    assert approximate_p_value(Guesses(m, m, line), above + 1e-6, delta) > alpha


def test_it_fails_where_coins_are_revealed_together() -> None:
    """A (0, delta)-DP mechanism that reveals 100 random coins of 1000 at a time: why the basis is conditional."""
    m, delta, alpha, size = 1000, 0.01, 0.05, 100
    line = next(v for v in range(500, m) if approximate_p_value(Guesses(m, m, v), 0.0, delta) < alpha)
    often = m * delta / size
    false_alarm = (1 - often) * binom.sf(line - 1, m, 0.5) + often * binom.sf(line - 1 - size, m - size, 0.5)
    assert false_alarm > 2 * alpha
    bound = order_statistics(Guesses(m, m, line), delta=delta)
    assert bound.basis is Basis.INDEPENDENT
    assert one_run(Guesses(m, m, line), delta=delta).epsilon == 0


def test_tighter_than_bounds_that_need_no_independence() -> None:
    guesses = Guesses(1000, 200, 160)
    conditional = order_statistics_gdp(guesses, delta=1e-5)
    assert conditional.epsilon > one_run_gdp(guesses, delta=1e-5).epsilon
    assert conditional.basis is Basis.GDP_INDEPENDENT
    assert order_statistics(guesses, delta=1e-4).epsilon >= one_run(guesses, delta=1e-4).epsilon


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not below alpha"):
        order_statistics(Guesses(100, 100, 90), delta=0.05)
    with pytest.raises(ConfigurationError, match="no finite epsilon at delta 0"):
        order_statistics_gdp(Guesses(100, 100, 90), delta=0.0)
