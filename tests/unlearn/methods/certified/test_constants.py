"""The constants of decision 0028, by maximisation and by numerical integration."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import norm

from unlearn.audit.epsilon.gdp import gdp_delta, gdp_mu
from unlearn.methods.certified.residuals import LIPSCHITZ


def third(z):
    p = expit(z)
    return p * expit(-z) * (1 - 2 * p)


def test_the_lipschitz_constant_is_the_largest_third_derivative():
    found = minimize_scalar(lambda z: -third(z), bounds=(-5, 0), method="bounded", options={"xatol": 1e-12})
    assert -found.fun == pytest.approx(LIPSCHITZ, rel=1e-12)
    z = np.linspace(-30, 30, 200_001)
    assert np.abs(third(z)).max() <= LIPSCHITZ
    # The derivatives themselves, by differences of the second one.
    second = expit(z) * expit(-z)
    assert np.allclose(np.gradient(second, z), third(z), atol=1e-6)


def test_third_and_fourth_derivatives_are_at_most_the_second():
    z = np.linspace(-30, 30, 20_001)
    second = expit(z) * expit(-z)
    fourth = second * (1 - 6 * second)
    assert (np.abs(third(z)) <= second).all()
    assert (np.abs(fourth) <= second).all()
    assert np.allclose(np.gradient(third(z), z), fourth, atol=1e-5)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 1.0), (1.0, 0.5), (2.0, 5.0)])
def test_the_analytic_gaussian_is_the_integral_of_the_excess(mu, epsilon):
    def excess(x):
        return norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x)

    start = mu / 2 + epsilon / mu
    assert excess(start) == pytest.approx(0, abs=1e-12)
    assert gdp_delta(mu, epsilon) == pytest.approx(quad(excess, start, start + 15)[0], rel=1e-6)


def test_what_the_published_formula_gives_away_and_where_it_fails():
    classic = {epsilon: epsilon / math.sqrt(2 * math.log(1.5e4)) for epsilon in (1.0, 10.0)}
    assert gdp_mu(1.0, 1e-4) / classic[1.0] == pytest.approx(1.3766, abs=1e-4)
    assert gdp_delta(classic[10.0], 10.0) > 2e-4
