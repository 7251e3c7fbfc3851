"""NegGrad+ against a step computed by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, deep, gradients, near, plain, same, split, step
from unlearn.errors import ConfigurationError
from unlearn.methods import FineTuneConfig, NegGradPlusConfig, fine_tune, neg_grad_plus


def test_a_step_weighs_both_gradients() -> None:
    forget, retain = split()
    reference = plain()
    down = gradients(reference, cross_entropy(reference(retain.inputs), retain.targets))
    up = gradients(reference, cross_entropy(reference(forget.inputs), forget.targets))
    step(reference, [0.8 * d - 0.2 * u for d, u in zip(down, up, strict=True)], -0.1)
    config = NegGradPlusConfig(epochs=1, learning_rate=0.1, batch_size=FULL, beta=0.8)
    assert near(neg_grad_plus(plain(), forget, retain, config), reference)


def test_normalisation_learns_from_what_stays_alone() -> None:
    forget, retain = split()
    reference = copy.deepcopy(deep()).train()
    reference(retain.inputs)
    result = neg_grad_plus(deep(), forget, retain, NegGradPlusConfig(epochs=1, batch_size=FULL))
    assert torch.allclose(result[3].running_mean, reference[3].running_mean, atol=1e-14)
    assert torch.allclose(result[3].running_var, reference[3].running_var, atol=1e-14)
    assert int(result[3].num_batches_tracked) == 1


def test_what_is_to_be_forgotten_comes_round_as_often_as_needed() -> None:
    forget, retain = split(gone=5)
    told: list[int] = []
    neg_grad_plus(plain(), forget, retain, NegGradPlusConfig(epochs=2, batch_size=10), advance=told.append)
    # 55 that stay, in six batches a pass, each with one of 5 to forget.
    assert sum(told) == 2 * 55 + 2 * 6 * 5


def test_without_its_ascent_it_is_fine_tuning() -> None:
    forget, retain = split()
    one = neg_grad_plus(plain(), forget, retain, NegGradPlusConfig(beta=1.0, batch_size=FULL))
    assert near(one, fine_tune(plain(), forget, retain, FineTuneConfig(batch_size=FULL)))
    assert not same(one, plain())


def test_the_weight_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="beta must lie in"):
        NegGradPlusConfig(beta=0)
