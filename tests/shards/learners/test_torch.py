from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import user_modules
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.digest import digest_arrays
from shards.errors import CodeError, ConfigurationError, InputError
from shards.learners.base import StepContext, StepData
from shards.learners.torch import TorchLearner
from shards.learners.visits import count_windows, windows
from shards.task import FieldSchema, Task

N = 37
rng = np.random.default_rng(0)


def classification(features: Mapping[str, np.ndarray], classes: int = 3) -> Task:
    schemas = {name: FieldSchema(x.shape[1:], x.dtype.str) for name, x in features.items()}
    return Task("classification", schemas, FieldSchema((), "<i8"), tuple(range(classes)))


def regression(x: np.ndarray, shape: tuple[int, ...] = ()) -> Task:
    return Task("regression", {"x": FieldSchema(x.shape[1:], x.dtype.str)}, FieldSchema(shape, "<f8"))


X = rng.normal(size=(N, 6))
DATA = StepData({"x": X}, rng.integers(0, 3, N), rng.integers(0, 256, (N, 16), dtype=np.uint8))
TASK = classification({"x": X})
CONTEXT = StepContext(TASK, root_seed=5, shard=2, position=0, visits=100)


def learner(module: str = "user_modules:make", **settings: object) -> TorchLearner:
    return TorchLearner(module, **settings)  # type: ignore[arg-type]


def take(data: StepData, rows: object) -> StepData:
    return StepData({k: v[rows] for k, v in data.features.items()}, data.target[rows], data.tokens[rows])  # type: ignore[index]


def weights(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.partition("/")[2]: value for key, value in state.items() if key.startswith("module/")}


def same(state: Mapping[str, np.ndarray], module: torch.nn.Module) -> bool:
    expected = {name: value.numpy() for name, value in module.state_dict().items()}
    return digest_arrays(weights(state)) == digest_arrays(expected)


def generators() -> str:
    state = np.random.get_state()
    return str((torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2:]))  # type: ignore[union-attr, index]


# --- the loop, against one written by hand -------------------------------------------------------------------


