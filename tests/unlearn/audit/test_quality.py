"""The challenge's score, against its rules tried one threshold at a time."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from unlearn.audit.quality import _above, example_epsilon, forgetting_quality, points_of
from unlearn.errors import ConfigurationError, InputError

DELTA = 1e-5


def released(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Both rules on grids of thresholds, as the released code tries them, step by step."""
    best = 0.0
    rates = []
    up = np.median(retrained) > np.median(unlearned)
    pos, neg = (retrained, unlearned) if up else (unlearned, retrained)
    every = np.concatenate([pos, neg])
    grid = np.linspace(every.min(), every.max(), math.ceil(np.ptp(every) * 100))
    rates += [(np.mean(neg >= t), np.mean(pos < t)) for t in grid]
    pos, neg = (retrained, unlearned) if np.ptp(unlearned) >= np.ptp(retrained) else (unlearned, retrained)
    width = np.ptp(pos)
    low, high = pos.min() + width - 2, pos.max() + 2
    for right in np.linspace(low, high, math.ceil((high - low) * 100))[::7]:
        for left in np.linspace(right - width - 2, right - width + 2, 400)[::7]:
            inside = (left <= pos) & (pos <= right)
            rates.append((np.mean((left <= neg) & (neg <= right)), np.mean(~inside)))
    for a, b in rates:
        if a == 0 and b == 0:
            return 50.0
        if a > 0 and b > 0:
            best = max(best, (1 - DELTA - a) / b, (1 - DELTA - b) / a)
    return min(50.0, math.log(max(best, 1)))


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("spread", [1.0, 0.4])
def test_all_rules_find_a_little_more_than_the_released_grid(shift: float, spread: float) -> None:
    rng = np.random.default_rng(int(10 * shift + spread))
    for _ in range(4):
        unlearned, retrained = rng.normal(shift, spread, 24), rng.normal(size=24)
        found, grid = example_epsilon(unlearned, retrained), released(unlearned, retrained)
        assert grid - 1e-9 <= found <= grid + 0.75


def test_special_cases() -> None:
    rng = np.random.default_rng(0)
    apart = example_epsilon(rng.random(20), 5 + rng.random(20))
    peaky = example_epsilon(np.full(20, 0.5), rng.normal(size=20))
    assert apart == peaky == 50
    assert example_epsilon(np.zeros(20), np.zeros(20)) == 50


def test_points_halve_for_every_half() -> None:
    epsilons = np.array([0.0, 0.49, 0.5, 1.2, 2.9, 3.0, 50.0])
    assert points_of(epsilons, 16).tolist() == [1, 1, 0.5, 0.25, 2.0**-5, 0, 0]  # ceil(ln 15) = 3


@pytest.mark.parametrize("models", [16, 64, 256])
def test_retraining_gets_about_a_third_by_thresholds_alone(models: int) -> None:
    rng = np.random.default_rng(1)
    epsilons = []
    for _ in range(300):
        a, b = _above(rng.normal(size=models), rng.normal(size=models))
        kept = (a > 0) & (b > 0)
        a, b = a[kept], b[kept]
        epsilons.append(math.log(max(1, ((1 - DELTA - a) / b).max(), ((1 - DELTA - b) / a).max())))
    assert 1.05 < np.mean(epsilons) < 1.3
    assert 0.28 < points_of(np.array(epsilons), models).mean() < 0.42


def test_the_score_stands_beside_its_null() -> None:
    rng = np.random.default_rng(2)
    retrained, again, unlearned = rng.normal(size=(3, 32, 60))
    fair = forgetting_quality(unlearned, retrained, again, rng)
    assert fair.interval[0] < 0 < fair.interval[1]
    assert fair.null < 0.4  # retraining does not get 1
    nothing = forgetting_quality(unlearned + 5, retrained, again, rng)
    assert nothing.score < 0.01
    assert nothing.interval[1] < 0
    assert nothing.null == fair.null
    assert nothing.final is None
    assert "neither a bound" in json.dumps(fair.to_json(), allow_nan=False)


def test_both_rules_together_leave_retraining_about_half_of_that() -> None:
    rng = np.random.default_rng(5)
    retrained, again, unlearned = rng.normal(size=(3, 64, 150))
    got = forgetting_quality(unlearned, retrained, again, rng, resamples=10)
    assert 0.1 < got.null < 0.25
    assert got.null_mean_epsilon > 1.3


def test_utility_multiplies() -> None:
    rng = np.random.default_rng(3)
    retrained, again, unlearned = rng.normal(size=(3, 16, 20))
    got = forgetting_quality(
        unlearned, retrained, again, rng, retain_accuracy=(0.8, 1.0), test_accuracy=(0.45, 0.9), resamples=10
    )
    assert got.final == pytest.approx(got.score * 0.4)


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(4)
    one, two, three = rng.normal(size=(3, 8, 5))
    with pytest.raises(InputError, match="all the same"):
        forgetting_quality(one, two, three[:7], rng)
    with pytest.raises(InputError, match="the same: the null needs others"):
        forgetting_quality(one, two, two.copy(), rng)
    with pytest.raises(InputError, match="at least 4"):
        forgetting_quality(one[:3], two[:3], three[:3], rng)
    with pytest.raises(InputError, match="not finite"):
        forgetting_quality(np.where(one > 0, np.nan, one), two, three, rng)
    with pytest.raises(InputError, match="or neither"):
        forgetting_quality(one, two, three, rng, retain_accuracy=(1, 1))
    with pytest.raises(InputError, match="between 0 and 1"):
        forgetting_quality(one, two, three, rng, retain_accuracy=(2, 1), test_accuracy=(1, 1))
    with pytest.raises(InputError, match="no yardstick"):
        forgetting_quality(one, two, three, rng, retain_accuracy=(1, 0), test_accuracy=(1, 1))
    with pytest.raises(ConfigurationError, match="delta"):
        forgetting_quality(one, two, three, rng, delta=1.0)
