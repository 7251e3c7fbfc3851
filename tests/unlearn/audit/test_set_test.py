"""The set-unlearning test against the binomial, and against the worst mechanisms that keep to the definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from unlearn.audit.set_test import (
    ABSTAIN,
    guess_extremes,
    log_tail,
    power,
    set_unlearning_test,
    toss_coins,
)
from unlearn.errors import InputError


@pytest.mark.parametrize(("trials", "choices"), [(1, 2), (7, 2), (100, 2), (100, 10), (1000, 2)])
def test_tails_are_the_binomial_ones(trials: int, choices: int) -> None:
    least = np.unique(np.linspace(0, trials, 25).astype(int))
    found = [log_tail(trials, int(v), choices) for v in least]
    np.testing.assert_allclose(found, binom.logsf(least - 1, trials, 1 / choices), rtol=1e-9, atol=1e-12)


def test_tails_beyond_floats() -> None:
    assert log_tail(5000, 5000) == pytest.approx(-5000 * math.log(2))
    assert log_tail(5000, 4999, 3) == pytest.approx(math.log(10001) - 5000 * math.log(3))
    assert log_tail(3, 4) == -math.inf


@pytest.mark.parametrize(
    ("right", "made", "choices", "epsilon"),
    [(100, 100, 2, 66.3), (75, 100, 2, 12.1), (600, 1000, 2, 19.7), (550, 1000, 2, 4.06), (30, 100, 10, 14.5)],
)
def test_known_values(right: int, made: int, choices: int, epsilon: float) -> None:
    said = np.zeros(made, dtype=int)
    said[right:] = 1
    found = set_unlearning_test(np.zeros(made), said, choices=choices, delta=1e-5)
    assert found.epsilon_lower == pytest.approx(epsilon, abs=0.06)
    assert (found.guesses, found.correct, found.verdict) == (made, right, "refuted")


def tilted(m: int, epsilon: float, cut: int) -> np.ndarray:
    """Distribution of the right guesses under the worst ε-unlearning that aims at `cut` or more of them.

    A model of the base set is a uniform guess of the coins. The deletion makes outputs with many right guesses more
    probable, by `e^ε` at most, and the others less, by `e^-ε` at least: both directions of the definition hold.
    """
    base = binom.pmf(np.arange(m + 1), m, 0.5)
    top = base[cut:].sum()
    low, high = math.exp(-epsilon), math.exp(epsilon)
    if top * high + (1 - top) * low <= 1:
        # Room is left: what is below is less unlikely than it may be.
        weights = np.where(np.arange(m + 1) >= cut, high, (1 - top * high) / max(1 - top, 1e-300))
    else:
        weights = np.where(np.arange(m + 1) >= cut, (1 - (1 - top) * low) / top, low)
    assert (weights >= low * (1 - 1e-9)).all()
    assert (weights <= high * (1 + 1e-9)).all()
    found: np.ndarray = base * weights
    assert found.sum() == pytest.approx(1)
    return found


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("m", [10, 37, 100])
def test_no_unlearning_that_keeps_to_epsilon_is_accused_too_often(m: int, epsilon: float) -> None:
    bounds = np.array([math.log(0.05) - log_tail(m, v) for v in range(m + 1)])
    worst = max(float(tilted(m, epsilon, cut)[bounds > epsilon].sum()) for cut in range(m + 1))
    assert worst <= 0.05 + 1e-12
    if m == 100:
        # And not by being vain: the worst comes close.
        assert worst > 0.04


@pytest.mark.parametrize("delta", [1e-3, 0.01, 0.04])
def test_a_mechanism_that_tells_all_with_probability_delta(delta: float) -> None:
    m = 50
    bounds = np.array([math.log(0.05 - delta) - log_tail(m, v) for v in range(m + 1)])
    accused = (1 - delta) * binom.pmf(np.arange(m + 1), m, 0.5)[bounds > 0].sum() + delta
    assert accused <= 0.05


def test_false_alarms_with_thresholds_from_the_model() -> None:
    """Guesses may be tuned on the scores, and how many there are depend on them, as long as coins are not seen."""
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        coins, scores = toss_coins(40, rng), rng.standard_t(2, 40)
        number = 2 * int(np.clip(np.abs(scores).max(), 1, 20))
        alarms.append(set_unlearning_test(coins, guess_extremes(scores, number)).epsilon_lower > 0)
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_one_who_remembers_is_found() -> None:
    rng = np.random.default_rng(1)
    coins = toss_coins(200, rng)
    found = set_unlearning_test(coins, guess_extremes(rng.normal(size=200) + 2 * coins))
    assert found.verdict == "refuted"
    assert (found.guesses, found.n_canaries) == (100, 200)
    assert found.epsilon_lower > 10
    assert found.epsilon_lower < found.epsilon_largest


def test_needed_is_the_least_that_refutes() -> None:
    for made in (3, 4, 5, 30, 500):
        truth = np.zeros(made)
        found = set_unlearning_test(truth, truth)
        if found.needed is None:
            assert made < 5
            assert found.epsilon_lower == 0
            continue
        said = np.zeros(made)
        said[found.needed :] = 1
        assert set_unlearning_test(truth, said).epsilon_lower > 0
        said[found.needed - 1] = 1
        assert set_unlearning_test(truth, said).epsilon_lower == 0


def test_power_is_how_often_it_refutes() -> None:
    rng = np.random.default_rng(2)
    needed = set_unlearning_test(np.zeros(60), np.zeros(60)).needed
    simulated = float((rng.binomial(60, 0.65, 20_000) >= needed).mean())
    assert power(0.65, 60) == pytest.approx(simulated, abs=0.015)
    assert power(0.65, 60, epsilon=2.0) < power(0.65, 60)
    assert power(1.0, 4) == 0


def test_guesses_are_the_extremes() -> None:
    assert guess_extremes(np.array([3.0, 1, 2, 0, 9, 5, 4, 7])).tolist() == [
        ABSTAIN,
        0,
        ABSTAIN,
        0,
        1,
        ABSTAIN,
        ABSTAIN,
        1,
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"guesses": np.full(4, ABSTAIN)}, "nothing is guessed"),
        ({"guesses": np.array([0, 1, 2, 0])}, "0 to 1"),
        ({"guesses": np.zeros(3)}, "alike"),
        ({"secrets": np.array([0, 1, 2, 0])}, "0 to 1"),
        ({"delta": 0.06}, "below 1 - confidence"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"secrets": np.zeros(4), "guesses": np.zeros(4), **changed}
    with pytest.raises(InputError, match=message):
        set_unlearning_test(given.pop("secrets"), given.pop("guesses"), **given)


@pytest.mark.parametrize("number", [0, 3, 12])
def test_odd_numbers_of_guesses(number: int) -> None:
    with pytest.raises(InputError, match="even number"):
        guess_extremes(np.zeros(10), number)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    """It would be sorted last, and so be taken for the surest of all."""
    scores = np.arange(10.0)
    scores[3] = np.nan
    with pytest.raises(InputError, match="1 of 10 scores of canaries are not a number"):
        guess_extremes(scores)
