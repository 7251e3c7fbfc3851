"""Retraining against a plain loop that never saw the records, started from a constructor under the same seed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, deep, distance, linear, near, plain, same, split
from unlearn.errors import InputError
from unlearn.methods import RetrainConfig, retrain


def test_it_is_training_without_the_records_from_the_same_seed() -> None:
    forget, retain = split()
    config = RetrainConfig(epochs=20, batch_size=FULL, weight_decay=0.01, seed=11)
    reference = plain()  # drawn under seed 11
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(reference(retain.inputs), retain.targets).backward()
        optimizer.step()
    trained = plain(seed=3)
    assert near(retrain(trained, forget, retain, config), reference)


def test_nothing_of_the_trained_weights_is_left() -> None:
    forget, retain = split()
    model, other = deep(), deep()
    with torch.no_grad():
        for value in (*other.parameters(), *(x for x in other.buffers() if x.is_floating_point())):
            value.add_(1)
    assert same(retrain(model, forget, retain), retrain(other, forget, retain))


def test_it_ends_at_the_least_squares_solution() -> None:
    forget, retain = split("regression")
    design = torch.cat([retain.inputs, torch.ones(len(retain), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, retain.targets).solution
    found = retrain(
        linear(1), forget, retain, RetrainConfig(epochs=600, batch_size=FULL, momentum=0.5, learning_rate=0.2)
    )
    assert torch.allclose(torch.cat([found.weight.T, found.bias[None]]), solution, atol=1e-9)


def test_an_untrained_model_may_be_given() -> None:
    forget, retain = split()
    config = RetrainConfig(epochs=1, learning_rate=1e-9)
    initial = plain(seed=8)
    before = copy.deepcopy(initial)
    assert distance(retrain(plain(), forget, retain, config, initial=initial), initial) < 1e-6
    assert same(initial, before)
    assert distance(retrain(plain(), forget, retain, config), initial) > 0.1


def test_frozen_layers_were_not_trained_on_the_data_and_stay() -> None:
    forget, retain = split()
    model = deep()
    model[0].requires_grad_(False)
    result = retrain(model, forget, retain)
    assert torch.equal(result[0].weight, model[0].weight)
    assert not result[0].weight.requires_grad
    assert not torch.equal(result[2].weight, model[2].weight)


def test_a_layer_that_cannot_start_afresh_is_named() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs * self.scale

    forget, retain = split()
    with pytest.raises(InputError, match=r"layer '1' \(Own\) has parameters and no reset_parameters"):
        retrain(torch.nn.Sequential(linear(), Own()), forget, retain)
