"""The shard-label test against enumeration, against nothing to find, and against things to find."""

from __future__ import annotations

import itertools
import math
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from unlearn.audit.sisa_test import (
    STATISTICS,
    _Moments,
    least_detectable,
    own_advantage,
    power_against,
    shard_label_test,
    studentised,
    subject_scores,
)
from unlearn.errors import InputError


def test_p_value_is_that_of_all_arrangements() -> None:
    rng = np.random.default_rng(1)
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    strata = np.array([0, 0, 0, 0, 1, 1, 1])
    for strata_given, scores in ((None, rng.normal(size=(7, 3))), (strata, rng.normal(size=(7, 4)))):
        if strata_given is not None:
            labels = np.array([0, 1, 2, 3, 0, 1, 1])
        found = shard_label_test(scores, labels, strata=strata_given, permutations=19_999)
        values, exact, p_least = enumerated(scores, labels, strata_given)
        for item, value, expected in zip(found.statistics, values, exact, strict=True):
            assert item.value == pytest.approx(value, abs=1e-8)
            assert item.p_value == pytest.approx(expected, abs=0.015)
        assert found.p_value == pytest.approx(p_least, abs=0.015)


def test_what_cannot_vary_is_no_evidence() -> None:
    """Subjects that all know their shard equally well: no rearrangement changes the sum."""
    moments = _Moments(mean=np.zeros(2), sd=np.array([1.0, 0.0]), sum_mean=3.0, sum_sd=0.0)
    with np.errstate(all="raise"):
        found = moments.standardised(np.array([[2.0, 1.0], [1.0, 2.0]]))
    assert found.tolist() == [[0, 0], [2, 1], [0, 0], [0, 0]]


def enumerated(
    scores: np.ndarray, labels: np.ndarray, strata: np.ndarray | None
) -> tuple[list[float], list[float], float]:
    """Statistics and p-values over every arrangement within strata, with moments by enumeration too."""
    groups = np.zeros(len(labels), dtype=int) if strata is None else strata
    within = [
        [np.array(order) for order in itertools.permutations(np.flatnonzero(groups == group))]
        for group in np.unique(groups)
    ]
    arrangements = []
    for orders in itertools.product(*within):
        moved = labels.copy()
        for group, order in zip(np.unique(groups), orders, strict=True):
            moved[np.flatnonzero(groups == group)] = labels[order]
        arrangements.append(moved)
    shares = studentised(scores)
    sums = np.array(
        [[shares[moved == shard, shard].sum() for shard in range(scores.shape[1])] for moved in [labels, *arrangements]]
    )
    every = sums[1:]
    spread = every.std(axis=0)
    z = np.where(spread > 1e-9, (sums - every.mean(axis=0)) / np.where(spread > 1e-9, spread, 1), 0)
    total = (sums.sum(axis=1) - every.sum(axis=1).mean()) / every.sum(axis=1).std()
    values = np.round(np.stack([total, z.max(axis=1), -total, -z.min(axis=1)]), 9)
    tails = [float((row[1:] >= row[0]).mean()) for row in values]
    of = np.array([1, (spread > 1e-9).sum(), 1, (spread > 1e-9).sum()])[:, None]
    least = np.round((norm.sf(values) * of).min(axis=0), 12)
    return values[:, 0].tolist(), tails, float((least[1:] <= least[0]).mean())


def dependent_scores(rng: np.random.Generator, n: int, n_shards: int) -> np.ndarray:
    """Scores of states that never saw anybody: shards good and bad, noisy and not, hard subjects, heavy tails."""
    quality, noise = rng.normal(size=n_shards) * 2, rng.uniform(0.2, 4, n_shards)
    hard = rng.standard_t(2, size=(n, 1))
    return quality + hard * rng.uniform(0, 2, n_shards) + noise * rng.standard_t(3, size=(n, n_shards))


def test_false_alarms_keep_to_the_level() -> None:
    rng = np.random.default_rng(2)
    found = []
    for seed in range(600):
        scores = dependent_scores(rng, 40, 5)
        found.append(shard_label_test(scores, rng.integers(0, 5, 40), permutations=99, seed=seed).p_value)
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        margin = 3 * math.sqrt(level * (1 - level) / len(found))
        rate = float((np.array(found) <= level).mean())
        assert rate <= level + margin
        # Nor is it vain: the p-value is nearly uniform.
        assert rate >= level - margin


