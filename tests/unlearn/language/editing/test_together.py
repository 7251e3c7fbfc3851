"""MEMIT with values searched together: what reads a subject, what is kept, and many edits in one small model."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.unlearn.language.conftest import Knowing
from tests.unlearn.language.editing.lessons import edits_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, LowRank, Task
from unlearn.language.editing.contexts import Contexts, prefixes
from unlearn.language.editing.keys import keys_at, regularised, second_moment
from unlearn.language.editing.memit import Memit, memit
from unlearn.language.editing.together import Together, to_keep
from unlearn.language.editing.values import Search
from unlearn.language.hooks import anatomy
from unlearn.language.metrics import accuracies
from unlearn.language.text import encode

CONFIG = Memit(
    layers=(0, 1), contexts=Contexts(lengths=(2, 4, 6), separator=" "), moment_weight=3.0, ridge=0.01,
    together=Together(steps=40, contexts=2, texts=16),
)  # fmt: skip


def task_of(knowing: Knowing, number: int) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), knowing.world.sentences)


def test_each_edit_reads_its_own_subject(knowing: Knowing) -> None:
    """Against the normal equations in all contexts of all edits, with 1 for its own and 0 for the others."""
    task = task_of(knowing, 3)
    body = anatomy(knowing.model)
    found = memit(task, dataclasses.replace(CONFIG, together=Together(steps=1))).differences[body.down(1).name]
    assert isinstance(found, LowRank)
    texts = [
        encode(knowing.tokenizer, one.prompt, subject=one.subject, prefix=prefix)
        for one in task.edits
        for prefix in prefixes(task, CONFIG.contexts)
    ]
    keys = keys_at(body, 1, texts, 0).double()
    wanted = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0)
    moment = regularised(second_moment(body, knowing.tokenizer, 1, knowing.world.sentences), 0.01)
    dense = torch.linalg.solve(3.0 * moment + keys.T @ keys / 4, keys.T @ wanted / 4).T
    assert torch.allclose(found.right.double(), dense, rtol=1e-3, atol=1e-5 * float(dense.abs().max()))


def test_many_edits_hold_and_others_stay(knowing: Knowing) -> None:
    task = task_of(knowing, 4)
    edited = {one.subject for one in task.edits}
    others = [fact for fact in knowing.world.facts if fact.subject not in edited]
    stay = [(fact.prompt(), fact.answer) for fact in others]

    def kept() -> float:
        asked = [Edit(prompt, prompt.split()[0], answer) for prompt, answer in stay]
        return accuracies(knowing.model, knowing.tokenizer, asked)["reliability"]

    before = kept()
    with memit(task, dataclasses.replace(CONFIG, together=None, search=Search(steps=60, clamp=10.0))):
        apart = kept()
    with memit(task, CONFIG):
        assert accuracies(knowing.model, knowing.tokenizer, task.edits)["reliability"] == 1
        assert kept() > max(0.7 * before, apart)
    assert kept() == before


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_a_model_of_another_type(knowing: Knowing, kind: torch.dtype) -> None:
    knowing.model.to(kind)
    quick = dataclasses.replace(CONFIG, layers=(0,), contexts=Contexts(lengths=(2,)), together=Together(steps=1))
    found = memit(task_of(knowing, 2), quick).differences
    wanted = torch.float64 if kind == torch.float64 else torch.float32
    assert {part.dtype for one in found.values() for part in one.parts} == {wanted}


def test_texts_that_state_an_old_answer_are_not_kept(knowing: Knowing) -> None:
    texts = ("Ann speaks Thai .", "Ann lives in Bonn .", "Bob speaks Thai .", "at home Ann talks in Thai .")
    asked = Edit("Ann speaks", "Ann", "Dutch", "Thai")
    assert to_keep(Task(knowing.model, knowing.tokenizer, [asked], texts)) == list(texts[1:3])
    unknown = dataclasses.replace(asked, target_old=None)
    assert to_keep(Task(knowing.model, knowing.tokenizer, [unknown], texts)) == list(texts)


def test_numbers_must_be_positive() -> None:
    with pytest.raises(InputError, match="must be positive"):
        Together(keep_weight=0)
