"""CF-k and EU-k: what is below stays bit for bit; all layers are fine-tuning and retraining."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.unlearn.methods.toys import deep, plain, same, split
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods import CFkConfig, EUkConfig, FineTuneConfig, RetrainConfig, cf_k, eu_k, fine_tune, retrain

LAYERS = {1: ("5.",), 2: ("2.", "3.", "5."), 3: ("0.", "2.", "3.", "5.")}
"""Of `deep`: the modules in its last k layers; the normalisation belongs to the second."""


@pytest.mark.parametrize("k", LAYERS)
@pytest.mark.parametrize("method", [cf_k, eu_k])
def test_layers_below_stay_bit_for_bit(method: object, k: int) -> None:
    forget, retain = split()
    model = deep()
    config = CFkConfig(k=k) if method is cf_k else EUkConfig(k=k)
    result = method(model, forget, retain, config)  # type: ignore[operator]
    changed = {name for name, value in result.state_dict().items() if not torch.equal(value, model.state_dict()[name])}
    assert changed == {name for name in model.state_dict() if name.startswith(LAYERS[k])}
    assert all(value.requires_grad for value in result.parameters())


def test_all_layers_of_cf_are_fine_tuning() -> None:
    forget, retain = split()
    assert same(cf_k(deep(), forget, retain, CFkConfig(k=3)), fine_tune(deep(), forget, retain, FineTuneConfig()))


def test_all_layers_of_eu_are_retraining() -> None:
    forget, retain = split()
    assert same(eu_k(deep(), forget, retain, EUkConfig(k=3)), retrain(deep(), forget, retain, RetrainConfig()))


def test_nothing_of_the_last_layers_is_left_in_eu() -> None:
    forget, retain = split()
    other = deep()
    with torch.no_grad():
        for name, value in other.state_dict().items():
            if name.startswith(LAYERS[2]):
                value.add_(1)
    assert same(eu_k(deep(), forget, retain, EUkConfig(k=2)), eu_k(other, forget, retain, EUkConfig(k=2)))
    assert not same(cf_k(deep(), forget, retain, CFkConfig(k=2)), cf_k(other, forget, retain, CFkConfig(k=2)))


def test_what_was_frozen_stays_so_among_the_last() -> None:
    forget, retain = split()
    model = deep()
    model[5].bias.requires_grad_(False)
    result = eu_k(copy.deepcopy(model), forget, retain)
    assert [value.requires_grad for value in result.parameters()] == [
        value.requires_grad for value in model.parameters()
    ]
    assert not torch.equal(result[5].weight, model[5].weight)


def test_more_layers_than_there_are_is_an_error() -> None:
    forget, retain = split()
    with pytest.raises(InputError, match="Sequential has 2 layers with weights, and k is 3"):
        cf_k(plain(), forget, retain, CFkConfig(k=3))
    with pytest.raises(ConfigurationError, match="k must be at least 1"):
        EUkConfig(k=0)