def by_hand(
    name: str,
    optimizer_args: dict[str, object],
    rate: object = None,
    context: StepContext = CONTEXT,
    clip: float | None = None,
) -> torch.nn.Module:
    torch.manual_seed(context.seed("module"))
    module = user_modules.make()
    optimizer = getattr(torch.optim, name)(module.parameters(), **optimizer_args)
    torch.manual_seed(context.seed("train"))
    passes = -(-context.visits // N)
    order = np.concatenate(
        [np.random.Generator(np.random.PCG64(context.seed("pass", k))).permutation(N) for k in range(passes)]
    )[: context.visits]
    starts = list(range(0, context.visits, 16))
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for k, start in enumerate(starts):
        if rate is not None:
            optimizer.param_groups[0]["lr"] = optimizer_args["lr"] * rate(k, len(starts))  # type: ignore[operator]
        rows = order[start : start + 16]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
    return module


def test_sgd_with_momentum_and_cosine_equals_a_loop_by_hand() -> None:
    args = {"lr": 0.2, "momentum": 0.9}
    expected = by_hand("SGD", args, lambda k, n: 0.1 + 0.9 * (1 + math.cos(math.pi * k / n)) / 2)
    ours = learner(optimizer_args=args, schedule="cosine", schedule_args={"final": 0.1})
    assert same(ours.train_step(None, DATA, CONTEXT), expected)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        ("linear", lambda k, n: 1 - k / n),
        ("step", lambda k, n: 0.1 ** (3 * k // n)),
        ("user_modules:halves", None),
    ],
)
def test_other_schedules_equal_a_loop_by_hand(schedule: str, rate: object) -> None:
    expected = by_hand("SGD", {"lr": 0.2}, rate or user_modules.halves)
    assert same(learner(optimizer_args={"lr": 0.2}, schedule=schedule).train_step(None, DATA, CONTEXT), expected)


def test_adam_equals_a_loop_by_hand() -> None:
    ours = learner(optimizer="Adam", optimizer_args={"lr": 0.01}).train_step(None, DATA, CONTEXT)
    assert same(ours, by_hand("Adam", {"lr": 0.01}))


def test_clipping_equals_a_loop_by_hand() -> None:
    ours = learner(clip_norm=0.05).train_step(None, DATA, CONTEXT)
    assert same(ours, by_hand("SGD", {"lr": 0.1}, clip=0.05))
    assert not same(ours, by_hand("SGD", {"lr": 0.1}))


def test_second_step_starts_from_the_parent_and_its_own_seeds() -> None:
    ours = learner(optimizer="Adam", optimizer_args={"lr": 0.01})
    first = ours.train_step(None, DATA, CONTEXT)
    second = ours.train_step(first, DATA, replace(CONTEXT, position=1))
    expected = by_hand("Adam", {"lr": 0.01})
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for window in windows(N, 100, 16, lambda k: replace(CONTEXT, position=1).seed("pass", k)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(expected(x[window]), y[window]).backward()
        optimizer.step()
    assert same(second, expected)


# --- purity --------------------------------------------------------------------------------------------------

ALL_SORTS = [
    learner(),
    learner("user_modules:batchnorm", standardize=True, optimizer="AdamW", carry_optimizer=True),
    learner("user_modules:dropout", transform="user_modules:jitter", schedule="linear"),
    learner("user_modules:numpy_noise", optimizer="user_modules:PlainSGD", carry_optimizer=True),
    learner("user_modules:Tied", loss="user_modules:focal", epochs="7/2", shuffle=False, clip_norm=1),
    learner("user_modules:double", input_dtype="float64"),
    learner("user_modules:half", input_dtype="bfloat16"),
    learner("mlp", module_args={"hidden": (4,), "dropout": 0.2}, optimizer="Adagrad", carry_optimizer=True),
]


@pytest.mark.parametrize("ours", ALL_SORTS, ids=lambda ours: str(ours.module))
def test_a_step_is_a_pure_function(ours: TorchLearner) -> None:
    ours.check(TASK)
    parent = ours.train_step(None, DATA, CONTEXT)
    before, data_before = digest_arrays(parent), digest_arrays(DATA.features)
    torch.manual_seed(1)
    generators_before = generators()
    second = ours.train_step(parent, DATA, replace(CONTEXT, position=1))
    predict = ours.predictor(second, TASK)
    probabilities = predict(DATA.features)
    assert generators() == generators_before
    assert digest_arrays(parent) == before
    assert digest_arrays(DATA.features) == data_before

    torch.rand(3), random.random(), np.random.rand()
    again = TorchLearner.from_params(json.loads(json.dumps(ours.params())))
    assert again == ours
    assert hash(again) == hash(ours)
    frozen = {key: np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape) for key, value in parent.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = again.train_step(frozen, DATA, replace(CONTEXT, position=1))
    assert digest_arrays(third) == digest_arrays(second) != before
    np.testing.assert_array_equal(again.predictor(third, TASK)(DATA.features), probabilities)
    np.testing.assert_array_equal(predict(DATA.features), probabilities)


def test_the_callers_modes_do_not_matter() -> None:
    ours = learner()
    expected = digest_arrays(ours.train_step(None, DATA, CONTEXT))
    with torch.no_grad():
        assert digest_arrays(ours.train_step(None, DATA, CONTEXT)) == expected
    with torch.inference_mode():
        assert digest_arrays(ours.train_step(None, DATA, CONTEXT)) == expected


def test_generators_are_restored_after_an_error() -> None:
    before = generators()
    with pytest.raises(ConfigurationError):
        learner(module_args={"outputs": 5}).train_step(None, DATA, CONTEXT)
    assert generators() == before


def test_result_depends_on_seed_shard_and_position() -> None:
    states = [
        learner().train_step(None, DATA, context)
        for context in (
            CONTEXT,
            replace(CONTEXT, root_seed=6),
            replace(CONTEXT, shard=3),
            replace(CONTEXT, position=1),
        )
    ]
    assert len({digest_arrays(state) for state in states}) == 4


def test_dropout_draws_from_the_seed_of_the_step() -> None:
    parent = learner("user_modules:dropout").train_step(None, DATA, CONTEXT)

    def trained(rate: float, position: int) -> str:
        ours = learner("user_modules:dropout", module_args={"rate": rate}, shuffle=False)
        return digest_arrays(ours.train_step(parent, DATA, replace(CONTEXT, position=position)))

    assert trained(0.5, 1) != trained(0.5, 2)
    assert trained(0.0, 1) == trained(0.0, 2)


def test_dropout_equals_a_loop_by_hand() -> None:
    ours = learner("user_modules:dropout", shuffle=False).train_step(None, DATA, CONTEXT)
    torch.manual_seed(CONTEXT.seed("module"))
    module = user_modules.dropout(3)
    torch.manual_seed(CONTEXT.seed("train"))
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for window in windows(N, 100, 16, None):
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x[window]), y[window]).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad, alpha=0.1)
    assert same(ours, module)


