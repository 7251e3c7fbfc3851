"""l1-sparse against the subgradient by hand, and against soft thresholding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, gradients, near, plain, split, step
from unlearn.errors import ConfigurationError
from unlearn.methods import FineTuneConfig, L1SparseConfig, fine_tune, l1_sparse
from unlearn.methods.base import Examples


def test_steps_add_the_sign_with_a_falling_weight() -> None:
    forget, retain = split()
    reference = plain()
    for gamma in (0.03, 0.02, 0.01):
        loss = gradients(reference, cross_entropy(reference(retain.inputs), retain.targets))
        signs = [value.detach().sign() for value in reference.parameters()]
        step(reference, [g + gamma * s for g, s in zip(loss, signs, strict=True)], -0.1)
    config = L1SparseConfig(epochs=3, learning_rate=0.1, momentum=0.0, batch_size=FULL, gamma=0.03)
    assert near(l1_sparse(plain(), forget, retain, config), reference)


def test_a_weight_at_zero_is_pushed_nowhere() -> None:
    retain = Examples(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64))
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    assert not l1_sparse(model, retain, retain, L1SparseConfig(gamma=1.0)).weight.any()


def test_while_the_weight_lasts_it_thresholds_softly() -> None:
    """On an orthonormal design the minimiser of mean squares + gamma |w|_1 is the soft threshold of least squares."""
    inputs = torch.eye(4, dtype=torch.float64) * 2
    exact = torch.tensor([[3.0, -2.0, 0.1, 0.0]], dtype=torch.float64)
    retain = Examples(inputs, inputs @ exact.T)
    model = torch.nn.Linear(4, 1, bias=False, dtype=torch.float64)
    weights: list[torch.Tensor] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        order = [int((targets == target).nonzero()[0, 0]) for target in retain.targets]
        weights.append(outputs.detach()[order].T / 2)
        return torch.nn.functional.mse_loss(outputs, targets)

    config = L1SparseConfig(epochs=800, learning_rate=0.02, momentum=0.0, gamma=0.4)
    l1_sparse(model, retain, retain, config, loss=loss)
    # Mean squares have the Hessian 2 here, so the threshold is gamma / 2; gamma is down to a half of 0.4 by then.
    assert torch.allclose(weights[400], exact.sign() * (exact.abs() - 0.1).clamp(min=0), atol=0.02)
    assert torch.allclose(weights[-1], exact, atol=0.02)


def test_without_its_penalty_it_is_fine_tuning() -> None:
    forget, retain = split()
    assert near(l1_sparse(plain(), forget, retain, L1SparseConfig(gamma=0.0)), fine_tune(plain(), forget, retain))
    assert FineTuneConfig().epochs == L1SparseConfig().epochs
    with pytest.raises(ConfigurationError, match="gamma must not be negative"):
        L1SparseConfig(gamma=-1.0)
