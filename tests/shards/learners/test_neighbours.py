"""k nearest neighbours: against sorted lists of exact distances, and scikit-learn's where nothing ties."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from shards.errors import ConfigurationError
from shards.learners.base import StepData
from shards.learners.feature_maps import Fourier, Raw
from shards.learners.neighbours import NeighboursLearner
from tests.shards.learners.exact_cases import CLASSES, NUMBERS, given, records, rounded, some, step

COARSE = Raw(unit=1.0, limit=8.0)
"""So that many records are equally far away."""


def by_hand(z: np.ndarray, values: list[Fraction], asked: np.ndarray, k: int) -> float:
    """The mean of the values of the k nearest; those at the distance of the k-th share the places left."""
    distances = [sum((int(a) - int(b)) ** 2 for a, b in zip(row, asked, strict=True)) for row in z]
    k = min(k, len(z))
    last = sorted(distances)[k - 1]
    nearer = [value for value, d in zip(values, distances, strict=True) if d < last]
    tied = [value for value, d in zip(values, distances, strict=True) if d == last]
    return float((sum(nearer) + Fraction(k - len(nearer), len(tied)) * sum(tied)) / k)


def said(learner: NeighboursLearner, data: StepData, new: StepData) -> np.ndarray:
    return learner.predictor(step(learner, None, data), CLASSES)(new.features)


# --- the model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 40, 1000])
def test_ties_share_the_places_that_are_left(k: int) -> None:
    data, new = records(60), records(15, seed=1)
    z, asked = rounded(data, 1.0), rounded(new, 1.0)
    expected = [
        [by_hand(z, [Fraction(int(label == y)) for y in data.target], one, k) for label in range(3)] for one in asked
    ]
    np.testing.assert_allclose(said(NeighboursLearner(k, COARSE), data, new), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("k", [1, 4])
def test_where_nothing_ties_it_is_scikit_learns(k: int) -> None:
    data, new = records(200), records(40, seed=1)
    z, asked = rounded(data, 2**-8), rounded(new, 2**-8)
    other = KNeighborsClassifier(k, algorithm="brute").fit(z, data.target)
    np.testing.assert_allclose(said(NeighboursLearner(k), data, new), other.predict_proba(asked), atol=1e-12)
    learner, numbers = NeighboursLearner(k), np.rint(data.features["x"][:, 0].astype(np.float64) * 2**10) / 2**10
    other = KNeighborsRegressor(k, algorithm="brute").fit(z, numbers)
    state = step(learner, None, StepData(data.features, numbers, data.tokens), NUMBERS)
    np.testing.assert_allclose(learner.predictor(state, NUMBERS)(new.features), other.predict(asked), atol=1e-12)


@settings(max_examples=30)
@given_by(order=st.permutations(range(30)), cut=st.integers(0, 30), k=st.integers(1, 31))
def test_neither_order_nor_grouping_of_records_can_be_told(order: list[int], cut: int, k: int) -> None:
    learner, data, new = NeighboursLearner(k, COARSE), records(30), records(9, seed=4)
    groups = [step(learner, None, some(data, rows)) for rows in (order[:cut], order[cut:]) if rows]
    assert learner.joined(groups, CLASSES)(new.features).tobytes() == said(learner, data, new).tobytes()


def test_queries_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, data, new = NeighboursLearner(3, COARSE), records(30), records(9, seed=4)
    whole = said(learner, data, new)
    monkeypatch.setattr("shards.learners.neighbours.DISTANCE_BYTES", 1)
    assert said(learner, data, new).tobytes() == whole.tobytes()


# --- the state ----------------------------------------------------------------------------------------------------


def test_a_state_is_the_counted_records() -> None:
    data = given([[1, -2, 0, 3], [4, 0, -4, 1]], [2, 0])
    found = step(NeighboursLearner(1, COARSE), None, data)
    assert {name: array.tolist() for name, array in found.items()} == {
        "z": [[1, -2, 0, 3], [4, 0, -4, 1]],
        "t": [[0, 0, 1], [1, 0, 0]],
        "records": 2,
    }
    assert (found["z"].dtype, found["t"].dtype) == (np.int8, np.int8)


@pytest.mark.parametrize(("largest", "dtype"), [(127, np.int8), (128, np.int16), (2**15, np.int32), (2**20, np.int32)])
def test_the_smallest_integers_hold_the_largest_counts(largest: int, dtype: Any) -> None:
    data = given(np.array([[largest, -largest, 0, 0]]), [1])
    found = step(NeighboursLearner(1, Raw(unit=1.0, limit=float(largest))), None, data)
    assert found["z"].dtype == dtype
    assert found["z"].tolist() == [[largest, -largest, 0, 0]]


def test_a_step_adds_what_is_new_and_nothing_else() -> None:
    learner, data = NeighboursLearner(), records(50)
    first = step(learner, None, some(data, slice(0, 20)))
    second = step(learner, first, data, position=1)
    whole = step(learner, None, data)
    assert all(second[name].tobytes() == whole[name].tobytes() for name in whole)
    assert len(first["z"]) == 20
    assert learner.without(second, [first]) is None


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3"])
def test_a_number_of_neighbours_that_makes_no_sense(k: Any) -> None:
    with pytest.raises(ConfigurationError, match="k must be a whole number of neighbours, at least 1, got"):
        NeighboursLearner(k)


def test_distances_that_would_not_be_exact_are_refused() -> None:
    NeighboursLearner(features=Raw(unit=2.0**-16, limit=8.0)).check(CLASSES)
    with pytest.raises(ConfigurationError, match="counts are no exact numbers"):
        NeighboursLearner(features=Fourier(features=2**32)).check(CLASSES)


def test_targets_that_could_not_be_added_up_are_refused() -> None:
    learner = NeighboursLearner()
    learner.check_records(2**33, NUMBERS)
    with pytest.raises(ConfigurationError, match="8,589,934,593 records could not be added up exactly"):
        learner.check_records(2**33 + 1, NUMBERS)


def test_a_learner_is_its_description() -> None:
    learner = NeighboursLearner(7, {"map": "fourier", "features": 9}, target_unit=0.5)
    assert NeighboursLearner.from_params(json.loads(json.dumps(learner.params()))) == learner