def test_progress_ends_with_all_visits_and_changes_nothing() -> None:
    told: list[int] = []

    def tell(visits: int) -> None:
        told.append(visits)
        torch.rand(1)

    expected = learner("user_modules:dropout").train_step(None, DATA, CONTEXT)
    state = learner("user_modules:dropout").train_step(None, DATA, replace(CONTEXT, progress=tell))
    assert told[-1] == 100
    assert digest_arrays(state) == digest_arrays(expected)


# --- carried optimisers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "args"),
    [("Adam", {"lr": 0.01}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("user_modules:PlainSGD", {"lr": 0.1})],
)
def test_carried_optimizer_equals_one_that_was_never_interrupted(optimizer: str, args: dict[str, float]) -> None:
    ours = learner(optimizer=optimizer, optimizer_args=args, carry_optimizer=True)
    state = None
    for position in range(3):
        state = ours.train_step(state, DATA, replace(CONTEXT, position=position))
    assert state is not None

    torch.manual_seed(CONTEXT.seed("module"))
    module = user_modules.make()
    make = user_modules.PlainSGD if ":" in optimizer else getattr(torch.optim, optimizer)
    memory = make(module.parameters(), **args)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for position in range(3):
        context = replace(CONTEXT, position=position)
        for window in windows(N, 100, 16, lambda k, context=context: context.seed("pass", k)):  # type: ignore[misc]
            memory.zero_grad()
            torch.nn.functional.cross_entropy(module(x[window]), y[window]).backward()
            memory.step()
    assert same(state, module)
    fresh = learner(optimizer=optimizer, optimizer_args=args)
    state = None
    for position in range(3):
        state = fresh.train_step(state, DATA, replace(CONTEXT, position=position))
    assert not same(state, module)
    assert not any(key.startswith("optimizer") for key in state)


def test_what_an_optimizer_remembers_is_named_after_its_parameter() -> None:
    state = learner(optimizer="Adam", carry_optimizer=True).train_step(None, DATA, CONTEXT)
    assert state["optimizer/0.weight/exp_avg"].shape == (8, 6)
    assert state["optimizer/2.bias/step"] == 7
    state = learner(optimizer="user_modules:PlainSGD", optimizer_args={"lr": 0.1}, carry_optimizer=True).train_step(
        None, DATA, CONTEXT
    )
    assert state["optimizer:int/0.weight/count"] == 7
    assert state["optimizer:bfloat16/0.weight/mean"].dtype == np.uint16


# --- visits --------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), visits=st.integers(1, 200), batch=st.integers(1, 50), shuffle=st.booleans())
@settings(deadline=None)
def test_windows_cut_passes_of_permutations(n: int, visits: int, batch: int, shuffle: bool) -> None:
    cut = list(windows(n, visits, batch, (lambda k: 1000 + k) if shuffle else None))
    assert len(cut) == count_windows(visits, batch)
    flat = np.concatenate(cut)
    assert flat.dtype == np.int64
    assert len(flat) == visits
    for k in range(0, visits, n):
        piece = flat[k : k + n].tolist()
        assert len(set(piece)) == len(piece)
        assert set(piece) <= set(range(n))
        if not shuffle:
            assert piece == list(range(len(piece)))
    counts = Counter(flat.tolist())
    times = [counts[i] for i in range(n)]
    assert max(times) - min(times) <= 1
    sizes = [len(window) for window in cut]
    assert set(sizes[:-1]) <= {batch}
    assert 1 <= sizes[-1] <= batch + 1
    assert sizes[-1] > 1 or batch == 1 or visits == 1


