"""Accounting against a slow direct computation: distances to optima found by Newton's method."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.errors import BudgetSpentError
from unlearn.methods.certified import CertifiedRemoval
from unlearn.methods.certified.problem import Problem, logistic
from unlearn.methods.descent_to_delete import (
    DescentToDelete,
    contraction,
    descend,
    optimum_shift,
    project,
    step_rounding,
    step_size,
)

LAMBDA = 0.02


def problem(seed=0, n=80, d=3, heads=1, regularisation=LAMBDA):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = (X @ rng.normal(size=(d, heads)) > 0).astype(np.int64)
    return Problem(torch.from_numpy(X), torch.from_numpy(y), logistic(regularisation))


def constrained_optimum(given, radius):
    """By scipy, over the ball."""
    X, y = given.inputs.numpy(), given.targets[:, 0].numpy()

    def value(w):
        return (np.logaddexp(0, X @ w) - y * (X @ w)).mean() + given.regularisation / 2 * w @ w

    def slope(w):
        return X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(X) + given.regularisation * w

    inside = {"type": "ineq", "fun": lambda w: radius**2 - w @ w, "jac": lambda w: -2 * w}
    found = minimize(value, np.full(X.shape[1], 0.1), jac=slope, constraints=inside, method="SLSQP", tol=1e-14)
    return found.x


@pytest.mark.parametrize("radius", [1.0, 50.0])
def test_a_step_contracts_and_training_ends_where_it_says(radius):
    given = problem()
    optimum = constrained_optimum(given, radius)
    q, weights = contraction(LAMBDA), torch.zeros(given.shape, dtype=torch.float64)
    distance = np.linalg.norm(optimum)
    for _ in range(30):
        weights = descend(given, weights, 1, radius)
        reached = np.linalg.norm(weights.numpy()[:, 0] - optimum)
        assert reached <= q * distance + 1e-6
        distance = reached
    trained = DescentToDelete(training=200, radius=radius)
    found = trained.train(given, None).weights.numpy()[:, 0]
    assert np.linalg.norm(found - optimum) <= trained.untrained(given) + 1e-6


@pytest.mark.parametrize("radius", [1.0, 50.0])
def test_optima_move_by_no_more_than_the_bound(radius):
    worst = 0.0
    for seed in range(5):
        given = problem(seed)
        whole = constrained_optimum(given, radius)
        for m in (1, 5, 40):
            left = given.take(list(range(m, 80)))
            moved = np.linalg.norm(constrained_optimum(left, radius) - whole)
            assert moved <= optimum_shift(80, m, LAMBDA, radius)
            worst = max(worst, moved)
    assert worst > 0
    assert optimum_shift(80, 1, LAMBDA, 50.0) <= 2 / (LAMBDA * 80)


def test_the_secret_state_is_as_near_to_retraining_as_is_charged():
    given = problem(n=200)
    mechanism = DescentToDelete(scale=1.0, iterations=20, training=300, radius=20.0)
    held, current = mechanism.train(given, None), given
    expected, error = 0.0, contraction(LAMBDA) ** 300 * 20.0
    for m in (1, 2, 10):
        after = current.take(list(range(m, len(current))))
        held = mechanism.remove(current, current.take(list(range(m))), after, held, None)
        # The recurrence, written out.
        error = contraction(LAMBDA) ** 20 * (error + optimum_shift(len(current), m, LAMBDA, 20.0))
        expected += (error + contraction(LAMBDA) ** 300 * 20.0) ** 2
        apart = float((held.weights - mechanism.train(after, None).weights).norm())
        assert 0 < apart <= error + contraction(LAMBDA) ** 300 * 20.0
        assert held.account["mu_squared"] == pytest.approx(expected)
        current = after


def test_noise_that_rounding_drowns_hides_nothing():
    """Exact chains would meet to 1e-65, and computed ones stay some 1e-15 apart."""
    given = problem(n=300, d=20)
    mechanism = DescentToDelete(scale=1e-30, iterations=1_000)
    after = given.take(list(range(1, 300)))
    held = mechanism.remove(given, given.take([0]), after, mechanism.train(given, None), None)
    apart = float((held.weights - mechanism.train(after, None).weights).norm())
    assert 0 < apart <= 2 * mechanism.rounding(after) < 1e-9
    model = CertifiedRemoval(mechanism, regularisation=LAMBDA, epsilon=100.0)
    model.fit(given.inputs.numpy(), given.targets[:, 0].numpy())
    with pytest.raises(BudgetSpentError):
        model.forget([0])


@pytest.mark.parametrize("radius", [0.5, 10.0])
def test_rounding_of_a_step_is_covered(radius):
    given = problem(n=150, d=20)
    rng = np.random.default_rng(0)
    X, y = given.inputs.numpy().astype(np.longdouble), given.targets[:, 0].numpy()
    rate, worst = step_size(LAMBDA), 0.0
    for _ in range(20):
        w = rng.normal(size=20)
        w *= rng.uniform(0, 1) * radius / np.linalg.norm(w)
        wide = w.astype(np.longdouble)
        moved = wide - np.longdouble(rate) * (X.T @ (1 / (1 + np.exp(-X @ wide)) - y) / 150 + LAMBDA * wide)
        moved *= min(1, radius / np.sqrt(moved @ moved))
        found = descend(given, torch.from_numpy(w[:, None]), 1, radius).numpy()[:, 0]
        worst = max(worst, float(np.linalg.norm((found - moved).astype(float))))
    assert 0 < worst <= step_rounding(150, 20, rate, radius)


def test_less_is_charged_than_by_the_paper():
    # Steady state of single deletions; sigma for (1, 1e-4) of each accounting.
    n, steps = 10_000, 100
    q, a, lipschitz = contraction(LAMBDA), LAMBDA, 1 + LAMBDA * 10
    shift = 8 * lipschitz * q**steps / (a * n * (1 - q**steps))
    theirs = shift / math.sqrt(2) / (math.sqrt(math.log(1e4) + 1) - math.sqrt(math.log(1e4)))
    error = q**steps / (1 - q**steps) * optimum_shift(n, 1, a, 10.0)
    assert theirs > 4 * (2 * error) / gdp_mu(1.0, 1e-4)


def test_published_and_secret_weights_differ_and_nothing_depends_on_the_data():
    accounts = []
    for seed in (0, 1):
        given = problem(seed, n=500)
        X, y = given.inputs.numpy(), given.targets[:, 0].numpy()
        model = CertifiedRemoval(DescentToDelete(), regularisation=LAMBDA, epsilon=5.0).fit(X, y).forget([0, 1])
        assert float(np.abs(model.coef_ - model._held.weights.numpy().T).max()) > 1e-3
        accounts.append(model.budget.account)
    assert accounts[0] == accounts[1]


def test_projection_is_for_each_head():
    weights = torch.tensor([[3.0, 0.3], [4.0, 0.4]], dtype=torch.float64)
    assert torch.allclose(project(weights, 1.0), torch.tensor([[0.6, 0.3], [0.8, 0.4]], dtype=torch.float64))
