"""Clopper-Pearson bounds against exact enumeration of binomials."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binom

from unlearn.audit.binomial import upper_limit
from unlearn.audit.epsilon.bound import Basis, LowerBound, Verdict
from unlearn.audit.epsilon.clopper_pearson import (
    certifiable_epsilon,
    clopper_pearson,
    clopper_pearson_grid,
    epsilon_of_rates,
    runs_needed,
)
from unlearn.audit.epsilon.scores import Scores, hold_out, tails, thresholds
from unlearn.errors import ConfigurationError, InputError


@pytest.mark.parametrize("delta", [0.0, 0.1])
@pytest.mark.parametrize("a", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("b", [0.05, 0.3, 0.9])
def test_epsilon_of_rates_is_the_smallest_that_allows_them(a: float, b: float, delta: float) -> None:
    found = float(epsilon_of_rates(a, b, delta))

    def allowed(epsilon: float) -> bool:
        grow = math.exp(epsilon)
        return 1 - b <= grow * a + delta + 1e-12 and 1 - a <= grow * b + delta + 1e-12

    steps = next(i for i in range(100_000) if allowed(i * 1e-3))
    assert found - 1e-9 <= steps * 1e-3 <= found + 1e-3 + 1e-9


@pytest.mark.parametrize(
    ("n", "epsilon"),
    [
        (10, 0.81), (32, 2.10), (64, 2.82), (100, 3.28), (256, 4.23), (512, 4.93),
        (1000, 5.60), (5000, 7.21), (10_000, 7.90), (100_000, 10.2),
    ],
)  # fmt: skip
def test_trials_to_largest_certifiable_epsilon(n: int, epsilon: float) -> None:
    assert certifiable_epsilon(n, n, delta=1e-5, alpha=0.05) == pytest.approx(epsilon, abs=0.006 if n < 10**5 else 0.02)


@pytest.mark.parametrize(
    ("epsilon", "n"), [(0.5, 8), (1, 12), (2, 30), (3, 76), (4, 204), (5, 550), (6, 1491), (8, 10999)]
)
def test_fewest_runs(epsilon: float, n: int) -> None:
    assert runs_needed(epsilon, delta=1e-5, alpha=0.05) == n
    assert (
        certifiable_epsilon(n, n, delta=1e-5, alpha=0.05)
        >= epsilon
        > certifiable_epsilon(n - 1, n - 1, delta=1e-5, alpha=0.05)
    )


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [(1, (0.54, 0.86, 0.956)), (2, (1.385, 1.81, 1.94)), (4, (2.58, 3.54, 3.85))],
)
def test_randomised_response_at_expected_counts(epsilon: float, expected: tuple[float, ...]) -> None:
    for n, value in zip((100, 1000, 10_000), expected, strict=True):
        wrong = round(n / (1 + math.exp(epsilon)))
        assert clopper_pearson(wrong, n, wrong, n, delta=0).epsilon == pytest.approx(value, abs=0.011)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.0, 0.2), (1.0, 0.0), (1.0, 0.1), (1.7, 0.0)])
def test_coverage_by_enumeration_of_the_extremal_mechanism(epsilon: float, delta: float) -> None:
    """The exact probability that the bound is above the true epsilon, over all pairs of counts."""
    n_in, n_out, alpha = 40, 30, 0.1
    wrong = (1 - delta) / (1 + math.exp(epsilon))
    missed, false = np.arange(n_in + 1), np.arange(n_out + 1)
    a, b = upper_limit(false, n_out, alpha / 2), upper_limit(missed, n_in, alpha / 2)
    bounds = epsilon_of_rates(a[None, :], b[:, None], delta)
    probability = np.outer(binom.pmf(missed, n_in, wrong), binom.pmf(false, n_out, wrong))
    too_high = float(probability[bounds > epsilon + 1e-12].sum())
    assert too_high <= alpha
    if epsilon > 0:
        assert too_high > alpha / 50  # the test can fail: the bound does reach that far


def test_bounds_agree_with_the_vectorised_formula() -> None:
    bound = clopper_pearson(3, 50, 4, 60, delta=0.01, alpha=0.1, k=2)
    a, b = float(upper_limit(3, 50, 0.05)), float(upper_limit(4, 60, 0.05))
    assert bound.epsilon == pytest.approx(max(math.log((0.99 - a) / b), math.log((0.99 - b) / a)))
    assert (bound.basis, bound.k, bound.confidence, bound.verdict) == (Basis.COVERAGE, 2, 0.9, Verdict.REFUTED)
    assert bound.certifiable > bound.epsilon
    assert bound.interval == (bound.epsilon, math.inf)


def test_json_round_trip() -> None:
    bound = clopper_pearson(3, 50, 4, 60, delta=0.01)
    assert LowerBound.from_json(json.loads(json.dumps(bound.to_json(), allow_nan=False))) == bound
    with pytest.raises(InputError, match="lacks epsilon"):
        LowerBound.from_json({name: value for name, value in bound.to_json().items() if name != "epsilon"})
    with pytest.raises(InputError, match="expected a lower bound"):
        LowerBound.from_json({"kind": "score"})


def test_thresholds_are_order_statistics_with_so_many_beyond() -> None:
    calibration = np.random.default_rng(0).permutation(np.arange(100.0))
    at = thresholds(calibration, (0.05, 0.5))
    assert [(calibration > t).sum() for t in at[:2]] == [5, 50]
    assert [(calibration < t).sum() for t in at[2:]] == [5, 50]
    infinite = thresholds([-np.inf, 0, 1, np.inf], (0.01,))
    assert infinite.tolist() == [np.inf, -np.inf]


def test_tails_count_errors_one_by_one() -> None:
    rng = np.random.default_rng(1)
    scores = Scores(rng.integers(5, size=20).astype(float), rng.integers(5, size=15).astype(float))
    seen = tails(scores, np.array([1.0, 3.0, 1.0, 3.0]))
    for j, t in enumerate((1.0, 3.0)):
        assert seen.false_positives[j] == sum(s > t for s in scores.outs)
        assert seen.false_negatives[j] == sum(not s > t for s in scores.ins)
        assert seen.false_positives[2 + j] == sum(s < t for s in scores.outs)
        assert seen.false_negatives[2 + j] == sum(not s < t for s in scores.ins)


def test_the_grid_pays_for_its_thresholds() -> None:
    rng = np.random.default_rng(2)
    aside, judged = hold_out(Scores(rng.normal(4, 1, 300), rng.normal(size=450)), rng)
    assert len(aside) == 150
    assert len(judged.outs) == 300
    bound = clopper_pearson_grid(judged, aside, delta=0.0, rates=(0.05, 0.5))
    seen = tails(judged, thresholds(aside, (0.05, 0.5)))
    single = [
        clopper_pearson(int(fp), 300, int(fn), 300, delta=0.0, alpha=0.05 / 4).epsilon
        for fp, fn in zip(seen.false_positives, seen.false_negatives, strict=True)
    ]
    assert bound.epsilon == pytest.approx(max(single))
    assert bound.certifiable == pytest.approx(certifiable_epsilon(300, 300, delta=0.0, alpha=0.05, tests=4))


def test_the_grid_finds_what_lies_in_the_lower_tail() -> None:
    rng = np.random.default_rng(3)
    aside, judged = hold_out(Scores(rng.normal(-4, 1, 300), rng.normal(size=450)), rng)
    assert clopper_pearson_grid(judged, aside, delta=0.0).epsilon > 2


def test_runs_held_out_are_not_judged() -> None:
    scores = Scores(np.zeros(3), np.arange(9.0), out_ids=list("abcdefghi"))
    aside, judged = hold_out(scores, np.random.default_rng(0))
    assert sorted([*aside, *judged.outs]) == list(range(9))
    assert judged.out_ids is not None
    assert ["abcdefghi"[int(s)] for s in judged.outs] == list(judged.out_ids)


def test_bad_input_is_refused() -> None:
    good = np.zeros(5)
    with pytest.raises(InputError, match="1 of 5 scores of runs that unlearned are not a number"):
        Scores(np.array([0, 1, np.nan, 2, 3]), good)
    with pytest.raises(InputError, match="2 ids are on both sides"):
        Scores(good, good, in_ids="abcde", out_ids="fgaeh")
    with pytest.raises(InputError, match="occurs twice"):
        Scores(good, good, in_ids="aabcd")
    with pytest.raises(InputError, match="4 ids for 5 scores"):
        Scores(good, good, in_ids="abcd")
    with pytest.raises(InputError, match="at least one, got shape"):
        Scores(np.array([]), good)
    with pytest.raises(InputError, match="too few samples"):
        clopper_pearson(0, 3, 0, 3, delta=0.0)
    for alpha in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ConfigurationError, match="alpha"):
            clopper_pearson(0, 30, 0, 30, delta=0.0, alpha=alpha)
    for delta in (-0.1, 1.0, math.nan):
        with pytest.raises(ConfigurationError, match="delta"):
            clopper_pearson(0, 30, 0, 30, delta=delta)
    for count in (-1, 31, 2.5, True):
        with pytest.raises(InputError, match="false positives must be a whole number"):
            clopper_pearson(count, 30, 0, 30, delta=0.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="runs on both sides"):
        clopper_pearson(0, 0, 0, 30, delta=0.0)
    with pytest.raises(ConfigurationError, match="k, the number"):
        clopper_pearson(0, 30, 0, 30, delta=0.0, k=0)
    with pytest.raises(ConfigurationError, match="rates must be"):
        thresholds(good, ())
    with pytest.raises(InputError, match="two halves"):
        tails(Scores(good, good), np.zeros(3))
    with pytest.raises(ConfigurationError, match="share"):
        hold_out(Scores(good, good), np.random.default_rng(0), share=1.0)
    with pytest.raises(InputError, match="cannot be split"):
        hold_out(Scores(good, np.zeros(1)), np.random.default_rng(0))
    with pytest.raises(InputError, match="no number of runs"):
        runs_needed(100, delta=0.01, alpha=0.05)
