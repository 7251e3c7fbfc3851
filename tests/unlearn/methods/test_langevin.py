"""Accounting against direct computations: chains with the same noise, exact laws, and a search over all shifts."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

from tests.unlearn.methods.test_descent_to_delete import problem
from unlearn.audit.epsilon.gdp import gdp_delta, gdp_epsilon
from unlearn.errors import BudgetSpentError
from unlearn.methods.certified import CertifiedRemoval
from unlearn.methods.certified.problem import Problem, logistic
from unlearn.methods.langevin import Langevin, hidden


def test_the_charge_is_the_best_of_all_ways_to_shift():
    z, c, steps, scale = 0.7, 0.9, 6, 0.3
    found = minimize(
        lambda a: (a**2).sum(),
        np.full(steps, 0.01),
        constraints={"type": "eq", "fun": lambda a: a @ c ** np.arange(steps - 1, -1, -1) - c**steps * z},
        tol=1e-14,
    )
    assert hidden(z, c, steps, scale) == pytest.approx(math.sqrt(found.fun) / scale, rel=1e-6)


def test_the_charge_is_exact_for_a_quadratic_from_two_fixed_points():
    z, c, steps, scale = 0.7, 0.9, 6, 0.3
    variance, apart = 0.0, z
    for _ in range(steps):
        variance, apart = c**2 * variance + scale**2, c * apart
    assert hidden(z, c, steps, scale) == pytest.approx(apart / math.sqrt(variance), rel=1e-12)


def test_chains_with_the_same_noise_stay_as_near_as_is_charged():
    mechanism = Langevin(sigma=0.05, iterations=20, training=150, radius=30.0)
    whole = problem(n=60)
    shape, seed = whole.shape, 5

    def noise():
        rng = np.random.default_rng(seed)
        return lambda size: rng.normal(size=size)

    one, worst = noise(), 0.0
    held, current, steps = mechanism.train(whole, one), whole, 150
    for m in (1, 3, 8):
        after = current.take(list(range(m, len(current))))
        before_steps = mechanism.diffuse(after, torch.zeros(shape, dtype=torch.float64), steps, noise())
        held_apart = float((held.weights - before_steps).norm())
        account = held.account
        held = mechanism.remove(current, current.take(list(range(m))), after, held, one)
        c = 1 - mechanism.rate(whole) * whole.regularisation
        bound = held.account["distance"] / c**20
        assert 0 < held_apart <= bound
        worst = max(worst, held_apart / bound)
        steps += 20
        again = mechanism.diffuse(after, torch.zeros(shape, dtype=torch.float64), steps, noise())
        assert float((held.weights - again).norm()) <= held.account["distance"]
        assert held.account["distance"] > 0
        assert account["steps"] + 20 == held.account["steps"]
        current = after
    assert worst > 0.005


def law(x, y, mechanism, steps, start, grid, regularisation):
    """Of a chain in one dimension after some steps, on a grid whose ends are those of the ball."""
    rate = 1 / (0.25 + regularisation)
    mean = grid - rate * ((expit(np.outer(grid, x)) - y) @ x / len(x) + regularisation * grid)
    edges = (grid[1:] + grid[:-1]) / 2
    below = norm.cdf((edges[None] - mean[:, None]) / (math.sqrt(2 * rate) * mechanism.sigma))
    kernel = np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)
    for _ in range(steps):
        start = start @ kernel
    return start


@pytest.mark.parametrize(("steps", "training", "radius"), [(1, 1, 3.0), (1, 40, 3.0), (2, 60, 3.0)])
def test_the_charge_covers_the_whole_curve(steps, training, radius):
    """Against the two laws themselves: of two records of different classes, one goes."""
    regularisation, x, y = 0.1, np.full(2, 0.4), np.array([1.0, 0.0])
    mechanism = Langevin(sigma=0.3, iterations=steps, training=training, radius=radius)
    whole = Problem(torch.from_numpy(x[:, None]), torch.from_numpy(y[:, None]).long(), logistic(regularisation))
    account = mechanism.charged({"distance": 0.0, "steps": float(training), "mu": 0.0}, whole, 1)
    grid, start = np.linspace(-radius, radius, 301), (np.arange(301) == 150).astype(float)
    held = law(x, y, mechanism, training, start, grid, regularisation)
    unlearned = law(x[1:], y[1:], mechanism, steps, held, grid, regularisation)
    retrained = law(x[1:], y[1:], mechanism, training, start, grid, regularisation)
    for epsilon in (0.0, 0.5, 2.0):
        for one, other in ((unlearned, retrained), (retrained, unlearned)):
            assert np.maximum(0, one - math.exp(epsilon) * other).sum() <= gdp_delta(account["mu"], epsilon) + 1e-9
    if training > steps:  # Else both take the same steps, and nothing is to be told apart but the start.
        assert np.abs(unlearned - retrained).sum() / 2 > 0.1 * gdp_delta(account["mu"], 0.0)


def test_noise_that_rounding_drowns_hides_nothing():
    given = problem(n=100, d=20)
    mechanism = Langevin(sigma=1e-30, iterations=1_000, training=2_000, radius=5.0)
    after = given.take(list(range(1, 100)))

    def silent(shape):
        return np.zeros(shape)

    # Without its noise, which float64 cannot add to weights near 1: exact chains would meet to 1e-30.
    held = mechanism.remove(given, given.take([0]), after, mechanism.train(given, silent), silent)
    apart = float((held.weights - mechanism.train(after, silent).weights).norm())
    assert 1e-20 < apart <= held.account["distance"] < 1e-9
    model = CertifiedRemoval(mechanism, regularisation=0.02, epsilon=100.0)
    model.fit(given.inputs.numpy(), given.targets[:, 0].numpy())
    with pytest.raises(BudgetSpentError):
        model.forget([0])


def test_less_is_charged_than_by_the_paper():
    regularisation, n, delta, sigma = 0.02, 10_000, 1e-4, 0.03
    mechanism = Langevin(sigma=sigma, iterations=100, training=2_000, radius=10.0)
    rate = 1 / (0.25 + regularisation)
    fake = problem(n=10)
    whole = type(fake)(fake.inputs.repeat(n // 10, 1), fake.targets.repeat(n // 10, 1), fake.loss)
    account = mechanism.charged({"distance": 0.0, "steps": 2_000.0, "mu": 0.0}, whole, 1)
    orders = 1 + np.logspace(-2, 4, 2_000)
    start = 4 * orders / (regularisation * sigma**2 * n**2)
    paper = np.exp(-100 * regularisation * rate / orders) * start + math.log(1 / delta) / (orders - 1)
    assert 3 * gdp_epsilon(account["mu"], delta) < paper.min()


def test_epsilon_falls_with_the_steps_and_rises_with_the_requests():
    given = problem(n=500)
    X, y = given.inputs.numpy(), given.targets[:, 0].numpy()
    spent = []
    for steps in (10, 100):
        model = CertifiedRemoval(
            Langevin(sigma=0.02, iterations=steps, training=400), regularisation=0.02, epsilon=50.0
        )
        model.fit(X, y)
        before = model.coef_
        one = model.forget([0]).budget.spent
        two = model.forget([1]).budget.spent
        assert one < two
        assert not np.allclose(before, model.coef_)
        spent.append(one)
    assert spent[1] < spent[0]
