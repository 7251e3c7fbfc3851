"""DP-SGD against a loop written out record by record, the distribution of its noise, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch_cases import CONTEXT, DATA, TASK, N, X, regression, take, weights

from shards.errors import ConfigurationError
from shards.learners import dp_sgd
from shards.learners.base import StepContext, StepData
from shards.learners.dp_sgd import poisson_batch
from shards.learners.mapped import MappedLearner
from shards.learners.mlp import MLPLearner
from shards.learners.private_torch import PrivateTorchLearner
from shards.learners.torch import TorchLearner
from shards.noise import SYSTEM
from shards.train import describe_learner, learner_from


@dataclass
class Known:
    """A source that draws the same again; what it gave is kept."""

    start: int = 0
    quiet: bool = False
    seed_of_masks: int = 0
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.start)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape) if self.quiet else self.rng.standard_normal(shape)

    def uniform(self, size: int) -> np.ndarray:
        return self.rng.random(size)

    def seed(self) -> int:
        return self.seed_of_masks


def learner(
    module: object = "mlp", arguments: dict[str, object] | None = None, **settings: object
) -> PrivateTorchLearner:
    usual: dict[str, object] = {
        "noise_multiplier": 1.0,
        "clip_norm": 1.0,
        "records": N,
        "batch_size": 8,
        "steps": 12,
        "delta": 1e-3,
    }
    if arguments is None:
        arguments = {"hidden": [5]} if module == "mlp" else {}
    return PrivateTorchLearner(module, arguments, **usual | settings)  # type: ignore[arg-type]


def by_hand(
    ours: PrivateTorchLearner, source: Known, rate: Callable[[int, int], float] = lambda k, n: 1.0
) -> dict[str, np.ndarray]:
    """The same steps: each record's gradient by itself, clipped in a loop."""
    torch.manual_seed(CONTEXT.seed("module"))
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    parameters = list(module.parameters())
    optimizer = getattr(torch.optim, str(ours.optimizer))(parameters, **ours.optimizer_args)
    base = optimizer.param_groups[0]["lr"]
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for step in range(ours.steps):
        optimizer.param_groups[0]["lr"] = base * rate(step, ours.steps)
        batch = [row for row, drawn in enumerate(source.uniform(N)) if drawn < ours.batch_size / ours.records]
        source.sizes.append(len(batch))
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for row in batch:
            loss = torch.nn.functional.cross_entropy(module(x[row : row + 1]), y[row : row + 1])
            gradient = torch.autograd.grad(loss, parameters)
            norm = math.sqrt(sum(float((part**2).sum()) for part in gradient))
            total = [a + b * min(1.0, ours.clip_norm / norm) for a, b in zip(total, gradient, strict=True)]
        for parameter, part in zip(parameters, total, strict=True):
            drawn = torch.tensor(source.normal(tuple(parameter.shape)), dtype=torch.float32)
            parameter.grad = (part + ours.noise_multiplier * ours.clip_norm * drawn) / ours.batch_size
        optimizer.step()
    return {name: value.numpy() for name, value in module.state_dict().items()}


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=tolerance, err_msg=name)


# --- the steps ------------------------------------------------------------------------------------------------


def test_without_noise_and_clipping_it_is_plain_gradient_descent_on_poisson_batches() -> None:
    ours = learner(clip_norm=1e6)
    found = weights(ours.train_with(Known(quiet=True), None, DATA, CONTEXT))
    torch.manual_seed(CONTEXT.seed("module"))
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    x, y, source = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target), Known()
    for _ in range(12):
        rows = np.flatnonzero(source.uniform(N) < 8 / N)
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x[rows]), y[rows], reduction="sum").backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad / 8
    close(found, {name: value.numpy() for name, value in module.state_dict().items()})


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_norm": 0.3},
        {"clip_norm": 0.7, "noise_multiplier": 0.4, "optimizer": "Adam", "optimizer_args": {"lr": 0.02}},
        {"clip_norm": 0.5, "batch_size": 1, "steps": 30, "optimizer_args": {"lr": 0.1, "momentum": 0.9}},
    ],
    ids=["SGD", "Adam", "batches of one or none"],
)
def test_every_record_is_clipped_by_itself_and_noise_is_added_to_the_sum(settings: dict[str, object]) -> None:
    ours, source = learner(**settings), Known()
    close(weights(ours.train_with(Known(), None, DATA, CONTEXT)), by_hand(ours, source))
    assert settings.get("batch_size") != 1 or 0 in source.sizes