def test_records_of_one_subject_need_one_label() -> None:
    """Rearranged as if each were alone, records of a subject raise false alarms; the whole subject does not."""
    rng = np.random.default_rng(3)
    alone, whole = [], []
    for seed in range(150):
        subjects = np.repeat(np.arange(20), 10)
        # A shard that happens to know a kind of subject: all records of the subject alike.
        scores = (rng.normal(size=(20, 4)) * 2)[subjects] + rng.normal(size=(200, 4)) * 0.3
        labels = rng.integers(0, 4, 20)
        options: dict[str, Any] = {"permutations": 99, "seed": seed}
        alone.append(shard_label_test(scores, labels[subjects], **options).p_value <= 0.05)
        whole.append(shard_label_test(subject_scores(scores, subjects), labels, **options).p_value <= 0.05)
    assert np.mean(alone) > 0.3
    assert np.mean(whole) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize("shifted", [True, False], ids=["batches differ", "slices are alike"])
def test_states_before_recovery_need_strata_where_what_was_lost_differs(shifted: bool) -> None:
    """Until then a shard serves what came before the first part it lost, which tells which parts its subjects were in.

    That alone is symmetric in the subjects, so a slice, being random, needs no strata. A batch does, if people differ.
    """
    rng = np.random.default_rng(4)
    plain, stratified = [], []
    for seed in range(200):
        labels, parts = rng.integers(0, 4, 8), rng.integers(0, 4, 8)
        lost = np.array([parts[labels == shard].min(initial=4) for shard in range(4)])
        kind = parts if shifted else rng.integers(0, 4, 8)
        # People fit best the states that end where their own kind begins.
        scores = -np.abs(lost - kind[:, None]) + 0.3 * rng.normal(size=(8, 4))
        options: dict[str, Any] = {"permutations": 99, "seed": seed}
        plain.append(shard_label_test(scores, labels, **options).p_value <= 0.05)
        with suppress(InputError):  # of a draw where no two of a part are in different shards
            stratified.append(shard_label_test(scores, labels, strata=parts, **options).p_value <= 0.05)
    assert len(stratified) > 100
    margin = 3 * math.sqrt(0.05 * 0.95 / 200)
    assert (np.mean(plain) > 0.2) if shifted else (np.mean(plain) <= 0.05 + margin)
    assert np.mean(stratified) <= 0.05 + margin


@pytest.mark.parametrize(
    ("planted", "statistic"), [(1.5, "sum"), (-1.5, "deficit sum")], ids=["remembered", "suppressed"]
)
def test_what_all_shards_know_is_found(planted: float, statistic: str) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 10, 200)
    scores = dependent_scores(rng, 200, 10)
    scores[np.arange(200), labels] += 4 * planted
    found = shard_label_test(scores, labels, permutations=999)
    assert found.verdict == "refuted"
    assert found.p_value == 1 / 1000
    assert found.epsilon_lower == pytest.approx(math.log(0.05 * 1000))
    assert found.statistics[STATISTICS.index(statistic)].p_value == 1 / 1000
    assert np.sign(found.advantage) == np.sign(planted)


def test_one_shard_that_was_not_retrained_is_found_and_named() -> None:
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 10, 300)
    scores = rng.normal(size=(300, 10))
    known = labels == 7
    scores[known, 7] += 1.5
    found = shard_label_test(scores, labels, permutations=999)
    assert found.verdict == "refuted"
    assert max(found.shards, key=found.shards.__getitem__) == 7
    assert found.statistics[1].value > found.statistics[1].critical > 0
    least = least_detectable(found, scores, labels)
    assert least.one_shard is not None
    assert least.everywhere is not None
    assert 0 < least.everywhere < least.one_shard < 1.5


def test_what_could_have_been_found_is_found_so_often() -> None:
    rng = np.random.default_rng(7)
    n, n_shards = 60, 6
    rates: dict[str, list[bool]] = {"everywhere": [], "one_shard": []}
    for seed in range(40):
        labels = rng.permutation(np.arange(n) % n_shards)
        scores = rng.normal(size=(n, n_shards))
        before = least_detectable(shard_label_test(scores, labels, permutations=199, seed=seed), scores, labels)
        for where, chosen in (("everywhere", labels >= 0), ("one_shard", labels == 2)):
            planted = scores.copy()
            planted[np.arange(n)[chosen], labels[chosen]] += getattr(before, where)
            rates[where].append(shard_label_test(planted, labels, permutations=199, seed=seed).verdict == "refuted")
    for found in rates.values():
        assert 0.85 <= np.mean(found) <= 1


