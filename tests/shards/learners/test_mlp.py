"""Layers written out: the same as torch's own with the same numbers, pure, and clear about what it refuses."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from shards.errors import ConfigurationError, InputError
from shards.learners.base import StepContext, StepData
from shards.learners.mlp import OPTIMIZERS, MLPLearner
from shards.learners.mlp_network import ACTIVATIONS, Network, count_parameters, first_parameters, layers_of
from shards.learners.schedules import SCHEDULES
from shards.learners.visits import count_windows, windows
from shards.task import FieldSchema, Task

N = 61


def task_of(kind: str = "classification", outputs: int = 3, **features: tuple[str, tuple[int, ...]]) -> Task:
    """A task with features by name; a matrix of five float32 columns if none is named."""
    given = features or {"x": ("<f4", (5,))}
    schemas = {name: FieldSchema(shape, dtype) for name, (dtype, shape) in given.items()}
    if kind == "classification":
        return Task("classification", schemas, FieldSchema((), "<i8"), tuple(range(outputs)), ())
    return Task("regression", schemas, FieldSchema((outputs,), "<f8"), (), ())


def data_of(task: Task, n: int = N, seed: int = 0) -> StepData:
    """Random records."""
    random = np.random.default_rng(seed)

    def values(schema: FieldSchema) -> np.ndarray:
        shape = (n, *schema.shape)
        kind = np.dtype(schema.dtype).kind
        if kind == "f":
            return random.normal(size=shape).astype(schema.dtype)
        return random.integers(0, 2 if kind == "b" else 9, size=shape).astype(schema.dtype)

    features = {name: values(schema) for name, schema in task.features.items()}
    if task.kind == "classification":
        target: np.ndarray = random.integers(0, len(task.classes), n)
    else:
        target = random.normal(size=(n, *task.target.shape))
    return StepData(features, target, np.zeros((n, 16), dtype=np.uint8))


def context_of(task: Task, visits: int = 3 * N, position: int = 0) -> StepContext:
    return StepContext(task, 7, 2, position, visits)


def with_torch(learner: MLPLearner, data: StepData, context: StepContext) -> list[np.ndarray]:
    """The same training by torch's modules and optimisers: parameters, layer after layer."""
    import torch

    task = context.task
    inputs = torch.from_numpy(np.concatenate([np.reshape(f, (len(f), -1)) for f in data.features.values()], axis=1))
    inputs = inputs.double()
    if learner.standardize:
        std = inputs.std(0, correction=0)
        inputs = (inputs - inputs.mean(0)) / torch.where(std == 0, 1.0, std)
    inputs = inputs.float()
    outputs = len(task.classes) if task.kind == "classification" else task.target.shape[0]
    sizes = (inputs.shape[1], *learner.hidden, outputs)
    made: list[Any] = []
    for layer in layers_of(first_parameters(sizes, context.seed("module")), sizes):
        linear = torch.nn.Linear(*layer.weights.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weights.T))
            linear.bias.copy_(torch.from_numpy(layer.biases))
        made += [linear, torch.nn.ReLU() if learner.activation == "relu" else torch.nn.Tanh()]
    module = torch.nn.Sequential(*made[:-1])
    common = {"lr": learner.learning_rate, "weight_decay": learner.weight_decay}
    if learner.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(module.parameters(), **common)
    else:
        optimizer = torch.optim.SGD(module.parameters(), momentum=learner.momentum, **common)
    target = torch.from_numpy(data.target)
    total = count_windows(context.visits, learner.batch_size)
    seed = partial(context.seed, "pass") if learner.shuffle else None
    for k, window in enumerate(windows(len(data), context.visits, learner.batch_size, seed)):
        factor = SCHEDULES[learner.schedule](k, total) if learner.schedule else 1.0
        optimizer.param_groups[0]["lr"] = learner.learning_rate * factor
        optimizer.zero_grad()
        output, wanted = module(inputs[window]), target[window]
        if task.kind == "classification":
            loss = torch.nn.functional.cross_entropy(output, wanted)
        else:
            loss = torch.nn.functional.mse_loss(output, wanted.float())
        loss.backward()
        optimizer.step()
    return [parameter.detach().numpy().T for parameter in module.parameters()]


def parameters(state: Any) -> list[np.ndarray]:
    count = len([name for name in state if name.startswith("weights/")])
    return [state[f"{group}/{number}"] for number in range(count) for group in ("weights", "biases")]


