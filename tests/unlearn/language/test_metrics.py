"""Scores of edits against asking one prompt at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.unlearn.language.conftest import Knowing
from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.hooks import logits_of
from unlearn.language.metrics import (
    Probe,
    accuracies,
    answer_log_probability,
    answered,
    generates,
    meaningful,
    score_edit,
)
from unlearn.language.text import encode


def pairs_of(knowing: Knowing) -> list[tuple[str, str]]:
    known = [(fact.prompt(), f"{fact.answer} .") for fact in knowing.world.facts[:6]]
    return [*known, ("F0 speaks", "city1"), (knowing.world.facts[0].prompt(), f"{knowing.world.facts[0].answer} L1")]


def test_answers_one_by_one(knowing: Knowing) -> None:
    pairs = pairs_of(knowing)
    right, likely, said = [], [], []
    for prompt, answer in pairs:
        text = encode(knowing.tokenizer, prompt, answer)
        logits = logits_of(knowing.model, text.ids[None])[0]
        places = range(text.start, len(text.ids))
        right.append(all(int(logits[at - 1].argmax()) == int(text.ids[at]) for at in places))
        likely.append(sum(float(logits[at - 1].double().log_softmax(-1)[text.ids[at]]) for at in places))
        whole = knowing.model.generate(  # type: ignore[operator]
            text.ids[None, : text.start], max_new_tokens=len(text.answer), do_sample=False
        )
        said.append(whole[0, text.start :].tolist() == text.answer.tolist())
    assert answered(knowing.model, knowing.tokenizer, pairs, batch=3).tolist() == right
    assert generates(knowing.model, knowing.tokenizer, pairs).tolist() == said
    assert np.allclose(answer_log_probability(knowing.model, knowing.tokenizer, pairs, batch=3), likely, atol=1e-4)
    assert 0 < sum(right) < len(right)


def test_an_unedited_model_keeps_everything_and_has_learnt_nothing(knowing: Knowing) -> None:
    rng = np.random.default_rng(1)
    fact = knowing.world.facts[3]
    asked = knowing.world.other(fact, rng)
    found = score_edit(knowing.model, knowing.tokenizer, [asked], knowing.world.probes(fact, asked, rng))
    assert found.accuracy == {
        "reliability": 0, "generalization": 0, "attribute_locality": 1, "shared_name_locality": 1, "locality": 1,
    }  # fmt: skip
    assert found.success == {"reliability": 0, "generalization": 0}
    assert found.numbers["generalization"] == 4
    assert found.numbers["attribute_locality"] == 1


def test_success_is_not_accuracy(knowing: Knowing) -> None:
    """The old answer made unlikely, but another than the new one likeliest."""
    fact = knowing.world.facts[3]
    asked = knowing.world.other(fact, np.random.default_rng(1))
    head = knowing.model.get_submodule("lm_head")

    def lowered(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        found = out.clone()
        found[..., knowing.tokenizer.convert_tokens_to_ids(asked.target_old)] -= 1e4
        found[..., 5] += 1e3
        return found

    handle = head.register_forward_hook(lowered)
    found = score_edit(knowing.model, knowing.tokenizer, [asked])
    handle.remove()
    assert found.accuracy["reliability"] == 0
    assert found.success["reliability"] == 1


def test_success_compares_with_the_old_answer_of_the_same_subject(knowing: Knowing) -> None:
    """Two facts are to be answered alike, as they are where both are to be unlearnt."""
    facts = knowing.world.facts
    first = facts[0]
    second = next(fact for fact in facts if fact.relation != first.relation and fact.subject != first.subject)
    new = next(value for value in knowing.world.values[first.relation] if value != first.answer)
    edits = [Edit(fact.prompt(), fact.subject, new, fact.answer) for fact in (first, second)]
    probes = [Probe("generalization", fact.prompt(1), new) for fact in (first, second)]
    either = [(first.prompt(1), new), (first.prompt(1), second.answer)]
    likely, unlikely = answer_log_probability(knowing.model, knowing.tokenizer, either).tolist()
    assert likely > unlikely, "beside the other's old answer the new one would be a success"
    nobody = Probe("generalization", "the home of F0 is in", new)
    found = score_edit(knowing.model, knowing.tokenizer, edits, [*probes, nobody])
    assert found.success == {"reliability": 0, "generalization": 0}


def test_impossible_tokens_count_in_answers_alone(knowing: Knowing) -> None:
    pairs = [(fact.prompt(), fact.answer) for fact in knowing.world.facts[:2]]
    pairs.append((pairs[0][0], f"{pairs[0][1]} . {pairs[0][1]}"))  # so that the others are padded
    before = answer_log_probability(knowing.model, knowing.tokenizer, pairs)
    asked = encode(knowing.tokenizer, *pairs[0])
    head = knowing.model.get_output_embeddings()  # type: ignore[operator]

    def likelihoods(*ruled_out: int) -> torch.Tensor:
        places = torch.tensor(ruled_out)
        hook = head.register_forward_hook(lambda _, __, said: said.index_fill(-1, places, -math.inf))
        found = answer_log_probability(knowing.model, knowing.tokenizer, pairs)
        hook.remove()
        return found

    without = likelihoods(int(asked.ids[1]), knowing.tokenizer.pad_token_id)
    assert torch.allclose(without, before, atol=0.1)
    assert likelihoods(int(asked.answer[0]))[0] == -math.inf


def test_nothing_to_score(knowing: Knowing) -> None:
    with pytest.raises(InputError, match="no edits"):
        score_edit(knowing.model, knowing.tokenizer, [], [Probe("locality", "F1", "L1")])
    for ask in (answered, answer_log_probability):
        with pytest.raises(InputError, match="no pairs"):
            ask(knowing.model, knowing.tokenizer, [])


def test_one_pass_over_all_kinds_is_one_for_each(knowing: Knowing) -> None:
    rng = np.random.default_rng(1)
    fact = knowing.world.facts[3]
    asked = knowing.world.other(fact, rng)
    probes = [*knowing.world.probes(fact, asked, rng), Probe("locality", fact.prompt(), asked.target_new)]
    found = accuracies(knowing.model, knowing.tokenizer, [asked], probes, batch=7)
    for kind in {probe.kind for probe in probes}:
        pairs = [(probe.prompt, probe.answer) for probe in probes if probe.kind == kind]
        right = [bool(answered(knowing.model, knowing.tokenizer, [pair])) for pair in pairs]
        assert found[kind] == pytest.approx(sum(right) / len(right))
    assert 0 < found["locality"] < 1
    assert found["reliability"] == 0


def test_what_the_model_could_not_answer_before_is_not_asked(knowing: Knowing) -> None:
    first, second = knowing.world.facts[:2]
    known = (first.prompt(), first.answer), (second.prompt(), second.answer)
    unknown = (first.prompt(), knowing.world.other(first, np.random.default_rng(0)).target_new)
    probes = [
        Probe("portability_one_hop", "x", "y", known),
        Probe("portability_alias", "x", "y", (known[0], unknown)),
        Probe("locality", "x", "y"),
    ]
    assert meaningful(knowing.model, knowing.tokenizer, probes) == [probes[0], probes[2]]
    assert meaningful(knowing.model, knowing.tokenizer, probes[2:]) == probes[2:]
