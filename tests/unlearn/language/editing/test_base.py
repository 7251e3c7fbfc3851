"""Edits lie on a model like sheets on a pile: each can be taken out, and under all are the bytes that were there."""

from __future__ import annotations

import gc
import warnings
from weakref import ref

import pytest
import torch

from tests.unlearn.language.conftest import KINDS, made, state_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Dense, Edit, LowRank, WeightEdit
from unlearn.language.hooks import anatomy

ASKED = [Edit("Ann speaks", "Ann", "Dutch")]


def some_edit(model: torch.nn.Module, seed: int, layer: int = 0) -> WeightEdit:
    rng = torch.Generator().manual_seed(seed)
    projection = anatomy(model).down(layer)
    out, into = projection.sizes
    low = LowRank(torch.randn(out, 2, generator=rng), torch.randn(2, into, generator=rng))
    return WeightEdit(
        ASKED, model, {projection.name: low}, frozenset({projection.name} if projection.transposed else ())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_after_revert_every_byte_is_as_before(kind: str) -> None:
    model = made(kind, 20)
    before, matrix = state_of(model), anatomy(model).down(0).matrix.detach().clone()
    edit = some_edit(model, 1)
    with edit:
        low = edit.differences[anatomy(model).down(0).name]
        assert torch.allclose(anatomy(model).down(0).matrix, matrix + low.dense())
        assert edit.active
        edit.apply()
        assert torch.allclose(anatomy(model).down(0).matrix, matrix + low.dense()), "it is made once"
    assert not edit.active
    assert state_of(model) == before
    edit.revert()
    assert state_of(model) == before


def test_taken_back_in_any_order() -> None:
    model = made("gpt2", 20)
    untouched = state_of(model)
    edits = [some_edit(model, 1), some_edit(model, 2), some_edit(model, 3, layer=1), some_edit(model, 4)]
    for edit in edits:
        edit.apply()
    edits[1].revert()
    without = state_of(model)
    for edit in (edits[0], edits[3], edits[2]):
        edit.revert()
    assert state_of(model) == untouched
    for edit in (edits[0], edits[2], edits[3]):
        edit.apply()
    assert state_of(model) == without, "as if the second had never been made"


@pytest.mark.parametrize("inside", [False, True])
def test_an_edit_that_fails_half_way_leaves_nothing(inside: bool) -> None:
    model = made("gpt2", 20)
    under = some_edit(model, 1)
    if inside:
        under.apply()
    before = state_of(model)
    first, second = (anatomy(model).down(layer) for layer in (0, 1))
    out, into = first.sizes
    wrong = WeightEdit(
        ASKED, model, {first.name: Dense(torch.ones(out, into)), second.name: Dense(torch.ones(3, 3))},
        frozenset({first.name, second.name}),
    )  # fmt: skip
    with pytest.raises(RuntimeError), wrong:
        pass
    assert not wrong.active
    assert state_of(model) == before
    nowhere = WeightEdit(ASKED, model, {first.name: Dense(torch.ones(out, into)), "nowhere": Dense(torch.ones(1, 1))})
    with pytest.raises(KeyError):
        nowhere.apply()
    if not inside:
        with torch.no_grad():
            first.weight.add_(1.0)
        before = state_of(model)
        with some_edit(model, 2):
            pass
    assert state_of(model) == before


def test_taking_back_can_be_done_again_if_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("gpt2", 20)
    untouched = state_of(model)
    under, over = some_edit(model, 1), some_edit(model, 2)
    over.apply()
    only_over = state_of(model)
    over.revert()
    under.apply()
    over.apply()

    def interrupted(_: str) -> torch.Tensor:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(over, "amount", interrupted)
        with pytest.raises(KeyboardInterrupt):
            under.revert()
    under.revert()
    assert state_of(model) == only_over
    over.revert()
    assert state_of(model) == untouched


@pytest.mark.parametrize("between", [False, True])
def test_what_is_trained_while_edited_stays(between: bool) -> None:
    """Whether it is noticed when the edit is taken back, or when another one is made over it."""
    model = made("gpt2", 20)
    weight = anatomy(model).down(0).weight
    before = weight.detach().clone()
    under, over = some_edit(model, 1), some_edit(model, 2)
    under.apply()
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * 1e-3
    weight.data.add_(step)  # behind autograd's back, as hand-written loops do
    told = r"c_proj.weight changed while edited, as by training: what was learnt stays"
    if between:
        with pytest.warns(RuntimeWarning, match=told):
            over.apply()
        over.revert()
        under.revert()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match=told):
                under.revert()
            assert under.active
            under.revert()
    assert torch.allclose(weight, before + step, atol=1e-5)
    assert not torch.equal(weight, before)
    untouched = state_of(model)
    with under:
        pass
    assert state_of(model) == untouched, "and what it is now comes back byte by byte"


def test_a_model_that_was_rounded_while_edited_was_not_trained() -> None:
    model = made("gpt2", 20)
    weight = anatomy(model).down(0).weight
    before = weight.detach().clone()
    edit = some_edit(model, 1)
    edit.apply()
    model.to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edit.revert()
    assert torch.equal(anatomy(model).down(0).weight, before.to(torch.bfloat16))


def test_digest_and_size() -> None:
    model = made("gpt2", 20)
    one, same, other = some_edit(model, 1), some_edit(model, 1), some_edit(model, 2)
    assert one.digest == same.digest != other.digest
    assert one.size == 2 * (32 + 128)
    name = anatomy(model).down(0).name
    dense = WeightEdit(ASKED, model, {name: Dense(one.differences[name].dense())}, frozenset([name]))
    assert dense.size == 32 * 128
    assert dense.digest != one.digest


def test_an_edit_does_not_keep_its_model_alive() -> None:
    model = made("gpt2", 20)
    edit, weak = some_edit(model, 1), ref(model)
    edit.apply()
    del model
    gc.collect()
    assert weak() is None
    with pytest.raises(InputError, match="does not exist any more"):
        edit.revert()


def test_an_edit_names_its_subject() -> None:
    with pytest.raises(InputError, match="is not in the prompt"):
        Edit("Ann speaks", "Bob", "Dutch")
    with pytest.raises(InputError, match="is not in the prompt"):
        Edit("Ann speaks", " ", "Dutch")
    with pytest.raises(InputError, match="is empty"):
        Edit("Ann speaks", "Ann", " ")
