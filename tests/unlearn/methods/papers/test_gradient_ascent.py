"""Gradient ascent against steps computed by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.unlearn.methods.toys import FULL, deep, linear, near, same, split
from unlearn.errors import ConfigurationError
from unlearn.methods import GradientAscentConfig, gradient_ascent

ONE = GradientAscentConfig(epochs=1, learning_rate=0.1, batch_size=FULL)


def test_one_step_is_the_gradient_by_hand() -> None:
    forget, _ = split("regression")
    model = linear(1)
    residual = forget.inputs @ model.weight.T + model.bias - forget.targets
    weight = model.weight + 0.1 * 2 / len(forget) * residual.T @ forget.inputs
    bias = model.bias + 0.1 * 2 * residual.mean(dim=0)
    result = gradient_ascent(model, forget, None, ONE)
    assert torch.allclose(result.weight, weight, atol=1e-14)
    assert torch.allclose(result.bias, bias, atol=1e-14)


def test_a_user_s_loss_is_climbed() -> None:
    forget, _ = split("regression")
    model = linear(1)
    result = gradient_ascent(model, forget, None, ONE, loss=lambda outputs, _: 3 * outputs.mean())
    assert torch.allclose(result.bias, model.bias + 0.3, atol=1e-14)


def test_the_loss_grows_step_by_step() -> None:
    forget, retain = split()
    losses = []
    for epochs in (1, 2, 3, 4):
        config = GradientAscentConfig(epochs=epochs, learning_rate=0.1)
        result = gradient_ascent(linear(), forget, retain, config)
        losses.append(torch.nn.functional.cross_entropy(result(forget.inputs), forget.targets).item())
    assert losses == sorted(losses)
    assert len(set(losses)) == 4


def test_running_statistics_stay() -> None:
    forget, _ = split()
    model = deep()
    model(torch.randn(50, 4, dtype=torch.float64))  # so that they are not those of a new model
    before = {name: value.clone() for name, value in model.named_buffers()}
    result = gradient_ascent(model, forget, None, ONE)
    assert all(torch.equal(value, before[name]) for name, value in result.named_buffers())
    assert not torch.equal(result[3].weight, model[3].weight)


def test_a_climb_without_end_is_an_error_and_leaves_the_model() -> None:
    forget, _ = split("regression")
    model = linear(1)
    before = copy.deepcopy(model)
    for epochs in (200, 2000):  # the weights overflow, or a loss does
        with pytest.raises(ConfigurationError, match="lower learning_rate"):
            gradient_ascent(model, forget, None, GradientAscentConfig(epochs=epochs, learning_rate=1e3))
    assert same(model, before)
    assert near(model, before)
