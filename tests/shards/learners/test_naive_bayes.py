"""Naive Bayes out of exact sums: against scikit-learn's on the same rounded features, and sums written out by hand."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.naive_bayes import GaussianNB, MultinomialNB

from shards.errors import ConfigurationError
from shards.learners.base import Learner, StepData
from shards.learners.feature_maps import Fourier, Raw
from shards.learners.naive_bayes import GaussianNBLearner, MultinomialNBLearner, variance
from shards.learners.sums import add
from tests.shards.learners.exact_cases import CLASSES, NUMBERS, given, records, rounded, same, some, step

LEARNERS = (GaussianNBLearner(1e-6), GaussianNBLearner(features=Fourier(features=9)), MultinomialNBLearner(unit=0.25))
each = pytest.mark.parametrize("learner", LEARNERS, ids=["gaussian", "gaussian-fourier", "multinomial"])


def counts(n: int, seed: int = 0) -> StepData:
    """What occurs how often, in three classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return given(rng.binomial(8, np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0.2, 5, 0.2, 5]])[y] / 8), y)


def said(learner: Learner, data: StepData, new: StepData) -> np.ndarray:
    return learner.predictor(step(learner, None, data), CLASSES)(new.features)


# --- the models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [1e-9, 0.1])
def test_gaussian_is_scikit_learns(smoothing: float) -> None:
    data, new = records(300), records(50, seed=1)
    other = GaussianNB(var_smoothing=smoothing).fit(rounded(data, 2**-8), data.target)
    found = said(GaussianNBLearner(smoothing), data, new)
    np.testing.assert_allclose(found, other.predict_proba(rounded(new, 2**-8)), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("alpha", "unit"), [(1.0, 1.0), (0.01, 0.5)])
def test_multinomial_is_scikit_learns(alpha: float, unit: float) -> None:
    data, new = counts(300), counts(50, seed=1)
    for part in (data, new):
        part.features["x"][:] *= 0.7  # so that there is something to round
    other = MultinomialNB(alpha=alpha).fit(rounded(data, unit), data.target)
    found = said(MultinomialNBLearner(alpha, unit=unit), data, new)
    np.testing.assert_allclose(found, other.predict_proba(rounded(new, unit)), rtol=0, atol=1e-10)


def test_variances_of_values_far_from_zero_do_not_cancel() -> None:
    """In floating point, sum z^2 / n - mean^2 would be off by more than the variance."""
    learner = GaussianNBLearner(1e-9, Raw(unit=2.0**-16, limit=16.0))
    data, new = records(500), records(50, seed=1)
    for part in (data, new):
        part.features["x"][:] = 15.5 + part.features["x"] * 2.0**-14
    other = GaussianNB(var_smoothing=1e-9).fit(rounded(data, 2**-16), data.target)
    np.testing.assert_allclose(said(learner, data, new), other.predict_proba(rounded(new, 2**-16)), rtol=0, atol=1e-10)


@settings(max_examples=50)
@given_by(values=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=20))
def test_a_variance_is_the_exact_one_rounded_once(values: list[int]) -> None:
    z = np.array(values, dtype=np.int64)
    mean = Fraction(sum(values), len(values))
    exact = sum((Fraction(value) - mean) ** 2 for value in values) / len(values)
    found = variance(np.int64(len(z)), z.sum(keepdims=True), (z * z).sum(keepdims=True))
    assert found.tolist() == [float(exact)]


@each
def test_one_record_and_classes_that_nobody_has(learner: Learner) -> None:
    data, new = counts(1), counts(6, seed=2)
    found = said(learner, data, new)
    assert found.tolist() == np.eye(3)[np.repeat(data.target, 6)].tolist()


def test_records_that_are_all_the_same_leave_the_shares_of_the_classes() -> None:
    data = given(np.ones((8, 4)), [0, 0, 0, 0, 1, 1, 2, 2])
    for learner in (GaussianNBLearner(), MultinomialNBLearner()):
        np.testing.assert_allclose(said(learner, data, counts(3)), [[0.5, 0.25, 0.25]] * 3, atol=1e-12)