def test_a_schedule_and_steps_that_go_on_from_a_parent() -> None:
    ours = learner(schedule="linear", clip_norm=0.3)
    close(weights(ours.train_with(Known(), None, DATA, CONTEXT)), by_hand(ours, Known(), lambda k, n: 1 - k / n))
    parent = ours.train_with(Known(1), None, DATA, CONTEXT)
    kept = {name: value.copy() for name, value in parent.items()}
    child = ours.train_with(Known(2), parent, DATA, replace(CONTEXT, position=1))
    assert all(np.array_equal(parent[name], kept[name]) for name in kept)
    still = replace(ours, optimizer_args={"lr": 0.0}).train_with(Known(2), parent, DATA, replace(CONTEXT, position=1))
    assert all(np.array_equal(still[name], parent[name]) for name in parent)
    assert not any(np.array_equal(child[name], parent[name]) for name in parent)


def test_batches_larger_than_memory_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = learner(clip_norm=0.3, batch_size=20)
    whole = weights(ours.train_with(Known(), None, DATA, CONTEXT))
    monkeypatch.setattr(dp_sgd, "CHUNK", 3)
    close(weights(ours.train_with(Known(), None, DATA, CONTEXT)), whole)


def test_regression_with_several_outputs() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(size=(N, 2))
    data = StepData(DATA.features, target, DATA.tokens)
    context = StepContext(regression(X, (2,)), 5, 0, 0, 100)
    ours = learner(
        "mlp",
        {"hidden": []},
        noise_multiplier=1e-9,
        clip_norm=50.0,
        steps=250,
        batch_size=N,
        optimizer_args={"lr": 0.2},
    )
    state = ours.train_with(Known(), None, data, context)
    design = np.column_stack([X, np.ones(N)])
    best = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(ours.predictor(state, context.task)({"x": X}), best, atol=1e-3)


# --- noise and batches ----------------------------------------------------------------------------------------


