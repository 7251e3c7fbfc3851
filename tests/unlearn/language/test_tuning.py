"""Unlearning by tuning: what it moves, what it leaves, and what relearning and rounding show."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

from tests.unlearn.language.conftest import Knowing, state_of
from unlearn.errors import InputError
from unlearn.language.tuning import Loss, Pair, Tuning, knowledge, quantised, relearnt, tuned


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


def test_what_was_hidden_comes_back(knowing: Knowing) -> None:
    """Relearning half of what was forgotten brings some of the other half back; a model that never knew learns none."""
    forget, retain = parts(knowing)
    found = tuned(knowing.model, knowing.tokenizer, forget, retain, Tuning(epochs=10, learning_rate=1e-3))
    shown, others = forget[::2], forget[1::2]
    again = relearnt(found, knowing.tokenizer, shown, learning_rate=1e-3, steps=30)
    assert knowledge(again, knowing.tokenizer, shown).recall > 0.9
    assert knowledge(again, knowing.tokenizer, others).recall > knowledge(found, knowing.tokenizer, others).recall


def test_rounded_weights_lie_on_a_grid(knowing: Knowing) -> None:
    before = state_of(knowing.model)
    found = quantised(knowing.model, 4)
    assert state_of(knowing.model) == before
    for parameter in found.parameters():
        if parameter.ndim == 2:
            for row in parameter:
                assert len(row.unique()) <= 15
    assert knowledge(quantised(knowing.model, 8), knowing.tokenizer, parts(knowing)[1]).recall > 0.9
    with pytest.raises(InputError, match="2 to 8"):
        quantised(knowing.model, 1)


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
    with torch.no_grad():
        next(knowing.model.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="the loss is nan"):
        tuned(knowing.model, knowing.tokenizer, forget, retain)
