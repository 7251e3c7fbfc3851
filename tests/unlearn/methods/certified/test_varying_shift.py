"""Lemma A of decision 0028 against integrals; and that a bound on the shift alone is not enough."""

import math

import numpy as np
import pytest
from scipy.stats import chi, norm

from shards.private_votes import zcdp_epsilon
from unlearn.audit.epsilon.gdp import gdp_delta
from unlearn.methods.certified.varying_shift import epsilon, rho


def divergences(shift, slope, alpha):
    """Both Rényi divergences of b + u(b) and b in one dimension, of unit noise, by a fine sum."""
    b = np.linspace(-14, 14, 400_001)
    width = b[1] - b[0]
    u, du = shift(b), slope(b)
    log_ratio = np.log1p(du) - b * u - u**2 / 2
    density = norm.pdf(b) * width
    one = math.log((density * np.exp((1 - alpha) * log_ratio)).sum()) / (alpha - 1)
    other = math.log((density * np.exp(alpha * log_ratio)).sum()) / (alpha - 1)
    return one, other


@pytest.mark.parametrize("alpha", [1.5, 4.0, 16.0])
@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_the_bound_holds_for_shifts_that_vary(alpha, rate):
    size = 0.05
    for phase in (0.0, 1.0, 2.5):
        found = divergences(
            lambda b, p=phase: size * np.sin(rate * b + p), lambda b, p=phase: size * rate * np.cos(rate * b + p), alpha
        )
        kappa = size * rate
        bound = rho(alpha, beta=size, sigma=1.0, kappa=kappa, kappa_frobenius=kappa)
        assert all(0 <= divergence <= bound for divergence in found)


def test_without_the_charge_for_variation_it_would_not_hold():
    # Towards 0 with slope -k near 0: the shift is small where the density is, and the variation is what shows.
    k, alpha = 0.2, 4.0
    found = divergences(lambda b: -k * np.tanh(b), lambda b: -k / np.cosh(b) ** 2, alpha)
    b = np.linspace(-14, 14, 400_001)
    mean_square = float((norm.pdf(b) * (k * np.tanh(b)) ** 2).sum() * (b[1] - b[0]))
    assert max(found) > alpha / 2 * mean_square * 1.2
    assert max(found) <= rho(alpha, beta=k, sigma=1.0, kappa=k, kappa_frobenius=k)


def test_a_fixed_shift_is_that_of_zero_concentrated_differential_privacy():
    found = epsilon(beta=0.5, sigma=2.0, kappa=0.0, kappa_frobenius=0.0, delta=1e-5)
    assert found == pytest.approx(zcdp_epsilon(0.25**2 / 2, 1e-5), rel=1e-3)
    nearly = epsilon(beta=0.5, sigma=2.0, kappa=1e-9, kappa_frobenius=1e-9, delta=1e-5)
    assert nearly == pytest.approx(found, rel=1e-6)


def test_epsilon_grows_with_every_charge_and_ends():
    usual = {"beta": 0.3, "sigma": 1.0, "kappa": 0.01, "kappa_frobenius": 0.05, "delta": 1e-4}
    for name, value in (("beta", 0.4), ("kappa", 0.03), ("kappa_frobenius", 0.1), ("sigma", 0.9), ("delta", 1e-5)):
        assert epsilon(**{**usual, name: value}) > epsilon(**usual)
    assert epsilon(**{**usual, "kappa": 1.0}) == math.inf
    assert epsilon(**usual) > 0.3  # More than the fixed shift alone could be had for.


def test_a_radial_shift_breaks_the_published_claim():
    """Counterexample 2: |u| = β everywhere, and the pair is more distinguishable than N(0, 1) and N(β, 1)."""
    d, beta, budget = 400, 0.5, 0.5
    radius = np.linspace(15, 25, 2_000_001)
    width = radius[1] - radius[0]
    kept, shortened = chi.pdf(radius, d), chi.pdf(radius + beta, d)
    excess = float(np.maximum(0, kept - math.exp(budget) * shortened).sum() * width)
    assert excess > 1.5 * gdp_delta(beta, budget)
    assert excess == pytest.approx(gdp_delta(math.sqrt(2) * beta, budget), rel=0.1)


def test_a_decision_by_the_noise_is_a_leak():
    """Counterexample 3: no shift at all, but retraining whenever b is in G."""
    g, budget = 0.1, 1.0
    rng = np.random.default_rng(0)
    threshold = norm.isf(g)
    drawn, again = rng.normal(size=200_000), rng.normal(size=200_000)
    unlearned = np.where(drawn > threshold, again, drawn)
    in_g = float((unlearned > threshold).mean())
    assert in_g == pytest.approx(g**2, rel=0.1)
    assert g - math.exp(budget) * in_g > 0.06
