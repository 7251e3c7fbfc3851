"""What training-based methods share, each part against torch's own or plain arithmetic."""

from __future__ import annotations

import copy
import math
from collections import Counter
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.unlearn.methods.toys import FULL, deep, linear, near, plain, same, split
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods import METHODS
from unlearn.methods.base import Examples
from unlearn.methods.distillation import divergence
from unlearn.methods.training import (
    Descent,
    Training,
    batches,
    copied,
    endless,
    fit,
    outputs_of,
    passes,
    problem,
    readied,
    reinitialised,
    statistics_kept,
    steps_in,
    training,
)

CARD = METHODS["fine_tune"].card
CLIMBER = METHODS["gradient_ascent"].card
CLASSIFIER = METHODS["scrub"].card


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1"),
        ({"batch_size": 0}, "epochs and batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "learning_rate must be positive"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"optimizer": "lion"}, 'optimizer must be "sgd" or "adam"'),
        ({"schedule": "step"}, 'schedule must be "constant" or "cosine"'),
        ({"clip": 0.0}, "clip must be positive, or None"),
        ({"seed": -1}, "seed must lie between"),
    ],
)
def test_settings_that_cannot_work_are_errors(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Training(**changes)


# --- batches -----------------------------------------------------------------------------------------------------


def numbered(count: int) -> Examples:
    return Examples(torch.arange(float(count))[:, None], torch.arange(count))


@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 4), (4, 4), (5, 4), (129, 32), (129, 128), (7, 1)])
def test_a_pass_visits_everything_once_in_batches_of_nearly_equal_size(count: int, size: int) -> None:
    found = list(batches(numbered(count), size, generator()))
    assert len(found) == math.ceil(count / size) == steps_in(numbered(count), size)
    assert sorted(target for batch in found for target in batch.targets.tolist()) == list(range(count))
    assert all(torch.equal(batch.inputs[:, 0].long(), batch.targets) for batch in found)
    sizes = {len(batch) for batch in found}
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert max(sizes, default=0) <= size


def test_order_is_the_seed_s() -> None:
    def order(seed: int) -> list[list[int]]:
        config = Training(epochs=3, batch_size=4)
        return [batch.targets.tolist() for batch in passes(numbered(10), config, generator(seed))]

    assert order(1) == order(1) != order(2)
    found = order(1)
    assert len(found) == 9
    assert found[:3] != found[3:6]


def test_endless_is_pass_after_pass() -> None:
    found = list(islice(endless(numbered(5), 2, generator()), 9))
    assert Counter(target for batch in found for target in batch.targets.tolist()) == dict.fromkeys(range(5), 3)


# --- steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "build"),
    [
        (
            Training(momentum=0.5, weight_decay=0.1, learning_rate=0.2),
            lambda values: torch.optim.SGD(values, 0.2, momentum=0.5, weight_decay=0.1),
        ),
        (
            Training(optimizer="adam", weight_decay=0.1, learning_rate=0.2),
            lambda values: torch.optim.Adam(values, 0.2, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "adam"],
)
def test_steps_are_those_of_the_optimizer(config: Training, build: Any) -> None:
    forget, _ = split()
    model, reference = plain(), plain()
    descent, optimizer = Descent(model, config, 5), build(reference.parameters())
    for _ in range(5):
        descent.step(cross_entropy(model(forget.inputs), forget.targets), 1)
        optimizer.zero_grad()
        cross_entropy(reference(forget.inputs), forget.targets).backward()
        optimizer.step()
    assert same(model, reference)


def test_the_cosine_falls_to_zero_over_the_steps() -> None:
    config = Training(learning_rate=2.0, schedule="cosine", momentum=0.0)
    model = linear()
    moved = []
    descent = Descent(model, config, 4)
    for _ in range(5):
        before = model.bias.detach().clone()
        descent.step(model.bias.sum(), 1)
        moved.append(float((before - model.bias)[0].detach()))
    assert moved == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5), 0.0], abs=1e-12)


def test_a_step_is_no_longer_than_the_clip() -> None:
    model = linear()
    before = copy.deepcopy(model)
    Descent(model, Training(clip=0.3, learning_rate=1.0, momentum=0.0), 1).step(100 * model.bias.sum(), 1)
    assert float((model.bias - before.bias).detach().norm()) == pytest.approx(0.3, rel=1e-4)


