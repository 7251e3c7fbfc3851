"""MEND: its gradient against autograd's, untrained against gradient descent, its network against a formula."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.unlearn.language.conftest import KINDS, Knowing, made
from tests.unlearn.language.editing.lessons import edits_of, lessons_of
from unlearn.errors import InputError
from unlearn.language.editing.base import Dense, Edit, LowRank, Task, WeightEdit
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.editing.gradients import Pairs, asked_of, costs, gradient
from unlearn.language.editing.lessons import Lesson
from unlearn.language.editing.mend import Mend, Network, mend, trained
from unlearn.language.hooks import Projection, anatomy, frozen, logits_of


def task_of(knowing: Knowing, number: int = 1) -> Task:
    return Task(knowing.model, knowing.tokenizer, edits_of(knowing, number), ())


def by_autograd(task: Task, projection: Projection, edit: Edit) -> torch.Tensor:
    asked = asked_of(task, [(edit.prompt, edit.target_new)])
    loss = answer_loss(logits_of(task.model, asked.ids, asked.mask), asked)
    (found,) = torch.autograd.grad(loss, [projection.weight])
    return found.T if projection.transposed else found


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_make_up_the_gradient(knowing: Knowing, kind: str) -> None:
    task = dataclasses.replace(task_of(knowing), model=made(kind, len(knowing.tokenizer)))
    projection = anatomy(task.model).down(0)
    with frozen(task.model):
        pairs = gradient(task, projection, task.edits[0])
    expected = by_autograd(task, projection, task.edits[0])
    dense = sum(torch.outer(wrote, read) for wrote, read in zip(pairs.wrote, pairs.read, strict=True))
    assert torch.allclose(torch.as_tensor(dense), expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()))


def test_untrained_it_is_a_step_of_gradient_descent(knowing: Knowing) -> None:
    task = task_of(knowing, 2)
    projection = anatomy(knowing.model).down(1)
    config = Mend(lessons_of(knowing, task.edits, each=1), layer=1, steps=0, step_size=0.3)
    expected = projection.matrix.detach() - 0.3 * sum(by_autograd(task, projection, edit) for edit in task.edits)
    with mend(task, config) as found:
        assert torch.allclose(projection.matrix, expected, atol=1e-5)
    assert isinstance(found.differences[projection.name], LowRank)


def test_the_network_is_its_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    seen = Pairs(torch.randn(9, 3, generator=rng), 1e-3 * torch.randn(9, 2, generator=rng))
    network = Network(seen, Mend(rank=4))
    with torch.no_grad():
        network.second.normal_(generator=rng)
        network.bias.normal_(generator=rng)
    pairs = Pairs(torch.randn(2, 3, generator=rng), 1e-3 * torch.randn(2, 2, generator=rng))
    found = network(pairs)
    joined = torch.cat([seen.read, seen.wrote], 1)
    lengths = [float(part.norm(dim=1).mean()) / part.shape[1] ** 0.5 for part in (seen.read, seen.wrote)]
    for row in range(2):
        z = torch.cat([pairs.read[row], pairs.wrote[row]])
        normal = torch.stack([(z[at] - joined[:, at].mean()) / joined[:, at].std() for at in range(5)])
        more = network.second @ torch.relu(network.first @ normal + network.bias)
        expected = torch.stack([z[at] + lengths[at >= 3] * more[at] for at in range(5)])
        assert torch.allclose(torch.cat([found.read[row], found.wrote[row]]), expected, rtol=1e-4)


def test_costs_are_those_of_the_edited_model(knowing: Knowing) -> None:
    """With the weights changed for real, and the divergence summed one token at a time."""
    task, projection = task_of(knowing), anatomy(knowing.model).down(2)
    kept = ((knowing.world.facts[1].prompt(), knowing.world.facts[1].answer), ("F1 L1", "speaks"))
    lesson = Lesson(task.edits[0], (), kept)
    low = LowRank(torch.randn(48, 1) / 5, torch.randn(1, 192) / 5)
    with frozen(knowing.model):
        wrong, moved = costs(task, projection, lesson, low, torch.Generator())
    texts = [knowing.tokenizer(f"{prompt} {answer}", return_tensors="pt")["input_ids"] for prompt, answer in kept]
    before = [logits_of(knowing.model, ids)[0].softmax(-1).detach() for ids in texts]
    with WeightEdit(task.edits, knowing.model, {projection.name: Dense(low.dense())}, frozenset([projection.name])):
        asked = asked_of(task, [(lesson.edit.prompt, lesson.edit.target_new)])
        assert wrong.item() == pytest.approx(answer_loss(logits_of(knowing.model, asked.ids), asked).item(), rel=1e-3)
        after = [logits_of(knowing.model, ids)[0].softmax(-1).detach() for ids in texts]
    each = [
        float((p * (p / q).log()).sum())
        for old, new in zip(before, after, strict=True)
        for p, q in zip(old, new, strict=True)
    ]
    assert moved.item() == pytest.approx(sum(each) / len(each), rel=1e-3)


def test_training_makes_better_edits_of_facts_in_no_lesson(knowing: Knowing) -> None:
    """Better by what it is trained for. One step of gradient descent edits this world too, and keeps as many facts."""
    task, projection = task_of(knowing, 8), anatomy(knowing.model).down(-1)
    lessons = lessons_of(knowing, task.edits)
    others = [one for one in lessons_of(knowing, [], each=2) if one.edit.prompt in {it.prompt for it in task.edits}]
    with frozen(knowing.model):
        found = []
        for steps in (0, 100):
            network = trained(task, projection, lessons, Mend(steps=steps))
            rng = torch.Generator().manual_seed(0)
            with torch.no_grad():
                each = [
                    sum(costs(task, projection, one, network.edit(gradient(task, projection, one.edit)), rng))
                    for one in others
                ]
            found.append(float(torch.as_tensor(each).mean()))
    assert len(others) == 16
    assert found[1] < 0.8 * found[0]


def test_errors(knowing: Knowing) -> None:
    task = task_of(knowing)
    with pytest.raises(InputError, match="mend is trained before it edits"):
        mend(task, Mend())
    with pytest.raises(InputError, match="holds an edited fact"):
        mend(task, Mend(lessons_of(knowing, [])))
    with pytest.raises(InputError, match="must be positive"):
        Mend(rank=0)


def test_a_neuron_that_no_lesson_excites_does_not_blow_an_edit_up() -> None:
    """As those of OPT: their activation is 0 for most tokens."""
    rng = torch.Generator().manual_seed(0)
    read = torch.randn(40, 8, generator=rng).relu()
    read[:, 2] = 0
    read[:, 3] *= 1e-15
    network = Network(Pairs(read, 1e-3 * torch.randn(40, 4, generator=rng)), Mend(rank=6))
    with torch.no_grad():
        network.second.normal_(generator=rng)
    pairs = Pairs(torch.ones(3, 8), 1e-3 * torch.ones(3, 4))
    with torch.no_grad():
        changed = network(pairs)
    assert float(changed.read.norm() / pairs.read.norm()) < 1e3
    assert float(changed.wrote.norm() / pairs.wrote.norm()) < 1e3