def test_windows_do_not_depend_on_the_budget_that_follows() -> None:
    short = np.concatenate(list(windows(10, 33, 4, lambda k: k)))
    long = np.concatenate(list(windows(10, 99, 7, lambda k: k)))
    np.testing.assert_array_equal(short, long[:33])
    assert not np.array_equal(long[:10], long[10:20])


def test_batch_normalisation_survives_a_lone_last_record() -> None:
    ours = learner("user_modules:batchnorm")
    state = ours.train_step(None, take(DATA, slice(0, 33)), replace(CONTEXT, visits=33))
    assert state["module/1.num_batches_tracked"] == 2
    assert np.isfinite(ours.predictor(state, TASK)(DATA.features)).all()


def test_epochs_are_exact_fractions() -> None:
    assert learner(epochs=20).visits(500, 5) == math.ceil(Fraction(2 * 20 * 500, 6))
    assert learner(epochs=0.1).visits(30, 1) == 3
    assert learner(epochs="1/3").visits(9, 1) == 3
    assert learner(epochs=20.0) == learner(epochs="20") == learner(epochs=Fraction(20))
    assert learner(epochs=0.5) == learner(epochs="1/2")
    assert learner(epochs=Fraction(1, 3)) == learner(epochs="1/3")


# --- features ------------------------------------------------------------------------------------------------


def test_standardize_equals_numpy() -> None:
    x = (X * [1, 10, 100, 1, 1, 1] + [0, 0, 1e4, 0, 0, 0]).astype(np.float32)
    x[:, 5] = 0.1
    data, task = replace(DATA, features={"x": x}), classification({"x": x})
    mean, std = x.astype(np.float64).mean(0), x.astype(np.float64).std(0)
    std[5] = 1.0
    ours = learner(standardize=True)
    state = ours.train_step(None, data, CONTEXT)
    np.testing.assert_allclose(state["standardize/mean"], mean, rtol=1e-14)
    np.testing.assert_allclose(state["standardize/std"], std, rtol=1e-10)

    scaled = (x.astype(np.float64) - state["standardize/mean"]) / state["standardize/std"]
    plain = learner().train_step(None, replace(DATA, features={"x": scaled}), CONTEXT)
    assert digest_arrays(weights(state)) == digest_arrays(weights(plain))
    np.testing.assert_array_equal(
        ours.predictor(state, task)({"x": x}), learner().predictor(plain, TASK)({"x": scaled})
    )
    # The next step computes its own, from its own records.
    later = ours.train_step(state, take(data, slice(0, 9)), CONTEXT)
    np.testing.assert_allclose(later["standardize/mean"], x[:9].astype(np.float64).mean(0), rtol=1e-14)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e9 + 0.7])
def test_standardize_leaves_the_scale_of_a_constant_alone(constant: float) -> None:
    x = X.copy()
    x[:, 2] = constant
    state = learner(standardize=True).train_step(None, replace(DATA, features={"x": x}), CONTEXT)
    assert state["standardize/std"][2] == 1.0


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", ">f4", "float64", "<f4"])
def test_features_are_cast_without_warnings(dtype: str) -> None:
    x = (np.abs(X) * 3).astype(dtype)
    x.setflags(write=False)
    data = replace(DATA, features={"x": x})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = learner().train_step(None, data, CONTEXT)
        ours = learner().predictor(state, classification({"x": x}))({"x": x})
    as_float = x.astype(np.float32)
    expected = learner().train_step(None, replace(DATA, features={"x": as_float}), CONTEXT)
    assert digest_arrays(state) == digest_arrays(expected)
    np.testing.assert_array_equal(ours, learner().predictor(expected, TASK)({"x": as_float}))


