"""Causal tracing against hooks put up by hand, on every kind of model, and on models built to look up in one place."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from tests.unlearn.language.conftest import KINDS, Knowing, made, state_of
from tests.unlearn.language.editing.lessons import edits_of
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.editing.base import Edit
from unlearn.language.editing.locate import PLACES, Tracing, locate
from unlearn.language.hooks import anatomy, logits_of

FEW = Tracing(samples=3)


def test_an_effect_is_that_of_hooks_put_up_by_hand(knowing: Knowing) -> None:
    (asked,) = edits_of(knowing, 1)
    found = locate(knowing.model, knowing.tokenizer, [asked], dataclasses.replace(FEW, samples=2, seed=5))
    ids = torch.tensor(knowing.tokenizer(asked.prompt)["input_ids"])[None]
    words = asked.prompt.split()
    assert words[:2] == asked.subject.split()  # A word is a token here, and each subject is two of them.
    block, down = anatomy(knowing.model).block(0), anatomy(knowing.model).down(1).module
    kept: list[torch.Tensor] = []
    handle = down.register_forward_hook(lambda _, __, out: kept.append(out))
    before: list[torch.Tensor] = []
    other = block.register_forward_pre_hook(lambda _, given: before.append(given[0]))
    with torch.no_grad():
        clean = logits_of(knowing.model, ids)[0, -1].softmax(-1)
    handle.remove(), other.remove()
    about = before[0][0, :2]
    noise = torch.randn((2, *about.shape), generator=torch.Generator().manual_seed(5)) * about.std() * 3.0

    def chance(draw: int, *, heal: int | None) -> float:
        def shaken(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            states = given[0].clone()
            states[0, :2] += noise[draw]
            return (states, *given[1:])

        def healed(_: nn.Module, __: object, out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            if heal is not None:
                out[0, heal] = kept[0][0, heal]
            return out

        handles = block.register_forward_pre_hook(shaken), down.register_forward_hook(healed)
        with torch.no_grad():
            said = logits_of(knowing.model, ids)[0, -1].softmax(-1)
        for one in handles:
            one.remove()
        return float(said[clean.argmax()])

    assert found.clean == pytest.approx(float(clean.max()), abs=1e-6)
    corrupted = (chance(0, heal=None) + chance(1, heal=None)) / 2
    assert found.corrupted == pytest.approx(corrupted, abs=1e-6)
    for place, position in (("subject_first", 0), ("subject_last", 1), ("last", len(words) - 1)):
        wanted = (chance(0, heal=position) + chance(1, heal=position)) / 2 - corrupted
        assert float(found.at(place)[1]) == pytest.approx(wanted, abs=1e-6)


def test_effects_and_errors_are_over_facts(knowing: Knowing) -> None:
    edits = edits_of(knowing, 3)
    together = locate(knowing.model, knowing.tokenizer, edits, FEW)
    rng_alone = [locate(knowing.model, knowing.tokenizer, edits[:number], FEW) for number in (1, 2)]
    assert together.facts == 3
    assert rng_alone[0].error.isnan().all()
    first = rng_alone[0].at("last")
    second = 2 * rng_alone[1].at("last") - first
    pair = torch.stack([first, second])
    assert torch.allclose(rng_alone[1].error[PLACES.index("last")], pair.std(0) / math.sqrt(2))
    assert together.at("subject_middle").isnan().all()


def test_the_state_before_the_answer_is_all_that_the_answer_depends_on(knowing: Knowing) -> None:
    found = locate(knowing.model, knowing.tokenizer, edits_of(knowing, 2), dataclasses.replace(FEW, module="block"))
    assert float(found.at("last")[-1]) == pytest.approx(found.clean - found.corrupted, abs=1e-6)
    # What the last block makes of any other token is read by nobody.
    for place in ("subject_first", "subject_last"):
        assert float(found.at(place)[-1]) == pytest.approx(0, abs=1e-6)
    assert found.strongest[0] == found.site == "last"


def test_a_window_puts_back_several_blocks(knowing: Knowing) -> None:
    edits = edits_of(knowing, 2)
    blocks = anatomy(knowing.model).n_blocks
    wide = locate(knowing.model, knowing.tokenizer, edits, dataclasses.replace(FEW, window=2 * blocks + 1))
    assert torch.allclose(wide.at("last"), wide.at("last")[:1].expand(blocks), atol=1e-9)
    narrow = locate(knowing.model, knowing.tokenizer, edits, FEW)
    assert not torch.allclose(wide.at("last"), narrow.at("last"), atol=1e-3)


def test_batches_do_not_matter(knowing: Knowing) -> None:
    edits = edits_of(knowing, 1)
    one, all_at_once = (
        locate(knowing.model, knowing.tokenizer, edits, dataclasses.replace(FEW, batch=batch)) for batch in (1, 1000)
    )
    assert torch.allclose(one.effect, all_at_once.effect, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("module", ["mlp", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_traced_and_left_as_it_was(knowing: Knowing, kind: str, module: str) -> None:
    model = made(kind, len(knowing.tokenizer)).train()
    before = state_of(model)
    tracing = Tracing(samples=2, module=module)  # type: ignore[arg-type]
    found = locate(model, knowing.tokenizer, edits_of(knowing, 1), tracing)
    assert found.effect.shape == (len(PLACES), 2)
    assert found.at("last").isfinite().all()
    assert found.at("last").abs().max() > 0
    assert state_of(model) == before
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_subject_that_ends_the_prompt_is_its_own_last_token(knowing: Knowing) -> None:
    (asked,) = edits_of(knowing, 1)
    found = locate(knowing.model, knowing.tokenizer, [Edit(asked.subject, asked.subject, "x")], FEW)
    assert found.at("subject_last").isfinite().all()
    assert found.at("last").isnan().all()
    assert found.site == "subject_last"
    first = asked.subject.split()[0]
    short = locate(knowing.model, knowing.tokenizer, [Edit(f"{first} is", first, "x")], FEW)
    assert short.at("subject_first").isnan().all()
    assert short.at("last").isfinite().all()


def test_bad_requests_are_refused(knowing: Knowing) -> None:
    with pytest.raises(InputError, match="no facts are given"):
        locate(knowing.model, knowing.tokenizer, [])
    with pytest.raises(ConfigurationError, match="is not known"):
        locate(nn.Linear(2, 2), knowing.tokenizer, edits_of(knowing, 1))
    for bad in ({"samples": 0}, {"noise": -1.0}, {"window": 0}, {"batch": 0}):
        with pytest.raises(InputError, match="must be positive"):
            Tracing(**bad)  # type: ignore[arg-type]
    with torch.no_grad():
        next(knowing.model.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        locate(knowing.model, knowing.tokenizer, edits_of(knowing, 1))
