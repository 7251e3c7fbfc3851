"""MUSE's metrics against their definitions, one text, one pair, one token at a time."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unlearn.language.conftest import Knowing, made
from unlearn.errors import InputError
from unlearn.language.hooks import logits_of
from unlearn.language.muse import (
    Pair,
    halves,
    membership,
    memory,
    privacy_leak,
    rouge_f,
    score_muse,
    token_log_probabilities,
)
from unlearn.language.text import encode

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def pairs_of(knowing: Knowing) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Known texts, more of them, and texts of the same form that are not true."""
    facts = knowing.world.facts
    known = [(fact.prompt(), f"{fact.answer} .") for fact in facts]
    untrue = [
        (fact.prompt(), f"{next(one for one in knowing.world.values[fact.relation] if one != fact.answer)} .")
        for fact in facts[:10]
    ]
    return known[:10], known[10:20], untrue


@given(WORDS, WORDS)
def test_the_measure_of_two_texts(said: list[str], answer: list[str]) -> None:
    common = max(
        size
        for size in range(len(answer) + 1)
        if any(
            list(some) == list(other)
            for some in itertools.combinations(answer, size)
            for other in itertools.combinations(said, size)
        )
    )
    if not said or not answer:
        return
    expected = 2 * common / (len(said) + len(answer))
    assert rouge_f(" ".join(said), " ".join(answer)) == pytest.approx(expected)


def test_memory_is_the_mean_over_generated_texts(knowing: Knowing) -> None:
    known, _, untrue = pairs_of(knowing)
    each = []
    for prompt, answer in [*known, *untrue]:
        text = encode(knowing.tokenizer, prompt, answer)
        ids = knowing.model.generate(  # type: ignore[operator]
            text.ids[None, : text.start], max_new_tokens=len(text.answer), do_sample=False
        )
        each.append(rouge_f(knowing.tokenizer.decode(ids[0, text.start :]), answer))
    assert memory(knowing.model, knowing.tokenizer, [*known, *untrue]) == pytest.approx(statistics.mean(each))
    assert memory(knowing.model, knowing.tokenizer, known) > memory(knowing.model, knowing.tokenizer, untrue)


def test_each_token_and_each_pair_of_texts(knowing: Knowing) -> None:
    known, _, untrue = pairs_of(knowing)
    found = token_log_probabilities(knowing.model, knowing.tokenizer, [*known, *untrue], batch=5)
    slow = []
    for prompt, answer in [*known, *untrue]:
        text = encode(knowing.tokenizer, prompt, answer)
        logits = logits_of(knowing.model, text.ids[None])[0].double().log_softmax(-1)
        slow.append([float(logits[at - 1, text.ids[at]].detach()) for at in range(text.start, len(text.ids))])
    for one, other in zip(found, slow, strict=True):
        assert np.allclose(one, other, atol=1e-4)
    # Of two tokens, 40 % is one: the less likely.
    lowest = [min(each) for each in slow]
    above = [(b > a) + (b == a) / 2 for a in lowest[:10] for b in lowest[10:]]
    assert membership(knowing.model, knowing.tokenizer, known, untrue) == pytest.approx(statistics.mean(above))
    assert membership(knowing.model, knowing.tokenizer, known, untrue) < 0.2


def test_all_four(knowing: Knowing) -> None:
    known, others, untrue = pairs_of(knowing)
    never = made("gpt2", len(knowing.tokenizer))
    found = score_muse(
        knowing.model, never, knowing.tokenizer, texts=known, forget=known[:3], retain=others, held_out=untrue
    )
    assert (found.verbatim, found.knowledge, found.utility) == (1, 1, 1)
    assert -1 <= found.leak < -0.5
    itself = score_muse(never, never, knowing.tokenizer, texts=known, forget=known, retain=others, held_out=untrue)
    assert itself.leak == 0
    assert itself.utility < 0.5


def test_the_leak_is_relative() -> None:
    assert privacy_leak(0.0, 0.5) == -1
    assert privacy_leak(0.5, 0.5) == 0
    assert privacy_leak(0.75, 0.5) == pytest.approx(0.5)
    with pytest.raises(InputError, match="was it trained on them"):
        privacy_leak(0.5, 0.0)


def test_a_text_in_two_parts(knowing: Knowing) -> None:
    (prompt, answer), *_ = pairs_of(knowing)[0]
    text = f"{prompt} {answer}"
    for share in (0.0, 0.3, 0.5, 1.0):
        first, second = halves(knowing.tokenizer, text, share)
        assert f"{first} {second}" == text
        count = len(encode(knowing.tokenizer, first).ids)
        # As much as fits, but a word at least in either part.
        assert count <= max(1, share * len(text.split()))
        assert count + 1 > share * len(text.split()) or len(second.split()) == 1
    with pytest.raises(InputError, match="one word"):
        halves(knowing.tokenizer, "F0")


def test_nothing_to_ask_for(knowing: Knowing) -> None:
    known, others, _ = pairs_of(knowing)
    for forget, held_out in (([], others), (known, [])):
        with pytest.raises(InputError, match="some of each"):
            membership(knowing.model, knowing.tokenizer, forget, held_out)
    with pytest.raises(InputError, match="no pairs"):
        memory(knowing.model, knowing.tokenizer, [])