# --- the sums -----------------------------------------------------------------------------------------------------


@each
@settings(max_examples=20)
@given_by(parts=st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_sums_of_any_parts_add_up_to_those_of_all(learner: Any, parts: list[int]) -> None:
    data, new = counts(40), counts(9, seed=4).features
    groups = [some(data, np.flatnonzero(np.array(parts) == part)) for part in set(parts)]
    states = [step(learner, None, group) for group in groups]
    whole = step(learner, None, data)
    assert same(add(states), whole)
    together = learner.predictor(whole, CLASSES)(new)
    assert learner.joined(states[::-1], CLASSES)(new).tobytes() == together.tobytes()


def test_sums_are_those_written_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    data = given([[1, 2, 0, 3], [7, 0, 5, 1], [2, 2, 2, 2]], [2, 0, 2])
    expected = {"n": [1, 0, 2], "z": [[7, 0, 5, 1], [0, 0, 0, 0], [3, 4, 2, 5]], "records": 3}
    squares = [[49, 0, 25, 1], [0, 0, 0, 0], [5, 8, 4, 13]]
    for chunk in (2**26, 8):  # all at once; one at a time
        monkeypatch.setattr("shards.learners.counting.CHUNK_BYTES", chunk)
        found = step(MultinomialNBLearner(), None, data)
        assert {name: array.tolist() for name, array in found.items()} == expected
        found = step(GaussianNBLearner(features=Raw(unit=1.0, limit=9.0)), None, data)
        assert {name: array.tolist() for name, array in found.items()} == {**expected, "zz": squares}


@pytest.mark.parametrize(
    ("learner", "most"),
    [
        (GaussianNBLearner(features=Raw(unit=2.0**-16, limit=16.0)), (2**63 - 1) // 2**40),
        (MultinomialNBLearner(), (2**63 - 1) // 2**18),
    ],
)
def test_sums_that_could_overflow_are_refused(learner: Any, most: int) -> None:
    state = {**step(learner, None, counts(1)), "records": np.array(most - 1)}
    one = {**state, "records": np.array(1)}
    learner.joined([state, one], CLASSES)(counts(1).features)
    with pytest.raises(ConfigurationError, match=rf"{most + 1:,} records could overflow"):
        learner.joined([state, one, one], CLASSES)(counts(1).features)


# --- bad input ----------------------------------------------------------------------------------------------------


def test_a_negative_count_is_said() -> None:
    data = counts(5)
    predict = MultinomialNBLearner().predictor(step(MultinomialNBLearner(), None, data), CLASSES)
    data.features["x"][3, 1] = -1
    with pytest.raises(ConfigurationError, match="a feature is negative"):
        step(MultinomialNBLearner(), None, data)
    with pytest.raises(ConfigurationError, match="a feature is negative"):
        predict(data.features)


@each
@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**21])
def test_a_value_outside_of_what_was_declared_is_said(learner: Learner, value: float) -> None:
    data = counts(5)
    data.features["x"][3, 1] = value
    with pytest.raises(ConfigurationError, match=r"a feature is .* was declared"):
        step(learner, None, data)


@each
def test_numbers_cannot_be_predicted(learner: Learner) -> None:
    with pytest.raises(ConfigurationError, match="predicts classes, and the task is regression: use RidgeLearner"):
        learner.check(NUMBERS)
    learner.check(CLASSES)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GaussianNBLearner(0), "var_smoothing must be a positive number, got 0"),
        (lambda: GaussianNBLearner(True), "var_smoothing must be"),
        (lambda: MultinomialNBLearner(math.inf), "alpha must be a positive number, got inf"),
        (lambda: MultinomialNBLearner(unit=-1), "unit must be a positive number"),
        (lambda: MultinomialNBLearner(limit=2.0**21), "there must be 1 to 1,048,576 counts"),
    ],
)
def test_constants_that_make_no_sense(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


@each
def test_a_learner_is_its_description(learner: Learner) -> None:
    assert type(learner).from_params(json.loads(json.dumps(learner.params()))) == learner
