from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_cases import CONTEXT, DATA, TASK, N, classification, learner, take

from shards.digest import digest_arrays
from shards.learners.base import StepData

rng = np.random.default_rng(2)


def seen(data: StepData, monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[np.ndarray]:
    """What the module saw of each visit, in order, without shuffling."""
    rows: list[np.ndarray] = []
    forward = torch.nn.Sequential.forward

    def spy(self: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        rows.extend(x.numpy().copy())
        return forward(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Sequential, "forward", spy)
        ours = learner(shuffle=False, **settings)
        ours.train_step(None, data, replace(CONTEXT, visits=2 * len(data)))
    return rows


def test_augmentation_of_a_record_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seen(DATA, monkeypatch, transform="user_modules:jitter")
    fewer = seen(take(DATA, np.arange(5, N)), monkeypatch, transform="user_modules:jitter", batch_size=5)
    for k in range(2):
        np.testing.assert_array_equal(whole[k * N + 5 : (k + 1) * N], fewer[k * (N - 5) : (k + 1) * (N - 5)])
    assert not np.array_equal(whole[:N], whole[N:])
    plain = seen(DATA, monkeypatch)
    assert not np.isclose(whole, plain).any()
    made = seen(DATA, monkeypatch, transform="user_modules:make_jitter", transform_args={"size": 0.1})
    np.testing.assert_array_equal(made, whole)
    bound = seen(DATA, monkeypatch, transform="user_modules:jitter", transform_args={"size": 0.2})
    assert not np.isclose(bound, whole).any()


def test_augmentation_in_place_reaches_no_later_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = seen(DATA, monkeypatch)
    np.testing.assert_array_equal(seen(DATA, monkeypatch, transform="user_modules:add_one"), np.add(plain, 1))


def test_augmentation_leaves_the_stream_of_the_step_alone() -> None:
    plain = learner("user_modules:dropout").train_step(None, DATA, CONTEXT)
    drawing = learner("user_modules:dropout", transform="user_modules:keep").train_step(None, DATA, CONTEXT)
    assert digest_arrays(plain) == digest_arrays(drawing)


def test_a_transform_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    images = rng.normal(size=(N, 1, 4, 4)).astype(np.float32)
    task = classification({"x": images})
    ours = learner(
        "cnn", transform="torchvision.transforms:RandomHorizontalFlip", transform_args={"p": 1.0}, input_dtype=None
    )
    ours.check(task)
    context = replace(CONTEXT, task=task)
    state = ours.train_step(None, replace(DATA, features={"x": images}), context)
    flipped = replace(DATA, features={"x": images[..., ::-1]})
    assert digest_arrays(state) == digest_arrays(replace(ours, transform=None).train_step(None, flipped, context))
    assert ours.code() == ("shards.learners.modules:cnn", "torchvision.transforms:RandomHorizontalFlip")


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_module_that_works_in_place_on_its_input_leaves_the_data_alone(shuffle: bool) -> None:
    in_place, plain = (
        learner("user_modules:doubled", module_args={"in_place": flag}, shuffle=shuffle) for flag in (True, False)
    )
    for ours in (in_place, plain):
        ours.check(TASK)
    states = [ours.train_step(None, DATA, CONTEXT) for ours in (in_place, plain)]
    assert digest_arrays(states[0]) == digest_arrays(states[1])
