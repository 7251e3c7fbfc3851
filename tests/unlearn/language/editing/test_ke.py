"""KE: untrained against a step along the gradient, its network against a formula, and that training pays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from tests.unlearn.language.conftest import Knowing
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Dense, Difference, Edit, Task
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.editing.gradients import asked_of, costs
from unlearn.language.editing.ke import KnowledgeEditor, Reader, difference, ke, trained_reader
from unlearn.language.hooks import anatomy, frozen, logits_of


def task_of(knowing: Knowing, number: int = 1) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), ())


def test_untrained_it_is_a_step_along_the_gradient(knowing: Knowing) -> None:
    task, projection = task_of(knowing, 2), anatomy(knowing.model).down(1)
    slopes = []
    for edit in task.edits:
        asked = asked_of(task, [(edit.prompt, edit.target_new)])
        loss = answer_loss(logits_of(task.model, asked.ids, asked.mask), asked)
        slopes.append(torch.autograd.grad(loss, [projection.weight])[0].T)
    config = KnowledgeEditor(lessons_of(knowing, task.edits, each=1), layer=1, steps=0, largest_step=3.0)
    expected = projection.matrix.detach() - 1.5 * sum(slope / slope.norm() for slope in slopes)
    with ke(task, config) as found:
        assert torch.allclose(projection.matrix, expected, atol=1e-5)
    assert isinstance(found.differences[projection.name], Dense)


def test_the_network_is_its_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    embeddings = torch.randn(9, 5, generator=rng)
    reader = Reader(embeddings, (3, 4), KnowledgeEditor(hidden=6, largest_step=2.0))
    with torch.no_grad():
        reader.last.weight.normal_(generator=rng)
        reader.last.bias.normal_(generator=rng)
    prompt, old, new = torch.tensor([1, 2, 3]), torch.tensor([], dtype=torch.int64), torch.tensor([4])
    slope = torch.randn(3, 4, generator=rng)
    found = reader([prompt, old, new], slope).values
    marks = reader.marks
    said = torch.stack([marks[0], *embeddings[1:4], marks[1], marks[2], embeddings[4]])
    outputs, _ = reader.lstm(said)
    # The forward direction ends at the last token, the backward one at the first.
    made = reader.last(torch.cat([outputs[-1, :6], outputs[0, 6:]]))
    alpha, beta, gamma, delta, eta = made[:3], made[3:6], made[6:10], made[10:14], made[14]
    strength = 2.0 / (1 + torch.exp(-eta))
    for row in range(3):
        for column in range(4):
            mask = alpha[row].exp() / alpha.exp().sum() * (gamma[column] + 3)
            shift = beta[row].exp() / beta.exp().sum() * delta[column]
            expected = -strength * (mask * slope[row, column] / slope.norm() + shift)
            assert found[row, column].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-5)


def test_trained_edits_of_facts_in_no_lesson_spare_others_and_still_answer(knowing: Knowing) -> None:
    task, projection = task_of(knowing, 8), anatomy(knowing.model).down(-1)
    lessons = lessons_of(knowing, task.edits)
    edited = {one.prompt for one in task.edits}
    others = [one for one in lessons_of(knowing, [], each=2) if one.edit.prompt in edited]
    assert len(others) == 16

    def mean_costs(of: Callable[[Edit], Difference]) -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return torch.tensor([costs(task, projection, one, of(one.edit), rng) for one in others]).mean(0)

    with frozen(knowing.model):
        readers = [trained_reader(task, projection, lessons, KnowledgeEditor(steps=steps)) for steps in (0, 120)]
        untrained, trained = (mean_costs(partial(difference, reader, task, projection)) for reader in readers)
        unedited = mean_costs(lambda _: Dense(torch.zeros_like(projection.matrix)))
    assert trained[1] < 0.6 * untrained[1]
    assert trained[0] < 0.2 * unedited[0]


def test_the_same_seed_gives_the_same_edit(knowing: Knowing) -> None:
    task = task_of(knowing)
    config = KnowledgeEditor(lessons_of(knowing, task.edits, each=1), steps=2)
    before = torch.random.get_rng_state()
    assert len({ke(task, config).digest for _ in range(2)}) == 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_errors(knowing: Knowing) -> None:
    task = task_of(knowing)
    with pytest.raises(InputError, match="ke is trained before it edits"):
        ke(task, KnowledgeEditor())
    with pytest.raises(InputError, match="holds an edited fact"):
        ke(task, KnowledgeEditor(lessons_of(knowing, [])))
    with pytest.raises(InputError, match="must be positive"):
        KnowledgeEditor(hidden=0)
