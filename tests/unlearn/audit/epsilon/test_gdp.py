"""Gaussian bounds against closed forms and numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from unlearn.audit.binomial import upper_limit
from unlearn.audit.epsilon.bound import Basis
from unlearn.audit.epsilon.gdp import gdp, gdp_delta, gdp_epsilon, gdp_grid, gdp_mu, mu_of_rates
from unlearn.audit.epsilon.scores import Scores, hold_out
from unlearn.errors import ConfigurationError, InputError


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.9931), (1.0, 4.3772), (2.0, 9.9973)])
def test_known_epsilons(mu: float, epsilon: float) -> None:
    assert gdp_epsilon(mu, 1e-5) == pytest.approx(epsilon, abs=5e-5)
    assert gdp_mu(gdp_epsilon(mu, 1e-5), 1e-5) == pytest.approx(mu, rel=1e-9)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 0.3), (1.0, 2.0), (3.0, 1.0), (1.0, 0.0)])
def test_delta_is_the_hockey_stick_divergence(mu: float, epsilon: float) -> None:
    x = np.linspace(-15, 20, 2_000_001)
    excess = np.maximum(0, norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x))
    assert gdp_delta(mu, epsilon) == pytest.approx(np.trapezoid(excess, x), rel=1e-6)


def test_extreme_curves_stay_finite() -> None:
    assert 0 < gdp_delta(1.0, 30.0) < 1e-190
    assert gdp_epsilon(100.0, 1e-5) == pytest.approx(100**2 / 2 + 100 * norm.isf(1e-5), rel=0.01)
    assert gdp_epsilon(0.0, 0.0) == 0
    assert gdp_epsilon(1e-9, 1e-5) == 0


def test_mu_of_rates_inverts_the_trade_off_curve() -> None:
    a = np.array([0.01, 0.3, 0.5])
    b = norm.cdf(norm.isf(a) - 1.7)
    assert mu_of_rates(a, b) == pytest.approx(1.7)
    assert mu_of_rates(b, a) == pytest.approx(1.7)
    assert mu_of_rates([0.9, 1.0, 0.5], [0.9, 0.001, 1.0]).tolist() == [0, 0, 0]


def test_bound_from_counts() -> None:
    bound = gdp(20, 100, 10, 120, delta=1e-5)
    a, b = float(upper_limit(20, 100, 0.025)), float(upper_limit(10, 120, 0.025))
    assert bound.evidence["mu"] == pytest.approx(norm.isf(a) + norm.isf(b))
    assert bound.epsilon == pytest.approx(gdp_epsilon(bound.evidence["mu"], 1e-5))
    assert bound.basis is Basis.GDP
    assert any("nothing here checks that" in line for line in bound.assumptions)
    assert bound.epsilon < bound.certifiable


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_mu_is_covered_with_thresholds_set_on_other_runs(mu: float) -> None:
    rng, repetitions = np.random.default_rng(5), 400
    too_high = 0
    for _ in range(repetitions):
        aside, judged = hold_out(Scores(rng.normal(mu, 1, 200), rng.normal(size=300)), rng)
        too_high += gdp_grid(judged, aside, delta=1e-5).evidence["mu"] > mu
    assert too_high <= 0.05 * repetitions


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no finite epsilon at delta 0"):
        gdp(0, 100, 0, 100, delta=0.0)
    with pytest.raises(ConfigurationError, match="no finite epsilon at delta 0"):
        gdp_epsilon(1.0, 0.0)
    with pytest.raises(ConfigurationError, match="mu must be"):
        gdp_epsilon(math.inf, 1e-5)
    with pytest.raises(ConfigurationError, match="epsilon must be"):
        gdp_mu(-1.0, 1e-5)
    with pytest.raises(InputError, match="too few samples"):
        gdp(0, 2, 0, 2, delta=1e-5)
