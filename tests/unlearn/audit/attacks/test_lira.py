"""LiRA and its relatives against scipy, one record at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from unlearn.audit.attacks.base import sample_of
from unlearn.audit.attacks.difficulty import difficulty_score
from unlearn.audit.attacks.lira import (
    SPREAD_FLOOR,
    lira_offline,
    lira_offline_fixed,
    lira_online,
    lira_online_fixed,
)
from unlearn.audit.attacks.u_lira import u_lira
from unlearn.audit.metrics import auc, null_band
from unlearn.audit.shadows import half_splits
from unlearn.errors import InputError

Attack = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

ALL: tuple[Attack, ...] = (lira_online, lira_online_fixed, lira_offline, lira_offline_fixed)


def world(models: int = 8, n: int = 60, effect: float = 2.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Own confidences, memberships of the attacked model, shadow confidences, their memberships."""
    random = np.random.default_rng(seed)
    membership = half_splits(models, n, seed)
    own = random.random(n) < 0.5
    difficulty, spread = random.normal(0, 3, n), random.uniform(0.5, 2, n)
    shadow = difficulty + spread * random.normal(size=(models, n)) + effect * membership
    return difficulty + spread * random.normal(size=n) + effect * own, own, shadow, membership


def test_online_is_the_ratio_of_two_densities() -> None:
    values, _, shadow, member = world()
    found = lira_online(values, shadow, member)
    for r in range(60):
        inside, outside = shadow[member[:, r], r], shadow[~member[:, r], r]
        expected = norm.logpdf(values[r], inside.mean(), inside.std())
        expected -= norm.logpdf(values[r], outside.mean(), outside.std())
        assert found[r] == pytest.approx(expected)


def test_offline_orders_as_the_distribution_function() -> None:
    values, _, shadow, member = world()
    found = lira_offline(values, shadow, member)
    for r in range(60):
        outside = shadow[~member[:, r], r]
        assert norm.cdf(found[r]) == pytest.approx(norm.cdf(values[r], outside.mean(), outside.std()))


def test_fixed_variance_takes_each_side_from_its_own_models() -> None:
    # LiRA's plot.py sets the deviation without the record from the models with it.
    values, _, shadow, member = world()
    shadow = np.where(member, shadow, 5 * shadow)
    deviations = []
    for chosen in (member, ~member):
        squares = [(shadow[chosen[:, r], r] - shadow[chosen[:, r], r].mean()) ** 2 for r in range(60)]
        deviations.append(np.sqrt(sum(s.sum() for s in squares) / sum(len(s) - 1 for s in squares)))
    assert deviations[1] > 3 * deviations[0]
    online, offline = lira_online_fixed(values, shadow, member), lira_offline_fixed(values, shadow, member)
    for r in range(60):
        inside, outside = shadow[member[:, r], r].mean(), shadow[~member[:, r], r].mean()
        expected = norm.logpdf(values[r], inside, deviations[0]) - norm.logpdf(values[r], outside, deviations[1])
        assert online[r] == pytest.approx(expected)
        assert offline[r] == pytest.approx((values[r] - outside) / deviations[1])


def test_offline_is_one_sided() -> None:
    # The released code scores far below as high as far above.
    shadow, member = np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2), dtype=bool)
    low, high = lira_offline(np.array([-50.0, 50.0]), shadow, member)
    assert low < 0 < high


