"""Edits that are hooks: they leave nothing behind, lie on weight edits, and are seen with and without a cache."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
import torch

from tests.unlearn.language.conftest import KINDS, Knowing, made, state_of
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Applied, HookEdit
from unlearn.language.editing.calinet import CaliNet
from unlearn.language.editing.fine_tuning import FineTuning
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.registry import EDITORS, Guard, edit
from unlearn.language.editing.serac import Serac
from unlearn.language.editing.t_patcher import TPatcher
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode
from unlearn.methods.base import Guarantee

NAMES = [name for name, editor in EDITORS.items() if not editor.card.edits_weights]


def quick(knowing: Knowing, name: str) -> Any:
    """A configuration that trains next to nothing."""
    lessons = lessons_of(knowing, edits_of(knowing, 2), each=1)
    return {
        "ike": Ike(lessons, number=2),
        "t-patcher": TPatcher(steps=2),
        # Without training, everything that begins alike is in the scope of an edit.
        "serac": Serac(lessons, scope_steps=0, steps=2),
        "calinet": CaliNet(steps=2),
    }[name]


def applied(model: torch.nn.Module, knowing: Knowing, name: str) -> Applied:
    return edit(
        model, knowing.tokenizer, edits_of(knowing, 2), name, quick(knowing, name),
        texts=knowing.world.sentences[:20], guard=Guard(largest=1e9),
    )  # fmt: skip


def hooks_on(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_they_claim_suppression() -> None:
    assert set(NAMES) == {"ike", "t-patcher", "serac", "calinet"}
    assert {EDITORS[name].card.guarantee for name in NAMES} == {Guarantee.SUPPRESSION}


@pytest.mark.parametrize("name", NAMES)
def test_after_revert_no_hook_and_no_difference_is_left(knowing: Knowing, name: str) -> None:
    asked = edits_of(knowing, 2)
    ids = encode(knowing.tokenizer, asked[0].prompt).ids[None]
    before, said = state_of(knowing.model), logits_of(knowing.model, ids).detach()
    found = applied(knowing.model, knowing, name)
    assert isinstance(found, HookEdit)
    assert found.active
    assert state_of(knowing.model) == before, "no weight changes"
    assert all(parameter.requires_grad and parameter.grad is None for parameter in knowing.model.parameters())
    after, hooks = logits_of(knowing.model, ids), hooks_on(knowing.model)
    assert after.shape == said.shape
    assert not torch.equal(after, said)
    assert hooks == 2
    found.apply()
    assert hooks_on(knowing.model) == hooks, "it is made once"
    found.revert()
    found.revert()
    assert not found.active
    assert hooks_on(knowing.model) == 0
    assert torch.equal(logits_of(knowing.model, ids), said)
    with found:
        assert torch.equal(logits_of(knowing.model, ids), after)
    assert found.size == sum(part.numel() for part in found.parts.values()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_edit(knowing: Knowing, name: str) -> None:
    digests = set()
    for _ in range(2):
        with applied(knowing.model, knowing, name) as found:
            digests.add(found.digest)
    assert len(digests) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_on_every_kind_of_model_with_and_without_a_cache(knowing: Knowing, name: str, kind: str) -> None:
    """Greedy generation from prompts padded on the left, against one forward pass of the whole text for each token."""
    model = made(kind, len(knowing.tokenizer))
    longest = encode(knowing.tokenizer, edits_of(knowing)[0].prompt).ids
    ids = torch.stack([longest, torch.cat([torch.zeros(1, dtype=torch.int64), longest[:-1]])])
    mask = torch.ones_like(ids)
    mask[1, 0] = 0
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "output_logits": True}
    with applied(model, knowing, name), torch.no_grad():
        said = [
            model.generate(  # type: ignore[operator]
                ids, attention_mask=mask, use_cache=use, return_dict_in_generate=True, **options
            )
            for use in (True, False)
        ]
        slow = [logits_of(model, ids[row, int(row) :][None])[0, -1] for row in range(2)]
        whole, wide = ids, mask
        for _ in range(4):
            token = logits_of(model, whole, wide)[:, -1:].argmax(-1)
            whole, wide = torch.cat([whole, token], 1), torch.cat([wide, torch.ones_like(token)], 1)
    assert torch.equal(said[0].sequences, said[1].sequences)
    assert torch.equal(said[0].sequences, whole)
    for one, other in zip(said[0].logits, said[1].logits, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(said[0].logits[0], torch.stack(slow), atol=1e-4), "padding on the left changes nothing"
    assert hooks_on(model) == 0


@pytest.mark.parametrize("name", NAMES)
def test_they_lie_on_weight_edits(knowing: Knowing, name: str) -> None:
    asked = edits_of(knowing)
    ids, before = encode(knowing.tokenizer, asked[0].prompt).ids[None], state_of(knowing.model)
    below = edit(knowing.model, knowing.tokenizer, asked, "ft-m", FineTuning(layer=0), guard=Guard(largest=1e9))
    said = logits_of(knowing.model, ids).detach()
    above = applied(knowing.model, knowing, name)
    below.revert()
    assert state_of(knowing.model) == before
    assert above.active
    below.apply()
    above.revert()
    assert torch.equal(logits_of(knowing.model, ids), said)
    below.revert()
    assert state_of(knowing.model) == before


@pytest.mark.parametrize("name", ["ike", "serac"])
def test_a_cache_from_before_the_edit_is_refused(knowing: Knowing, name: str) -> None:
    ids = encode(knowing.tokenizer, edits_of(knowing)[0].prompt).ids[None]
    with torch.no_grad():
        old = knowing.model(ids, use_cache=True)
    cache = {key: value for key, value in old.items() if key in ("cache", "past_key_values")}
    with applied(knowing.model, knowing, name), pytest.raises(InputError, match="begin with an empty one"):
        knowing.model(ids[:, -1:], attention_mask=torch.ones(1, ids.shape[1] + 1, dtype=torch.int64), **cache)


def test_an_edit_that_cannot_be_tried_is_taken_back(knowing: Knowing) -> None:
    """The demonstrations leave no place for a whole query; with more of them, for none at all."""
    model = made("gpt2", len(knowing.tokenizer))
    lessons = lessons_of(knowing, edits_of(knowing), each=1)
    for number, message in ((4, "more than the 64 this model takes"), (32, "the model reads 64 at most")):
        with pytest.raises(InputError, match=message):
            edit(model, knowing.tokenizer, edits_of(knowing), "ike", Ike(lessons, number=number))
        assert hooks_on(model) == 0


def test_an_edit_does_not_keep_its_model_alive(knowing: Knowing) -> None:
    model = made("gpt2", len(knowing.tokenizer))
    found, weak = applied(model, knowing, "calinet"), ref(model)
    found.revert()
    del model
    gc.collect()
    assert weak() is None
    with pytest.raises(InputError, match="does not exist any more"):
        found.apply()
