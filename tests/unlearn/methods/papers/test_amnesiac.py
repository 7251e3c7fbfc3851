"""Amnesiac unlearning against subtraction by hand."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import perceptron, points, weights
from unlearn.errors import InputError
from unlearn.methods import AmnesiacConfig, amnesiac
from unlearn.methods.base import Examples
from unlearn.methods.papers.amnesiac import Recorder, without

LOSS = torch.nn.functional.cross_entropy


def train(data: Examples, recorder_of: torch.nn.Module, recorder: Recorder) -> list[dict[str, torch.Tensor]]:
    """Two epochs of SGD with momentum in batches of ten; gives the weights before and after every step."""
    sgd = torch.optim.SGD(recorder_of.parameters(), 0.1, momentum=0.9)
    states = [weights(recorder_of)]
    for start in [*range(0, len(data), 10)] * 2:
        batch = data.take(slice(start, start + 10))
        assert batch.ids is not None
        with recorder.step(batch.ids):
            sgd.zero_grad()
            LOSS(recorder_of(batch.inputs), batch.targets).backward()
            sgd.step()
        states.append(weights(recorder_of))
    return states


@pytest.mark.parametrize("watched", [None, "forgotten"])
def test_steps_that_saw_a_forgotten_record_are_subtracted(watched: str | None) -> None:
    data, model = points(40), perceptron()
    forget = data.take([3, 5, 31])
    recorder = Recorder(model, None if watched is None else forget.ids)
    states = train(data, model, recorder)
    wanted = weights(model)
    for t in (0, 3, 4, 7):  # records 3 and 5 are in the first batch of four, 31 in the last, in both epochs
        for name in wanted:
            wanted[name] = wanted[name] - (states[t + 1][name] - states[t][name])
    found = weights(without(model, recorder.updates_with(forget)))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)


def test_where_every_step_saw_one_the_first_weights_are_back() -> None:
    data, model = points(10), perceptron()
    recorder = Recorder(model)
    train(data, model, recorder)
    found = weights(without(model, recorder.updates_with(data.take([0]))))
    for name, value in weights(perceptron()).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)


def test_a_step_that_fails_is_not_recorded() -> None:
    data, model = points(10), perceptron()
    recorder = Recorder(model)
    assert data.ids is not None
    with pytest.raises(KeyboardInterrupt), recorder.step(data.ids):
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="1 of 1 records to forget are in no recorded batch"):
        recorder.updates_with(data.take([0]))


def test_repair_trains_on_what_stays() -> None:
    data, model = points(40), perceptron()
    recorder = Recorder(model)
    train(data, model, recorder)
    forget, retain = data.take([3]), data.take(slice(10, 40))
    bare = without(model, recorder.updates_with(forget))
    config = AmnesiacConfig(epochs=20, learning_rate=0.1)
    repaired = amnesiac(model, forget, retain, config, trajectory=recorder)
    assert LOSS(repaired(retain.inputs), retain.targets) < LOSS(bare(retain.inputs), retain.targets)


def test_what_is_missing_is_said() -> None:
    data, model = points(40), perceptron()
    forget, retain = data.take([3]), data.take(slice(10, 40))
    with pytest.raises(InputError, match="give trajectory"):
        amnesiac(model, forget, retain)
    recorder = Recorder(model, watched=["1-7"])
    train(data, model, recorder)
    with pytest.raises(InputError, match="in no recorded batch"):
        without(model, recorder.updates_with(forget))
    with pytest.raises(InputError, match="give Examples with the ids"):
        without(model, recorder.updates_with(Examples(forget.inputs, forget.targets)))
