"""Relearning: what it shows of a model that only hides, and of one that never knew."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.unlearn.language.conftest import Knowing, state_of
from unlearn.errors import InputError
from unlearn.language.relearning import Pair, knowledge, relearnt, returned
from unlearn.language.text import encode
from unlearn.language.tuning import Tuning, tuned


def parts(knowing: Knowing) -> tuple[list[Pair], list[Pair]]:
    pairs = [(fact.prompt(at), fact.answer) for fact in knowing.world.facts for at in (0, 1)]
    return pairs[:16], pairs[16:]


def test_what_was_hidden_comes_back(knowing: Knowing) -> None:
    """Relearning half of what was forgotten brings some of the other half back; what was never learnt stays away."""
    forget, retain = parts(knowing)
    found = tuned(knowing.model, knowing.tokenizer, forget, retain, Tuning(epochs=10, learning_rate=1e-3))
    shown, others = forget[::2], forget[1::2]
    again = relearnt(found, knowing.tokenizer, shown, learning_rate=1e-3, steps=30)
    assert knowledge(again, knowing.tokenizer, shown).recall > 0.9
    assert knowledge(again, knowing.tokenizer, others).recall > knowledge(found, knowing.tokenizer, others).recall


def test_two_steps_by_hand(knowing: Knowing) -> None:
    shown = [(prompt, f"{answer} .") for prompt, answer in parts(knowing)[0][:3]]
    knowing.model.double()  # Adam's first steps are signs of gradients, however small
    before = state_of(knowing.model)
    found = relearnt(knowing.model, knowing.tokenizer, shown, learning_rate=1e-3, steps=2)
    assert state_of(knowing.model) == before
    by_hand = copy.deepcopy(knowing.model)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(2):
        losses = []
        for pair in shown:
            text = encode(knowing.tokenizer, *pair)
            logits = by_hand(text.ids[None]).logits[0]
            losses.append(torch.nn.functional.cross_entropy(logits[text.start - 1 : -1], text.answer))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    for one, other in zip(found.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-8)


def test_knowledge_of_each_pair_alone(knowing: Knowing) -> None:
    pairs = [*parts(knowing)[0][:2], ("F0 L0 speaks", "unknown")]
    right, likely = 0, 0.0
    for pair in pairs:
        text = encode(knowing.tokenizer, *pair)
        scores = knowing.model(text.ids[None]).logits[0, text.start - 1].detach().softmax(-1)
        right += int(scores.argmax() == text.answer[0])
        likely += float(scores[text.answer[0]])
    found = knowledge(knowing.model, knowing.tokenizer, pairs)
    assert (found.recall, found.probability) == (pytest.approx(right / 3), pytest.approx(likely / 3, rel=1e-4))


def test_what_came_back_is_what_came_back_beyond_the_reference() -> None:
    assert returned(0.1, 0.7, 0.1, 0.2) == pytest.approx(0.5)
    assert returned(0.0, 0.3, 0.2, 0.5) == pytest.approx(0.0)


def test_nothing_shown(knowing: Knowing) -> None:
    with pytest.raises(InputError, match="no pairs are shown"):
        relearnt(knowing.model, knowing.tokenizer, [])
