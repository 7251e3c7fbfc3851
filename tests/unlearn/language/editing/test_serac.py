"""SERAC: out of scope the base model, bit for bit; within it what the counterfactual model says of "edit query"."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from tests.unlearn.language.conftest import Knowing, made, state_of
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.editing.base import HookEdit, Task
from unlearn.language.editing.ike import Ike, ike
from unlearn.language.editing.serac import Aside, Memory, Scope, Serac, serac, trained_counterfactual
from unlearn.language.hooks import logits_of
from unlearn.language.metrics import Probe, answered, score_edit
from unlearn.language.text import encode, pad


@pytest.fixture(scope="module")
def trained(_trained: Knowing) -> HookEdit:
    """Three edits by a classifier and a model that were trained on all other facts, once."""
    task = Task(_trained.model, _trained.tokenizer, edits_of(_trained, 3), ())
    return serac(task, Serac(lessons_of(_trained, edits_of(_trained, 3))))


@pytest.fixture
def edited(_trained: Knowing, trained: HookEdit) -> Knowing:
    """The model with the edits made, until the test ends."""
    trained.apply()
    yield _trained  # type: ignore[misc]
    trained.revert()


def aside_of(knowing: Knowing, bias: float = 1.0, number: int = 2) -> Aside:
    """A classifier with random weights, and another model with random weights."""
    weight = knowing.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
    scope = Scope(48, 8, torch.Generator().manual_seed(0))
    with torch.no_grad():
        scope.bias.fill_(bias)
        scope.attention.normal_(generator=torch.Generator().manual_seed(1))
    asked = edits_of(knowing, number)
    prompts = [encode(knowing.tokenizer, one.prompt).ids for one in asked]
    stated = [encode(knowing.tokenizer, f"{one.prompt} {one.target_new} .").ids for one in asked]
    return Aside(weight, scope, made("gpt2", len(knowing.tokenizer)), Memory(prompts, stated))


def test_the_scope_is_that_of_each_beginning_alone(knowing: Knowing) -> None:
    """Against the formula, one beginning and one edit at a time; padding on the left or right changes nothing."""
    aside, weight = aside_of(knowing, 0.5), knowing.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
    scope: Scope = aside._scope

    def phi(ids: list[int]) -> torch.Tensor:
        weights = [float(torch.exp(scope.attention.detach() @ weight[token])) for token in ids]
        return sum(w * weight[token] for w, token in zip(weights, ids, strict=True)) / sum(weights)  # type: ignore[return-value]

    ids = encode(knowing.tokenizer, edits_of(knowing)[0].prompt + " language1 .").ids
    expected = []
    for end in range(1, len(ids) + 1):
        query = phi(ids[:end].tolist())
        odds = [
            float(0.5 - ((scope.map.detach() @ (phi(z.tolist()) - query)) ** 2).sum()) for z in aside._memory.prompts
        ]
        expected.append(odds.index(max(odds)) if max(odds) >= 0 else -1)
    assert len(set(expected)) > 1, "some beginnings are within a scope, and some are not"
    assert aside.which(ids[None], torch.ones_like(ids)[None])[0].tolist() == expected
    padded, mask = torch.zeros((1, len(ids) + 3), dtype=torch.int64), torch.zeros((1, len(ids) + 3), dtype=torch.int64)
    padded[0, 2:-1], mask[0, 2:-1] = ids, 1
    assert aside.which(padded, mask)[0].tolist() == [-1, -1, *expected, -1]


def test_within_and_without(knowing: Knowing) -> None:
    aside = aside_of(knowing, 0.5)
    texts = [encode(knowing.tokenizer, text) for text in [*knowing.world.sentences[:40:5], edits_of(knowing)[0].prompt]]
    padded = pad(texts, 0)
    base = logits_of(knowing.model, padded.ids, padded.mask).detach()
    found, which = aside.combined(padded.ids, padded.mask, base), aside.which(padded.ids, padded.mask)
    assert {-1, 0} <= set(which.flatten().tolist())
    for row, text in enumerate(texts):
        for at in range(len(text.ids)):
            one = int(which[row, at])
            if one < 0:
                assert torch.equal(found[row, at], base[row, at])
            else:
                stated = aside._memory.stated[one]
                other = logits_of(aside._model, torch.cat([stated, text.ids[: at + 1]])[None])[0, -1]
                assert torch.allclose(found[row, at], other, atol=1e-4)


def test_out_of_every_scope_nothing_is_touched(knowing: Knowing) -> None:
    ids = encode(knowing.tokenizer, knowing.world.sentences[0]).ids[None]
    base = logits_of(knowing.model, ids).detach()
    assert aside_of(knowing, -1.0).combined(ids, torch.ones_like(ids), base) is base


def test_padding_takes_no_place_in_a_narrow_window(knowing: Knowing) -> None:
    stated = encode(knowing.tokenizer, "the bo1 .").ids
    model = made("mistral", len(knowing.tokenizer), sliding_window=len(stated) + 3)
    weight = torch.zeros(len(knowing.tokenizer), 48)
    aside = Aside(weight, Scope(48, 8, torch.Generator()), model, Memory([stated], [stated]))
    query = encode(knowing.tokenizer, knowing.world.sentences[3]).ids
    expected = logits_of(model, torch.cat([stated, query])[None])[:, len(stated) :]
    ids = torch.cat([query.new_zeros(4), query, query.new_zeros(1)])[None]
    mask = torch.tensor([[0] * 4 + [1] * len(query) + [0]])
    assert torch.allclose(aside.counterfactual(stated, ids, mask)[:, 4:-1], expected, atol=1e-5)


def test_edits_reach_other_wordings_and_leave_other_subjects(edited: Knowing) -> None:
    asked = edits_of(edited, 3)
    facts = {fact.prompt(): fact for fact in edited.world.facts}
    probes = [
        Probe("generalization", facts[one.prompt].prompt(wording), one.target_new)
        for one in asked for wording in range(1, 5)
    ]  # fmt: skip
    found = score_edit(edited.model, edited.tokenizer, asked, probes)
    assert found.accuracy["reliability"] == found.generated["reliability"] == found.success["reliability"] == 1
    assert found.accuracy["generalization"] >= 0.9
    others = [fact for fact in edited.world.facts if fact.subject not in {one.subject for one in asked}]
    kept = answered(edited.model, edited.tokenizer, [(fact.prompt(), fact.answer) for fact in others])
    assert float(kept.double().mean()) >= 0.8


def test_the_cache_does_not_change_what_is_generated(edited: Knowing) -> None:
    asked = edits_of(edited, 3)
    ids = torch.stack([encode(edited.tokenizer, one.prompt).ids[:3] for one in asked])
    said = [
        edited.model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, eos_token_id=None,
            use_cache=use, output_logits=True, return_dict_in_generate=True,
        )
        for use in (True, False)
    ]  # fmt: skip
    assert torch.equal(said[0].sequences, said[1].sequences)
    for one, other in zip(said[0].logits, said[1].logits, strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_a_cache_of_a_fixed_size_is_refused(edited: Knowing) -> None:
    ids = encode(edited.tokenizer, edits_of(edited)[0].prompt).ids[None]
    with pytest.raises(ConfigurationError, match="generate with a cache that grows"):
        edited.model.generate(ids, max_new_tokens=2, cache_implementation="static")  # type: ignore[operator]


def test_beams_take_along_what_was_read(knowing: Knowing) -> None:
    aside = aside_of(knowing)
    texts = torch.randint(3, 40, (12, 4), generator=torch.Generator().manual_seed(0))
    handles = [
        knowing.model.register_forward_pre_hook(aside.called, with_kwargs=True),
        knowing.model.register_forward_hook(aside.answered, with_kwargs=True),
    ]
    said = [
        knowing.model.generate(  # type: ignore[operator]
            texts, attention_mask=torch.ones_like(texts), max_new_tokens=6, num_beams=3, do_sample=False,
            eos_token_id=None, use_cache=use,
        )
        for use in (True, False)
    ]  # fmt: skip
    for handle in handles:
        handle.remove()
    assert torch.equal(*said)


def test_the_counterfactual_model_is_an_in_context_learner(knowing: Knowing, trained: HookEdit) -> None:
    """The base model does not read its context, so IKE does not edit it; the model tuned to do so, it edits."""
    model = made_from(knowing, trained)
    asked = edits_of(knowing, 3)
    for one in asked:
        with ike(Task(model, knowing.tokenizer, [one], ()), Ike(fact="{} . ", use="{} . ", query="")):
            assert score_edit(model, knowing.tokenizer, [one]).generated == {"reliability": 1}


def made_from(knowing: Knowing, trained: HookEdit) -> nn.Module:
    """The counterfactual model of an edit, from its numbers."""
    model = copy.deepcopy(knowing.model)
    tuned = {name.removeprefix("counterfactual."): part for name, part in trained.parts.items()}
    model.load_state_dict({**model.state_dict(), **{k: v for k, v in tuned.items() if k in model.state_dict()}})
    return model


def test_another_model_may_be_tuned(knowing: Knowing) -> None:
    task = Task(knowing.model, knowing.tokenizer, edits_of(knowing), ())
    small = made("gpt2", len(knowing.tokenizer))
    before = state_of(small)
    config = Serac(lessons_of(knowing, task.edits, each=1), small, steps=1)
    tuned = trained_counterfactual(task, config.lessons, config)
    assert state_of(small) == before
    assert state_of(tuned) != before
    with pytest.raises(ConfigurationError, match="the counterfactual model has 7 tokens"):
        trained_counterfactual(task, config.lessons, dataclasses.replace(config, counterfactual=made("gpt2", 7)))


def test_errors(knowing: Knowing) -> None:
    task = Task(knowing.model, knowing.tokenizer, edits_of(knowing), ())
    with pytest.raises(InputError, match="serac is trained before it edits"):
        serac(task, Serac())
    with pytest.raises(InputError, match="holds an edited fact"):
        serac(task, Serac(lessons_of(knowing, [])))
    with pytest.raises(InputError, match="must be positive"):
        Serac(batch=0)
