"""Joining what shards say, against the same sums written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from shards.ensemble import Member, check_aggregation, combine, combine_joined, usual_aggregation
from shards.errors import ConfigurationError, NotServingError
from shards.learners.ridge import RidgeLearner
from shards.learners.sklearn import SklearnLearner

X = {"x": np.zeros((2, 1))}
ONE = np.array([[0.9, 0.1, 0.0], [0.2, 0.4, 0.4]])
TWO = np.array([[0.0, 0.6, 0.4], [0.0, 0.3, 0.7]])
THREE = np.array([[0.3, 0.3, 0.4], [0.5, 0.5, 0.0]])


def members(*outputs: np.ndarray, records: tuple[int, ...] = (1, 2, 5)) -> list[Member]:
    return [Member(i, n, lambda _, out=out: out) for i, (n, out) in enumerate(zip(records, outputs, strict=False))]


def test_mean_of_probabilities() -> None:
    assert np.allclose(combine(members(ONE, TWO, THREE), "mean", X), (ONE + TWO + THREE) / 3)


def test_mean_weighted_by_records() -> None:
    assert np.allclose(combine(members(ONE, TWO, THREE), "weighted", X), (ONE + 2 * TWO + 5 * THREE) / 8)


def test_share_of_votes_with_ties_to_the_lower_class() -> None:
    expected = np.array([[1, 1, 1], [1, 1, 1]]) / 3
    assert np.allclose(combine(members(ONE, TWO, THREE), "vote", X), expected)


def test_a_shard_that_is_missing_abstains() -> None:
    assert np.allclose(combine([members(ONE, TWO, THREE)[1]], "mean", X), TWO)


NONE = np.full(3, np.nan)


@pytest.mark.parametrize(("rule", "weights"), [("mean", (1, 1, 1)), ("weighted", (1, 2, 5)), ("vote", (1, 1, 1))])
def test_a_member_abstains_where_it_says_no_number(rule: str, weights: tuple[int, int, int]) -> None:
    silent = np.array([ONE[0], NONE]), np.array([[np.inf, 0.6, 0.4], NONE]), np.array([THREE[0], NONE])
    said = np.eye(3)[[0, 2]] if rule == "vote" else np.array([ONE[0], THREE[0]])
    expected = np.array([(said[0] * weights[0] + said[1] * weights[2]) / (weights[0] + weights[2]), NONE])
    given = members(*silent)
    assert np.allclose(combine(given, rule, X), expected, equal_nan=True)
    together = combine_joined(given, lambda _: iter([np.stack(silent)[:, :1], np.stack(silent)[:, 1:]]), rule, X)
    assert np.allclose(together, expected, equal_nan=True)


def test_so_it_does_with_targets() -> None:
    for shape in ((2,), (2, 1), (2, 2, 2)):
        first, second = np.ones(shape), np.full(shape, 3.0)
        first[0] = np.nan
        expected = np.stack([second[0], 2 * np.ones(shape[1:])])
        assert np.allclose(combine(members(first, second), "mean", X), expected)
        together = np.stack([first, second])
        joined = combine_joined(members(first, second), lambda _, said=together: iter([said]), "mean", X)
        assert np.allclose(joined, expected)


def test_the_result_does_not_depend_on_the_order_of_members() -> None:
    rng = np.random.default_rng(0)
    outputs = [rng.random((50, 3)) for _ in range(7)]
    given = members(*outputs, records=tuple(range(1, 8)))
    for rule in ("mean", "weighted", "vote"):
        assert combine(given, rule, X).tobytes() == combine(given[::-1], rule, X).tobytes()


def test_nobody_to_ask_is_an_error() -> None:
    with pytest.raises(NotServingError, match="ingest records and train"):
        combine([], "mean", X)


def test_unknown_or_unfit_rules_are_refused() -> None:
    sgd = SklearnLearner(SGDClassifier())
    with pytest.raises(ConfigurationError, match="mean, vote, weighted, sum"):
        check_aggregation("median", "classification", sgd)
    with pytest.raises(ConfigurationError, match="for classification"):
        check_aggregation("vote", "regression", sgd)
    with pytest.raises(ConfigurationError, match="SklearnLearner is none"):
        check_aggregation("sum", "classification", sgd)
    check_aggregation("sum", "classification", RidgeLearner())
    assert (usual_aggregation(sgd), usual_aggregation(RidgeLearner())) == ("mean", "sum")
