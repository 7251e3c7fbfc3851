"""Every editor on models kept in 16 bits: it edits as in 32, and what it changed goes back to the same bytes."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

import pytest
import torch

from tests.unlearn.language.conftest import Knowing, made
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.language.editing.base import Task, WeightEdit
from unlearn.language.editing.calinet import CaliNet
from unlearn.language.editing.contexts import Contexts
from unlearn.language.editing.fine_tuning import FineTuning, ft_m
from unlearn.language.editing.ke import KnowledgeEditor
from unlearn.language.editing.knowledge_neurons import KnowledgeNeurons, neuron_credits
from unlearn.language.editing.memit import Memit
from unlearn.language.editing.mend import Mend
from unlearn.language.editing.registry import EDITORS, EditWarning, Guard, edit
from unlearn.language.editing.rome import Rome
from unlearn.language.editing.serac import Serac
from unlearn.language.editing.t_patcher import TPatcher
from unlearn.language.editing.values import Search
from unlearn.language.hooks import anatomy
from unlearn.language.relearning import knowledge
from unlearn.language.text import encode

FEW = Contexts(lengths=(4, 6), separator=" . ")
SEARCH = Search(steps=30, clamp=10.0, weight_decay=0.05)
CONFIGS: dict[str, Any] = {
    "ft-l": FineTuning(layer=1, learning_rate=5e-3, box=0.05),
    "ft-m": FineTuning(layer=1, learning_rate=5e-3, box=0.05),
    "kn": KnowledgeNeurons(steps=3, contexts=FEW),
    "rome": Rome(search=SEARCH, contexts=FEW),
    "memit": Memit(search=SEARCH, contexts=FEW, moment_weight=1.0),
    "ike": None,
    "t-patcher": TPatcher(memory=200),
    "serac": Serac(scope_steps=30, steps=10),
    "calinet": CaliNet(steps=30),
    "mend": Mend(steps=15),
    "ke": KnowledgeEditor(steps=15),
}


def bytes_of(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: part.detach().view(torch.uint8).numpy().tobytes() for name, part in model.named_parameters()}


@pytest.mark.parametrize("kind", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EDITORS)
def test_it_edits_as_in_32_bits(knowing: Knowing, name: str, kind: torch.dtype) -> None:
    edits, config = edits_of(knowing), CONFIGS[name]
    if hasattr(config, "lessons"):
        config = dataclasses.replace(config, lessons=lessons_of(knowing, edits, each=1))
    pairs, found = [(one.prompt, one.target_new) for one in edits], []
    for model in (copy.deepcopy(knowing.model), copy.deepcopy(knowing.model).to(kind)):
        before = bytes_of(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EditWarning)
            with edit(
                model, knowing.tokenizer, edits, name, config, texts=knowing.world.sentences, guard=Guard((), 1e9)
            ):
                found.append(knowledge(model, knowing.tokenizer, pairs).probability)
        assert bytes_of(model) == before
    assert found[1] == pytest.approx(found[0], abs=0.15)


def test_no_weight_is_moved_farther_than_the_box_and_small_steps_add_up(knowing: Knowing) -> None:
    sizes = []
    for model in (knowing.model, copy.deepcopy(knowing.model).bfloat16()):
        found = ft_m(Task(model, knowing.tokenizer, edits_of(knowing), ()), FineTuning(1, 1e-5, 25, 2e-4))
        assert isinstance(found, WeightEdit)
        ((_, difference),) = found.differences.items()
        assert float(difference.dense().abs().max()) <= 2.001e-4
        sizes.append(float(difference.dense().norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_credits_of_neurons_are_summed_in_32_bits(knowing: Knowing) -> None:
    """They differ from those of the same weights in 32 by what the model itself rounds, not by rounded sums."""
    rounded = copy.deepcopy(knowing.model).bfloat16()
    one = edits_of(knowing)[0]
    text = encode(knowing.tokenizer, one.prompt, one.target_old)
    found = []
    for model in (copy.deepcopy(rounded).float(), rounded):
        task = Task(model, knowing.tokenizer, [one], ())
        found.append(neuron_credits(task, anatomy(model), text, 200))
    assert found[1].dtype == torch.float32
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 0.05


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_patches_stand_beside_the_mlp_of_another_kind(knowing: Knowing, kind: str) -> None:
    model = made(kind, len(knowing.tokenizer)).half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        found = edit(model, knowing.tokenizer, edits_of(knowing), "calinet", CaliNet(steps=2), guard=Guard((), 1e9))
    assert found.active
    assert anatomy(model).down(-1).weight.dtype == torch.float16