def test_offline_does_not_saturate() -> None:
    shadow, member = np.tile([[0.0], [1.0]], 2), np.zeros((2, 2), dtype=bool)
    first, second = lira_offline(np.array([50.0, 60.0]), shadow, member)
    assert norm.cdf(50) == norm.cdf(60) == 1
    assert second > first


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-10, 10), st.sampled_from(ALL))
def test_unit_and_origin_of_confidences_do_not_matter(seed: int, unit: float, origin: float, attack: Attack) -> None:
    values, _, shadow, member = world(6, 12, seed=seed)
    found = attack(unit * values + origin, unit * shadow + origin, member)
    assert found == pytest.approx(attack(values, shadow, member), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("attack", ALL)
def test_finds_members_that_one_threshold_does_not(attack: Attack) -> None:
    values, own, shadow, member = world(32, 400)
    area = auc(sample_of(attack(values, shadow, member)[own], attack(values, shadow, member)[~own], "m"))
    plain = auc(sample_of(values[own], values[~own], "m"))
    assert area.low > plain.high


@pytest.mark.parametrize("attack", ALL)
def test_finds_nothing_where_there_is_nothing(attack: Attack) -> None:
    outside = 0
    for seed in range(40):
        values, own, shadow, member = world(8, 200, effect=0.0, seed=seed)
        scores = attack(values, shadow, member)
        value = auc(sample_of(scores[own], scores[~own], "m")).value
        low, high = null_band(int(own.sum()), int((~own).sum()))
        assert value is not None
        outside += not low <= value <= high
    assert outside <= 6  # of 40 at 5 %; more happens once in 300 times, and the seeds are fixed


def test_models_that_agree_entirely_give_no_infinite_score() -> None:
    shadow, member = np.ones((4, 3)), np.tile([[True], [False]], (2, 3))
    assert np.isfinite(lira_online(np.array([1.0, 2.0, 0.0]), shadow, member)).all()
    assert lira_offline(np.array([2.0]), shadow[:, :1], member[:, :1])[0] == pytest.approx(1 / SPREAD_FLOOR)


def test_too_few_models_are_refused() -> None:
    values, _, shadow, member = world(4)
    none = member.copy()
    none[:, 7] = False
    for attack in (lira_online, lira_online_fixed):
        with pytest.raises(InputError, match="record number 7 has 0 shadow models with it"):
            attack(values, shadow, none)
    one = member.copy()
    one[:, 7] = [True, True, True, False]
    with pytest.raises(InputError, match="record number 7 has 1 shadow models without it, and 2 are needed"):
        lira_offline(values, shadow, one)
    assert np.isfinite(lira_offline_fixed(values, shadow, one)).all()
    with pytest.raises(InputError, match="every record has a single one"):
        lira_offline_fixed(values, shadow[:2], half_splits(2, 60, 0))


def test_bad_input_is_refused() -> None:
    values, _, shadow, member = world(4)
    with pytest.raises(InputError, match="NaN"):
        lira_online(np.full(60, np.nan), shadow, member)
    with pytest.raises(InputError, match="60 are attacked"):
        lira_online(values, shadow[:, :59], member[:, :59])
    with pytest.raises(InputError, match="membership must be bool"):
        lira_online(values, shadow, member.astype(float))


def test_difficulty_uses_models_without_the_record_alone() -> None:
    values, _, shadow, member = world()
    found = difficulty_score(values, shadow, member)
    for r in range(60):
        assert found[r] == pytest.approx(shadow[~member[:, r], r].mean() - values[r])
    with pytest.raises(InputError, match="reference models without it"):
        difficulty_score(values, shadow, np.ones_like(member))


def test_u_lira_compares_unlearned_with_retrained_models() -> None:
    random = np.random.default_rng(0)
    values, unlearned, retrained = random.normal(size=30), random.normal(1, 2, (5, 30)), random.normal(0, 1, (6, 30))
    found = u_lira(values, unlearned, retrained)
    for r in range(30):
        expected = norm.logpdf(values[r], unlearned[:, r].mean(), unlearned[:, r].std())
        expected -= norm.logpdf(values[r], retrained[:, r].mean(), retrained[:, r].std())
        assert found[r] == pytest.approx(expected)
    with pytest.raises(InputError, match="record number 0 has 1 retrained models"):
        u_lira(values, unlearned, retrained[:1])
    with pytest.raises(InputError, match="30, 30 and 29 records"):
        u_lira(values, unlearned, retrained[:, :29])
