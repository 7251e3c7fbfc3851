"""Guarantees for deletions: against dp-accounting, brute force, and the edge of the capacity; what is refused."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from opacus import PrivacyEngine
from scipy.stats import norm
from torch.utils.data import DataLoader, TensorDataset

from shards.learners.private_torch import PrivateTorchLearner
from unlearn.audit.epsilon.upper import dp_sgd_group
from unlearn.errors import BudgetSpentError, ConfigurationError, InputError
from unlearn.methods.dp import (
    METHOD,
    Decision,
    DeletionPolicy,
    DifferentialPrivacyConfig,
    Training,
    deletion_capacity,
    deletion_guarantee,
    differential_privacy,
    guarantee,
    noise_multiplier,
    training_of,
    training_of_opacus,
)

QUICK = Training(8.0, 0.25, 4)
"""Little is lost by a deletion, so the accountant is quick."""

DELTA = 1e-4


def hockey_stick(training: Training, k: int, epsilon: float) -> float:
    """Delta at an epsilon for one step or several, by convolving privacy losses on a fine grid; both ways."""
    sigma, q = training.noise_multiplier, training.sampling_rate
    x = np.linspace(-12 * sigma - k, 12 * sigma + k, 40_001)
    weights = [math.comb(k, i) * q**i * (1 - q) ** (k - i) for i in range(k + 1)]
    mixture = sum(weight * norm.pdf(x, i, sigma) for i, weight in enumerate(weights))
    plain = norm.pdf(x, 0, sigma)
    width, answers = 2e-3, []
    for upper, lower in ((mixture, plain), (plain, mixture)):
        loss = np.log(upper) - np.log(lower)
        size = 4000
        cells = np.clip(np.round(loss / width).astype(int) + size, 0, 2 * size)
        one = np.bincount(cells, weights=upper * (x[1] - x[0]), minlength=2 * size + 1)
        total = one
        for _ in range(training.steps - 1):
            total = np.convolve(total, one)
        losses = width * (np.arange(len(total)) - size * training.steps)
        above = losses > epsilon
        answers.append(float((total[above] * -np.expm1(epsilon - losses[above])).sum()))
    return max(answers)


# --- the bound ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.01, 1000), (2.0, 0.2, 50), (0.8, 1.0, 3)])
def test_one_deletion_is_dp_accounting_s_poisson_sampled_gaussian(noise: float, rate: float, steps: int) -> None:
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    expected = accountant.compose(event, steps).get_epsilon(1e-5)
    found = deletion_guarantee(Training(noise, rate, steps), 1, 1e-5)
    assert found.epsilon == pytest.approx(expected, rel=1e-6)
    renyi = RdpAccountant().compose(event, steps).get_epsilon(1e-5)
    assert found.epsilon <= renyi


@pytest.mark.parametrize("k", [2, 3])
def test_several_deletions_are_dp_accounting_s_mixture_of_gaussians(k: int) -> None:
    weights = [math.comb(k, i) * 0.25**i * 0.75 ** (k - i) for i in range(k + 1)]
    one = pld.from_mixture_gaussian_mechanism(8.0, list(range(k + 1)), weights, value_discretization_interval=1e-3)
    expected = one.self_compose(4).get_epsilon_for_delta(DELTA)
    found = deletion_guarantee(QUICK, k, DELTA)
    assert found.epsilon == pytest.approx(expected, rel=1e-6)
    assert (found.k, found.delta) == (k, DELTA)
    assert any("Poisson" in words for words in found.assumptions)
    assert any("without looking at the model" in words for words in found.assumptions)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_bound_by_brute_force(k: int) -> None:
    epsilon = deletion_guarantee(QUICK, k, DELTA).epsilon
    # Rounded pessimistically, and by not more than the grid of the two computations.
    assert hockey_stick(QUICK, k, epsilon) <= DELTA * 1.02
    assert hockey_stick(QUICK, k, epsilon - 0.02) > DELTA


def test_the_group_s_bound_is_more_than_k_times_one_and_less_than_the_generic_rule_s() -> None:
    one, three = (deletion_guarantee(QUICK, k, DELTA).epsilon for k in (1, 3))
    assert 3 * one < three
    assert three < dp_sgd_group(8.0, 0.25, 4, delta=DELTA, k=3).epsilon


def test_more_trainings_are_more_steps() -> None:
    assert QUICK.times(3) == Training(8.0, 0.25, 12)
    one, three = (deletion_guarantee(QUICK.times(n), 1, DELTA).epsilon for n in (1, 3))
    assert one < three


# --- capacity, noise, policy ----------------------------------------------------------------------------------


def test_the_capacity_is_the_last_number_that_keeps_the_promise() -> None:
    budget = 1.0
    epsilons = [deletion_guarantee(QUICK, k, DELTA).epsilon for k in range(1, 7)]
    assert epsilons == sorted(epsilons)
    expected = sum(epsilon <= budget for epsilon in epsilons)
    assert 1 < expected < 6
    assert deletion_capacity(QUICK, budget, DELTA) == expected
    assert deletion_capacity(QUICK, epsilons[0] - 1e-9, DELTA) == 0
    assert deletion_capacity(QUICK, epsilons[1], DELTA) == 2


def test_there_are_no_more_deletions_than_records() -> None:
    few = Training(8.0, 0.25, 4, records=2)
    assert deletion_capacity(few, 100.0, DELTA) == 2
    assert deletion_capacity(Training(8.0, 0.25, 4, records=1), 100.0, DELTA) == 1


@pytest.mark.parametrize("k", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_noise_for_a_promise_is_enough_and_not_much_more(k: int) -> None:
    noise = noise_multiplier(0.8, delta=DELTA, sampling_rate=0.25, steps=4, k=k)
    assert deletion_guarantee(Training(noise, 0.25, 4), k, DELTA).epsilon <= 0.8
    assert deletion_guarantee(Training(noise * 0.997, 0.25, 4), k, DELTA).epsilon > 0.8


def test_a_policy_keeps_within_the_capacity_and_retrains_beyond_it() -> None:
    policy = DeletionPolicy(QUICK, 1.0, DELTA)
    capacity = policy.capacity
    assert policy.decide(0, 0) is Decision.KEEP
    assert policy.decide(0, capacity) is Decision.KEEP
    assert policy.decide(capacity - 1, 1) is Decision.KEEP
    assert policy.decide(capacity, 1) is Decision.RETRAIN
    assert policy.decide(1, capacity) is Decision.RETRAIN
    with pytest.raises(InputError, match="cannot be negative"):
        policy.decide(-1, 1)


# --- where trainings come from --------------------------------------------------------------------------------


def test_of_a_learner() -> None:
    ours = PrivateTorchLearner(
        "mlp", noise_multiplier=1.5, clip_norm=1.0, records=200, batch_size=50, steps=30, delta=1e-4
    )
    assert training_of(ours, 1) == Training(1.5, 0.25, 30, 200)
    assert training_of(ours, 4).steps == 120
    with pytest.raises(ConfigurationError, match="steps at least 1"):
        training_of(ours, 0)


@pytest.mark.filterwarnings("ignore:Secure RNG turned off")
@pytest.mark.parametrize("poisson", [True, False])
def test_of_one_s_own_training_with_opacus(poisson: bool) -> None:
    model = torch.nn.Linear(3, 2)
    loader = DataLoader(TensorDataset(torch.zeros(40, 3), torch.zeros(40)), batch_size=10)
    _, optimizer, made = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=loader,
        noise_multiplier=1.25,
        max_grad_norm=1.0,
        poisson_sampling=poisson,
    )
    if poisson:
        assert training_of_opacus(optimizer, made, 12) == Training(1.25, 0.25, 12, 40)
        with pytest.raises(ConfigurationError, match="adds no noise"):
            training_of_opacus(torch.optim.SGD(model.parameters()), made, 12)
    else:
        with pytest.raises(ConfigurationError, match="not Poisson sampling"):
            training_of_opacus(optimizer, made, 12)


# --- as a method ----------------------------------------------------------------------------------------------


def test_the_method_leaves_the_model_as_it_is_and_refuses_beyond_the_capacity() -> None:
    model = torch.nn.Linear(3, 2)
    capacity = deletion_capacity(QUICK, 1.0, DELTA)
    forget = (torch.zeros(capacity, 3), torch.zeros(capacity, dtype=torch.int64))
    config = DifferentialPrivacyConfig(training=QUICK, epsilon=1.0, delta=DELTA)
    kept = differential_privacy(model, forget, None, config)
    assert kept is not model
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), model.parameters(), strict=True))
    config = DifferentialPrivacyConfig(training=QUICK, epsilon=1.0, delta=DELTA, deleted=1)
    with pytest.raises(BudgetSpentError, match=f"covers {capacity} since the training: retrain"):
        METHOD(model, forget, None, config)
    with pytest.raises(ConfigurationError, match="must be declared"):
        METHOD(model, forget, None)


def test_what_is_promised_in_words() -> None:
    words = guarantee(deletion_guarantee(QUICK, 2, DELTA))
    assert "the 2 deleted records" in words
    assert "plus 0.0001" in words
    assert "Poisson" in words
    assert guarantee(deletion_guarantee(Training(0.5, 1.0, 1), 1, 1e-300)).startswith("None:")


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, 0.1, 1), "above 0"),
        ((math.inf, 0.1, 1), "finite"),
        ((1.0, 0.0, 1), "sampling rate"),
        ((1.0, 1.1, 1), "sampling rate"),
        ((1.0, 0.1, 0), "at least 1"),
    ],
)
def test_trainings_that_cannot_be(numbers: tuple[float, float, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Training(*numbers)


def test_questions_that_cannot_be() -> None:
    known = Training(1.0, 0.1, 10, records=100)
    with pytest.raises(ConfigurationError, match=r"delta 0\.01 is too large for 100 records"):
        deletion_guarantee(known, 1, 0.01)
    with pytest.raises(InputError, match="101 records cannot have been deleted of 100"):
        deletion_guarantee(known, 101, 1e-5)
    with pytest.raises(ConfigurationError, match="delta 0"):
        deletion_guarantee(known, 1, 0.0)
    with pytest.raises(ConfigurationError, match="epsilon must be at least 0"):
        deletion_capacity(known, math.nan, 1e-5)
    with pytest.raises(ConfigurationError, match="above 0"):
        noise_multiplier(0.0, delta=1e-5, sampling_rate=0.1, steps=1)
    with pytest.raises(ConfigurationError, match="no noise multiplier up to 10000"):
        noise_multiplier(1e-12, delta=1e-30, sampling_rate=1.0, steps=100)
