"""Upper bounds against closed forms, numerical integration and known figures."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
from scipy.stats import norm

from unlearn.audit.epsilon.bound import UpperBound
from unlearn.audit.epsilon.gdp import gdp_delta, gdp_epsilon
from unlearn.audit.epsilon.upper import (
    certified_removal,
    deletion_capacity,
    dp_sgd_group,
    dp_sgd_pld,
    dp_sgd_rdp,
    exact,
    gaussian,
    group_approximate,
    group_gdp,
    group_of_curve,
    group_pure,
    group_rdp,
    group_zcdp,
    worst_case_residual,
)
from unlearn.errors import ConfigurationError, InputError


def test_dp_sgd_for_one_record_known_value() -> None:
    assert dp_sgd_pld(1.0, 0.01, 1000, delta=1e-5).epsilon == pytest.approx(1.829, abs=1.5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "epsilon", "generic"), [(2, 3.979, 4.23), (5, 11.64, 18.90), (10, 27.90, math.inf)])
def test_dp_sgd_for_groups_known_values(k: int, epsilon: float, generic: float) -> None:
    assert dp_sgd_pld(1.0, 0.01, 1000, delta=1e-5, k=k).epsilon == pytest.approx(epsilon, abs=6e-3)
    assert dp_sgd_group(1.0, 0.01, 1000, delta=1e-5, k=k).epsilon == pytest.approx(generic, abs=0.03)


def test_one_full_batch_is_the_gaussian_mechanism() -> None:
    pld = dp_sgd_pld(2.0, 1.0, 1, delta=1e-5)
    assert pld.epsilon == pytest.approx(gdp_epsilon(0.5, 1e-5), abs=1e-3)
    assert pld.epsilon >= gdp_epsilon(0.5, 1e-5) - 1e-6
    twice = dp_sgd_pld(20.0, 1.0, 1, delta=1e-5, k=2)
    assert twice.epsilon == pytest.approx(gdp_epsilon(0.1, 1e-5), abs=1e-3)


def test_privacy_loss_distributions_are_tighter_than_renyi() -> None:
    pld, rdp = dp_sgd_pld(1.0, 0.05, 50, delta=1e-5), dp_sgd_rdp(1.0, 0.05, 50, delta=1e-5)
    assert pld.epsilon < rdp.epsilon < 1.5 * pld.epsilon
    assert dp_sgd_rdp(1.0, 0.01, 1000, delta=1e-5).epsilon == pytest.approx(2.101, abs=1e-3)


@pytest.mark.parametrize("k", [1, 2])
def test_one_step_of_a_group_by_integration(k: int) -> None:
    """The hockey-stick divergence between the mixture of Gaussians and the Gaussian, both ways, on a fine grid."""
    sigma, q = 4.0, 0.3
    epsilon = dp_sgd_pld(sigma, q, 1, delta=1e-3, k=k).epsilon
    x = np.linspace(-45, 45, 400_001)
    with_group = sum(math.comb(k, i) * q**i * (1 - q) ** (k - i) * norm.pdf(x, i, sigma) for i in range(k + 1))
    without = norm.pdf(x, 0, sigma)

    def delta(e: float) -> float:
        ways = ((with_group, without), (without, with_group))
        return max(float(np.trapezoid(np.maximum(0, p - math.exp(e) * o), x)) for p, o in ways)

    assert delta(epsilon) <= 1e-3 + 1e-8
    assert delta(epsilon - 0.005) > 1e-3


def test_group_rules_step_by_step() -> None:
    epsilon, delta = 0.3, 1e-4
    total = 0.0
    for _ in range(4):  # P(D_i) <= e^eps P(D_{i+1}) + delta, chained
        total = total * math.exp(epsilon) + delta
    assert group_approximate(epsilon, delta, 4) == pytest.approx((1.2, total))
    assert group_approximate(0.0, delta, 4) == pytest.approx((0.0, 4 * delta))
    assert group_approximate(epsilon, 0.0, 4) == pytest.approx((1.2, 0.0))
    assert group_approximate(100.0, 1e-300, 10) == (1000.0, math.inf)
    assert (group_pure(0.3, 4), group_gdp(0.3, 4), group_zcdp(0.3, 4)) == pytest.approx((1.2, 1.2, 4.8))


def test_the_generic_rule_on_a_curve_is_above_the_truth() -> None:
    def curve(epsilons: np.ndarray) -> np.ndarray:
        return np.array([gdp_delta(0.3, float(e)) for e in epsilons])

    found = group_of_curve(curve, 3, 1e-5)
    assert gdp_epsilon(0.9, 1e-5) < found < math.inf
    assert group_of_curve(curve, 1, 1e-5) == pytest.approx(gdp_epsilon(0.3, 1e-5), abs=1e-5)
    best = min(3 * e for e in np.arange(0, 5, 1e-3) if group_approximate(e, gdp_delta(0.3, e), 3)[1] <= 1e-5)
    assert found == pytest.approx(best, abs=3e-3)


def test_renyi_groups_against_the_gaussian() -> None:
    """Rényi divergence of order a between N(0, 1) and N(mu, 1) is a mu^2 / 2."""
    mu, order = 0.4, 16.0
    for k in (2, 3, 4):
        left, epsilon = group_rdp(order, order * mu**2 / 2, k)
        assert epsilon >= left * (k * mu) ** 2 / 2 * 0.999
    assert group_rdp(16.0, 0.5, 1) == (16.0, 0.5)
    assert group_rdp(16.0, 0.5, 4) == (4.0, 4.5)
    with pytest.raises(ConfigurationError, match="too small for 16 records"):
        group_rdp(16.0, 0.5, 16)


def test_gaussian_groups() -> None:
    assert gaussian(0.5, delta=1e-5, k=10).epsilon == pytest.approx(33.1, abs=0.05)
    assert gaussian(0.5, delta=1e-5, k=10).mu == 5


def test_certified_removal_adds_up() -> None:
    bound = certified_removal([0.01, 0.02], initial_residual=0.005, sigma=0.1, delta=1e-5, heads=4, k=2)
    assert bound.mu == pytest.approx(2 * 0.035 / 0.1)
    assert bound.epsilon == pytest.approx(gdp_epsilon(0.7, 1e-5))
    # The paper's classical formula holds for epsilon up to 1, and is looser there.
    small = certified_removal([0.01], initial_residual=0.0, sigma=0.1, delta=1e-5, k=1)
    c = math.sqrt(2 * math.log(1.5 / 1e-5))
    assert c == pytest.approx(4.88, abs=5e-3)
    assert small.epsilon < c * 0.01 / 0.1 < 1
    tiny_noise = certified_removal([0.01], initial_residual=0.0, sigma=1e-6, delta=1e-5, k=1)
    assert tiny_noise.epsilon > 1e6
    assert UpperBound.from_json(bound.to_json()) == bound


def test_certified_removal_as_published_is_conditional() -> None:
    """Decision 0028 has counterexamples to its proof: nobody may take the number for a theorem."""
    bound = certified_removal([0.01], initial_residual=0.0, sigma=0.1, delta=1e-5, k=1)
    assert not bound.proven
    assert not bound.to_json()["proven"]
    assert "conditional" in bound.method
    assert sum(line.startswith("UNPROVEN") and ("0028" in line or "budget" in line) for line in bound.assumptions) == 2
    assert gaussian(0.5, delta=1e-5).proven


def test_worst_case_residual() -> None:
    assert worst_case_residual(smoothness=0.25, lipschitz=1, regularisation=0.1, n=101) == pytest.approx(1.0)
    with pytest.raises(InputError, match="a record left"):
        worst_case_residual(smoothness=0.25, lipschitz=1, regularisation=0.1, n=1)


def test_deletion_capacity() -> None:
    def of(k: int) -> float:
        return gaussian(0.5, delta=1e-5, k=k).epsilon

    most = deletion_capacity(of, 10.0)
    assert of(most) <= 10 < of(most + 1)
    assert deletion_capacity(of, 0.1) == 0
    assert deletion_capacity(lambda k: float(k), 1e9, most=37) == 37


def test_infinity_survives_json() -> None:
    bound = UpperBound("nothing", math.inf, 1e-5, 3)
    assert bound.to_json()["epsilon"] == "infinity"
    assert UpperBound.from_json(bound.to_json()) == bound


def test_without_dp_accounting_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="dp_accounting")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"dp-accounting.*sisa-unlearn\[audit\]"):
        dp_sgd_pld(1.0, 0.1, 1, delta=1e-5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="noise multiplier"):
        dp_sgd_pld(0.0, 0.1, 1, delta=1e-5)
    with pytest.raises(ConfigurationError, match="q must be above 0"):
        dp_sgd_pld(1.0, 1.5, 1, delta=1e-5)
    with pytest.raises(ConfigurationError, match="no finite epsilon at delta 0"):
        dp_sgd_rdp(1.0, 0.1, 1, delta=0.0)
    with pytest.raises(ConfigurationError, match="k, the number"):
        group_gdp(1.0, 0)
    with pytest.raises(ConfigurationError, match="rests on something"):
        exact(assumptions=())
    assert exact(assumptions=("requests do not look",)).epsilon == 0
    with pytest.raises(ConfigurationError, match="sigma"):
        certified_removal([], initial_residual=0.0, sigma=0.0, delta=1e-5, k=1)
    with pytest.raises(InputError, match="residual gradient norms"):
        certified_removal([math.nan], initial_residual=0.0, sigma=1.0, delta=1e-5, k=1)
    with pytest.raises(ConfigurationError, match="smoothness"):
        worst_case_residual(smoothness=0, lipschitz=1, regularisation=0.1, n=10)
