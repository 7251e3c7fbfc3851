"""Ridge out of exact sums: against scikit-learn's on the same rounded features, and sums written out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from shards.errors import ConfigurationError
from shards.learners.base import State, StepContext, StepData
from shards.learners.feature_maps import Fourier, Raw, count, feature_map
from shards.learners.ridge import RidgeLearner
from shards.learners.sums import add
from shards.task import FieldSchema, Task

CLASSES = Task("classification", {"x": FieldSchema((4,), "<f4")}, FieldSchema((), "<i8"), (0, 1, 2))
NUMBERS = Task("regression", {"a": FieldSchema((2, 2), "<f8"), "b": FieldSchema((), "<i8")}, FieldSchema((2,), "<f8"))
LEARNERS = (RidgeLearner(0.5), RidgeLearner(2.0, Fourier(features=30, gamma=0.5, seed=3)))


def records(task: Task, n: int, seed: int = 0) -> StepData:
    rng = np.random.default_rng(seed)
    features = {
        name: rng.integers(-5, 6, (n, *schema.shape)).astype(schema.dtype)
        if schema.dtype == "<i8"
        else rng.normal(size=(n, *schema.shape)).astype(schema.dtype)
        for name, schema in task.features.items()
    }
    target = rng.integers(0, 3, n) if task.kind == "classification" else rng.normal(size=(n, *task.target.shape))
    return StepData(features, target, np.zeros((n, 16), dtype=np.uint8))


def some(data: StepData, rows: Any) -> StepData:
    return StepData({name: f[rows] for name, f in data.features.items()}, data.target[rows], data.tokens[rows])


def step(learner: RidgeLearner, parent: State | None, data: StepData, task: Task, position: int = 0) -> State:
    return learner.train_step(parent, data, StepContext(task, 0, 0, position, max(len(data), 1)))


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype == np.int64 and np.array_equal(one[name], other[name]) for name in one
    )


def rounded(values: np.ndarray, unit: float) -> np.ndarray:
    return np.rint(values / unit) * unit


def flat(data: StepData) -> np.ndarray:
    return np.concatenate([f.reshape(len(f), -1).astype(np.float64) for f in data.features.values()], axis=1)


# --- the model ----------------------------------------------------------------------------------------------------


def test_regression_is_scikit_learns() -> None:
    learner, data, new = RidgeLearner(0.7), records(NUMBERS, 200), records(NUMBERS, 30, seed=1)
    said = learner.predictor(step(learner, None, data, NUMBERS), NUMBERS)(new.features)
    other = Ridge(alpha=0.7).fit(rounded(flat(data), 2**-8), rounded(data.target, 2**-10))
    assert said.shape == (30, 2)
    np.testing.assert_allclose(said, other.predict(rounded(flat(new), 2**-8)), rtol=0, atol=1e-10)


def test_classification_is_scikit_learns_of_zeros_and_ones() -> None:
    learner, data, new = RidgeLearner(3.0), records(CLASSES, 200), records(CLASSES, 30, seed=1)
    said = learner.predictor(step(learner, None, data, CLASSES), CLASSES)(new.features)
    other = Ridge(alpha=3.0).fit(rounded(flat(data), 2**-8), np.eye(3)[data.target])
    fitted = np.maximum(other.predict(rounded(flat(new), 2**-8)), 0)
    np.testing.assert_allclose(said, fitted / fitted.sum(axis=1, keepdims=True), rtol=0, atol=1e-10)


def test_fourier_features_are_those_of_the_gaussian_kernel() -> None:
    fourier, X = Fourier(features=20_000, gamma=0.1, seed=5), records(CLASSES, 6).features["x"].astype(np.float64)
    z = fourier.counts(X) * fourier.unit
    kernel = np.exp(-0.1 * ((X[:, None] - X[None]) ** 2).sum(axis=2))
    # The mean of 20,000 products in -2..2: five standard errors.
    np.testing.assert_allclose(z @ z.T / fourier.features, kernel, rtol=0, atol=5 / math.sqrt(20_000))


def test_a_record_has_the_same_features_whatever_stands_beside_it() -> None:
    X = records(CLASSES, 37).features["x"].astype(np.float64)
    for features in (1, 7, 100):
        fourier = Fourier(features=features, gamma=3.0)
        alone = np.concatenate([fourier.values(X[row : row + 1]) for row in range(len(X))])
        assert fourier.values(X).tobytes() == alone.tobytes()  # not rounded yet, so no luck is needed


def test_a_limit_of_whole_units_may_be_reached() -> None:
    for map_ in (Raw(unit=0.1, limit=0.3), Raw(unit=0.1, limit=0.7), Raw()):
        assert map_.counts(np.array([[map_.limit, -map_.limit]])).tolist() == [[map_.largest, -map_.largest]]


def test_one_record_and_a_class_that_nobody_has() -> None:
    learner, data = RidgeLearner(), records(CLASSES, 1)
    said = learner.predictor(step(learner, None, data, CLASSES), CLASSES)(records(CLASSES, 4, seed=2).features)
    assert np.array_equal(said.argmax(axis=1), np.repeat(data.target, 4))
    np.testing.assert_allclose(said.sum(axis=1), 1)


# --- the sums -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
@pytest.mark.parametrize("learner", LEARNERS, ids=["raw", "fourier"])
@settings(max_examples=20)
@given(parts=st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_sums_of_any_parts_add_up_to_those_of_all(learner: RidgeLearner, task: Task, parts: list[int]) -> None:
    data = records(task, 40)
    groups = [some(data, np.flatnonzero(np.array(parts) == part)) for part in set(parts)]
    states = [step(learner, None, group, task) for group in groups]
    assert same(add(states), step(learner, None, data, task))
    new = records(task, 9, seed=4).features
    together = learner.predictor(step(learner, None, data, task), task)(new)
    assert learner.joined(states[::-1], task)(new).tobytes() == together.tobytes()


def test_a_step_adds_what_is_new_and_nothing_else() -> None:
    learner, data = LEARNERS[0], records(CLASSES, 50)
    first = step(learner, None, some(data, slice(0, 20)), CLASSES)
    kept = {name: array.copy() for name, array in first.items()}
    second = step(learner, first, data, CLASSES, 1)
    assert same(first, kept)
    assert same(second, step(learner, None, data, CLASSES))
    assert same(step(learner, second, data, CLASSES, 2), second)  # an empty slice
    assert (learner.budget(30, 50, 5), learner.budget(0, 50, 5)) == (30, 1)


def test_sums_are_those_written_out_by_hand() -> None:
    learner = RidgeLearner(features=Raw(unit=1.0, limit=9.0))
    features = np.array([[1, -2, 0, 3], [9, 0, -9, 1], [2, 2, 2, 2]])
    data = StepData({"x": features.astype(np.float32)}, np.array([2, 0, 2]), np.zeros((3, 16), dtype=np.uint8))
    found = step(learner, None, data, CLASSES)
    assert found["records"] == 3
    assert found["z"].tolist() == [12, 0, -7, 6]
    assert found["t"].tolist() == [1, 0, 2]
    by_hand = [[sum(int(row[i] * row[j]) for row in features) for j in range(4)] for i in range(4)]
    assert found["zz"].tolist() == [by_hand[i][j] for i in range(4) for j in range(i, 4)]
    assert found["zt"].tolist() == [[9, 0, 3], [0, 0, 0], [-9, 0, 2], [1, 0, 5]]


def test_sums_that_no_float_could_hold_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = RidgeLearner(features=Raw(unit=2.0**-16, limit=16.0))  # 2^20 counts: products of 2^40
    n = 20_000  # their sum is above 2^53
    data = StepData({"x": np.full((n, 4), 15.999985)}, np.zeros(n, dtype=np.int64), np.zeros((n, 16), dtype=np.uint8))
    counts = int(np.rint(15.999985 * 2**16))
    found = step(learner, None, data, CLASSES)
    assert n * counts**2 > 2**53
    assert set(found["zz"].tolist()) == {n * counts**2}
    monkeypatch.setattr("shards.learners.counting.CHUNK_BYTES", 64)
    assert same(step(learner, None, some(data, slice(0, 50)), CLASSES), add(
        [step(learner, None, some(data, slice(at, at + 1)), CLASSES) for at in range(50)]
    ))  # fmt: skip


def test_sums_that_could_overflow_are_refused() -> None:
    learner = RidgeLearner(features=Raw(unit=2.0**-16, limit=16.0))
    state = {**step(learner, None, records(CLASSES, 1), CLASSES), "records": np.array(2**22)}
    with pytest.raises(ConfigurationError, match=r"8,388,608 records could overflow"):
        learner.joined([state, state], CLASSES)(records(CLASSES, 1).features)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "said"), [(8.1, "8.1"), (-9, "-9"), (math.nan, "nan"), (math.inf, "inf")])
def test_a_value_outside_of_what_was_declared_is_said(value: float, said: str) -> None:
    data = records(CLASSES, 5)
    data.features["x"][3, 1] = value
    with pytest.raises(ConfigurationError, match=rf"a feature is {said}, and at most 8 in absolute value was declared"):
        step(RidgeLearner(), None, data, CLASSES)
    learner = RidgeLearner()
    predict = learner.predictor(step(learner, None, records(CLASSES, 5), CLASSES), CLASSES)
    with pytest.raises(ConfigurationError, match="a feature is"):
        predict(data.features)


def test_a_target_outside_of_what_was_declared_is_said() -> None:
    data = records(NUMBERS, 5)
    data.target[2, 1] = 1025
    with pytest.raises(ConfigurationError, match="a target is 1025, and at most 1024"):
        step(RidgeLearner(), None, data, NUMBERS)
    step(RidgeLearner(target_limit=2000, target_unit=0.01), None, data, NUMBERS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 0}, "alpha must be a positive number, got 0"),
        ({"alpha": math.inf}, "alpha must be"),
        ({"alpha": True}, "alpha must be"),
        ({"target_unit": -1.0}, "target_unit must be"),
        ({"target_unit": 1e-9}, "target_limit must be 1 to 1,048,576 times target_unit"),
        ({"features": "wavelets"}, "features must be one of raw, fourier, .*, got 'wavelets'"),
        ({"features": {"map": "raw", "size": 3}}, "does not take these options"),
        (
            {"features": {"map": "raw", "unit": 1e-9}},
            "there must be 1 to 1,048,576 counts.*a unit of at least 7.62939453125e-06",
        ),
        ({"features": {"map": "fourier", "features": 0}}, "features must be a whole number"),
        ({"features": {"map": "fourier", "features": 2.5}}, "features must be a whole number"),
        ({"features": {"map": "fourier", "gamma": -1}}, "gamma must be a positive number"),
    ],
)
def test_constants_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        RidgeLearner(**options)


def test_projections_that_would_not_be_exact_are_refused() -> None:
    learner = RidgeLearner(features=Fourier(features=2, gamma=1e16))
    with pytest.raises(ConfigurationError, match="too large for exact projections"):
        step(learner, None, records(CLASSES, 2), CLASSES)


def test_text_is_refused() -> None:
    task = Task("classification", {"x": FieldSchema((), "str")}, FieldSchema((), "<i8"), (0, 1))
    with pytest.raises(ConfigurationError, match="takes numbers, and x is none"):
        RidgeLearner().check(task)
    RidgeLearner().check(NUMBERS)


def test_a_learner_is_its_description() -> None:
    for learner in (*LEARNERS, RidgeLearner(features={"map": "fourier", "features": 7}, target_unit=0.5)):
        assert RidgeLearner.from_params(json.loads(json.dumps(learner.params()))) == learner
    assert feature_map("raw") == Raw()
    assert math.copysign(1, count(np.array([-0.0]), 1.0, 1, "feature")[0]) == 1
