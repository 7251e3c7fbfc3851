"""Closed forms against automatic differentiation, and the sum convention."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.influence.cases import CASES, close, fitted
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import EmpiricalFisher, GaussNewton, Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic, Softmax, SquaredLoss, with_intercept
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import L2, Objective

BOTH = L2(total=0.3, per_example=0.02)


def anywhere(objective: Objective, examples: Examples) -> torch.Tensor:
    """Weights that are no optimum, where a forgotten term would not cancel."""
    return torch.randn(objective.size(examples), dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_value(name: str) -> None:
    objective, examples = CASES[name].objective(BOTH), CASES[name].examples(30, 4)
    w = anywhere(objective, examples)
    jacobian = torch.autograd.functional.jacobian(lambda v: objective.losses(v, examples), w)
    assert close(objective.gradients(w, examples), jacobian, 1e-13)
    assert close(objective.loss_gradient(w, examples), jacobian.sum(0), 1e-13)
    gradient = torch.autograd.functional.jacobian(lambda v: objective.value(v, examples), w)
    assert close(objective.gradient(w, examples), gradient, 1e-13)
    hessian = torch.autograd.functional.hessian(lambda v: objective.value(v, examples), w)
    for curvature in (Hessian(objective, w, examples), GaussNewton(objective, w, examples)):
        assert close(curvature.dense(), hessian, 1e-13)
        block = torch.randn(len(w), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        assert close(curvature.matvec(block), hessian @ block, 1e-13)
        assert close(curvature.matvec(block[:, 0]), hessian @ block[:, 0], 1e-13)
    fisher = EmpiricalFisher(objective, w, examples, damping=0.5)
    wanted = jacobian.T @ jacobian + (BOTH.strength(30) + 0.5) * torch.eye(len(w), dtype=torch.float64)
    assert close(fisher.dense(), wanted, 1e-13)
    assert close(fisher.matvec(w), wanted @ w, 1e-13)


def test_the_linear_term_counts_in_value_and_gradient_and_nowhere_else() -> None:
    examples = CASES["logistic"].examples(30, 4)
    b = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    with_term, without = BinaryLogistic(l2=BOTH, linear=b), BinaryLogistic(l2=BOTH)
    w = anywhere(without, examples)
    assert torch.allclose(with_term.value(w, examples), without.value(w, examples) + b @ w, rtol=1e-14)
    assert torch.allclose(with_term.gradient(w, examples), without.gradient(w, examples) + b, rtol=1e-14)
    removed = examples.take(slice(5))
    assert torch.equal(with_term.removal(w, removed), without.removal(w, removed))


@pytest.mark.parametrize("name", CASES)
def test_delta_is_the_gradient_on_what_remains_with_its_sign_turned(name: str) -> None:
    objective, examples, w = fitted(name, BOTH)
    assert float(objective.gradient(w, examples).norm()) < 1e-9
    removed, kept = examples.take(slice(7)), examples.take(slice(7, None))
    assert close(objective.removal(w, removed), -objective.gradient(w, kept), 1e-9)


def test_logistic_derivatives_survive_large_scores() -> None:
    examples = Examples(torch.tensor([[800.0], [-800.0], [40.0]], dtype=torch.float64), torch.tensor([0, 1, 1]))
    objective, w = BinaryLogistic(), torch.ones(1, dtype=torch.float64)
    assert objective.losses(w, examples).tolist()[:2] == [800.0, 800.0]
    assert 0 < float(objective.bends(w, examples)[2]) < 1e-17  # 1 - sigmoid(40) would be 0 in float64.


def test_softmax_of_two_classes_is_logistic_regression() -> None:
    examples = CASES["logistic"].examples(60, 3)
    zeros = torch.zeros(6, dtype=torch.float64)
    # w = W₁ - W₀ with W₀ = -W₁, so |W|² = |w|²/2.
    rows = minimise(Softmax(l2=L2(total=2.0), classes=2), examples, zeros).w.reshape(2, 3)
    alone = minimise(BinaryLogistic(l2=L2(total=1.0)), examples, zeros[:3]).w
    assert close(rows[1] - rows[0], alone, 1e-9)


def test_the_optimum_of_squared_loss_solves_the_normal_equations_in_one_step() -> None:
    examples = CASES["squared"].examples(30, 4)
    optimum = minimise(SquaredLoss(l2=L2(total=2.0)), examples, torch.zeros(4, dtype=torch.float64))
    x = examples.inputs
    assert close(optimum.w, torch.linalg.solve(x.T @ x + 2 * torch.eye(4), x.T @ examples.targets), 1e-13)
    assert optimum.iterations == 1


def test_an_intercept_is_a_column_of_ones() -> None:
    examples = with_intercept(CASES["squared"].examples(5, 2))
    assert examples.inputs[:, -1].tolist() == [1.0] * 5
    assert examples.inputs.shape == (5, 3)


def test_what_is_wrong_with_data_is_said() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    w = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(InputError, match="0 and 1: map"):
        BinaryLogistic().losses(w, Examples(x, torch.tensor([1, -1])))
    with pytest.raises(InputError, match="class numbers from 0 to 1"):
        Softmax(classes=2).losses(torch.zeros(6, dtype=torch.float64), Examples(x, torch.tensor([0, 2])))
    with pytest.raises(InputError, match="floating-point"):
        SquaredLoss().losses(w, Examples(x, torch.tensor([0, 1])))
    with pytest.raises(InputError, match=r"float64 matrix \[n, d\], got torch.float32"):
        BinaryLogistic().losses(w, Examples(x.float(), torch.tensor([0, 1])))
    with pytest.raises(InputError, match=r"float64 tensor \[3\]"):
        Hessian(BinaryLogistic(), w[:2], Examples(x, torch.tensor([0, 1])))
    with pytest.raises(InputError, match="diverged"):
        Hessian(BinaryLogistic(), w / 0, Examples(x, torch.tensor([0, 1])))
    with pytest.raises(ConfigurationError, match="total must be"):
        L2(total=-1.0)
    with pytest.raises(ConfigurationError, match="damping must be"):
        Hessian(BinaryLogistic(), w, Examples(x, torch.tensor([0, 1])), damping=-1.0)
    with pytest.raises(ConfigurationError, match="2 classes or more"):
        Softmax(classes=1)


def test_a_dense_matrix_too_large_is_refused() -> None:
    x = torch.zeros(1, 6_000, dtype=torch.float64)
    curvature = Hessian(BinaryLogistic(), torch.zeros(6_000, dtype=torch.float64), Examples(x, torch.tensor([0])))
    with pytest.raises(ConfigurationError, match=r"6,000 parameters would take 0\.3 GB"):
        curvature.dense()
