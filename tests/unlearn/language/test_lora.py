"""Adapters beside the weights: of the rank they are said to have, merged to a plain model, on every kind of one."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch
from torch import nn

from tests.unlearn.language.conftest import KINDS, Knowing, made, state_of
from tests.unlearn.language.test_tuning import parts
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.hooks import anatomy, logits_of
from unlearn.language.lora import Lora, trainable
from unlearn.language.relearning import knowledge, relearnt
from unlearn.language.tuning import Loss, Tuning, negated, tuned


@pytest.mark.parametrize("loss", ["npo", "undial"])
def test_a_loss_forgets_by_matrices_of_small_rank(knowing: Knowing, loss: Loss) -> None:
    forget, retain = parts(knowing)
    before = state_of(knowing.model)
    config = Tuning(loss=loss, learning_rate=1e-2, epochs=40, gamma=10.0 if loss == "undial" else 0.0)
    found = tuned(knowing.model, knowing.tokenizer, forget, retain, config, lora=Lora(rank=4, alpha=8.0))
    assert state_of(knowing.model) == before
    lost, kept = (knowledge(found, knowing.tokenizer, pairs).recall for pairs in (forget, retain))
    assert lost < 0.5
    assert kept > lost + 0.3
    assert [(type(part), name) for name, part in found.named_modules()] == [
        (type(part), name) for name, part in knowing.model.named_modules()
    ]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in found.parameters())
    after = state_of(found)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {name for name in before if ".h." in name and "ln" not in name and name.endswith("weight")}
    old, new = dict(knowing.model.named_parameters()), dict(found.named_parameters())
    for name in changed:
        values = torch.linalg.svdvals((new[name] - old[name]).detach().double())
        assert float(values[3]) > 1e-4
        assert float(values[4]) < 1e-5 * max(1.0, float(values[0]))


@pytest.mark.parametrize("loss", ["rmu", "whp"])
def test_a_loss_that_watches_a_block_or_trains_another_model(knowing: Knowing, loss: Loss) -> None:
    forget, retain = parts(knowing)
    config = Tuning(loss=loss, learning_rate=1e-2, epochs=40, layer=1, reinforcement=5)
    found = tuned(knowing.model, knowing.tokenizer, forget, retain, config, lora=Lora(rank=2, alpha=4.0))
    lost, kept = (knowledge(found, knowing.tokenizer, pairs).probability for pairs in (forget, retain))
    assert lost < kept - 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_merged_a_model_says_what_it_said_with_adapters(kind: str) -> None:
    model = made(kind, 30)
    modules, own = [(type(part), name) for name, part in model.named_modules()], set(vars(model))
    before, ids = state_of(model), torch.arange(12).view(2, 6)
    with trainable(model, Lora(rank=2), 3):
        pass
    assert state_of(model) == before, "adapters begin as nothing"
    with trainable(model, Lora(rank=2), 3) as parameters, torch.no_grad():
        assert all(parameter.requires_grad for parameter in parameters)
        assert sum(parameter.requires_grad for parameter in model.parameters()) == len(parameters)
        for parameter in parameters:
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
        said = logits_of(model, ids)
    assert [(type(part), name) for name, part in model.named_modules()] == modules
    assert set(vars(model)) == own
    with torch.no_grad():
        assert torch.allclose(logits_of(model, ids), said, atol=1e-3, rtol=1e-3)
    assert state_of(model) != before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_is_added_is_the_product_times_alpha_over_rank(knowing: Knowing) -> None:
    weight = anatomy(knowing.model).down(1).matrix
    old = weight.detach().clone()
    lora = Lora(rank=3, alpha=6.0, targets=("h.1.mlp.c_proj",))
    with trainable(knowing.model, lora) as (first, second), torch.no_grad():
        first.normal_(generator=torch.Generator().manual_seed(0))
        second.normal_(generator=torch.Generator().manual_seed(1))
        product = second @ first
    assert torch.allclose(anatomy(knowing.model).down(1).matrix - old, 2.0 * product, atol=1e-5)


def test_the_same_seed_gives_the_same_model(knowing: Knowing) -> None:
    forget, _ = parts(knowing)
    made_again = [
        state_of(relearnt(knowing.model, knowing.tokenizer, forget, steps=2, lora=Lora(rank=2))) for _ in range(2)
    ]
    assert made_again[0] == made_again[1]
    state = torch.random.get_rng_state()
    relearnt(knowing.model, knowing.tokenizer, forget, steps=1, lora=Lora(rank=2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_task_vector_of_small_rank(knowing: Knowing) -> None:
    forget, _ = parts(knowing)
    more = relearnt(knowing.model, knowing.tokenizer, forget, learning_rate=1e-2, steps=3, lora=Lora(rank=1))
    found = negated(knowing.model, knowing.tokenizer, forget, scale=2, learning_rate=1e-2, steps=3, lora=Lora(rank=1))
    for one, further, old in zip(found.parameters(), more.parameters(), knowing.model.parameters(), strict=True):
        assert torch.allclose(one, old - 2 * (further - old), atol=1e-5)


def test_bad_requests_and_interruptions_leave_a_plain_model(knowing: Knowing, monkeypatch: pytest.MonkeyPatch) -> None:
    before, modules = state_of(knowing.model), [type(part) for part in knowing.model.modules()]
    with pytest.raises(InputError, match=r"there are.*c_proj"), trainable(knowing.model, Lora(targets=("q_proj",))):
        pass
    for bad in ({"rank": 0}, {"alpha": -1.0}):
        with pytest.raises(InputError, match="must be positive"):
            Lora(**bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is not known"), trainable(nn.Linear(2, 2), Lora()):
        pass
    with (
        trainable(knowing.model, Lora()),
        pytest.raises(InputError, match="adapters already"),
        trainable(knowing.model, Lora()),
    ):
        pass
    with pytest.raises(KeyboardInterrupt), trainable(knowing.model, Lora()):
        raise KeyboardInterrupt
    still = copy.deepcopy(knowing.model).requires_grad_(requires_grad=False)
    with pytest.raises(InputError, match="asks for a gradient"), trainable(still, None):
        pass
    with monkeypatch.context() as patched:
        whole = peft.inject_adapter_in_model

        def interrupted(*given: Any, **named: Any) -> None:
            whole(*given, **named)
            raise KeyboardInterrupt

        patched.setattr(peft, "inject_adapter_in_model", interrupted)
        with pytest.raises(KeyboardInterrupt), trainable(knowing.model, Lora()):
            pass
    monkeypatch.setattr("unlearn.language.lora.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"sisa-unlearn\[language\]"), trainable(knowing.model, Lora()):
        pass
    assert state_of(knowing.model) == before
    assert [type(part) for part in knowing.model.modules()] == modules
    assert all(parameter.requires_grad for parameter in knowing.model.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_a_head_tied_to_embeddings_gets_no_adapter(kind: str) -> None:
    model, ids = made(kind, 30), torch.arange(12).view(2, 6)
    model.get_output_embeddings().weight = model.get_input_embeddings().weight  # type: ignore[operator]
    before = state_of(model)
    with (
        pytest.raises(InputError, match=r"lm_head and .* have one weight between them"),
        trainable(model, Lora(targets=("lm_head",))),
    ):
        pass
    assert state_of(model) == before
    assert not hasattr(model, "peft_config")
    model.config.tie_word_embeddings = False  # type: ignore[union-attr]
    model.get_output_embeddings().weight = nn.Parameter(model.get_input_embeddings().weight.detach().clone())  # type: ignore[operator]
    with trainable(model, Lora(targets=("lm_head",))) as parameters, torch.no_grad():
        for parameter in parameters:
            parameter.fill_(0.1)
        said = logits_of(model, ids)
    assert torch.allclose(logits_of(model, ids), said, atol=1e-4)