def test_own_dtype_is_kept() -> None:
    state = learner("user_modules:double", input_dtype=None).train_step(None, DATA, CONTEXT)
    assert state["module/0.weight"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16"])
@pytest.mark.parametrize("input_dtype", [None, "float32"])
def test_embedding_of_integers(dtype: str, input_dtype: str | None) -> None:
    words = rng.integers(0, 11, (N, 4)).astype(dtype)
    task = classification({"words": words})
    ours = learner("user_modules:Embedding", input_dtype=input_dtype)
    ours.check(task)
    state = ours.train_step(None, replace(DATA, features={"words": words}), replace(CONTEXT, task=task))
    module = user_modules.Embedding(3)
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    expected = module(torch.tensor(words.astype(np.int64))).double().softmax(1).detach().numpy()
    np.testing.assert_array_equal(ours.predictor(state, task)({"words": words}), expected)


def test_two_features_are_passed_by_name() -> None:
    features = {"word": rng.integers(0, 11, N), "dense": X}
    task = classification(features)
    ours = learner("user_modules:TwoFeatures")
    ours.check(task)
    state = ours.train_step(None, replace(DATA, features=features), replace(CONTEXT, task=task))
    module = user_modules.TwoFeatures({"dense": (6,)}, 3)
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    dense = torch.tensor(X, dtype=torch.float32)
    expected = module(dense=dense, word=torch.tensor(features["word"])).double().softmax(1).detach().numpy()
    np.testing.assert_array_equal(ours.predictor(state, task)(features), expected)
    for option in ({"standardize": True}, {"transform": "user_modules:keep"}):
        with pytest.raises(ConfigurationError, match="one feature"):
            replace(ours, input_dtype="float32", **option).check(classification({"a": X, "b": X}))


def test_bfloat16_and_tied_weights_survive_in_arrays() -> None:
    state = learner("user_modules:half", input_dtype="bfloat16").train_step(None, DATA, CONTEXT)
    bits = state["module:bfloat16/0.weight"]
    assert bits.dtype == np.uint16
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(values) > 0).all()
    assert (np.abs(values) < 10).all()

    ours = learner("user_modules:Tied", optimizer_args={"lr": 0.5})
    first = ours.train_step(None, DATA, CONTEXT)
    second = ours.train_step(first, DATA, replace(CONTEXT, position=1))
    np.testing.assert_array_equal(second["module/encoder.weight"], second["module/decoder.weight"])
    np.testing.assert_array_equal(second["module/first.weight"], first["module/first.weight"])
    assert not np.array_equal(second["module/encoder.weight"], first["module/encoder.weight"])


# --- augmentation --------------------------------------------------------------------------------------------


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
    pytest.importorskip("torchvision")
    images = rng.normal(size=(N, 1, 4, 4)).astype(np.float32)
    task = classification({"x": images})
    ours = learner(
        "cnn",
        transform="torchvision.transforms:RandomHorizontalFlip",
        transform_args={"p": 1.0},
        input_dtype=None,
    )
    ours.check(task)
    context = replace(CONTEXT, task=task)
    state = ours.train_step(None, replace(DATA, features={"x": images}), context)
    flipped = replace(DATA, features={"x": images[..., ::-1]})
    assert digest_arrays(state) == digest_arrays(replace(ours, transform=None).train_step(None, flipped, context))
    assert ours.code() == ("shards.learners.modules:cnn",)


# --- prediction ----------------------------------------------------------------------------------------------


def test_probabilities_equal_the_module_called_directly() -> None:
    ours = learner("user_modules:batchnorm")
    state = ours.train_step(None, DATA, CONTEXT)
    module = user_modules.batchnorm((6,), 3).eval()
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    x = rng.normal(size=(2500, 6))
    logits = module(torch.tensor(x, dtype=torch.float32)).detach().numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    probabilities = ours.predictor(state, TASK)({"x": x})
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert ours.predictor(state, TASK)({"x": x[:0]}).shape == (0, 3)


def test_prediction_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = torch.nn.Linear.forward
    predict = learner("user_modules:make").predictor(learner().train_step(None, DATA, CONTEXT), TASK)
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: (sizes.append(len(x)), forward(self, x))[1])
    predict({"x": rng.normal(size=(2500, 6))})
    assert sizes[::2] == [1024, 1024, 452]


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_regression_equals_a_loop_by_hand(shape: tuple[int, ...]) -> None:
    target = rng.normal(size=(N, *shape))
    task, outputs = regression(X, shape), math.prod(shape)
    ours = learner(module_args={"outputs": outputs}, shuffle=False, optimizer_args={"lr": 0.01})
    ours.check(task)
    context = replace(CONTEXT, task=task)
    state = ours.train_step(None, replace(DATA, target=target), context)

    torch.manual_seed(context.seed("module"))
    module = user_modules.make(outputs=outputs)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
    for window in windows(N, 100, 16, None):
        optimizer.zero_grad()
        difference = module(x[window]).reshape(len(window), *shape) - y[window]
        (difference**2).mean().backward()
        optimizer.step()
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(state[f"module/{name}"], value.numpy(), rtol=1e-4, atol=1e-6)
    predicted = ours.predictor(state, task)({"x": X})
    assert predicted.shape == (N, *shape)
    np.testing.assert_allclose(predicted, module(x).detach().numpy().reshape(N, *shape), rtol=1e-3, atol=1e-5)
    assert ours.predictor(state, task)({"x": X[:0]}).shape == (0, *shape)