def test_progress_is_told_of_every_example() -> None:
    told: list[int] = []
    _, retain = split()
    fit(plain(), retain, cross_entropy, Training(epochs=3, batch_size=16), generator(), told.append)
    assert sum(told) == 3 * len(retain)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_it(loss: float) -> None:
    model = linear()
    before = copy.deepcopy(model)
    with pytest.raises(ConfigurationError, match=f"the loss is {loss} after 0 steps: lower learning_rate"):
        Descent(model, Training(), 1).step(model.bias.square().sum() * loss, 1)
    assert same(model, before)


def test_a_model_that_is_frozen_cannot_be_trained() -> None:
    with pytest.raises(InputError, match="no parameter of Linear requires a gradient"):
        Descent(linear().requires_grad_(False), Training(), 1)


# --- the copy that is trained ------------------------------------------------------------------------------------


def test_training_gives_back_modes_flags_and_generators() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with training(model, 5) as rng:
        assert all(module.training for module in model.modules())
        model.requires_grad_(True)
        model(torch.randn(6, 4)).sum().backward()
        first = torch.rand(1, generator=rng)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [value.requires_grad for value in model.parameters()] == [True, False, True, True]
    assert all(value.grad is None for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, torch.rand(1, generator=generator(5)))


def test_the_generators_are_given_back_after_an_error_too() -> None:
    state = torch.get_rng_state()

    def interrupted() -> None:
        with training(linear(), 5):
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_the_seed_s() -> None:
    forget, retain = split()
    model = nn.Sequential(*plain(), nn.Dropout(0.5))
    results = []
    for seed, world in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(world)
        config = METHODS["fine_tune"].config(seed=seed, batch_size=FULL)
        results.append(METHODS["fine_tune"](model, forget, retain, config))
    assert same(results[0], results[1])
    assert not near(results[0], results[2])


def test_weights_that_are_no_numbers_are_an_error() -> None:
    model = linear()
    with pytest.raises(ConfigurationError, match="the weights are not finite any more"), training(model, 0):
        model.bias.data.fill_(math.inf)


def test_running_statistics_are_used_and_kept() -> None:
    model = deep().train()
    before = copy.deepcopy(model)
    inputs = torch.randn(9, 4, dtype=torch.float64)
    with statistics_kept(model):
        outputs = model(inputs)
        assert model[1].training
    assert same(model, before)
    assert torch.equal(outputs, before.eval()(inputs))
    assert all(module.training for module in model.modules())


def test_a_copy_shares_nothing_and_keeps_everything() -> None:
    model = deep().eval()
    model[0].bias.requires_grad_(False)
    model(torch.randn(5, 4, dtype=torch.float64)).sum().backward()
    copy_ = copied(model)
    assert same(model, copy_)
    assert not {value.data_ptr() for value in model.state_dict().values()} & {
        value.data_ptr() for value in copy_.state_dict().values()
    }
    assert [value.requires_grad for value in copy_.parameters()] == [
        value.requires_grad for value in model.parameters()
    ]
    assert not any(module.training for module in copy_.modules())
    assert all(value.grad is None for value in copy_.parameters())


def test_what_cannot_be_copied_is_an_error() -> None:
    model = linear()
    model.kept = model.weight * 2  # a result with a graph behind it
    with pytest.raises(InputError, match=r"Linear cannot be copied: .*keep nothing in it but"):
        copied(model)


def test_starting_afresh_is_what_the_constructor_does() -> None:
    assert same(reinitialised(plain(seed=1), 11), plain(seed=11))
    model = deep().train()
    model(torch.randn(5, 4, dtype=torch.float64))
    fresh = reinitialised(model, 11)
    assert float(fresh[3].running_mean.abs().max()) == 0
    attention = nn.MultiheadAttention(4, 2)
    assert not torch.equal(reinitialised(attention, 0).in_proj_weight, attention.in_proj_weight)


def test_many_rows_are_looked_at_in_parts() -> None:
    inputs = torch.randn(2500, 4, dtype=torch.float64)
    model = nn.Sequential(deep(), nn.Dropout(0.5)).train()
    before, state = copy.deepcopy(model), torch.get_rng_state()
    assert torch.allclose(outputs_of(model, inputs), copy.deepcopy(model).eval()(inputs), atol=1e-12)
    assert same(model, before)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


# --- what is asked for -------------------------------------------------------------------------------------------