RULES = (
    {},
    {"weight_decay": 0.05},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.05, "schedule": "cosine"},
    {"optimizer": "adam", "learning_rate": 0.01},
    {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.05, "schedule": "step"},
)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_what_torch_does(rule: dict[str, Any], kind: str, hidden: tuple[int, ...], activation: str) -> None:
    learner = MLPLearner(hidden, activation=activation, **{"learning_rate": 0.05, "batch_size": 8, **rule})
    task = task_of(kind)
    data, context = data_of(task), context_of(task)
    state = learner.train_step(None, data, context)
    for ours, theirs in zip(parameters(state), with_torch(learner, data, context), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_features_of_any_kind_are_one_row_and_may_be_standardised() -> None:
    task = task_of(a=("|u1", (2, 2)), b=("<f8", ()), c=("|b1", (1,)), d=("<i4", (2,)))
    data = data_of(task)
    data.features["d"][:, 1] = 4  # a constant
    for standardize in (False, True):
        learner = MLPLearner((6,), standardize=standardize, learning_rate=0.01)
        state = learner.train_step(None, data, context_of(task))
        for ours, theirs in zip(parameters(state), with_torch(learner, data, context_of(task)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        said = learner.predictor(state, task)(data.features)
        assert said.shape == (N, 3)
        np.testing.assert_allclose(said.sum(axis=1), 1.0)


def test_a_gradient_is_the_slope_of_the_loss() -> None:
    """Every entry of the gradient against a difference of losses in float64, for each activation."""
    sizes, random = (4, 5, 3), np.random.default_rng(1)
    x, classes = random.normal(size=(6, 4)).astype(np.float32), random.integers(0, 3, 6)

    def loss_at(vector: np.ndarray, activation: str) -> float:
        z = x.astype(np.float64)
        layers = layers_of(vector.astype(np.float64), sizes)
        for number, layer in enumerate(layers):
            z = z @ layer.weights + layer.biases
            if number < len(layers) - 1:
                z = np.maximum(z, 0) if activation == "relu" else np.tanh(z)
        z = z - z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(6), classes]).sum())

    for activation in ACTIVATIONS:
        vector = first_parameters(sizes, 3)
        network = Network(vector, sizes, activation, 6)
        output = network.forward(x).copy()
        share = np.exp(output - output.max(axis=1, keepdims=True))
        gradient = share / share.sum(axis=1, keepdims=True)
        gradient[np.arange(6), classes] -= 1
        found = np.empty_like(vector)
        for number, inputs, by_outputs in network.backward(x, gradient):
            layers_of(found, sizes)[number].weights[...] = inputs.T @ by_outputs
            layers_of(found, sizes)[number].biases[...] = by_outputs.sum(axis=0)
        for at in range(count_parameters(sizes)):
            up, down = vector.astype(np.float64), vector.astype(np.float64)
            up[at] += 1e-5
            down[at] -= 1e-5
            slope = (loss_at(up, activation) - loss_at(down, activation)) / 2e-5
            assert found[at] == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_two_steps_carried_are_one_longer_one(rule: dict[str, Any]) -> None:
    """With the optimiser kept, and nothing that depends on the step, cutting a training in two changes no bit."""
    learner = MLPLearner((6,), shuffle=False, carry_optimizer=True, batch_size=8, **{**rule, "schedule": None})
    task = task_of()
    data = data_of(task, 64)
    whole = learner.train_step(None, data, context_of(task, 128))
    half = learner.train_step(None, data, context_of(task, 64))
    kept = {name: value.copy() for name, value in half.items()}
    both = learner.train_step(half, data, context_of(task, 64, position=1))
    assert whole.keys() == both.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, both[name])
        np.testing.assert_array_equal(kept[name], half[name])  # the parent is not changed


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_bits_do_not_depend_on_where_the_records_lie(rule: dict[str, Any]) -> None:
    learner = MLPLearner((33, 9), **rule)
    task = task_of(x=("<f4", (37,)))
    data = data_of(task)
    usual = learner.train_step(None, data, context_of(task))
    for shift in range(1, 16, 3):
        room = np.empty(data.features["x"].size + 16, dtype=np.float32)
        moved = room[shift : shift + data.features["x"].size].reshape(N, 37)
        moved[...] = data.features["x"]
        moved.flags.writeable = False
        again = learner.train_step(None, replace(data, features={"x": moved}), context_of(task))
        for name, value in usual.items():
            np.testing.assert_array_equal(value, again[name])


