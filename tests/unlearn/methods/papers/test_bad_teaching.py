"""Bad teaching against the closed-form gradient of a linear classifier, and against its teachers."""

from __future__ import annotations

import torch

from tests.unlearn.methods.toys import FULL, linear, near, plain, same, split
from unlearn.methods import BadTeacherConfig, bad_teacher
from unlearn.methods.training import reinitialised

SGD = {"optimizer": "sgd", "momentum": 0.0, "batch_size": FULL}


def test_the_first_step_is_towards_the_ignorant_teacher_on_what_goes() -> None:
    forget, retain = split()
    model, ignorant = linear(), linear(seed=2)
    ahead = (model(forget.inputs).softmax(dim=1) - ignorant(forget.inputs).softmax(dim=1)).detach()
    # A student that still is the competent teacher has nothing to learn from what stays, which is but counted.
    mean = ahead.T @ forget.inputs / (len(forget) + len(retain))
    config = BadTeacherConfig(epochs=1, learning_rate=0.5, retain_share=1.0, **SGD)
    result = bad_teacher(model, forget, retain, config, initial=ignorant)
    assert torch.allclose(result.weight, model.weight - 0.5 * mean, atol=1e-14)


def test_taught_long_enough_it_says_what_its_teachers_say() -> None:
    forget, retain = split(rows=12, gone=4)
    model, ignorant = plain(), plain(seed=2)
    config = BadTeacherConfig(epochs=800, learning_rate=0.03, retain_share=1.0, batch_size=FULL)
    result = bad_teacher(model, forget, retain, config, initial=ignorant)
    for given, teacher in ((forget, ignorant), (retain, model)):
        assert torch.allclose(result(given.inputs).softmax(dim=1), teacher(given.inputs).softmax(dim=1), atol=0.02)


def test_the_ignorant_teacher_is_the_model_drawn_afresh() -> None:
    forget, retain = split()
    config = BadTeacherConfig(seed=9)
    explicit = bad_teacher(plain(), forget, retain, config, initial=reinitialised(plain(), 9))
    assert same(bad_teacher(plain(), forget, retain, config), explicit)


def test_a_share_of_what_stays_is_taught() -> None:
    forget, retain = split()
    told: list[int] = []
    bad_teacher(plain(), forget, retain, BadTeacherConfig(epochs=2, retain_share=0.25), advance=told.append)
    assert sum(told) == 2 * (20 + 10)


def test_labels_play_no_part() -> None:
    forget, retain = split()
    one = bad_teacher(plain(), forget, retain)
    assert near(one, bad_teacher(plain(), (forget.inputs, forget.targets * 0), (retain.inputs, retain.targets * 0)))
