"""Scores in a common form, and thresholds that refuse to judge what they were chosen on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.audit.attacks import ATTACKS
from unlearn.audit.attacks.base import (
    Sample,
    best_threshold,
    calibrate,
    calibrate_per_group,
    confidence,
    confidence_of_logits,
    sample_of,
)
from unlearn.errors import InputError


def scores(seed: int, n: int = 20, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(shift, 1, n), random.normal(0, 1, n)


def test_every_attack_has_a_card() -> None:
    assert len(ATTACKS) == 23
    for name, attack in ATTACKS.items():
        assert name == attack.card.name
        assert attack.card.title
        assert all(attack.card.needs)
        assert "arXiv" in attack.card.citation
        assert callable(attack.function)
    assert [name for name, attack in ATTACKS.items() if attack.card.purpose == "release risk"] == ["update_leakage"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(value: float) -> None:
    members, others = scores(0)
    members[3] = value
    with pytest.raises(InputError, match="1 of 40 scores are NaN or infinite"):
        sample_of(members, others, "m")


def test_a_record_on_both_sides_is_refused() -> None:
    members, others = scores(0)
    with pytest.raises(InputError, match="'a7' are given as members and as non-members"):
        sample_of(members, others, "m", member_ids=[f"a{i}" for i in range(20)], non_member_ids=["a7", *range(19)])


def test_a_record_given_twice_is_refused() -> None:
    members, others = scores(0)
    with pytest.raises(InputError, match="given twice"):
        sample_of(members, others, "m", member_ids=["a", "a", *range(18)])


@pytest.mark.parametrize(("members", "others"), [(9, 20), (20, 9), (0, 20)])
def test_too_few_samples_are_refused(members: int, others: int) -> None:
    with pytest.raises(InputError, match="too few to say anything"):
        sample_of(np.arange(members, dtype=float), np.arange(others, dtype=float), "m")


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(InputError, match="is_member must be bool"):
        Sample(np.zeros(20), np.arange(20) % 2, tuple(range(20)), "m")
    with pytest.raises(InputError, match="19 record ids"):
        Sample(np.zeros(20), np.arange(20) < 10, tuple(range(19)), "m")
    with pytest.raises(InputError, match="must be numbers"):
        Sample(np.array(["a"] * 20), np.arange(20) < 10, tuple(range(20)), "m")


def test_a_threshold_does_not_judge_what_it_was_chosen_on() -> None:
    sample = sample_of(*scores(0), "m")
    rule = calibrate(sample)
    with pytest.raises(InputError, match="chosen on scores that it is to judge"):
        rule.decide(sample)
    # One record in common is one too many; another model's scores of the same records are others.
    overlapping = sample_of(*scores(1), "m", member_ids=["member-0", *(f"new-{i}" for i in range(19))])
    with pytest.raises(InputError, match="member-0"):
        rule.decide(overlapping)
    decisions = rule.decide(sample_of(*scores(1), "another model"))
    assert decisions.called.dtype == np.bool_
    assert decisions.chosen_on == "20 members and 20 non-members under model 'm'"


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
)
def test_the_best_threshold_is_the_best_of_all(inside: list[int], outside: list[int]) -> None:
    members, others = np.array(inside, dtype=float), np.array(outside, dtype=float)

    def gain(threshold: float) -> float:
        return float((members > threshold).mean() - (others > threshold).mean())

    best = max(gain(t) for t in np.arange(-0.5, 7, 0.5))
    assert gain(best_threshold(members, others)) == pytest.approx(max(best, 0))


def test_neighbouring_numbers_are_told_apart() -> None:
    low = 1.0
    high = np.nextafter(low, 2)
    threshold = best_threshold(np.array([high]), np.array([low]))
    assert low <= threshold < high


def test_thresholds_by_group_are_those_of_each_group() -> None:
    random = np.random.default_rng(0)
    groups = np.arange(120) % 3
    member = np.arange(120) % 2 == 0
    values = random.normal(size=120) + member + 5 * groups
    rule = calibrate_per_group(Sample(values, member, tuple(range(120)), "shadow"), groups, 3)
    for group, threshold in enumerate(rule.thresholds):
        rows = groups == group
        assert threshold == best_threshold(values[rows & member], values[rows & ~member])
    other = Sample(values + 0.1, member, tuple(range(120)), "target")
    assert (rule.decide(other, groups).called == (values + 0.1 > np.array(rule.thresholds)[groups])).all()
    with pytest.raises(InputError, match="thresholds for 0 to 2"):
        rule.decide(other, groups + 1)
    with pytest.raises(InputError, match="group 3 has 0 members"):
        calibrate_per_group(other, groups, 4)


def test_confidence_is_the_logit_of_the_probability() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (4, 50, 6))
    labels = random.integers(0, 6, 50)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for model, row in itertools.product(range(4), range(50)):
        own = p[model, row, labels[row]]
        expected = np.log(own / (1 - own))
        assert confidence(p, labels)[model, row] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert confidence_of_logits(logits, labels)[model, row] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_saturated_confidence_keeps_its_digits() -> None:
    # ln(p / (1 - p)) of p = 1 - 1e-20 is infinite in float64.
    assert confidence(np.array([[1.0, 1e-20]]), np.array([0]))[0] == pytest.approx(np.log(1e20))
    assert confidence_of_logits(np.array([[800.0, -800.0]]), np.array([0]))[0] == 1600


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[0.5, 0.6]], [0], "were logits given"),
        ([[-0.1, 1.1]], [0], "were logits given"),
        ([[np.nan, 1.0]], [0], "NaN"),
        ([[0.5, 0.5]], [2], "classes 0 to 1"),
        ([[0.5, 0.5]], [0, 1], "one a record"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[1.0]], [0], "two classes or more"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities: list[list[float]], labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        confidence(np.array(probabilities), np.array(labels))
