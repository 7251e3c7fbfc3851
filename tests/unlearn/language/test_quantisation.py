"""Rounding, against a search of the nearest level for every number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tests.unlearn.language.conftest import made, state_of
from unlearn.errors import InputError
from unlearn.language.quantisation import quantised, rounded


def nearest(numbers: list[float], bits: int) -> list[float]:
    """One channel: of all levels between plus and minus the largest, the nearest to each number."""
    largest = max(abs(number) for number in numbers)
    if largest == 0:
        return numbers
    levels = [largest * at / (2 ** (bits - 1) - 1) for at in range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))]
    return [min(levels, key=lambda level: abs(level - number)) for number in numbers]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_channel_is_rounded_to_its_own_levels(bits: int) -> None:
    torch.manual_seed(bits)
    linear, conv, table = nn.Linear(5, 7), Conv1D(7, 5), nn.Embedding(6, 5)
    model = nn.Sequential(linear, conv, table, nn.LayerNorm(5)).double()
    with torch.no_grad():
        linear.weight[2] = 0
        linear.weight[3] *= 100  # another channel's step is none of its business
    before = copy.deepcopy(model)
    state = state_of(model)
    found = quantised(model, bits)
    assert state_of(model) == state
    for at, transposed in ((0, False), (1, True), (2, False)):
        old, new = (torch.as_tensor(one[at].weight.detach()) for one in (before, found))
        channels = old.T if transposed else old
        expected = torch.tensor([nearest(channel.tolist(), bits) for channel in channels], dtype=torch.float64)
        assert torch.allclose(new.T if transposed else new, expected)
    assert torch.equal(torch.as_tensor(found[0].bias), linear.bias)
    assert torch.equal(torch.as_tensor(found[3].weight), torch.as_tensor(before[3].weight))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_rounded_as_thirty_two_are(kind: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    for size in (1.0, 1e-6):
        weight = (size * torch.randn(20, 50, generator=rng)).to(kind)
        assert torch.equal(rounded(weight, 8, 1), rounded(weight.float(), 8, 1).to(kind))


def test_rounding_twice_is_rounding_once() -> None:
    weight = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once = rounded(weight, 4, 1)
    assert torch.allclose(rounded(once, 4, 1), once)
    assert torch.allclose(rounded(weight.T, 4, 0), once.T)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_models_of_transformers(kind: str) -> None:
    model = made(kind, 30)
    ids = torch.arange(12)[None]
    before = model(ids).logits
    coarse, fine = quantised(model, 3), quantised(model, 8)
    away = [float((one(ids).logits - before).detach().abs().mean()) for one in (coarse, fine)]
    assert away[0] > 5 * away[1] > 0
    tied = model.config.tie_word_embeddings
    inside, outside = coarse.get_input_embeddings().weight, coarse.get_output_embeddings().weight  # type: ignore
    assert (inside is outside) == tied
    for channel in outside:
        assert len(channel.unique()) <= 7


def test_weights_that_would_stay_as_they_are_are_refused() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    size = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_local_experts": 2}
    experts = MixtralForCausalLM(MixtralConfig(**size, num_attention_heads=2, num_key_value_heads=1))  # type: ignore
    if not any(isinstance(module, nn.Linear) and "expert" in name for name, module in experts.named_modules()):
        with pytest.raises(InputError, match="holds several matrices in one"):
            quantised(experts, 4)
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(InputError, match="weight is no parameter in floating point"):
        quantised(normed, 4)
    with pytest.raises(InputError, match="nothing would be rounded"):
        quantised(nn.LayerNorm(4), 4)
    assert quantised(nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(2, 2)), 4) is not None


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(InputError, match="2 to 8"):
        quantised(nn.Linear(2, 2), bits)
