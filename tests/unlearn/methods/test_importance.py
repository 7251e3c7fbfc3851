"""Importances, each against a loop over single examples."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import N_CLASSES, images, network
from unlearn.methods import importance
from unlearn.methods.importance import empirical_fisher, fisher, gradient

LOSS = torch.nn.functional.cross_entropy


def looped(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, factors: torch.Tensor) -> dict[str, torch.Tensor]:
    model.eval()
    found = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for row in range(len(x)):
        model.zero_grad()
        LOSS(model(x[row : row + 1]), y[row : row + 1]).backward()
        for name, value in model.named_parameters():
            found[name] += factors[row] * value.grad**2
    return found


@pytest.mark.parametrize("entries", [1, 2**23])  # one example at a time, and all at once
def test_many_examples_at_once_are_as_one_by_one(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "ENTRIES", entries)
    data = images(7)
    wanted = looped(network(), data.inputs, data.targets, torch.full((7,), 1 / 7, dtype=torch.float64))
    found = empirical_fisher(network(), data, LOSS)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-15)


def test_it_is_not_the_square_of_the_mean_gradient() -> None:
    data = images(8)
    ours = empirical_fisher(network(), data, LOSS)
    squared = {name: value**2 for name, value in gradient(network(), data, LOSS).items()}
    # Jensen: the mean of squares is never below the square of the mean, and here far above.
    assert all(bool((ours[name] >= squared[name] - 1e-15).all()) for name in ours)
    assert sum(value.sum() for value in ours.values()) > 2 * sum(value.sum() for value in squared.values())


def test_labels_of_the_model_weigh_by_its_probabilities() -> None:
    data, model = images(5), network().eval()
    p = torch.softmax(model(data.inputs), dim=1).detach()
    wanted = None
    for c in range(N_CLASSES):
        part = looped(network(), data.inputs, torch.full((5,), c), p[:, c] / 5)
        wanted = part if wanted is None else {name: wanted[name] + part[name] for name in part}
    assert wanted is not None
    found = fisher(network(), data.inputs)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-15)


def test_the_gradient_of_the_mean_is_that_of_one_large_batch() -> None:
    data, model = images(1100), network().eval()
    LOSS(model(data.inputs), data.targets).backward()
    found = gradient(network(), data, LOSS)
    for name, value in model.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-10, atol=1e-14)


def test_the_model_keeps_its_mode_and_frozen_weights_have_no_importance() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model[0].weight.requires_grad_(False)
    assert "0.weight" not in empirical_fisher(model, images(3), LOSS)
    assert "0.weight" not in gradient(model, images(3), LOSS)
    assert model.training
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