def test_two_trainings_differ_whatever_is_seeded() -> None:
    ours, states = learner(), []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        states.append(ours.train_step(None, DATA, CONTEXT))
    assert ours.content_digest(states[0]) != ours.content_digest(states[1])
    assert not any(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_masks_of_dropout_are_as_secret_as_the_noise() -> None:
    """Which mask a record gets depends on who else is in its batch, so no mask may follow from what others know."""
    ours = learner("private_modules:normal_layers")
    states = [ours.train_with(Known(quiet=True, seed_of_masks=seed), None, DATA, CONTEXT) for seed in (0, 0, 1)]
    first, again, other = (ours.content_digest(state) for state in states)
    assert first == again != other
    assert len({SYSTEM.seed() for _ in range(50)}) == 50


def test_a_state_is_the_weights_and_a_description_holds_no_seed() -> None:
    ours = learner()
    state = ours.train_step(None, DATA, CONTEXT)
    assert set(state) == {f"module/{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert not any("seed" in name or "generator" in name for name in ours.params())


def test_global_generators_and_their_stream_are_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    learner().train_step(None, DATA, CONTEXT)
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_has_the_declared_size() -> None:
    # One step on one record of probability 1/37: what noise adds to 12,000 weights outweighs its gradient by far.
    ours = learner("private_modules:wide", noise_multiplier=2.0, clip_norm=0.5, batch_size=1, steps=1)
    ours = replace(ours, optimizer_args={"lr": 1.0})
    quiet = ours.train_with(Known(quiet=True), None, take(DATA, slice(1)), CONTEXT)["module/0.weight"]
    first, second = (ours.train_step(None, take(DATA, slice(1)), CONTEXT)["module/0.weight"] for _ in range(2))
    for state in (first, second):
        assert np.std(state - quiet) == pytest.approx(2.0 * 0.5, rel=0.04)
    assert abs(np.corrcoef((first - quiet).ravel(), (second - quiet).ravel())[0, 1]) < 0.05


def test_records_are_drawn_independently_with_one_probability() -> None:
    n, rate, batches = 50, 0.2, 4000
    drawn = np.zeros((batches, n))
    for row in drawn:
        row[poisson_batch(n, rate, SYSTEM)] = 1
    error = 6 * math.sqrt(rate * (1 - rate) / batches)
    assert np.abs(drawn.mean(0) - rate).max() < error
    sizes = drawn.sum(1)
    # The variance of a binomial number: a batch of fixed size would have none.
    assert sizes.var() == pytest.approx(n * rate * (1 - rate), rel=0.15)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(n)).max() < 6 / math.sqrt(batches)


def test_progress_and_visits_tell_what_was_to_be_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    from shards.learners import private_torch

    monkeypatch.setattr(private_torch, "_PROGRESS_SECONDS", -1.0)
    ours, told = learner(), list[int]()
    assert ours.visits(N, 1) == 8 * 12
    assert ours.visits(1, 1) == math.ceil(8 * 12 / N)
    for _ in range(2):
        ours.train_step(None, DATA, replace(CONTEXT, visits=96, progress=told.append))
    assert told == [8 * step for step in range(12)] * 2


# --- what a learner is ----------------------------------------------------------------------------------------


def test_it_is_described_built_again_and_says_that_it_does_not_repeat() -> None:
    ours = learner(schedule="cosine", loss="cross_entropy")
    again = learner_from(json.loads(json.dumps(describe_learner(ours))))
    assert again == ours
    assert hash(again) == hash(ours)
    assert not ours.reproducible
    assert TorchLearner("mlp").reproducible
    assert not MappedLearner(ours, "raw").reproducible
    assert MappedLearner(MLPLearner(), "raw").reproducible


def test_layers_that_keep_records_apart_are_taken() -> None:
    ours = learner("private_modules:normal_layers")
    ours.check(TASK)
    state = ours.train_step(None, DATA, CONTEXT)
    said = ours.predictor(state, TASK)({"x": X})
    np.testing.assert_allclose(said.sum(1), 1)
    joined = ours.as_module([ours.predictor(state, TASK)], TASK)
    np.testing.assert_allclose(joined(torch.tensor(X))[0].detach().numpy(), said, atol=1e-12)


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("private_modules:normalised", "BatchNorm cannot support .* Replace batch normalisation"),
        ("private_modules:Centred", "depends on the other records of its batch"),
        ("private_modules:Counting", "depends on the other records of its batch"),
        ("private_modules:Dropping", r"take torch\.nn\.Dropout"),
        ("private_modules:Remembering", "changed the buffer 'seen.largest'"),
        ("private_modules:Unused", "does not depend on parameter 'other.weight'"),
    ],
)
def test_modules_that_mix_records_or_remember_them_are_refused(module: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learner(module).check(TASK)
    # Where training happens as well: a worker is not handed what `check` has seen.
    with pytest.raises(ConfigurationError, match=message):
        learner(module).train_step(None, DATA, CONTEXT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_multiplier": 0.0}, "without noise nothing is private"),
        ({"noise_multiplier": math.nan}, "without noise"),
        ({"clip_norm": None}, "without clipping no noise is enough"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"batch_size": N + 1}, "probability above 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"records": True}, "records is True"),
        ({"delta": 0.1}, r"below 1 / records = 0.027"),
        ({"delta": 0.0}, "must be above 0"),
        ({"loss": "triplet_margin_loss"}, "mean of one loss a record"),
        ({"loss": "user_modules:loss"}, "mean of one loss a record"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_numbers_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learner(**settings)


def test_too_many_records_for_a_delta_and_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="has 37 records: what publishes one of them at random"):
        learner(records=10, delta=0.05).train_step(None, DATA, CONTEXT)
    with pytest.raises(ConfigurationError, match=r"do not fit: .*'epochs'"):
        PrivateTorchLearner.from_params({**learner().params(), "epochs": 3})
    bad = StepData({"x": np.where(np.arange(N)[:, None] == 3, np.nan, X)}, DATA.target, DATA.tokens)
    with pytest.raises(FloatingPointError, match="is not finite: lower"):
        learner(batch_size=N).train_step(None, bad, CONTEXT)  # so that it is in every batch
