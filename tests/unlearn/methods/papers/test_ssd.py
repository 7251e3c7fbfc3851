"""Selective synaptic dampening against its formula, entry by entry."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import images, network, weights
from unlearn.errors import ConfigurationError
from unlearn.methods import SSDConfig, ssd
from unlearn.methods.base import Examples
from unlearn.methods.importance import empirical_fisher

LOSS = torch.nn.functional.cross_entropy


def test_every_weight_is_dampened_as_the_formula_says() -> None:
    forget, retain = images(6), images(18, seed=2)
    union = Examples(torch.cat([forget.inputs, retain.inputs]), torch.cat([forget.targets, retain.targets]))
    of_forget, of_all = empirical_fisher(network(), forget, LOSS), empirical_fisher(network(), union, LOSS)
    config = SSDConfig(selection=1.2, dampening=0.7)
    found, chosen = weights(ssd(network(), forget, retain, config)), 0
    for name, value in weights(network()).items():
        for at in range(value.numel()):
            w, f, d = (tensor.flatten()[at].item() for tensor in (value, of_forget[name], of_all[name]))
            wanted = min(0.7 * d / f, 1) * w if f > 1.2 * d else w
            chosen += f > 1.2 * d
            assert found[name].flatten()[at].item() == pytest.approx(wanted, rel=1e-9, abs=1e-15)
    assert 0 < chosen < sum(value.numel() for value in found.values())


def test_weights_that_are_not_chosen_stay_equal_to_the_last_bit() -> None:
    forget, retain = images(6), images(18, seed=2)
    before, after = weights(network()), weights(ssd(network(), forget, retain, SSDConfig(selection=2)))
    equal = sum(int((after[name] == value).sum()) for name, value in before.items())
    assert 0 < equal < sum(value.numel() for value in before.values())


@pytest.mark.parametrize("selection", [4.0, 1e9])  # a quarter is forgotten, so that no ratio exceeds four
def test_where_no_weight_is_chosen_it_says_so(selection: float) -> None:
    with pytest.raises(ConfigurationError, match="from 4 times on"):
        ssd(network(), images(6), images(18, seed=2), SSDConfig(selection=selection))


def test_what_is_asked_for_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        SSDConfig(dampening=0)
