"""Linear discriminant analysis out of exact sums: against scikit-learn's on the same rounded features."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from shards.errors import ConfigurationError
from shards.learners.base import StepData
from shards.learners.discriminant import LDALearner, _centred
from shards.learners.feature_maps import Fourier, Raw
from shards.learners.sums import add
from tests.shards.learners.exact_cases import CLASSES, NUMBERS, given, records, rounded, same, some, step

LEARNERS = (LDALearner(), LDALearner(0.5, Fourier(features=9)))
each = pytest.mark.parametrize("learner", LEARNERS, ids=["raw", "fourier"])


def said(learner: LDALearner, data: StepData, new: StepData) -> np.ndarray:
    return learner.predictor(step(learner, None, data), CLASSES)(new.features)


# --- the model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [1e-8, 0.1, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns(shrinkage: float, classes: int) -> None:
    data, new = records(300), records(50, seed=1)
    data = some(data, data.target < classes)
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rounded(data, 2**-8), data.target)
    found = said(LDALearner(shrinkage), data, new)
    np.testing.assert_allclose(found[:, :classes], other.predict_proba(rounded(new, 2**-8)), rtol=0, atol=1e-8)
    assert not found[:, classes:].any()


def test_values_far_from_zero_do_not_cancel() -> None:
    """In floating point, products of the values would be off by more than the covariance."""
    learner = LDALearner(0.01, Raw(unit=2.0**-16, limit=16.0))
    data, new = records(500), records(50, seed=1)
    for part in (data, new):
        part.features["x"][:] = 15.5 + part.features["x"] * 2.0**-14
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)
    other.fit(rounded(data, 2**-16) - 15.5, data.target)
    expected = other.predict_proba(rounded(new, 2**-16) - 15.5)
    np.testing.assert_allclose(said(learner, data, new), expected, rtol=0, atol=1e-8)


def test_one_record_a_class_leaves_the_nearest_mean() -> None:
    data, new = given(np.eye(4)[:3], [0, 1, 2]), given(np.eye(4)[:3] * 0.6, [0, 1, 2])
    assert said(LDALearner(), data, new).argmax(axis=1).tolist() == [0, 1, 2]


def test_one_record_and_classes_that_nobody_has() -> None:
    data = records(1)
    for learner in LEARNERS:
        assert said(learner, data, records(6, seed=2)).tolist() == np.eye(3)[np.repeat(data.target, 6)].tolist()


# --- the sums -----------------------------------------------------------------------------------------------------


@each
@settings(max_examples=20)
@given_by(parts=st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_sums_of_any_parts_add_up_to_those_of_all(learner: LDALearner, parts: list[int]) -> None:
    data, new = records(40), records(9, seed=4).features
    groups = [some(data, np.flatnonzero(np.array(parts) == part)) for part in set(parts)]
    states = [step(learner, None, group) for group in groups]
    whole = step(learner, None, data)
    assert same(add(states), whole)
    together = learner.predictor(whole, CLASSES)(new)
    assert learner.joined(states[::-1], CLASSES)(new).tobytes() == together.tobytes()


def test_sums_are_those_written_out_by_hand() -> None:
    found = step(
        LDALearner(features=Raw(unit=1.0, limit=9.0)),
        None,
        given([[1, -2, 0, 3], [9, 0, -9, 1], [2, 2, 2, 2]], [2, 0, 2]),
    )
    assert {name: array.tolist() for name, array in found.items()} == {
        "records": 3,
        "n": [1, 0, 2],
        "z": [[9, 0, -9, 1], [0, 0, 0, 0], [3, 0, 2, 5]],
        "zz": [86, 2, -77, 16, 8, 4, -2, 85, -5, 14],
    }


@settings(max_examples=30)
@given_by(
    values=st.lists(st.tuples(*[st.integers(-(2**20), 2**20)] * 2), min_size=1, max_size=9),
    many=st.sampled_from([1, 2**10, 2**19]),
)
def test_centred_sums_are_exact_though_products_wrap_around(values: list[tuple[int, int]], many: int) -> None:
    """Each record many times over, up to the largest sums there may be, in Python's own integers."""
    rows, n = [values[at % len(values)] for at in range(15)], 15 * many
    z = [sum(row[i] for row in rows) * many for i in range(2)]
    zz = [[sum(row[i] * row[j] for row in rows) * many for j in range(2)] for i in range(2)]
    assert n * 2**40 <= 2**63 - 1
    state = {"n": [n], "z": [z], "zz": [zz[0][0], zz[0][1], zz[1][1]]}
    about, z_about, centre = _centred({name: np.array(value, dtype=np.int64) for name, value in state.items()})
    c = [int(value) for value in centre]
    assert all(abs(z[i] - n * c[i]) * 2 <= n for i in range(2))
    assert z_about.tolist() == [[z[i] - n * c[i] for i in range(2)]]
    expected = [[sum((row[i] - c[i]) * (row[j] - c[j]) for row in rows) * many for j in range(2)] for i in range(2)]
    assert about.tolist() == expected


def test_sums_that_could_overflow_are_refused() -> None:
    learner = LDALearner(features=Raw(unit=2.0**-16, limit=16.0))
    state = {**step(learner, None, records(1)), "records": np.array(2**22)}
    with pytest.raises(ConfigurationError, match=r"8,388,608 records could overflow"):
        learner.joined([state, state], CLASSES)(records(1).features)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0, -0.1, 1.1, "auto", True])
def test_a_shrinkage_that_makes_no_sense(shrinkage: Any) -> None:
    with pytest.raises(ConfigurationError, match="shrinkage must be a number from 1e-08 to 1, got"):
        LDALearner(shrinkage)


def test_numbers_cannot_be_predicted() -> None:
    with pytest.raises(ConfigurationError, match="LDALearner predicts classes, and the task is regression"):
        LDALearner().check(NUMBERS)
    LDALearner().check(CLASSES)


@each
def test_a_learner_is_its_description(learner: LDALearner) -> None:
    assert LDALearner.from_params(json.loads(json.dumps(learner.params()))) == learner