def test_a_problem_is_put_as_the_model_takes_it() -> None:
    forget, retain = split("regression")
    posed = problem(CARD, nn.Linear(4, 1), (forget.inputs.numpy(), forget.targets.numpy().ravel()), retain)
    assert posed.forget.inputs.dtype == posed.forget.targets.dtype == torch.float32
    assert posed.forget.targets.shape == (len(forget), 1), "else each output would be compared with every target"
    assert (posed.task, posed.outputs) == ("regression", (1,))
    one_value = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    assert problem(CARD, one_value, forget, retain).forget.targets.shape == (len(forget),)
    words = problem(CLIMBER, nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 3)), ([[1, 2]], [0]), None)
    assert words.forget.inputs.dtype == torch.int64


def wrapped(change: Any) -> nn.Module:
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, inputs: torch.Tensor) -> Any:
            return change(self.inner(inputs))

    return Changed()


FORGET, RETAIN = split()
VALUES = split("regression")


@pytest.mark.parametrize(
    ("card", "model", "forget", "retain", "said"),
    [
        (CARD, "model", FORGET, RETAIN, "works on a torch.nn.Module, got str"),
        (CARD, linear(), FORGET.take(slice(0, 0)), RETAIN, "forget is empty"),
        (CARD, linear(), FORGET, RETAIN.take(slice(0, 0)), "needs the examples that stay, and retain is empty"),
        (CARD, linear(), FORGET, None, "needs the examples that stay, and retain is empty"),
        (CARD, linear(), FORGET, VALUES[1], "targets of forget are for classification, those of retain for regression"),
        (CLASSIFIER, linear(1), *VALUES, "scrub works on classification, got targets of regression"),
        (CARD, nn.Tanh(), FORGET, RETAIN, "Tanh has no floating-point parameters"),
        (CARD, linear(1), FORGET, RETAIN, "one for each of at least two classes"),
        (CARD, linear(2), FORGET, RETAIN, "targets run from 0 to 2, but the model knows classes 0 to 1"),
        (CARD, linear(), (FORGET.inputs, FORGET.targets - 1), RETAIN, "targets run from -1"),
        (CARD, linear(), (FORGET.inputs, FORGET.targets[:, None]), RETAIN, r"class numbers \[n\], got \[20, 1\]"),
        (CARD, linear(2), *VALUES, r"targets \[40, 1\], but the model's outputs are \[40, 2\]"),
        (
            CARD,
            linear(),
            (FORGET.inputs[:, :3], FORGET.targets),
            RETAIN,
            r"does not take inputs \[1, 3\] of torch.float64",
        ),
        (CARD, wrapped(lambda y: (y, y)), FORGET, RETAIN, "returns tuple, and a method needs one tensor"),
        (CARD, wrapped(lambda y: y.sum()), FORGET, RETAIN, r"returns \[\] for 1 inputs"),
        (CARD, wrapped(lambda y: y[:, :, None]), FORGET, RETAIN, r"logits \[batch, classes\]"),
    ],
    ids=range(16),
)
def test_what_does_not_fit_is_an_error(card: Any, model: Any, forget: Any, retain: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        problem(card, model, forget, retain)


def test_one_example_cannot_go_and_stay() -> None:
    whole = torch.utils.data.TensorDataset(FORGET.inputs, FORGET.targets)
    parts = [torch.utils.data.Subset(whole, rows) for rows in ([0, 1, 2], [2, 3, 4], [3, 4])]
    with pytest.raises(InputError, match="1 of 3 examples to forget are among those that stay"):
        problem(CARD, linear(), parts[0], parts[1])
    assert len(problem(CARD, linear(), parts[0], parts[2]).retain) == 2


def test_with_a_loss_of_their_own_users_answer_for_the_targets() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.double())

    binary = Examples(FORGET.inputs, FORGET.targets.clamp(max=1))
    assert problem(CARD, linear(1), binary, binary, loss).loss is loss
    assert readied(linear(1), binary, "forget", loss).targets.shape == (20,)


def test_divergence_is_its_definition() -> None:
    teacher, student = torch.randn(7, 4, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    for temperature in (1.0, 3.0):
        p, q = (torch.softmax(logits / temperature, dim=1) for logits in (teacher, student))
        expected = temperature**2 * (p * (p / q).log()).sum() / 7
        assert float(divergence(teacher, student, temperature)) == pytest.approx(float(expected))
    assert float(divergence(teacher, teacher)) == pytest.approx(0, abs=1e-15)
