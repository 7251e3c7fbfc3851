"""JiT against its formula, draw by draw."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import perceptron, points
from unlearn.methods import JiTConfig, jit
from unlearn.methods.papers.jit import local_lipschitz


def test_the_loss_is_the_formula() -> None:
    model, x = perceptron(), points(4).inputs
    noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = 0.0
    for i in range(4):
        for j in range(3):
            apart = model(x[i : i + 1]) - model(x[i : i + 1] + noise[j, i])
            wanted += (apart.norm() / noise[j, i].norm() / 3).item()
    assert local_lipschitz(model, x, noise).item() == pytest.approx(wanted, rel=1e-12)


def test_of_a_linear_model_it_is_the_stretch_of_its_matrix() -> None:
    model = torch.nn.Linear(5, 5, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(3 * torch.eye(5))
    noise = torch.randn(6, 4, 5, dtype=torch.float64)
    assert local_lipschitz(model, points(4).inputs, noise).item() == pytest.approx(3 * 4)


def test_the_model_gets_flatter_around_the_forget_set() -> None:
    model, forget = perceptron(), points(16)
    done = jit(model, forget, None, JiTConfig(epochs=20, learning_rate=0.01))
    noise = 0.5 * torch.randn(50, 16, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    before, after = (local_lipschitz(each, forget.inputs, noise).item() for each in (model, done))
    assert after < 0.5 * before
