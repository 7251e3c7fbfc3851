"""Certified removal as a method of a torch model."""

import copy

import numpy as np
import pytest
import torch

from unlearn.errors import BudgetSpentError, ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.certified import METHOD, CertifiedRemovalConfig, certified_removal


def seeded(seed=0):
    rng = np.random.default_rng(seed)
    return lambda shape: rng.normal(size=shape)


def setting(outputs=1):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU()).requires_grad_(requires_grad=False)
    model = torch.nn.Sequential(*body, torch.nn.Linear(8, outputs))
    X = torch.randn(120, 5)
    y = torch.randint(0, max(2, outputs), (120,))
    return model, Examples(X[:10], y[:10]), Examples(X[10:], y[10:])


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_head_is_the_optimum_on_what_remains(outputs):
    model, forget, retain = setting(outputs)
    before = copy.deepcopy(model.state_dict())
    config = CertifiedRemovalConfig(regularisation=0.01, scale=1e-6, noise=seeded())
    new = METHOD(model, forget, retain, config)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        features = model[:-1](retain.inputs).double()
    wanted = retain.targets[:, None] == (torch.arange(outputs) if outputs > 1 else torch.ones(1))
    weight, bias = new[-1].weight.detach().double(), new[-1].bias.detach().double()
    slopes = torch.sigmoid(features @ weight.T + bias) - wanted.double()
    gradient = slopes.T @ features + 0.01 * len(retain) * weight
    # Noise of 1e-6, and weights in float32.
    assert float(gradient.abs().max()) < 1e-3
    assert float((slopes.sum(0) + 0.01 * len(retain) * bias).abs().max()) < 1e-3
    again = certified_removal(model, forget, retain, CertifiedRemovalConfig(0.01, scale=1e-6, noise=seeded()))
    assert torch.equal(new[-1].weight, again[-1].weight)
    fresh = [METHOD(model, forget, retain, CertifiedRemovalConfig(0.01))[-1].weight for _ in range(2)]
    assert not torch.equal(*fresh)


def test_regression_is_ridge():
    torch.manual_seed(1)
    X, Y = torch.randn(60, 4), torch.randn(60, 2)
    head = torch.nn.Linear(4, 2, bias=False)
    new = certified_removal(head, (X[:5], Y[:5]), (X[5:], Y[5:]), CertifiedRemovalConfig(0.1, scale=1e-5))
    kept, targets = X[5:].double(), Y[5:].double()
    exact = torch.linalg.solve(kept.T @ kept + 0.1 * 55 * torch.eye(4), kept.T @ targets)
    assert torch.allclose(new.weight.double(), exact.T, atol=1e-4)


def test_no_certificate_for_a_network():
    model, forget, retain = setting()
    trained = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    for wrong in (trained, torch.nn.Sequential(*model, torch.nn.Sigmoid()), torch.nn.Conv1d(1, 1, 1)):
        with pytest.raises(ConfigurationError, match="convex"):
            certified_removal(wrong, forget, retain)
    with pytest.raises(ConfigurationError, match="above 0"):
        certified_removal(model, forget, retain, CertifiedRemovalConfig(regularisation=0.0))
    with pytest.raises(BudgetSpentError, match="raise the scale"):
        certified_removal(model, forget, retain, CertifiedRemovalConfig(scale=1e-12, tolerance=1e-12))
    with pytest.raises(InputError, match="retain is empty"):
        certified_removal(model, retain, forget.take(slice(0, 0)))
    with pytest.raises(InputError, match="class numbers"):
        certified_removal(model, forget, Examples(retain.inputs, retain.targets + 1))
    with pytest.raises(InputError, match="does not take inputs"):
        certified_removal(model, Examples(forget.inputs[:, :2], forget.targets), retain)
