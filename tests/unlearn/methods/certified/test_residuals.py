"""Bounds against what they bound: the measured residual, and the Jacobian by automatic differentiation."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from unlearn.methods.certified.objective_perturbation import ObjectivePerturbation, WorstCase, composed, newton_step
from unlearn.methods.certified.problem import Problem, logistic, squared
from unlearn.methods.certified.residuals import (
    LIPSCHITZ,
    fourth_power,
    published,
    published_worst_case,
    spectral_norm,
    variation,
    worst_case,
)
from unlearn.methods.influence.curvature import Hessian


def problem(seed, n=60, d=4, heads=1, regularisation=0.05):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.2, 2, size=d)
    X /= np.maximum(1, np.linalg.norm(X, axis=1, keepdims=True))
    targets = (X @ rng.normal(size=(d, heads)) + rng.normal(size=(n, heads)) * 0.3 > 0).astype(np.int64)
    return Problem(torch.from_numpy(X), torch.from_numpy(targets), logistic(regularisation))


def removal(whole, gone, b):
    """Weights for b, the step, and what remains."""
    left = [row for row in range(len(whole)) if row not in set(gone)]
    held = ObjectivePerturbation(sigma=1.0).train_with(whole, b)
    removed, after = whole.take(gone), whole.take(left)
    step, _ = newton_step(removed, after, held.weights, held.factors)
    return held, step, after


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 12),
    exponent=st.floats(-3, -0.5),
    sigma=st.sampled_from([0.0, 0.3, 3.0]),
)
def test_bounds_hold_on_every_removal(seed, m, exponent, sigma):
    rng = np.random.default_rng(seed + 1)
    whole = problem(seed, n=40 + seed % 60, d=2 + seed % 5, regularisation=10**exponent)
    b = torch.from_numpy(sigma * rng.normal(size=whole.shape))
    held, step, after = removal(whole, rng.choice(len(whole), m, replace=False).tolist(), b)
    measured = float((after.gradient(held.weights + step.step) + b).norm())
    norm = spectral_norm(whole.inputs)
    tight = fourth_power(after.inputs, step.step[:, 0], norm) + step.unsolved + step.floor
    loose = published(after.inputs, step.step[:, 0], norm)
    worst = worst_case(
        regularisation=whole.regularisation, n=len(whole), m=m, d=whole.shape[0], noise_norm=float(b.norm())
    )
    assert measured <= tight
    assert tight <= loose * LIPSCHITZ / 0.25 / 2 + step.unsolved + step.floor + 1e-12
    assert measured <= worst.residual + 1e-9


def test_several_heads_are_bounded_together():
    whole = problem(3, heads=3)
    b = torch.from_numpy(np.random.default_rng(0).normal(size=whole.shape))
    held, step, after = removal(whole, [0, 5], b)
    measured = float((after.gradient(held.weights + step.step) + b).norm())
    norm = spectral_norm(whole.inputs)
    assert 0 < measured <= math.hypot(*(fourth_power(after.inputs, step.step[:, k], norm) for k in range(3)))


def test_the_norm_of_the_weights_takes_the_noise_in():
    whole = problem(0)
    for scale in (0.0, 1.0, 100.0):
        b = scale * torch.from_numpy(np.random.default_rng(1).normal(size=whole.shape))
        weights = ObjectivePerturbation().train_with(whole, b).weights
        assert float(weights.norm()) <= (1 + float(b.norm()) / len(whole)) / whole.regularisation
    # Without the noise the bound would be wrong.
    assert float(weights.norm()) > 1 / whole.regularisation


def test_worst_case_against_the_published_one():
    ours = worst_case(regularisation=1e-2, n=12_000, m=1, d=784, noise_norm=0.0)
    theirs = published_worst_case(regularisation=1e-2, n=12_000)
    assert theirs / ours.residual == pytest.approx(1 / math.sqrt(1e-2), rel=0.02)
    assert worst_case(regularisation=1e-4, n=100, m=50, d=3, noise_norm=0).residual == math.inf


def transported(whole, after, gone, b):
    """T(b), written plainly: b to weights by Newton, one removal step, and back to a b."""
    w = torch.zeros(whole.shape[0], dtype=torch.float64)

    def gradient(x, y, v, n):
        return x.T @ (torch.sigmoid(x @ v) - y) + whole.regularisation * n * v

    def hessian(x, v, n):
        p = torch.sigmoid(x @ v)
        return x.T @ ((p * (1 - p))[:, None] * x) + whole.regularisation * n * torch.eye(len(v), dtype=torch.float64)

    x, y, n = whole.inputs, whole.targets[:, 0].double(), len(whole)
    for _ in range(12):
        w = w - torch.linalg.solve(hessian(x, w, n), gradient(x, y, w, n) + b)
    x_left, y_left, m = after.inputs, after.targets[:, 0].double(), len(gone)
    delta = gradient(x[gone], y[gone], w, m)
    moved = w + torch.linalg.solve(hessian(x_left, w, n - m), delta)
    return -gradient(x_left, y_left, moved, n - m)


@pytest.mark.parametrize("seed", range(12))
def test_how_the_residual_varies_with_the_noise_is_bounded(seed):
    rng = np.random.default_rng(seed)
    m = 1 + seed % 3
    whole = problem(seed, n=150, regularisation=[0.02, 0.05, 0.2][seed % 3])
    gone = rng.choice(len(whole), m, replace=False).tolist()
    b = torch.from_numpy([0.0, 1.0, 5.0][seed // 4] * rng.normal(size=whole.shape[0]))
    held, step, after = removal(whole, gone, b[:, None])
    # The plain transcription is the same map.
    assert torch.allclose(
        transported(whole, after, gone, b), -after.gradient(held.weights + step.step)[:, 0], atol=1e-9
    )
    jacobian = torch.func.jacrev(lambda v: transported(whole, after, gone, v))(b) - torch.eye(len(b))
    values, vectors = torch.linalg.eigh(Hessian(after.loss, held.weights[:, 0], after.head(0)).dense())
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    framed = torch.linalg.inv(root) @ jacobian @ root
    worst = worst_case(
        regularisation=whole.regularisation, n=len(whole), m=m, d=whole.shape[0], noise_norm=float(b.norm())
    )
    found = float(torch.linalg.matrix_norm(framed, 2))
    assert 0 < found <= worst.kappa
    # Also with what this step really was.
    tau = float((after.inputs @ step.step).abs().max())
    removed = Hessian(whole.loss, held.weights[:, 0], whole.take(gone).head(0)).dense()
    leverage = float(torch.linalg.matrix_norm(torch.linalg.solve(root, torch.linalg.solve(root, removed).T), 2))
    assert found <= variation(tau, leverage)
    assert float(torch.linalg.matrix_norm(framed, "fro")) <= worst.kappa_frobenius
    assert float(torch.linalg.matrix_norm(jacobian, 2)) <= worst.kappa_plain


def test_the_bound_on_how_it_varies_is_no_idle_one():
    """One column of ones and rare zeros, of which some go: a third of the bound is reached as lambda goes to 0."""
    targets = torch.tensor([1] * 970 + [0] * 30)
    whole = Problem(torch.ones(1000, 1, dtype=torch.float64), targets[:, None], logistic(1e-6))
    gone = list(range(994, 1000))
    held, step, after = removal(whole, gone, torch.zeros(1, 1, dtype=torch.float64))
    jacobian = torch.func.jacrev(lambda v: transported(whole, after, gone, v))(torch.zeros(1, dtype=torch.float64)) - 1
    p = torch.sigmoid(held.weights)
    leverage = float(6 * p * (1 - p) / (994 * p * (1 - p)))
    bound = variation(float(step.step.abs()), leverage)
    assert 0.2 * bound < float(jacobian.abs()) <= bound


def test_steps_compose_as_their_jacobians_do():
    whole = problem(1, n=200, regularisation=0.1)
    b = torch.from_numpy(np.random.default_rng(4).normal(size=whole.shape[0]))
    account = WorstCase(rounding=1e-12).start(whole, 0.0, 1.0)
    jacobian, moved, current, frame = torch.eye(len(b), dtype=torch.float64), b, whole, None
    for _ in range(4):
        after = current.take(list(range(1, len(current))))
        here, value = current, moved
        one = torch.func.jacrev(lambda v, h=here, a=after: transported(h, a, [0], v))(value)
        if frame is None:
            weights = ObjectivePerturbation(sigma=1.0).train_with(whole, b[:, None]).weights
            frame = torch.linalg.cholesky(Hessian(after.loss, weights[:, 0], after.head(0)).dense())
        jacobian, moved = one @ jacobian, transported(current, after, [0], moved)
        worst = worst_case(regularisation=0.1, n=len(current), m=1, d=whole.shape[0], noise_norm=float(value.norm()))
        account, current = composed(account, worst, 1, 0.0), after
    change = jacobian - torch.eye(len(b))
    assert float((moved - b).norm()) <= account["beta"]
    assert float(torch.linalg.matrix_norm(change, 2)) <= account["kappa_plain"]
    # In the frame of the first step, where C = H^½ up to a rotation, which changes no norm.
    framed = torch.linalg.solve(frame, change) @ frame
    assert float(torch.linalg.matrix_norm(framed, 2)) <= account["kappa"]
    assert float(torch.linalg.matrix_norm(framed, "fro")) <= account["kappa_frobenius"]
    squared_trace = float(torch.trace(change @ change).abs())
    assert squared_trace <= account["kappa_frobenius"] ** 2


def test_the_spectral_norm_is_an_upper_bound():
    for n, d in ((30, 5), (5, 30)):
        X = torch.from_numpy(np.random.default_rng(0).normal(size=(n, d)))
        exact = float(torch.linalg.matrix_norm(X, 2))
        assert exact <= spectral_norm(X) <= exact * (1 + 1e-9)
        assert spectral_norm(X[1:]) <= spectral_norm(X)


def test_the_floor_covers_rounding():
    # In float32's place: the same gradient in 50 digits of mpmath would be slow; longdouble has 11 bits more.
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(2_000, 30)), rng.normal(size=30) * 3
    y = rng.normal(size=2_000)
    given = Problem(torch.from_numpy(X), torch.from_numpy(y[:, None]), squared(1e-3))
    wide = X.astype(np.longdouble)
    exact = wide.T @ (wide @ w.astype(np.longdouble) - y) + np.longdouble(1e-3) * 2_000 * w
    error = np.linalg.norm((given.gradient(torch.from_numpy(w[:, None])).numpy()[:, 0] - exact).astype(float))
    assert 0 < error <= given.floor(torch.from_numpy(w[:, None]))