def test_prediction_refuses_other_features() -> None:
    ours = learner()
    predict = ours.predictor(ours.train_step(None, DATA, CONTEXT), TASK)
    for features in ({"y": X}, {"x": X[:, :5]}, {"x": X, "y": X}):
        with pytest.raises(InputError):
            predict(features)


def test_prediction_never_changes_the_callers_array() -> None:
    x = X.astype(np.float32)
    ours = learner("torch.nn:ReLU", module_args={"inplace": True})
    before = x.copy()
    state = learner().train_step(None, replace(DATA, features={"x": x}), CONTEXT)
    learner().predictor(state, TASK)({"x": x})
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ConfigurationError, match="requires a gradient"):
        ours.train_step(None, DATA, CONTEXT)


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": -1.0}, "epochs"),
        ({"epochs": float("nan")}, "epochs"),
        ({"epochs": "1/0"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_norm": float("inf")}, "clip_norm"),
        ({"clip_norm": "1"}, "clip_norm"),
        ({"shuffle": 1}, "shuffle"),
        ({"input_dtype": "int8"}, "float32"),
        ({"module_args": {"f": print}}, "module_args"),
        ({"module_args": {"f": float("nan")}}, "module_args"),
        ({"optimizer_args": [1]}, "optimizer_args"),
        ({"schedule": "zigzag"}, "cosine"),
        ({"module": "transformer"}, "mlp"),
        ({"transform": "flip"}, "package.module:name"),
        ({"module": 3}, "module"),
    ],
)
def test_bad_values_are_refused_at_construction(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        TorchLearner(**({"module": "mlp"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"optimizer": "Addam"}, "AdamW"),
        ({"optimizer": "LBFGS"}, "AdamW"),
        ({"optimizer": "torch.optim:LBFGS"}, "closure"),
        ({"optimizer": "user_modules:no_module"}, "optimizer"),
        ({"optimizer_args": {"lr": -1}}, "optimizer_args"),
        ({"optimizer_args": {"speed": 1}}, "optimizer_args"),
        ({"loss": "crossentropy"}, "cross_entropy"),
        ({"loss": "mse_loss"}, "mse_loss"),
        ({"loss": "user_modules:per_record"}, "without axes"),
        ({"loss": "user_modules:missing"}, "missing"),
        ({"schedule": "user_modules:not_finite"}, "finite"),
        ({"schedule": "cosine", "schedule_args": {"speed": 1}}, "schedule_args"),
        ({"transform": "user_modules:jitter", "transform_args": {"speed": 1}}, "transform_args"),
        ({"transform": "user_modules:no_module"}, "function of a record"),
        ({"module": "user_modules:missing"}, "missing"),
        ({"module": "missing_module:make"}, "missing_module"),
        ({"module_args": {"depth": 3}}, "module_args"),
        ({"module": "mlp", "module_args": {"n_outputs": 4}}, "n_outputs"),
        ({"module": "torchvision.models:resnet18", "module_args": {"num_classes": 4}}, "num_classes"),
        ({"module": "torchvision.models:resnet18", "module_args": {"weights": "DEFAULT"}}, "IMAGENET1K_V1"),
    ],
)
def test_bad_parts_are_refused_by_check(settings: dict[str, object], word: str) -> None:
    if "torchvision" in str(settings):
        pytest.importorskip("torchvision")
    with pytest.raises(ConfigurationError, match=word):
        TorchLearner(**({"module": "user_modules:make"} | settings)).check(TASK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "settings", "word"),
    [
        (replace(TASK, features={"x": FieldSchema((), "str")}), {}, "text"),
        (replace(TASK, features={"x": FieldSchema((6,), "<U3")}), {}, "text"),
        (replace(TASK, features={"x": FieldSchema((6,), "<c8")}), {}, "complex64"),
        (replace(TASK, features={}), {}, "no feature"),
        (replace(TASK, classes=(1,)), {}, "two classes"),
        (replace(TASK, target=FieldSchema((2,), "<i8")), {}, "one class a record"),
        (replace(TASK, features={"x": FieldSchema((6,), "<i8")}), {"standardize": True}, "floating"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(task: Task, settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        learner(**settings).check(task)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_loss_that_would_broadcast_class_indices_is_refused(classes: int) -> None:
    task = classification({"x": X}, classes)
    with pytest.raises(ConfigurationError, match="mse_loss"):
        learner(module_args={"outputs": classes}, loss="mse_loss").check(task)


@pytest.mark.parametrize(
    ("module", "word"),
    [("lazy", "Lazy"), ("frozen", "unfrozen"), ("no_module", "must return a torch.nn.Module")],
)
def test_modules_that_cannot_be_trained_are_refused(module: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        learner(f"user_modules:{module}").train_step(None, DATA, CONTEXT)


def test_a_wrong_number_of_outputs_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_classes"):
        learner(module_args={"outputs": 4}).train_step(None, DATA, CONTEXT)
    task = regression(X, (3,))
    with pytest.raises(ConfigurationError, match=r"\(16, 3\)"):
        learner(module_args={"outputs": 1}).train_step(
            None, replace(DATA, target=X[:, :3]), replace(CONTEXT, task=task)
        )


def test_a_state_of_another_module_is_refused() -> None:
    state = learner().train_step(None, DATA, CONTEXT)
    with pytest.raises(ConfigurationError, match="does not fit"):
        learner("mlp").predictor(state, TASK)


def test_divergence_is_an_error_with_advice() -> None:
    with pytest.raises(FloatingPointError, match="lower optimizer_args"):
        learner(optimizer_args={"lr": 1e38}).train_step(None, DATA, CONTEXT)
    x = X.copy()
    x[3, 3] = np.nan
    with pytest.raises(FloatingPointError, match="shard 2, step 0"):
        learner().train_step(None, replace(DATA, features={"x": x}), CONTEXT)


# --- references ----------------------------------------------------------------------------------------------


def test_callables_become_references() -> None:
    ours = TorchLearner(
        user_modules.Embedding,
        optimizer=torch.optim.Adam,
        schedule=user_modules.halves,
        loss=user_modules.focal,
        transform=user_modules.make_jitter,
    )
    assert ours.module == "user_modules:Embedding"
    assert ours.optimizer == "torch.optim.adam:Adam"
    assert ours.code() == (
        "user_modules:Embedding",
        "user_modules:focal",
        "user_modules:halves",
        "user_modules:make_jitter",
    )
    assert TorchLearner("mlp").code() == ("shards.learners.modules:mlp",)
    assert TorchLearner("torchvision.models:resnet18").code() == ()
    with pytest.raises(CodeError):
        TorchLearner(lambda: user_modules.make())
    with pytest.raises(ConfigurationError, match="speed"):
        TorchLearner.from_params({"module": "mlp", "speed": 1})


def test_an_optimizer_by_reference_is_the_one_by_name() -> None:
    by_name = learner(optimizer="Adam").train_step(None, DATA, CONTEXT)
    by_class = learner(optimizer=torch.optim.Adam).train_step(None, DATA, CONTEXT)
    assert digest_arrays(by_name) == digest_arrays(by_class)


def test_params_are_the_learners_own() -> None:
    args = {"hidden": [4]}
    ours = TorchLearner("mlp", args)
    args["hidden"].append(5)
    ours.params()["module_args"]["hidden"].append(6)
    assert ours.module_args == {"hidden": [4]}
    assert TorchLearner("mlp", {"hidden": (4,)}) == ours


def test_a_learner_is_made_without_torch() -> None:
    code = (
        "import sys; from shards.learners.torch import TorchLearner as T; t = T('mlp', {'hidden': [3]}); "
        "assert T.from_params(t.params()) == t and t.code() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