def test_what_came_before_in_the_process_changes_nothing() -> None:
    learner, task = MLPLearner((6,)), task_of()
    usual = learner.train_step(None, data_of(task), context_of(task))
    learner.train_step(usual, data_of(task, 9, seed=5), context_of(task, 40, position=1))
    np.random.default_rng().random()
    again = learner.train_step(None, data_of(task), context_of(task))
    assert learner.content_digest(usual) == learner.content_digest(again)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_few_records_and_any_batch_size(n: int, batch_size: int) -> None:
    task = task_of()
    state = MLPLearner((4,), batch_size=batch_size).train_step(None, data_of(task, n), context_of(task, 2 * n + 1))
    assert all(np.isfinite(value).all() for value in state.values())


def test_it_learns() -> None:
    from tests.cases import digits

    X, y = digits()
    task = task_of(outputs=10, x=("<f4", (64,)))
    data = StepData({"x": X[:1500]}, y[:1500], np.zeros((1500, 16), dtype=np.uint8))
    learner = MLPLearner((64,))
    state = learner.train_step(None, data, context_of(task, 20 * 1500))
    assert (learner.predictor(state, task)({"x": X[1500:]}).argmax(axis=1) == y[1500:]).mean() > 0.9


def test_predictions_of_many_rows_and_of_none() -> None:
    task = task_of("regression", 2)
    learner = MLPLearner((4,), learning_rate=0.01)
    state = learner.train_step(None, data_of(task), context_of(task))
    predict = learner.predictor(state, task)
    many = data_of(task, 2500).features
    said = predict(many)
    assert said.shape == (2500, 2)
    assert said.dtype == np.float64
    np.testing.assert_allclose(said[1030:1040], predict({"x": many["x"][1030:1040]}), rtol=1e-5, atol=1e-6)
    assert predict({"x": many["x"][:0]}).shape == (0, 2)
    with pytest.raises(InputError, match="needs"):
        predict({"x": many["x"][:, :4]})


def test_progress_is_told_at_the_end() -> None:
    told: list[int] = []
    task = task_of()
    MLPLearner().train_step(None, data_of(task), replace(context_of(task), progress=told.append))
    assert told[-1] == 3 * N


def test_a_training_that_diverges_says_so_and_warns_of_nothing() -> None:
    task = task_of("regression", 2)
    learner = MLPLearner((8,), learning_rate=1e12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FloatingPointError, match="lower learning_rate"):
            learner.train_step(None, data_of(task), context_of(task))


def test_params_make_an_equal_learner() -> None:
    learner = MLPLearner([5, 3], epochs="7/2", batch_size=np.int64(4), schedule="linear")  # type: ignore[arg-type]
    assert MLPLearner.from_params(learner.params()) == learner
    assert learner.params().keys() == {item.name for item in fields(learner)}
    assert hash(learner) == hash(MLPLearner((5, 3), epochs=3.5, batch_size=4, schedule="linear"))
    assert learner.visits(10, 3) == 18  # 2 * 3.5 * 10 / 4, rounded up
    assert learner.code() == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hidden": (0,)}, "hidden is"),
        ({"hidden": 128}, "hidden is 128"),
        ({"hidden": (True,)}, "hidden is"),
        ({"activation": "sigmoid"}, "activation is 'sigmoid': choose one of relu, tanh"),
        ({"optimizer": "SGD"}, "optimizer is 'SGD': choose one of sgd, adam"),
        ({"schedule": "cosin"}, "schedule is 'cosin': choose one of None, cosine"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"momentum": 1}, "momentum is 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum is for optimizer 'sgd'"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"epochs": 0}, "MLPLearner: epochs is 0"),
        ({"batch_size": 0}, "MLPLearner: batch_size is 0"),
        ({"shuffle": 1}, "shuffle is 1"),
    ],
    ids=str,
)
def test_what_it_refuses(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace("(", r"\(")):
        MLPLearner(**options)


def test_every_choice_is_tried_here() -> None:
    assert {rule.get("optimizer", "sgd") for rule in RULES} == set(OPTIMIZERS)


def test_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes numbers, and name is none"):
        MLPLearner().check(task_of(name=("str", ()), age=("<f4", ())))
    MLPLearner().check(task_of(age=("<f4", ()), seen=("|b1", ())))


def test_a_state_of_another_shape_is_refused() -> None:
    task = task_of()
    state = MLPLearner((4,)).train_step(None, data_of(task), context_of(task))
    with pytest.raises(ConfigurationError, match="'weights/0' is float32"):
        MLPLearner((5,)).train_step(state, data_of(task), context_of(task, position=1))
    with pytest.raises(ConfigurationError, match="'weights/2' is missing"):
        MLPLearner((4, 3)).predictor(
            {**state, "weights/1": np.zeros((4, 3), dtype=np.float32), "biases/1": np.zeros(3, dtype=np.float32)}, task
        )
