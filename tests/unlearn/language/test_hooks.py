"""Where things are: in every kind of model, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unlearn.language.conftest import KINDS, Knowing, made
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.hooks import (
    Architecture,
    anatomy,
    frozen,
    input_changed,
    inputs_seen,
    logits_of,
    output_changed,
    outputs_seen,
)

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_projection_writes_what_its_matrix_says(kind: str) -> None:
    body = anatomy(made(kind, 20))
    assert body.n_blocks == 2
    for layer in range(2):
        projection = body.down(layer)
        with (
            torch.no_grad(),
            inputs_seen(projection.module) as keys,
            outputs_seen(projection.module) as values,
            inputs_seen(body.up(layer)) as read,
        ):
            logits_of(body.model, IDS)
        bias = getattr(projection.module, "bias", None)
        expected = keys[0] @ projection.matrix.T + (0 if bias is None else bias)
        assert torch.allclose(values[0], expected, atol=1e-6)
        assert projection.sizes == (values[0].shape[-1], keys[0].shape[-1])
        assert read[0].shape[-1] == 32
        assert dict(body.model.named_parameters())[projection.name] is projection.weight
    with torch.no_grad(), inputs_seen(body.head()) as hidden, outputs_seen(body.norm()) as normed:
        said = logits_of(body.model, IDS)
    assert torch.equal(hidden[0].reshape(-1, 32)[-1], normed[0].reshape(-1, 32)[-1])
    assert said.shape == (2, 4, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_changes_no_answer(kind: str) -> None:
    model = made(kind, 20)
    alone = logits_of(model, IDS[:1])[0, -1]
    left = torch.tensor([[0, 0, 3, 4, 5, 6], [7, 8, 9, 3, 4, 5]])
    right = torch.tensor([[3, 4, 5, 6, 0, 0], [7, 8, 9, 3, 4, 5]])
    on_left = logits_of(model, left, (left != 0).long())[0, -1]
    on_right = logits_of(model, right, (right != 0).long())[0, 3]
    assert torch.allclose(alone, on_left, atol=1e-5)
    assert torch.allclose(alone, on_right, atol=1e-5)


def test_logits_of_a_model_in_16_bits_are_in_32() -> None:
    model = made("llama", 20).bfloat16()
    with torch.no_grad():
        said = logits_of(model, IDS)
        assert said.dtype == torch.float32
        assert torch.equal(said.bfloat16(), model(IDS).logits)
        assert logits_of(model.double(), IDS).dtype == torch.float64


def test_what_is_changed_is_used_and_put_back(knowing: Knowing) -> None:
    model = knowing.model
    body = anatomy(model)
    before = logits_of(model, IDS)
    with output_changed(body.down(0).module, torch.zeros_like), torch.no_grad():
        without = logits_of(model, IDS)
    with input_changed(body.down(0).module, torch.zeros_like), torch.no_grad():
        of_nothing = logits_of(model, IDS)
    assert not torch.allclose(without, before)
    assert not torch.allclose(of_nothing, before)
    assert torch.equal(logits_of(model, IDS), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_frozen_puts_modes_and_flags_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[0].weight.requires_grad_(False)
    model[0].eval()
    with frozen(model):
        assert not model[1].training
        assert not model[0].bias.requires_grad
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    assert (model[0].weight.requires_grad, model[0].bias.requires_grad) == (False, True)


class _Own(nn.Module):
    """A model of nobody's kind, which returns plain logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8))])
        self.norm = nn.LayerNorm(8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(ids)
        for block in self.layers:
            hidden = hidden + block(hidden)
        return torch.as_tensor(self.head(self.norm(hidden)))


def test_any_module_with_a_layout() -> None:
    body = anatomy(_Own(), Architecture("layers", "0", "2", "norm", "head"))
    assert body.down(0).sizes == (8, 12)
    assert logits_of(body.model, IDS).shape == (2, 4, 20)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"give layout=Architecture"):
        anatomy(_Own())
    with pytest.raises(ConfigurationError, match="does not fit this _Own"):
        anatomy(_Own(), Architecture("layers", "up", "2", "norm", "head"))
    with pytest.raises(ConfigurationError, match="instead of a list of blocks"):
        anatomy(_Own(), Architecture("norm", "0", "2", "norm", "head"))
    with pytest.raises(ConfigurationError, match=r"how ReLU stores|no attribute"):
        anatomy(_Own(), Architecture("layers", "0", "1", "norm", "head"))
    with pytest.raises(InputError, match="the model has 2 blocks"):
        anatomy(made("gpt2", 20)).block(2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_mlp_writes_is_added_to_the_hidden_state_as_it_is(kind: str) -> None:
    body = anatomy(made(kind, 20))
    more = torch.linspace(-1, 1, 32)
    states = []
    for change in (lambda out: out, lambda out: out + more):
        with torch.no_grad(), output_changed(body.down(0).module, change), outputs_seen(body.block(0)) as seen:
            logits_of(body.model, IDS)
        states.append(seen[0])
    assert torch.allclose(states[1] - states[0], more.expand_as(states[0]), atol=1e-5)
