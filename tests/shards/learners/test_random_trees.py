"""Completely random trees: against trees walked node by node, and counts that subtract exactly."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from shards.errors import ConfigurationError
from shards.learners.base import StepData
from shards.learners.feature_maps import Raw
from shards.learners.naive_bayes import GaussianNBLearner
from shards.learners.random_trees import RandomTreesLearner
from shards.learners.sums import add
from shards.task import FieldSchema, Task
from tests.cases import digits
from tests.shards.learners.exact_cases import CLASSES, NUMBERS, given, records, same, some, step

LEARNER = RandomTreesLearner(7, 4, low=-3.0, high=3.0)


def split(learner: RandomTreesLearner, tree: int, node: int, width: int) -> tuple[int, float]:
    """Feature and threshold of one node, read off its tree's stream in integers of any size."""
    stream = hashlib.shake_256(f'["random trees",{learner.seed},{tree}]'.encode()).digest(8 * (node + 1))
    drawn = int.from_bytes(stream[-8:], "little")
    low, high = (round(end / learner.features.unit) for end in (learner.low, learner.high))
    return (drawn >> 32) * width >> 32, low + 1 + ((drawn & 0xFFFFFFFF) * (high - low) >> 32)


def path(learner: RandomTreesLearner, tree: int, row: np.ndarray) -> list[int]:
    """The nodes that a record passes, the leaf last."""
    counts = np.rint(row.astype(np.float64) / learner.features.unit)
    nodes = [0]
    for _ in range(learner.depth):
        feature, threshold = split(learner, tree, nodes[-1], len(row))
        nodes.append(2 * nodes[-1] + (2 if counts[feature] >= threshold else 1))
    return nodes


def slowly(learner: RandomTreesLearner, data: StepData, new: np.ndarray) -> np.ndarray:
    """What the formula says, record by record and node by node."""
    said = np.zeros((len(new), 3))
    for tree in range(learner.trees):
        counts: dict[int, np.ndarray] = {}
        for row, label in zip(data.features["x"], data.target, strict=True):
            for node in path(learner, tree, row):
                counts.setdefault(node, np.zeros(3))[label] += 1
        for at, row in enumerate(new):
            share = counts[0] / len(data)
            for node in path(learner, tree, row)[1:]:
                here = counts.get(node, np.zeros(3))
                share = (here + learner.smoothing * share) / (here.sum() + learner.smoothing)
            said[at] += share / learner.trees
    return said


# --- the model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.01, 1.0, 20.0])
def test_the_forest_is_that_of_trees_walked_node_by_node(smoothing: float) -> None:
    learner = RandomTreesLearner(5, 3, low=-2.0, high=2.5, smoothing=smoothing, seed=3)
    data, new = records(80), records(20, seed=1).features["x"]
    found = learner.predictor(step(learner, None, data), CLASSES)({"x": new})
    np.testing.assert_allclose(found, slowly(learner, data, new), rtol=0, atol=1e-12)


def test_splits_are_what_the_seed_says_in_every_version() -> None:
    """Counts mean nothing without their splits: these numbers must never change under this kernel's name."""
    assert [split(LEARNER, tree, node, 4) for tree, node in ((0, 0), (0, 14), (6, 7))] == SPLITS
    state = step(LEARNER, None, records(50))
    assert hashlib.sha256(state["n"].astype("<i8").tobytes()).hexdigest() == STATE


SPLITS = [(1, -34), (3, -548), (1, -401)]
STATE = "3a36b6528b46a7ecf486349b65d6f425c4a542f474236b0552ad4a2277e16485"
"""Of the counts of fifty records."""


def test_a_threshold_lies_above_low_and_up_to_high() -> None:
    """Every split of a feature that has the two values 0 and 1 parts them."""
    learner = RandomTreesLearner(30, 1, low=0.0, high=1.0, features=Raw(unit=1.0, limit=1.0))
    state = step(learner, None, given(np.array([[0.0] * 4, [1.0] * 4]), [0, 2]))
    assert state["n"].tolist() == [[[1, 0, 0], [0, 0, 1]]] * 30


def test_one_record_and_classes_that_nobody_has() -> None:
    data, new = records(1), records(6, seed=2)
    found = LEARNER.predictor(step(LEARNER, None, data), CLASSES)(new.features)
    np.testing.assert_allclose(found, np.eye(3)[np.repeat(data.target, 6)], rtol=0, atol=1e-15)