def test_power_against_members_is_what_planting_them_gives() -> None:
    rng = np.random.default_rng(8)
    n, n_shards = 100, 5
    member_scores, member_labels = rng.normal(size=(400, n_shards)), rng.integers(0, n_shards, 400)
    member_scores[np.arange(400), member_labels] += 1.0
    members = own_advantage(member_scores, member_labels)
    assert members.mean() == pytest.approx(1.0, abs=0.2)
    predicted, planted = [], []
    for seed in range(60):
        labels, scores = rng.integers(0, n_shards, n), rng.normal(size=(n, n_shards))
        found = shard_label_test(scores, labels, permutations=199, seed=seed)
        predicted.append(power_against(found, scores, labels, members, shards=1, repetitions=40, seed=seed))
        shard = int(rng.choice(np.unique(labels)))
        scores[labels == shard, shard] += 1.0
        planted.append(shard_label_test(scores, labels, permutations=199, seed=seed).verdict == "refuted")
    assert np.mean(predicted) == pytest.approx(np.mean(planted), abs=0.2)
    assert 0.2 < np.mean(planted) < 0.99


def test_a_thousand_deletions_take_moments() -> None:
    rng = np.random.default_rng(9)
    scores, labels = rng.normal(size=(1000, 10)), rng.integers(0, 10, 1000)
    began = time.process_time()
    shard_label_test(scores, labels)
    assert time.process_time() - began < 5  # about 0.7 s of processor time; see experiments/audit_planted


def test_same_seed_same_result_whatever_the_order_of_subjects_says_the_same() -> None:
    rng = np.random.default_rng(10)
    scores, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    first = shard_label_test(scores, labels)
    assert shard_label_test(scores, labels) == first
    order = rng.permutation(50)
    moved = shard_label_test(scores[order], labels[order])
    assert moved.statistics[0].value == pytest.approx(first.statistics[0].value)
    assert moved.p_value == pytest.approx(first.p_value, abs=0.02)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"placement": "by class"}, "not random by itself"),
        ({"labels": np.array([1, 1, 1, 1])}, r"no rearrangement of the labels of the subjects presented \(4\) changes"),
        ({"labels": np.array([0, 1, 2, 0]), "strata": np.arange(4)}, "no rearrangement"),
        ({"labels": np.array([0, 1, 2, 3])}, "columns of the scores"),
        ({"labels": np.array([0.0, 1, 2, 2])}, "columns of the scores"),
        ({"labels": np.array([0, 1, 2])}, "at least two shards"),
        ({"scores": np.full((4, 3), np.nan)}, "not finite"),
        ({"scores": np.outer([1.0, 2, 4, 8], [1, 1, 0]), "labels": np.array([0, 1, 1, 1])}, "do not tell shards apart"),
        ({"strata": np.zeros(3)}, "one entry a subject"),
        ({"permutations": 18}, "draw at least 19"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"delta": 0.05}, "below alpha"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "scores": np.random.default_rng(0).normal(size=(4, 3)),
        "labels": np.array([0, 1, 2, 2]),
        **changed,
    }
    with pytest.raises(InputError, match=message):
        shard_label_test(given.pop("scores"), given.pop("labels"), **given)


def test_placement_that_looks_is_taken_with_strata() -> None:
    rng = np.random.default_rng(11)
    classes = rng.integers(0, 2, 60)
    # Class 0 goes to the first two shards, class 1 to the others, at random there.
    labels = rng.integers(0, 2, 60) + 2 * classes
    scores = rng.normal(size=(60, 4))
    scores[np.arange(60), 2 * classes] += 3  # states know their own class
    scores[np.arange(60), 2 * classes + 1] += 3
    assert shard_label_test(scores, labels, permutations=999).verdict == "refuted"
    found = shard_label_test(scores, labels, placement="by class", strata=classes, permutations=999)
    assert (found.verdict, found.n_strata) == ("not refuted", 2)


def test_of_too_few_arrangements_nothing_is_promised() -> None:
    found = shard_label_test(np.arange(6.0).reshape(2, 3) ** 2, np.array([0, 1]))
    assert [item.critical for item in found.statistics] == [None] * 4
    least = least_detectable(found, np.arange(6.0).reshape(2, 3) ** 2, np.array([0, 1]))
    assert (least.everywhere, least.one_shard) == (None, None)


def test_power_needs_members_and_a_power() -> None:
    rng = np.random.default_rng(12)
    scores, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    with pytest.raises(InputError, match="power must be"):
        least_detectable(shard_label_test(scores, labels), scores, labels, power=1.0)
    with pytest.raises(InputError, match="no members"):
        power_against(shard_label_test(scores, labels), scores, labels, np.empty(0), shards=1)
