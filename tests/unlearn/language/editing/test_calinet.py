"""CaliNET: what it begins from, what it minimises, and that it edits."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.unlearn.language.conftest import Knowing
from tests.unlearn.language.editing.lessons import edits_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Task
from unlearn.language.editing.calinet import CaliNet, calibration_loss, calinet
from unlearn.language.hooks import anatomy, inputs_seen, logits_of, outputs_seen
from unlearn.language.metrics import answer_log_probability, score_edit
from unlearn.language.text import encode


def task_of(knowing: Knowing, number: int = 1) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), ())


def test_before_the_first_step_nothing_is_changed(knowing: Knowing) -> None:
    task = task_of(knowing)
    ids = encode(knowing.tokenizer, task.edits[0].prompt).ids[None]
    before = logits_of(knowing.model, ids)
    found = calinet(task, CaliNet(steps=0, neurons=5))
    assert found.parts["keys"].any()
    assert not found.parts["values"].any()
    with found:
        assert torch.equal(logits_of(knowing.model, ids), before)


def test_the_neurons_are_added_to_the_last_mlp(knowing: Knowing) -> None:
    task, body = task_of(knowing), anatomy(knowing.model)
    ids = encode(knowing.tokenizer, task.edits[0].prompt).ids[None]
    mlp = body.block(-1).mlp
    found = calinet(task, CaliNet(steps=3))
    with found, torch.no_grad(), inputs_seen(body.up(-1)) as read, outputs_seen(mlp) as wrote:
        logits_of(knowing.model, ids)
    excited = read[0].double() @ found.parts["keys"].double().T
    gelu = excited * 0.5 * (1 + torch.erf(excited / math.sqrt(2)))
    expected = mlp(read[0]).double() + gelu @ found.parts["values"].double()
    assert torch.allclose(wrote[0].double(), expected, atol=1e-4)


def test_the_loss_is_that_of_true_and_false_answers(knowing: Knowing) -> None:
    task = task_of(knowing, 3)
    true = [(one.prompt, one.target_new) for one in task.edits]
    false = [(one.prompt, str(one.target_old)) for one in task.edits]
    likely = answer_log_probability(knowing.model, knowing.tokenizer, true)
    unlikely = answer_log_probability(knowing.model, knowing.tokenizer, false)
    expected = -likely.mean() + 0.7 * (1 + unlikely.exp() / likely.exp()).log().mean()
    assert calibration_loss(task, 0.7).item() == pytest.approx(float(expected), rel=1e-4)
    unknown = dataclasses.replace(task, edits=[dataclasses.replace(one, target_old=None) for one in task.edits])
    assert calibration_loss(unknown, 0.7).item() == pytest.approx(float(-likely.mean()), rel=1e-4)


def test_edits_together(knowing: Knowing) -> None:
    task = task_of(knowing, 4)
    with calinet(task, CaliNet()):
        found = score_edit(knowing.model, knowing.tokenizer, task.edits)
    assert found.accuracy == found.generated == found.success == {"reliability": 1}


def test_errors() -> None:
    with pytest.raises(InputError, match="must be positive"):
        CaliNet(neurons=0)
