"""Figures against slow exact references, and intervals against simulations in which the truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, entropy, kstest, norm
from sklearn.metrics import roc_curve

from unlearn.audit.attacks.base import Decisions, Rule, Sample, sample_of
from unlearn.audit.metrics import (
    Estimate,
    Outcome,
    auc,
    by_group,
    by_subject,
    curve,
    degradation,
    divergence,
    gaps,
    interclass_confusion,
    judge,
    largest_advantage,
    mean,
    measure,
    non_members_needed,
    null_band,
    over_subjects,
    paired_difference,
    proportion,
    relearning_time,
    swap_labels,
    tpr_at_fpr,
    verify_by_backdoor,
)
from unlearn.errors import InputError

FEW = st.lists(st.integers(0, 8), min_size=10, max_size=25)


def normal(seed: int, n: int, m: int, shift: float) -> Sample:
    random = np.random.default_rng(seed)
    return sample_of(random.normal(shift, 1, n), random.normal(0, 1, m), "m")


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def misses(estimator: Callable[[int], Estimate], truth: float, times: int) -> int:
    """How many of so many intervals do not hold the truth."""
    return sum(not holds(estimator(seed), truth) for seed in range(times))


@given(FEW, FEW)
def test_the_auc_is_the_share_of_ordered_pairs(inside: list[int], outside: list[int]) -> None:
    members, others = np.array(inside, dtype=float), np.array(outside, dtype=float)
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    found = auc(sample_of(members, others, "m"))
    assert found.value == pytest.approx(np.mean(pairs))
    assert holds(found, found.value or 0)
    turned = auc(sample_of(-members, -others, "m"))
    assert turned.value == pytest.approx(1 - np.mean(pairs))
    assert turned.low == pytest.approx(1 - found.high)


@given(FEW, FEW)
def test_every_figure_depends_on_the_order_of_scores_alone(inside: list[int], outside: list[int]) -> None:
    one = sample_of(np.array(inside, dtype=float), np.array(outside, dtype=float), "m")
    other = sample_of(np.exp(one.members), np.exp(one.non_members), "m")
    assert measure("loss", one) == measure("loss", other)


def test_delong_is_its_definition() -> None:
    sample = normal(0, 30, 40, 1.0)
    psi = np.array([[(a > b) + 0.5 * (a == b) for b in sample.non_members] for a in sample.members])
    variance = psi.mean(1).var(ddof=1) / 30 + psi.mean(0).var(ddof=1) / 40
    theta = psi.mean()
    half = norm.ppf(0.975) * math.sqrt(variance) / (theta * (1 - theta))
    expected = [1 / (1 + math.exp(-(math.log(theta / (1 - theta)) + sign * half))) for sign in (-1, 1)]
    found = auc(sample)
    assert [found.low, found.high] == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "n", "m"), [(0.0, 60, 60), (1.0, 40, 80), (2.0, 100, 50)])
def test_the_interval_of_the_auc_covers(shift: float, n: int, m: int) -> None:
    truth = float(norm.cdf(shift / math.sqrt(2)))
    wrong = misses(lambda seed: auc(normal(seed, n, m, shift)), truth, 600)
    assert binomtest(wrong, 600, 0.05, "greater").pvalue > 0.001
    assert wrong > 5  # and it is not simply wide


def test_a_perfect_attack_has_an_interval_all_the_same() -> None:
    found = auc(sample_of(np.arange(20) + 100.0, np.arange(30.0), "m"))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    found = auc(sample_of(np.arange(20.0), np.arange(30) + 100.0, "m"))
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))
    # True AUC 0.995 with 12 of each: AUC 1 is seen often, and a point interval would miss.
    shift = float(norm.ppf(0.995) * math.sqrt(2))
    assert misses(lambda seed: auc(normal(seed, 12, 12, shift)), 0.995, 400) <= 40


def test_scores_that_are_all_alike_say_nothing() -> None:
    found = auc(sample_of(np.zeros(50), np.zeros(40), "m"))
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - math.sqrt(math.log(40) / 80))
    assert found.high > 0.7


def test_under_the_null_the_auc_lies_in_its_band() -> None:
    low, high = null_band(80, 120)
    assert (low + high) / 2 == 0.5
    assert high - 0.5 == pytest.approx(1.96 * math.sqrt(201 / (12 * 80 * 120)), rel=1e-4)
    outside = sum(not low <= (auc(normal(seed, 80, 120, 0.0)).value or 0) <= high for seed in range(1000))
    assert binomtest(outside, 1000, 0.05).pvalue > 0.001


@given(FEW, FEW, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_the_tpr_is_read_at_most_at_the_rate(inside: list[int], outside: list[int], fpr: float) -> None:
    members, others = np.array(inside, dtype=float), np.array(outside, dtype=float)
    found = tpr_at_fpr(sample_of(members, others, "m"), fpr)
    thresholds = np.arange(-1, 9)
    allowed = [(members > t).mean() for t in thresholds if (others > t).mean() <= fpr + 1e-9]
    assert found.value == max(allowed)
    assert 0 <= found.low <= found.high <= 1


def test_the_tpr_agrees_with_scikit_learn() -> None:
    sample = normal(0, 400, 1000, 1.5)
    fpr, tpr, _ = roc_curve(sample.is_member, sample.scores, drop_intermediate=False)
    for rate in (0.01, 0.1):
        assert tpr_at_fpr(sample, rate).value == tpr[fpr <= rate].max()


@pytest.mark.parametrize(
    ("fpr", "n", "m", "shift"), [(0.01, 300, 800, 2.0), (0.1, 100, 150, 1.0), (0.1, 100, 150, 0.0)]
)
def test_the_interval_of_the_tpr_covers_an_unknown_threshold(fpr: float, n: int, m: int, shift: float) -> None:
    truth = float(norm.sf(norm.isf(fpr) - shift))
    assert misses(lambda seed: tpr_at_fpr(normal(seed, n, m, shift), fpr), truth, 400) <= 20


@pytest.mark.parametrize(("fpr", "m"), [(0.01, 800), (0.1, 150), (0.3, 40), (0.1, 40), (0.9, 40)])
def test_the_interval_of_the_tpr_is_its_definition(fpr: float, m: int) -> None:
    # The highest rank that too few exceed by chance, the lowest that too many do, tried one after another.
    sample = normal(3, 60, m, 1.0)
    outside = sorted(sample.non_members, reverse=True)
    above = [i for i in range(1, m + 1) if binom.cdf(i - 1, m, fpr) <= 0.0125]
    below = [i for i in range(1, m + 1) if binom.sf(i - 1, m, fpr) <= 0.0125]
    low, high = 0.0, 1.0
    if above:
        count = int((sample.members > outside[max(above) - 1]).sum())
        low = binomtest(count, 60).proportion_ci(0.975, "exact").low
    if below:
        count = int((sample.members > outside[min(below) - 1]).sum())
        high = binomtest(count, 60).proportion_ci(0.975, "exact").high
    found = tpr_at_fpr(sample, fpr)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_clopper_pearson_at_a_threshold_in_hindsight_does_not_cover() -> None:
    # Why the interval is wider than that of the members alone.
    truth = float(norm.sf(norm.isf(0.01) - 2))

    def naive(seed: int) -> Estimate:
        sample = normal(seed, 300, 800, 2.0)
        return proportion(round((tpr_at_fpr(sample, 0.01).value or 0) * 300), 300)

    assert misses(naive, truth, 400) > 60


def test_scores_with_ties_are_covered_too() -> None:
    # Labels alone: members right with 0.9, others with 0.6. No threshold has a rate of 10 % but "nobody": the TPR is 0.
    def draw(seed: int) -> Estimate:
        random = np.random.default_rng(seed)
        right = [(random.random(100) < p).astype(float) for p in (0.9, 0.6)]
        return tpr_at_fpr(sample_of(*right, "m"), 0.1)

    assert misses(draw, 0.0, 50) == 0
    assert draw(0).high < 0.1


def test_too_few_non_members_are_named() -> None:
    assert [non_members_needed(rate) for rate in (0.001, 0.01, 0.1)] == [4380, 437, 42]
    few, enough = (tpr_at_fpr(normal(0, 500, n, 9.0), 0.01) for n in (436, 437))
    assert (few.verdict, few.low, few.value) == ("too few samples", 0.0, 1.0)
    assert "436 non-members; at least 437" in few.note
    assert enough.verdict == "measured"
    assert enough.low > 0.9
    with pytest.raises(InputError, match="false-positive rate"):
        tpr_at_fpr(normal(0, 20, 20, 0), 0.0)


def test_the_largest_advantage_allows_for_every_threshold() -> None:
    sample = normal(0, 50, 70, 1.0)
    gains = [(sample.members > t).mean() - (sample.non_members > t).mean() for t in sample.scores]
    assert largest_advantage(sample).value == pytest.approx(max(gains))
    assert misses(lambda seed: largest_advantage(normal(seed, 50, 50, 0.0)), 0.0, 300) <= 15
    truth = float(norm.cdf(0.5) - norm.cdf(-0.5))
    assert misses(lambda seed: largest_advantage(normal(seed, 50, 50, 1.0)), truth, 300) <= 15


def test_decisions_by_a_rule_cover() -> None:
    rule = Rule((0.5,), "chosen beforehand")
    truth = {"tpr": norm.sf(-0.5), "fpr": norm.sf(0.5)}
    wrong = dict.fromkeys(("tpr", "fpr", "balanced_accuracy", "advantage"), 0)
    for seed in range(400):
        sample = normal(seed, 60, 90, 1.0)
        found = judge(rule.decide(sample))
        hits, alarms = (sample.members > 0.5).mean(), (sample.non_members > 0.5).mean()
        assert found.balanced_accuracy.value == pytest.approx((hits + 1 - alarms) / 2)
        assert found.advantage.value == pytest.approx(hits - alarms)
        gain = truth["tpr"] - truth["fpr"]
        for name, value in (*truth.items(), ("balanced_accuracy", (1 + gain) / 2), ("advantage", gain)):
            wrong[name] += not holds(getattr(found, name), value)
    assert max(wrong.values()) <= 20


def test_a_result_is_json() -> None:
    decisions = Rule((0.5,), "elsewhere").decide(normal(0, 30, 40, 1.0))
    found = measure("loss", normal(0, 30, 40, 1.0), decisions).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["tpr"]["0.001"]["verdict"] == "too few samples"
    assert found["decisions"]["chosen_on"] == "elsewhere"
    assert (found["members"], found["non_members"]) == (30, 40)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.5, 0.99))
def test_a_share_has_clopper_and_pearsons_interval(count: int, more: int, confidence: float) -> None:
    n = count + more
    found = proportion(count, n, confidence)
    if not n:
        assert (found.value, found.low, found.high, found.verdict) == (None, 0, 1, "too few samples")
        return
    expected = binomtest(count, n).proportion_ci(confidence, "exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_mean_covers_and_needs_two() -> None:
    def draw(seed: int) -> Estimate:
        return mean(np.random.default_rng(seed).normal(3, 2, 6))

    wrong = misses(draw, 3.0, 1000)
    assert binomtest(wrong, 1000, 0.05).pvalue > 0.001
    one = mean(np.array([2.0]))
    assert (one.value, one.verdict, one.to_json()["high"]) == (2.0, "too few samples", None)
    with pytest.raises(InputError, match="finite"):
        mean(np.array([1.0, np.nan]))


def test_a_paired_difference_is_one_and_covers() -> None:
    def draw(seed: int) -> Estimate:
        random = np.random.default_rng(seed)
        u = random.random(80)
        first, second = u < 0.8, (u < 0.7) ^ (random.random(80) < 0.05)
        found = paired_difference(first, second)
        assert found.value == pytest.approx(first.mean() - second.mean())
        return found

    truth = 0.8 - (0.7 * 0.95 + 0.3 * 0.05)
    assert misses(draw, truth, 500) <= 25
    same = np.arange(50) < 20
    assert (paired_difference(same, same).value, paired_difference(same, same).high) == (
        0,
        pytest.approx(1 - 0.0125 ** (1 / 50)),
    )
    with pytest.raises(InputError, match="bools of the same records"):
        paired_difference(same, same[:40])


def test_subgroups_say_when_they_are_too_small() -> None:
    random = np.random.default_rng(0)
    groups = np.array(["a"] * 200 + ["b"] * 200 + ["c"] * 40)
    member = np.arange(440) % 2 == 0
    values = random.normal(size=440) + 3 * (member & (groups == "b"))
    sample = Sample(values, member, tuple(range(440)), "m")
    a, b, c = by_group(sample, groups.tolist())
    assert [g.group for g in (a, b, c)] == ["a", "b", "c"]
    assert (c.verdict, c.auc, c.members) == ("too few samples", None, 20)
    assert a.auc is not None
    assert b.auc is not None
    assert b.auc.low > a.auc.high
    assert a.auc.confidence == pytest.approx(0.975)  # two were measured
    rows = groups == "b"
    assert b.auc.value == auc(sample_of(values[rows & member], values[rows & ~member], "m")).value
    json.dumps([one.to_json() for one in (a, b, c)], allow_nan=False)
    with pytest.raises(InputError, match="one group for each of 440"):
        by_group(sample, ["a"])


def test_intervals_of_all_subgroups_hold_together() -> None:
    def all_hold(seed: int) -> bool:
        sample = normal(seed, 160, 160, 0.0)
        found = by_group(sample, [i % 4 for i in range(320)])
        return all(one.auc is not None and holds(one.auc, 0.5) for one in found)

    wrong = sum(not all_hold(seed) for seed in range(300))
    assert binomtest(wrong, 300, 0.05, "greater").pvalue > 0.001


def test_subjects_are_counted_once() -> None:
    random = np.random.default_rng(0)
    subjects = np.repeat(np.arange(60), 10)
    member = subjects < 30
    sample = Sample(random.normal(size=600) + random.normal(0, 2, 60)[subjects], member, tuple(range(600)), "m")
    whole = over_subjects(sample, subjects.tolist())
    assert len(whole) == 60
    assert whole.scores[7] == pytest.approx(sample.scores[70:80].mean())
    assert (whole.is_member == (np.arange(60) < 30)).all()
    assert auc(whole).high - auc(whole).low > 2 * (auc(sample).high - auc(sample).low)
    with pytest.raises(InputError, match="subjects '29'"):
        over_subjects(Sample(sample.scores, np.arange(600) < 295, tuple(range(600)), "m"), subjects.tolist())


def test_a_subject_stands_out_by_its_rank() -> None:
    def draw(seed: int, n: int = 99, extra: float = 0.0) -> Sample:
        random = np.random.default_rng(seed)
        return sample_of(random.normal(size=10) + extra, random.normal(size=n), "m")

    sample = draw(0)
    found = by_subject(sample, list(range(109)))
    for one, score in zip(found, sample.members, strict=True):
        assert one.p_value == (1 + (sample.non_members >= score).sum()) / 100
        assert one.stands_out == (one.p_value <= 0.05)
    assert all(one.p_value == 0.01 for one in by_subject(draw(0, extra=50), list(range(109))))
    alike = by_subject(sample_of(np.zeros(10), np.zeros(99), "m"), list(range(109)))
    assert {one.p_value for one in alike} == {1.0}  # a tie is as high
    # Under the null each subject's test is level 5 %.
    alarms = sum(one.stands_out is True for s in range(100) for one in by_subject(draw(s), list(range(109)))[:1])
    assert alarms <= 13
    few = by_subject(draw(0, n=18), list(range(28)))
    assert {(one.verdict, one.stands_out) for one in few} == {("too few samples", None)}


def outcome(seed: int, forget: float, retain: float, test: float, mia: float, seconds: float = 1.0) -> Outcome:
    random = np.random.default_rng(seed)
    draw = lambda n, p: random.random(n) < p  # noqa: E731
    return Outcome(draw(100, forget), draw(800, retain), draw(300, test), draw(100, mia), seconds)


def test_gaps_are_to_the_retrained_model() -> None:
    unlearned, retrained = outcome(0, 0.9, 1.0, 0.7, 0.4, 2.0), outcome(1, 0.6, 1.0, 0.7, 0.9, 50.0)
    found = gaps(unlearned, retrained)
    assert found.unlearned["ua"] == pytest.approx(1 - unlearned.forget.mean())
    expected = {
        "ua": retrained.forget.mean() - unlearned.forget.mean(),
        "ra": unlearned.retain.mean() - retrained.retain.mean(),
        "ta": unlearned.test.mean() - retrained.test.mean(),
        "mia": unlearned.called_non_member.mean() - retrained.called_non_member.mean(),
    }
    for name, value in expected.items():
        assert found.gaps[name].value == pytest.approx(value)
        assert found.gaps[name].confidence == pytest.approx(0.9875)
    assert found.average_gap.value == pytest.approx(np.mean([abs(value) for value in expected.values()]))
    assert found.average_gap.low > 0.05
    assert found.speed_up == 25
    json.dumps(found.to_json(), allow_nan=False)


def test_the_average_gap_of_a_model_to_itself_is_none() -> None:
    one = outcome(0, 0.6, 1.0, 0.7, 0.9)
    found = gaps(one, one).average_gap
    assert (found.value, found.low) == (0, 0)
    assert found.high > 0


def test_outcomes_are_checked() -> None:
    one = outcome(0, 0.6, 1.0, 0.7, 0.9)
    with pytest.raises(InputError, match="forget must be bool"):
        Outcome(np.zeros(3), one.retain, one.test, one.called_non_member, 1.0)
    with pytest.raises(InputError, match="100 forgotten records, got 50"):
        Outcome(one.forget, one.retain, one.test, one.called_non_member[:50], 1.0)
    with pytest.raises(InputError, match="seconds must be positive"):
        Outcome(one.forget, one.retain, one.test, one.called_non_member, 0.0)


def test_divergences_are_scipys() -> None:
    random = np.random.default_rng(0)
    p, q, r = (random.dirichlet(np.ones(4), 50) for _ in range(3))
    found = divergence(p, q, r)
    assert found.kl.value == pytest.approx(np.mean([entropy(b, a) for a, b in zip(p, q, strict=True)]))

    def js(a: np.ndarray, b: np.ndarray) -> float:
        return float((entropy(a, (a + b) / 2) + entropy(b, (a + b) / 2)) / 2)

    assert found.js.value == pytest.approx(np.mean([js(a, b) for a, b in zip(p, q, strict=True)]))
    assert found.null_js is not None
    assert found.null_js.value == pytest.approx(np.mean([js(a, b) for a, b in zip(r, q, strict=True)]))
    same, apart = divergence(p, p), divergence(np.eye(2)[[0, 0, 0]], np.eye(2)[[1, 1, 1]])
    assert (same.kl.value, same.js.value, same.null_js) == (0, 0, None)
    assert apart.js.value == pytest.approx(math.log(2))
    assert math.isfinite(apart.kl.value or math.inf)
    with pytest.raises(InputError, match="same records and classes"):
        divergence(p, q[:40])


def test_confusions_of_two_classes() -> None:
    labels = np.repeat([0, 1, 2], 20)
    swapped, rows = swap_labels(labels, (0, 2), 0.25, 0)
    assert len(rows) == 10
    assert (swapped[rows] == 2 - labels[rows]).all()
    rest = np.setdiff1d(np.arange(60), rows)
    assert (swapped[rest] == labels[rest]).all()
    found = interclass_confusion(swapped, labels, (0, 2))
    assert (found.first_as_second.value, found.second_as_first.value, found.both.value) == (0.25, 0.25, 0.25)
    assert found.both.low > 0.1
    one_way = interclass_confusion(np.where(labels == 0, 2, labels), labels, (0, 2))
    assert (one_way.first_as_second.value, one_way.second_as_first.value) == (1, 0)
    with pytest.raises(InputError, match="two classes"):
        swap_labels(labels, (1, 1), 0.5, 0)
    with pytest.raises(InputError, match="class 3 has no record"):
        swap_labels(labels, (0, 3), 0.5, 0)


def test_relearning_is_compared_with_a_retrained_model() -> None:
    hidden = np.array([[0.1, 0.5, 0.96, 1.0, 1.0]] * 4)  # 2 steps
    fresh = np.array([[0.1, 0.2, 0.3, 0.6, 0.97]] * 3 + [[0.1, 0.2, 0.3, 0.96, 0.97]])  # 4, 4, 4 and 3 steps
    found = relearning_time(hidden, fresh, original=1.0)
    assert found.unlearned == (2, 2, 2, 2)
    assert found.retrained == (4, 4, 4, 3)
    logs = np.log([3 / 5, 3 / 5, 3 / 5, 3 / 4])
    assert found.ratio.value == pytest.approx(math.exp(logs.mean()))
    assert found.ratio.high < 1
    assert found.ratio.verdict == "measured"
    assert relearning_time(hidden[:2], fresh[:2], 1.0).ratio.verdict == "too few samples"
    never = relearning_time(hidden, fresh * 0.9, 1.0)
    assert (never.retrained, never.ratio.value) == ((None,) * 4, None)
    assert "4 of 4" in never.ratio.note
    assert json.dumps(never.to_json(), allow_nan=False)
    with pytest.raises(InputError, match="between 0 and 1"):
        relearning_time(hidden * 2, fresh, 1.0)


def test_a_backdoor_that_still_works_refutes_deletion() -> None:
    found = verify_by_backdoor(28, 30, without=(10, 100), kept=(95, 100))
    assert found.verdict == "refuted"
    assert found.power > 0.999
    assert verify_by_backdoor(4, 30, without=(10, 100), kept=(95, 100)).verdict == "not refuted"
    blind = verify_by_backdoor(2, 2, without=(10, 100), kept=(95, 100), alpha=0.01)
    assert (blind.verdict, blind.rejects_from, blind.power) == ("not refuted", 3, 0.0)
    with pytest.raises(InputError, match="tested: 5 successes of 3"):
        verify_by_backdoor(5, 3, without=(1, 10), kept=(9, 10))


@given(st.integers(1, 40), st.integers(0, 50), st.integers(0, 50), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_backdoor_test_keeps_its_level(queries: int, chance: int, works: int, alpha: float) -> None:
    one = verify_by_backdoor(0, queries, without=(chance, 50), kept=(works, 50), alpha=alpha)
    upper = binomtest(chance, 50).proportion_ci(1 - alpha, "exact").high
    assert binom.sf(one.rejects_from - 1, queries, upper) <= alpha / 2 + 1e-12
    assert binom.sf(one.rejects_from - 2, queries, upper) > alpha / 2 - 1e-9  # and no lower threshold would
    for successes in (0, queries // 2, queries):
        found = verify_by_backdoor(successes, queries, without=(chance, 50), kept=(works, 50), alpha=alpha)
        assert (found.verdict == "refuted") == (successes >= one.rejects_from) == (found.p_value <= alpha + 1e-12)


def test_all_points_of_a_curve_hold_together() -> None:
    def all_hold(seed: int) -> bool:
        samples = [normal(1000 * seed + look, 60, 60, 0.0) for look in range(5)]
        found = curve("auc", [0, 10, 20, 30, 40], samples, auc)
        assert [point.deleted for point in found.points] == [0, 10, 20, 30, 40]
        assert found.points[0].estimate.confidence == pytest.approx(0.99)
        return all(holds(point.estimate, 0.5) for point in found.points)

    wrong = sum(not all_hold(seed) for seed in range(300))
    assert binomtest(wrong, 300, 0.05, "greater").pvalue > 0.001
    json.dumps(curve("auc", [3], [normal(0, 20, 20, 1)], auc).to_json(), allow_nan=False)
    for deleted in ([], [1, 1], [2, 1], [1]):
        with pytest.raises(InputError, match="increasing numbers"):
            curve("auc", deleted, [normal(0, 20, 20, 1)] * 2, auc)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    for estimator in (auc, largest_advantage):
        with pytest.raises(InputError, match="between 0 and 1"):
            estimator(normal(0, 20, 20, 0), confidence)
    with pytest.raises(InputError, match="between 0 and 1"):
        proportion(1, 2, confidence)


def test_decisions_count_both_kinds() -> None:
    called, member = np.array([True, True, False, False]), np.array([True, False, True, False])
    found = judge(Decisions(called, member, "x"))
    assert (found.tpr.value, found.fpr.value, found.advantage.value) == (0.5, 0.5, 0.0)


def test_degradation_counts_and_averages() -> None:
    found = degradation(np.array([0.9] * 6 + [0.5] * 4), np.array([0.6] * 6 + [0.7] * 4))
    assert found.count.value == 0.6
    assert found.rate.value == pytest.approx(0.6 * 0.3 - 0.4 * 0.2)
    assert found.count.low < 0.5 < found.count.high
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(InputError, match="log-odds"):
        degradation(np.full(10, 2.0), np.full(10, 0.5))
    with pytest.raises(InputError, match="each deleted record"):
        degradation(np.full(10, 0.5), np.full(9, 0.5))


def test_p_values_of_subjects_are_uniform_under_the_null() -> None:
    values = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        sample = sample_of(random.normal(size=10), random.normal(size=99), "m")
        values.append(by_subject(sample, list(range(109)))[0].p_value)
    # On multiples of 1/100: Kolmogorov and Smirnov's test is conservative there.
    assert kstest(values, "uniform").pvalue > 0.001
    assert kstest(np.array(values) ** 2, "uniform").pvalue < 0.001
