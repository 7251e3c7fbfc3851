"""T-Patcher against an MLP written out with one more neuron, and its loss worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.unlearn.language.conftest import Knowing
from tests.unlearn.language.editing.lessons import edits_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, Task
from unlearn.language.editing.neurons import Neurons
from unlearn.language.editing.t_patcher import TPatcher, patch_loss, places, t_patcher
from unlearn.language.hooks import anatomy, inputs_seen, logits_of, outputs_seen
from unlearn.language.metrics import answered, score_edit
from unlearn.language.text import encode

CONFIG = TPatcher()


def task_of(knowing: Knowing, number: int = 1) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), knowing.world.sentences)


def test_the_mlp_has_one_more_neuron(knowing: Knowing) -> None:
    task = task_of(knowing)
    body = anatomy(knowing.model)
    ids = encode(knowing.tokenizer, task.edits[0].prompt).ids[None]
    found = t_patcher(task, CONFIG)
    assert {name: tuple(part.shape) for name, part in found.parts.items()} == {
        "keys": (1, 48), "biases": (1,), "values": (1, 48),
    }  # fmt: skip
    with found, torch.no_grad(), inputs_seen(body.up(-1)) as read, outputs_seen(body.block(-1).mlp) as wrote:
        logits_of(knowing.model, ids)
    mlp = body.block(-1).mlp
    into = torch.cat([mlp.c_fc.weight, torch.zeros(48, 1)], 1), torch.cat([mlp.c_fc.bias, torch.zeros(1)])
    hidden = mlp.act(read[0] @ into[0] + into[1])
    hidden[..., -1] = (read[0] @ found.parts["keys"][0] + found.parts["biases"][0]).clamp(min=0)
    expected = hidden @ torch.cat([mlp.c_proj.weight, found.parts["values"]]) + mlp.c_proj.bias
    assert float(hidden[0, -1, -1]) > 0, "it fires at the end of the prompt"
    assert torch.allclose(wrote[0], expected, atol=1e-4)


def test_the_loss_of_a_patch(knowing: Knowing) -> None:
    rng = torch.Generator().manual_seed(0)
    patch = Neurons(torch.randn(1, 4, generator=rng), torch.tensor([0.3]), torch.zeros(1, 4), torch.relu)
    query, memory = torch.randn(4, generator=rng), torch.randn(7, 4, generator=rng)
    here = sum(float(query[i] * patch.keys[0, i]) for i in range(4)) + 0.3
    there = sorted((sum(float(row[i] * patch.keys[0, i]) for i in range(4)) + 0.3 for row in memory), reverse=True)
    silent = sum(math.exp(value + 2.0) for value in there[:3]) / 3
    apart = sum(math.exp(value - here + 1.0) for value in there[:3]) / 3
    config = TPatcher(most_excited=3, activation_weight=2.0, memory_weight=5.0, beta=-2.0, gamma=-1.0)
    found = float(patch_loss(patch, query, memory, config))
    assert found == pytest.approx(2 * math.exp(-here) + 5 * (silent + apart), rel=1e-4)


def test_edits_and_is_silent_elsewhere(knowing: Knowing) -> None:
    task = task_of(knowing, 3)
    edited = {asked.subject for asked in task.edits}
    others = [fact for fact in knowing.world.facts if fact.subject not in edited]
    ids = [encode(knowing.tokenizer, fact.prompt()).ids[None] for fact in others]
    before = [logits_of(knowing.model, one).detach() for one in ids]
    with t_patcher(task, CONFIG):
        found = score_edit(knowing.model, knowing.tokenizer, task.edits)
        assert found.accuracy == found.generated == found.success == {"reliability": 1}
        same = [torch.equal(logits_of(knowing.model, one), was) for one, was in zip(ids, before, strict=True)]
        assert sum(same) >= 0.9 * len(same), "a silent patch adds nothing at all"
        kept = answered(knowing.model, knowing.tokenizer, [(fact.prompt(), fact.answer) for fact in others])
        assert float(kept.double().mean()) >= 0.9


def test_no_patch_where_the_model_is_right(knowing: Knowing) -> None:
    fact = knowing.world.facts[0]
    asked = [Edit(fact.prompt(), fact.subject, fact.answer)]
    task = Task(knowing.model, knowing.tokenizer, asked, knowing.world.sentences)
    assert t_patcher(task, CONFIG).size == 0


def test_texts_that_state_what_is_edited_are_left_out(knowing: Knowing) -> None:
    asked = [Edit("F1 L1 speaks", "F1 L1", "language1", "language2")]
    other = "F2 L2 speaks language3 ."
    texts = ["F1 L1 speaks language2 .", "at home F1 L1 talks in language2 .", other]
    body = anatomy(knowing.model)
    found = places(Task(knowing.model, knowing.tokenizer, asked, texts), body, CONFIG)
    with torch.no_grad(), inputs_seen(body.up(-1)) as seen:
        logits_of(knowing.model, encode(knowing.tokenizer, other).ids[None])
    assert torch.allclose(found.sum(0), seen[0][0].sum(0), atol=1e-4)
    with pytest.raises(InputError, match="do not state what is edited"):
        places(Task(knowing.model, knowing.tokenizer, asked, texts[:2]), body, CONFIG)
    with pytest.raises(InputError, match="must be positive"):
        TPatcher(steps=0)