def test_digits_are_learnt_better_than_by_naive_bayes() -> None:
    X, y = digits()
    task = Task("classification", {"x": FieldSchema((64,), "<f4")}, FieldSchema((), "<i8"), tuple(range(10)))
    data = StepData({"x": X[:1400]}, y[:1400], np.zeros((1400, 16), dtype=np.uint8))
    share = {}
    for learner in (RandomTreesLearner(100, 10, low=0.0, high=1.0), GaussianNBLearner(0.01)):
        state = step(learner, None, data, task)
        share[type(learner)] = (learner.predictor(state, task)({"x": X[1400:]}).argmax(axis=1) == y[1400:]).mean()
    assert share[RandomTreesLearner] > share[GaussianNBLearner] + 0.02


def test_a_record_is_predicted_alone_as_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    data, new = records(60), records(30, seed=1).features["x"]
    predict = LEARNER.predictor(step(LEARNER, None, data), CLASSES)
    together = predict({"x": new})
    assert b"".join(predict({"x": new[[row]]}).tobytes() for row in range(30)) == together.tobytes()
    monkeypatch.setattr("shards.learners.random_trees.WALKED", 1)
    assert predict({"x": new}).tobytes() == together.tobytes()


# --- the counts ---------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given_by(gone=st.sets(st.integers(0, 39), max_size=39))
def test_what_is_taken_out_leaves_the_counts_of_the_others(gone: set[int]) -> None:
    data, new = records(40), records(9, seed=4).features
    left = [row for row in range(40) if row not in gone]
    whole, out, fresh = (step(LEARNER, None, some(data, rows)) for rows in (list(range(40)), sorted(gone), left))
    rest = LEARNER.without(whole, [out])
    assert rest is not None
    assert same(rest, fresh)
    assert same(add([fresh, out]), whole)
    assert LEARNER.predictor(rest, CLASSES)(new).tobytes() == LEARNER.predictor(fresh, CLASSES)(new).tobytes()


def test_steps_add_up_and_every_record_is_in_one_leaf_of_each_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = records(50)
    whole = step(LEARNER, None, data)
    assert same(step(LEARNER, step(LEARNER, None, some(data, slice(20))), data, position=1), whole)
    assert whole["n"].sum(axis=1).tolist() == [np.bincount(data.target, minlength=3).tolist()] * 7
    monkeypatch.setattr("shards.learners.counting.CHUNK_BYTES", 8)
    assert same(step(LEARNER, None, data), whole)


def test_counts_that_could_overflow_are_refused() -> None:
    state = {**step(LEARNER, None, records(1)), "records": np.array(2**63 - 2)}
    one = {**state, "records": np.array(1)}
    LEARNER.joined([state, one], CLASSES)(records(1).features)
    with pytest.raises(ConfigurationError, match="records could overflow"):
        LEARNER.check_records(2**63, CLASSES)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**21])
def test_a_value_outside_of_what_was_declared_is_said(value: float) -> None:
    data = records(5)
    data.features["x"][3, 1] = value
    with pytest.raises(ConfigurationError, match=r"a feature is .* was declared"):
        step(LEARNER, None, data)


def test_tasks_that_do_not_fit() -> None:
    LEARNER.check(CLASSES)
    with pytest.raises(ConfigurationError, match="predicts classes, and the task is regression"):
        LEARNER.check(NUMBERS)
    with pytest.raises(ConfigurationError, match="314,572,800 counts, and at most"):
        RandomTreesLearner(100, 20).check(CLASSES)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomTreesLearner(0), "trees must be a whole number from 1"),
        (lambda: RandomTreesLearner(depth=21), "depth must be a whole number from 1 to 20, got 21"),
        (lambda: RandomTreesLearner(depth=True), "depth must be"),
        (lambda: RandomTreesLearner(seed=-1), "seed must be"),
        (lambda: RandomTreesLearner(smoothing=0), "smoothing must be a positive number"),
        (lambda: RandomTreesLearner(low=math.nan), "low must be a number within the limit of the feature map, 8"),
        (lambda: RandomTreesLearner(high=9.0), "high must be a number within the limit"),
        (lambda: RandomTreesLearner(low=1.0, high=1.0), "must be a unit of the map or more apart"),
    ],
)
def test_constants_that_make_no_sense(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_a_learner_is_its_description() -> None:
    assert RandomTreesLearner.from_params(json.loads(json.dumps(LEARNER.params()))) == LEARNER
