"""Unlearning by tuning: what it moves, and what it leaves."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

from tests.unlearn.language.conftest import Knowing, state_of
from unlearn.errors import InputError
from unlearn.language.lora import Lora
from unlearn.language.relearning import Pair, knowledge, relearnt
from unlearn.language.tuning import Loss, Tuning, negated, tuned


def parts(knowing: Knowing) -> tuple[list[Pair], list[Pair]]:
    pairs = [(fact.prompt(at), fact.answer) for fact in knowing.world.facts for at in (0, 1)]
    return pairs[:16], pairs[16:]


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_loss_forgets_and_keeps(knowing: Knowing, loss: Loss) -> None:
    forget, retain = parts(knowing)
    before = state_of(knowing.model)
    settings = {"ga": {"epochs": 6}, "npo": {"epochs": 8}, "rmu": {"layer": 1, "epochs": 30}, "simnpo": {"beta": 2.5}}
    options = {"epochs": 15, "gamma": 10.0 if loss == "undial" else 0.0, **settings.get(loss, {})}
    config = Tuning(loss=loss, learning_rate=1e-3, **options)  # type: ignore[arg-type]
    found = tuned(knowing.model, knowing.tokenizer, forget, retain, config)
    assert state_of(knowing.model) == before
    assert knowledge(knowing.model, knowing.tokenizer, forget).recall == 1
    lost, kept = (knowledge(found, knowing.tokenizer, pairs).recall for pairs in (forget, retain))
    assert lost < 0.5
    assert kept > lost + 0.3, "what is retained is hurt less, by gradient ascent not by much"
    assert all(parameter.grad is None for parameter in found.parameters())


def test_the_same_seed_gives_the_same_model(knowing: Knowing) -> None:
    forget, retain = parts(knowing)
    made = [state_of(tuned(knowing.model, knowing.tokenizer, forget, retain, Tuning(epochs=1))) for _ in range(2)]
    assert made[0] == made[1]
    other = tuned(knowing.model, knowing.tokenizer, forget, retain, Tuning(epochs=1, seed=1))
    assert state_of(other) != made[0]


def test_one_step_of_gradient_ascent_by_hand(knowing: Knowing) -> None:
    forget = parts(knowing)[0][:1]
    config = Tuning(loss="ga", keep="nothing", epochs=1, learning_rate=1e-3)
    found = tuned(knowing.model, knowing.tokenizer, forget, [], config)
    by_hand = copy.deepcopy(knowing.model)
    ids = knowing.tokenizer(f"{forget[0][0]} {forget[0][1]}", return_tensors="pt")["input_ids"]
    likelihood = by_hand(ids).logits[0, -2].log_softmax(-1)[ids[0, -1]]
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=0.0)
    likelihood.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
    optimizer.step()
    for one, other in zip(found.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_task_vector_goes_back_as_far_as_training_goes_on(knowing: Knowing) -> None:
    forget, retain = parts(knowing)
    before = state_of(knowing.model)
    found = negated(knowing.model, knowing.tokenizer, forget, scale=0.5, learning_rate=3e-3, steps=4)
    more = relearnt(knowing.model, knowing.tokenizer, forget, learning_rate=3e-3, steps=4)
    assert state_of(knowing.model) == before
    for now, then, on in zip(found.parameters(), knowing.model.parameters(), more.parameters(), strict=True):
        assert torch.allclose(now, 1.5 * then - 0.5 * on, atol=1e-6)
    further = negated(knowing.model, knowing.tokenizer, forget, scale=3.0, learning_rate=3e-3, steps=4)
    lost, kept = (knowledge(further, knowing.tokenizer, pairs).probability for pairs in (forget, retain))
    assert lost < kept


def test_bad_input(knowing: Knowing) -> None:
    forget, retain = parts(knowing)
    with pytest.raises(InputError, match="no pairs to forget"):
        tuned(knowing.model, knowing.tokenizer, [], retain)
    with pytest.raises(InputError, match="needs pairs to retain"):
        tuned(knowing.model, knowing.tokenizer, forget, [])
    with pytest.raises(InputError, match="to be forgotten and retained"):
        tuned(knowing.model, knowing.tokenizer, forget, [*retain, forget[0]])
    with pytest.raises(InputError, match="must be positive"):
        Tuning(beta=0)
    with pytest.raises(InputError, match="reinforcement must be positive"):
        Tuning(reinforcement=0)
    with pytest.raises(InputError, match="there is no loss 'nop'"):
        Tuning(loss="nop")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no keep 'all': choose one of nothing, likelihood, divergence"):
        Tuning(keep="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="keep_weight must not be negative"):
        Tuning(keep_weight=-1.0)
    with pytest.raises(InputError, match=r"by 0\.0 nothing is unlearnt"):
        Tuning(loss="undial")
    still = copy.deepcopy(knowing.model).requires_grad_(requires_grad=False)
    for tune in (
        lambda: tuned(still, knowing.tokenizer, forget, retain),
        lambda: negated(still, knowing.tokenizer, forget),
        lambda: relearnt(still, knowing.tokenizer, forget),
    ):
        with pytest.raises(InputError, match="no parameter of the model asks for a gradient"):
            tune()
    with torch.no_grad():
        next(knowing.model.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="the loss is nan"):
        tuned(knowing.model, knowing.tokenizer, forget, retain)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_tuning_where_nothing_asks_for_gradients(knowing: Knowing, lora: Lora | None) -> None:
    forget, retain = parts(knowing)
    with torch.no_grad():
        found = tuned(knowing.model, knowing.tokenizer, forget, retain, Tuning(epochs=1), lora=lora)
        assert not torch.is_grad_enabled()
    assert state_of(found) != state_of(knowing.model)
