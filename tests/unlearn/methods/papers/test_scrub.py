"""SCRUB against a loop written out by hand, and its rewinding against all epochs tried one by one."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, deep, gradients, near, plain, same, split, step
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods import ScrubConfig, scrub, scrub_rewind
from unlearn.methods.base import Examples
from unlearn.methods.papers.scrub import _weights

CONFIG = ScrubConfig(
    epochs=4,
    ascents=2,
    alpha=0.7,
    gamma=0.9,
    temperature=2.0,
    learning_rate=0.1,
    momentum=0.0,
    batch_size=FULL,
    forget_batch_size=FULL,
)


def apart(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the mean of sum_c p_c (ln p_c - ln q_c), as it stands."""
    p, q = (torch.softmax(logits / temperature, dim=1) for logits in (teacher, student))
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


def test_it_alternates_as_the_loop_written_out() -> None:
    forget, retain = split()
    teacher, student = plain(), plain()
    with torch.no_grad():
        told = teacher(forget.inputs), teacher(retain.inputs)
    for ascends in (True, True, False, False):
        if ascends:
            step(student, gradients(student, apart(told[0], student(forget.inputs), 2.0)), +0.1)
        said = student(retain.inputs)
        loss = 0.9 * cross_entropy(said, retain.targets) + 0.7 * apart(told[1], said, 2.0)
        step(student, gradients(student, loss), -0.1)
    assert near(scrub(teacher, forget, retain, CONFIG), student)


def test_the_first_ascent_leads_nowhere() -> None:
    """At its teacher the student's divergence from it is least, so it has no gradient: one ascent is none."""
    forget, retain = split()
    student = plain()
    said = student(retain.inputs)
    loss = 0.9 * cross_entropy(said, retain.targets) + 0.7 * apart(said.detach(), said, 2.0)
    step(student, gradients(student, loss), -0.1)
    assert near(scrub(plain(), forget, retain, replace(CONFIG, epochs=1, ascents=1)), student)


def test_a_small_forget_set_is_climbed_in_several_steps() -> None:
    """By default: from the second ascent on each multiplies the distance, where a single batch hardly moves."""
    forget, retain = split(rows=120, gone=80)
    config = ScrubConfig(epochs=3, ascents=2, learning_rate=0.05)
    told = plain()(forget.inputs).detach()
    none, one, several = (
        float(apart(told, scrub(plain(), forget, retain, each)(forget.inputs).detach(), 1.0))
        for each in (replace(config, ascents=1), replace(config, forget_batch_size=FULL), config)
    )
    assert several - none > 2 * (one - none) > 0


def test_the_student_departs_on_what_goes_more_than_without_ascents() -> None:
    forget, retain = split()
    told = plain()(forget.inputs)
    ends = [apart(told, scrub(plain(), forget, retain, replace(CONFIG, ascents=n))(forget.inputs), 1.0) for n in (1, 4)]
    assert ends[1] > ends[0]


def test_labels_of_what_goes_play_no_part() -> None:
    forget, retain = split()
    other = Examples(forget.inputs, (forget.targets + 1) % 3)
    assert same(scrub(plain(), forget, retain, CONFIG), scrub(plain(), other, retain, CONFIG))


def test_normalisation_learns_from_what_stays_alone() -> None:
    forget, retain = split()
    result = scrub(deep(), forget, retain, replace(CONFIG, epochs=1, ascents=1))
    reference = copy.deepcopy(deep()).train()
    reference(retain.inputs)
    # The first ascent has no gradient: the student still is its teacher. So the weights are those of the teacher.
    assert int(result[3].num_batches_tracked) == 1
    assert torch.allclose(result[3].running_mean, reference[3].running_mean, atol=1e-14)


@pytest.mark.parametrize("unseen", ["easy", "hard", "mixed"])
def test_it_is_rewound_to_the_epoch_that_errs_as_on_unseen_ones(unseen: str) -> None:
    forget, retain = split()
    config = ScrubConfig(epochs=12, ascents=12, learning_rate=0.3, batch_size=16, alpha=0.1, seed=3)
    epochs = [scrub(plain(), forget, retain, replace(config, epochs=n, ascents=n)) for n in range(1, 13)]
    errors = [wrong(model, forget) for model in epochs]
    assert len(set(errors)) >= 3, "a forget set on which nothing changes shows nothing"
    said = epochs[-1](forget.inputs).argmax(dim=1)
    labels = {"easy": said, "hard": (said + 1) % 3, "mixed": torch.where(torch.arange(20) < 8, said, (said + 1) % 3)}
    inputs, labels_here = forget.inputs, labels[unseen]
    held_out = Examples(torch.cat([inputs, retain.inputs]), torch.cat([labels_here, retain.targets]))
    reference = sum(
        wrong(epochs[-1], held_out.take(held_out.targets == number)) * float((forget.targets == number).double().mean())
        for number in range(3)
    )
    nearest = max(range(12), key=lambda epoch: (-abs(errors[epoch] - reference), epoch))
    assert same(scrub_rewind(plain(), forget, retain, config, held_out=held_out), epochs[nearest])


def wrong(model: torch.nn.Module, given: Examples) -> float:
    return float((model(given.inputs).argmax(dim=1) != given.targets).double().mean())


def test_unseen_examples_weigh_as_the_classes_to_forget_do() -> None:
    forget, unseen = torch.tensor([0, 0, 0, 2]), torch.tensor([2, 0, 1, 0, 2, 2])
    assert torch.allclose(_weights(forget, unseen), torch.tensor([1 / 12, 3 / 8, 0, 3 / 8, 1 / 12, 1 / 12]).double())
    with pytest.raises(InputError, match="held_out has no example of class 2"):
        _weights(forget, torch.tensor([0, 1]))


def test_held_out_examples_are_checked_like_the_others() -> None:
    forget, retain = split()
    with pytest.raises(InputError, match="held_out: targets run from 0 to 7"):
        scrub_rewind(plain(), forget, retain, held_out=(forget.inputs, forget.targets * 0 + torch.arange(20) % 8))


def test_there_are_no_more_ascents_than_epochs() -> None:
    with pytest.raises(ConfigurationError, match="ascents must lie between 1 and epochs"):
        ScrubConfig(epochs=2, ascents=3)
