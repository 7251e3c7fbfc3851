"""The surveys' definitions as tests, against enumeration of all relabellings and simulation."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import kstest

from unlearn.audit.definitions import check_approximate, check_exact, energy_distances
from unlearn.audit.epsilon.bound import Verdict
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson_grid
from unlearn.audit.epsilon.scores import Scores, hold_out
from unlearn.errors import ConfigurationError, InputError


def slow_energy(first: np.ndarray, second: np.ndarray) -> float:
    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean([[np.linalg.norm(a - b) for b in other] for a in one]))

    return 2 * mean(first, second) - mean(first, first) - mean(second, second)


def test_energy_distance_term_by_term() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(9, 3))
    distances = np.linalg.norm(pooled[:, None] - pooled[None], axis=2)
    labels = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1, 0, 0, 0]], dtype=float)
    expected = [slow_energy(pooled[row == 1], pooled[row == 0]) for row in labels]
    assert energy_distances(distances, labels) == pytest.approx(expected)


def test_p_value_against_all_relabellings() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1.0, 1, 5), rng.normal(size=6)
    pooled = np.concatenate([first, second])[:, None]
    observed = slow_energy(pooled[:5], pooled[5:])
    reached = [
        slow_energy(pooled[list(chosen)], np.delete(pooled, list(chosen), axis=0)) >= observed - 1e-9
        for chosen in itertools.combinations(range(11), 5)
    ]
    checked = check_exact(first, second, np.random.default_rng(2), permutations=4999)
    assert checked.p_value == pytest.approx(np.mean(reached), abs=0.02)
    assert checked.statistic == pytest.approx(observed)
    assert checked.smallest_p == pytest.approx(1 / math.comb(11, 5))


@pytest.mark.parametrize("width", [1, 3])
def test_p_values_of_exact_unlearning_are_uniform(width: int) -> None:
    rng = np.random.default_rng(3)
    p = [
        check_exact(rng.normal(size=(20, width)), rng.normal(size=(15, width)), rng, permutations=99).p_value
        for _ in range(300)
    ]
    # A p-value of 100 steps is uniform on them; spread evenly within its step it is uniform on (0, 1).
    assert kstest(np.array(p) - rng.random(300) / 100, "uniform").pvalue > 1e-3


def test_complete_separation_gives_the_smallest_p_value_and_not_zero() -> None:
    checked = check_exact(np.arange(20.0), np.arange(100.0, 120.0), np.random.default_rng(0), permutations=99)
    assert checked.p_value == checked.smallest_p == 0.01


def test_ties_do_no_harm() -> None:
    rng = np.random.default_rng(4)
    p = [
        check_exact(rng.integers(2, size=20), rng.integers(2, size=20), rng, permutations=99).p_value
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_different_spread_is_found_and_a_shift_about_as_often_as_said() -> None:
    rng = np.random.default_rng(5)
    assert check_exact(rng.normal(0, 5, 60), rng.normal(size=60), rng).verdict is Verdict.REFUTED
    shift = check_exact(rng.normal(size=40), rng.normal(size=40), rng).detectable_shift
    assert shift is not None
    found = [
        check_exact(rng.normal(shift, 1, 40), rng.normal(size=40), rng, permutations=199).verdict is Verdict.REFUTED
        for _ in range(200)
    ]
    assert 0.65 < np.mean(found) < 0.9
    assert check_exact(rng.normal(size=(40, 2)), rng.normal(size=(40, 2)), rng).detectable_shift is None


def test_events_refute_what_the_grid_does_not_allow() -> None:
    rng = np.random.default_rng(6)
    aside, judged = hold_out(Scores(rng.normal(3, 1, 400), rng.normal(size=600)), rng)
    checked = check_approximate(judged, aside, epsilon=1.0)
    assert checked.verdict is Verdict.REFUTED
    assert 1.0 < checked.bound < checked.certifiable
    assert check_approximate(judged, aside, epsilon=checked.certifiable).verdict is Verdict.NOT_REFUTED
    # Four limits for an event instead of two: weaker than the grid, never stronger.
    assert checked.bound <= clopper_pearson_grid(judged, aside, delta=0.0).epsilon
    outside = [e for e in checked.events if e.ratio[0] > math.e or e.ratio[1] < 1 / math.e]
    assert outside
    furthest = max(max(event.ratio[0], 1 / event.ratio[1]) for event in checked.events)
    assert math.log(furthest) == pytest.approx(checked.bound)


def test_ratios_are_covered_all_at_once() -> None:
    """Uniform scores, the unlearned ones squared: every event's true ratio is known."""
    rng, repetitions, missed = np.random.default_rng(7), 400, 0
    for _ in range(repetitions):
        scores = Scores(rng.random(200) ** 0.5, rng.random(200))
        for event in check_approximate(scores, rng.random(100), epsilon=1.0, alpha=0.2).events:
            t = event.threshold
            truth = (1 - t**2) / (1 - t) if event.above else t
            if not event.ratio[0] <= truth <= event.ratio[1]:
                missed += 1
                break
    assert missed / repetitions <= 0.2


def test_results_are_json() -> None:
    rng = np.random.default_rng(8)
    aside, judged = hold_out(Scores(rng.normal(size=100), rng.normal(size=150)), rng)
    document = json.loads(json.dumps(check_approximate(judged, aside, epsilon=1.0).to_json(), allow_nan=False))
    assert document["verdict"] == "not refuted"
    assert len(document["events"]) == 12
    document = json.loads(json.dumps(check_exact(judged.ins, judged.outs, rng).to_json(), allow_nan=False))
    assert document["kind"] == "check of exact unlearning"


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(9)
    good = rng.normal(size=20)
    with pytest.raises(InputError, match="not finite"):
        check_exact(np.where(good > 0, np.inf, good), good, rng)
    with pytest.raises(InputError, match="measured differently"):
        check_exact(rng.normal(size=(20, 2)), good, rng)
    with pytest.raises(InputError, match="allow no p-value below"):
        check_exact(good[:3], good[:3], rng)
    with pytest.raises(InputError, match="allow no p-value below"):
        check_exact(good, good, rng, permutations=9)
    with pytest.raises(ConfigurationError, match="there must be a permutation"):
        check_exact(good, good, rng, permutations=0)
    with pytest.raises(InputError, match=r"must be \[runs\] or"):
        check_exact(np.array([]), good, rng)
    with pytest.raises(ConfigurationError, match="claimed epsilon"):
        check_approximate(Scores(good, good), good, epsilon=-1.0)
    with pytest.raises(InputError, match="could refute no epsilon"):
        check_approximate(Scores(good[:4], good[:4]), good, epsilon=0.0)
