"""Plans: the cheapest design that keeps the constraints, by trying all; predictions against the simulated desk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.cost_expected import expected_recovery, spread_over
from shards.placement import Region
from unlearn.cli.output import to_plain
from unlearn.errors import ConfigurationError
from unlearn.plan import (
    PAYS,
    SLICES,
    Constraints,
    Design,
    Family,
    Option,
    Plan,
    Risk,
    interpolated_accuracy,
    placements,
    plan,
    predict,
    rehearse,
    risk_classes,
    spelled,
    work_of,
)

CURVE = ((100, 0.88), (1, 0.95), (20, 0.93))
SMALL = Constraints(
    records=50_000,
    requests_per_day=3,
    visits_per_second=4_000,
    subjects=5_000,
    deadline_hours=24,
    accuracy=CURVE,
    worst_accuracy=0.92,
    cores=2,
    epochs=20,
)
HUGE = Constraints(
    records=10**9,
    requests_per_day=10**6,
    visits_per_second=10**6,
    subjects=2 * 10**8,
    risks=(Risk(0.05, 0.7),),
    deadline_hours=72,
    cores=64,
    epochs=3,
)


def the(found: Plan, family: Family) -> Option:
    (option,) = (option for option in found.options if option.family is family)
    return option


def test_the_recommendation_is_the_cheapest_that_keeps_the_constraints() -> None:
    found = plan(SMALL)
    assert found.chosen is the(found, Family.SHARDED)
    assert found.sharding_pays
    costs = {}
    # 25 shards are measured to be too bad, on a line over log S between 20 and 100.
    for shards, slices, hours in product((1, 2, 5, 10, 20), SLICES, (0.25, 0.5, 1, 2, 4, 8, 12, 22)):
        predicted = predict(SMALL, Family.SHARDED, Design(shards, slices, hours))
        latest = max(hours, predicted.recovery_hours) + predicted.recovery_hours
        if latest <= 24 and predicted.recovering <= 1 and predicted.behind <= 0.5 and shards * slices > 1:
            costs[shards, slices, hours] = predicted.compute_hours_per_day
    assert found.chosen.design == Design(*min(key for key in costs if costs[key] <= 1.02 * min(costs.values())))
    assert found.chosen.accuracy == pytest.approx(0.93)
    retrained = the(found, Family.RETRAINING)
    assert found.chosen.cost < PAYS * retrained.cost
    assert "Sharding pays" in " ".join(found.reasons)
    # Of each number of shards, the best is listed, those that are not accurate enough among them.
    listed = {option.design.shards: option for option in found.by_shards}
    assert sorted(listed) == [1, 2, 5, 10, 20, 50, 100]
    assert listed[20] == found.chosen
    assert [count for count, option in listed.items() if not option.fits] == [50, 100]
    for count, option in listed.items():
        cheapest = min((cost for (shards, _, _), cost in costs.items() if shards == count), default=option.cost)
        assert option.cost <= 1.02 * cheapest


@pytest.mark.parametrize(
    "constraints", [SMALL, replace(SMALL, risks=(Risk(0.1, 0.8), Risk(0.2, 0.1)), requests_per_day=9)]
)
def test_predictions_come_true_on_the_simulated_desk(constraints: Constraints) -> None:
    # Over a time in which few of the subjects leave, as the prediction takes it.
    many = replace(constraints, records=500_000, subjects=500_000, visits_per_second=40_000)
    for option in plan(many).options:
        found = rehearse(many, option, days=300, seed=1)
        predicted = option.predicted
        assert found.visits_per_day == pytest.approx(predicted.visits_per_day, rel=0.08)
        assert found.utilisation == pytest.approx(predicted.utilisation, rel=0.08)
        assert found.of_retraining == pytest.approx(predicted.of_retraining, rel=0.08)
        assert found.behind <= predicted.behind * 1.05
        assert found.p99_hours <= predicted.latest_hours
        assert found.late == 0


SKEWED = replace(SMALL, risks=(Risk(0.05, 0.8),))


def test_a_deadline_is_kept_for_whoever_asks_however_rarely_that_is() -> None:
    """A request in three months, and a training of 28 hours: most windows ask for nothing, the others for all of it."""
    rare = Constraints(records=10_000_000, requests_per_day=0.01, visits_per_second=1000.0, deadline_hours=72.0)
    (retrained,) = (option for option in plan(rare).options if option.family is Family.RETRAINING)
    assert retrained.predicted.recovery_hours == pytest.approx(retrained.predicted.training_hours, rel=1e-3)
    assert retrained.predicted.recovery_hours < retrained.predicted.latest_hours <= 72
    daily = replace(retrained, design=Design(1, 1, 24.0))
    predicted, found = predict(rare, Family.RETRAINING, daily.design), rehearse(rare, daily, days=30_000)
    assert found.requests > 200
    assert found.p99_hours <= predicted.latest_hours
    assert found.behind <= predicted.behind * 1.1
    assert found.late == 0
    soon = plan(replace(rare, deadline_hours=1.0))
    assert any("the deadline is 60 min" in why for why in soon.options[-1].unmet)


def test_who_asks_often_is_kept_apart_where_that_is_cheaper() -> None:
    found = plan(SKEWED)
    best = the(found, Family.SHARDED)
    said = " ".join(found.reasons)
    assert best.design.regions
    assert "keeps those who ask often apart" in said
    alike = the(plan(SMALL), Family.SHARDED)
    assert best.cost < 0.8 * alike.cost
    assert f"{best.cost / alike.cost:.2g} times the work of the best one with everybody anywhere" in said
    for name in ("class1", "others"):
        assert f"--risk-class {name}:" in found.switching
    # Nobody asks more than others: nothing is to be gained.
    even = plan(replace(SMALL, risks=(Risk(0.3, 0.3),)))
    assert not the(even, Family.SHARDED).design.regions
    assert "Risk classes change next to nothing" in " ".join(even.reasons)


def test_the_placement_there_is_can_be_named() -> None:
    apart = (Region(range(1)), Region(range(1, 20)))
    found = plan(replace(SKEWED, current=(20, 5), current_regions=apart)).current
    alike = plan(replace(SKEWED, current=(20, 5))).current
    assert found is not None
    assert alike is not None
    assert found.design.regions == apart
    assert found.cost < 0.8 * alike.cost
    classes = risk_classes(SKEWED)
    expected = expected_recovery(
        spread_over(apart, 20, 5),
        classes,
        found.design.window_hours,
        work_of(SKEWED, Family.SHARDED),
        SKEWED.cores,
    )
    assert found.predicted.visits_per_day == pytest.approx(expected.visits * 24 / found.design.window_hours)


@pytest.mark.parametrize(("shards", "slices"), [(1, 1), (2, 1), (3, 3), (20, 5), (7, 2)])
def test_parts_are_as_large_as_the_classes(shards: int, slices: int) -> None:
    constraints = replace(SMALL, risks=(Risk(0.1, 0.8), Risk(0.3, 0.1)))
    ways = placements(constraints, shards, slices)
    assert len(ways) == (shards >= 3) + (slices >= 3)
    for regions in ways:
        numbers = [region.shards or region.slices for region in regions]
        count = shards if regions[0].shards else slices
        assert sorted(item for part in numbers for item in part) == list(range(count))
        for part, share in zip(numbers, (0.1, 0.3, 0.6), strict=True):
            assert abs(len(part) - share * count) < 1 or len(part) == 1
        if not regions[0].shards:
            # Who asks most is in the last slices: 0.8 / 0.1, then 0.1 / 0.3, then 0.1 / 0.6.
            assert numbers[0].start > numbers[1].start > numbers[2].start


def test_an_accuracy_is_never_promised_beyond_what_was_measured() -> None:
    lenient = replace(SMALL, worst_accuracy=0.5)
    assert the(plan(lenient), Family.SHARDED).design.shards == 100
    within = the(plan(replace(SMALL, worst_accuracy=0.9)), Family.SHARDED)
    assert (within.design.shards, within.accuracy) == (50, pytest.approx(interpolated_accuracy(CURVE, 50)))
    none = plan(replace(SMALL, worst_accuracy=0.96))
    assert not none.sharding_pays
    assert any("accuracy 0.950 is below 0.960" in text for text in the(none, Family.SHARDED).unmet)


def test_accuracy_lies_on_a_line_over_the_logarithm() -> None:
    assert interpolated_accuracy(CURVE, 1) == 0.95
    assert interpolated_accuracy(CURVE, 100) == pytest.approx(0.88)
    assert interpolated_accuracy([(4, 0.9), (16, 0.8)], 8) == pytest.approx(0.85)
    assert interpolated_accuracy([(7, 0.9)], 7) == 0.9
    for shards in (101, 0):
        with pytest.raises(ConfigurationError, match="outside of what was measured"):
            interpolated_accuracy(CURVE, shards)


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0, "0 s"),
        (1 / 3600, "1 s"),
        (0.5, "30 min"),
        (22, "22 h"),
        (45.5, "45.5 h"),
        (48, "2 days"),
        (48_000, "2,000 days"),
    ],
)
def test_hours_are_spelled_in_the_unit_that_suits_them(hours: float, text: str) -> None:
    assert spelled(hours) == text


def test_without_accuracies_few_shards_are_better_than_cheap_ones() -> None:
    unknown = replace(SMALL, accuracy=(), worst_accuracy=None)
    found = plan(unknown)
    assert found.chosen is not None
    assert "No accuracies were given" in " ".join(found.reasons)
    fewer = [count for count in (1, 2, 5, 10, 20) if count < found.chosen.design.shards]
    bound = PAYS * the(found, Family.RETRAINING).cost
    for shards, slices, hours in product(fewer, SLICES, (0.25, 0.5, 1, 2, 4, 8, 12, 22)):
        if shards * slices > 1:
            predicted = predict(unknown, Family.SHARDED, Design(shards, slices, hours))
            assert predicted.compute_hours_per_day > bound or predicted.behind > 0.5


def test_where_a_million_ask_every_day_sharding_cannot_pay() -> None:
    found = plan(HUGE)
    assert not found.sharding_pays
    assert "Sharding cannot pay" in " ".join(found.reasons)
    assert found.chosen is the(found, Family.RETRAINING)
    assert "keeps those who ask often apart" in " ".join(found.reasons)
    assert "still holds the data of those who asked" in " ".join(found.reasons)
    exact = plan(replace(HUGE, sums=True))
    assert exact.chosen is the(exact, Family.SUMS)
    assert "Exact sums fit the task" in " ".join(exact.reasons)
    assert exact.chosen.cost < the(exact, Family.SHARDED).cost
    assert exact.chosen.accuracy is None


def test_exact_sums_are_preferred_and_their_price_is_named() -> None:
    """They cost no accuracy and take effect at once, so that they need not save work; only cheaper shards beat them."""
    slow = plan(replace(SMALL, sums=True, deadline_hours=720, seconds_per_step=200, requests_per_day=100))
    assert slow.chosen is the(slow, Family.SUMS)
    assert slow.chosen.cost > the(slow, Family.RETRAINING).cost
    assert "more than training everything again" in " ".join(slow.reasons)
    usual = plan(replace(SMALL, sums=True))
    assert usual.chosen is the(usual, Family.SUMS)
    assert "more than" not in " ".join(usual.reasons)


def test_slices_save_nothing_where_every_step_trains_from_nothing() -> None:
    found = plan(replace(SMALL, refits=True))
    assert found.chosen is the(found, Family.SHARDED)
    assert (found.chosen.design.shards, found.chosen.design.slices) == (20, 1)
    sliced = predict(replace(SMALL, refits=True), Family.SHARDED, replace(found.chosen.design, slices=5))
    assert sliced.visits_per_day > found.chosen.predicted.visits_per_day


def test_retraining_is_no_answer_where_requests_must_take_effect_soon() -> None:
    relaxed = replace(SMALL, deadline_hours=720, most_behind=0.2)
    slow = plan(relaxed)
    assert slow.chosen is the(slow, Family.RETRAINING)
    found = plan(replace(relaxed, effect_hours=0.01))
    assert found.chosen is the(found, Family.SHARDED)
    assert any("36 s are allowed" in text for text in the(found, Family.RETRAINING).unmet)


def test_nothing_exact_keeps_the_constraints() -> None:
    found = plan(replace(HUGE, effect_hours=0.1, worst_accuracy=0.9, accuracy=((1, 0.95), (20, 0.9))))
    assert (found.chosen, found.switching) == (None, "")
    assert "does not keep the constraints either" in " ".join(found.reasons)
    # What is not exact is named with what it is.
    assert [(other.family, other.guarantee) for other in found.alternatives] == [
        (Family.CERTIFIED, "certified(ε, δ)"),
        (Family.APPROXIMATE, "empirical"),
    ]
    assert {option.guarantee for option in found.options} == {"exact"}


def test_room_for_checkpoints_and_records_bounds_the_design() -> None:
    sized = replace(SMALL, record_bytes=1_000, checkpoint_bytes=1e6)
    free = the(plan(sized), Family.SHARDED)
    assert free.predicted.store_bytes == 5e7 + free.design.shards * free.design.slices * 1e6
    tight = the(plan(replace(sized, store_bytes=5e7 + 25e6)), Family.SHARDED)
    assert tight.design.shards * tight.design.slices <= 25 < free.design.shards * free.design.slices
    wide = the(plan(replace(sized, memory_bytes=4e6)), Family.SHARDED)
    assert any("workers need" in text for text in wide.unmet)


def test_switching_is_declared_as_making_another_workspace() -> None:
    other = plan(replace(SMALL, current=(4, 2)))
    assert other.chosen is not None
    assert other.current is not None
    assert (other.current.design.shards, other.current.design.slices) == (4, 2)
    assert other.current.cost > other.chosen.cost
    design = other.chosen.design
    assert f"unlearn create RUN --learner … --shards {design.shards} --slices {design.slices}" in other.switching
    for text in ("never change", "ingest all records again", "delete the old one"):
        assert text in other.switching
    same = plan(replace(SMALL, current=(design.shards, design.slices)))
    assert "only the window" in same.switching


def test_risk_classes_hold_all_subjects_and_all_requests() -> None:
    classes = risk_classes(replace(SMALL, risks=(Risk(0.1, 0.8), Risk(0.2, 0.1))))
    assert [group.subjects for group in classes] == [500, 1000, 3500]
    assert [group.subjects * group.rate * 24 for group in classes] == pytest.approx([2.4, 0.3, 0.3])
    assert {group.records for group in classes} == {10}
    assert len(risk_classes(replace(SMALL, risks=(Risk(0.5, 0.9), Risk(0.5, 0.1))))) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"records": 0}, "records"),
        ({"records": 1, "subjects": 1, "requests_per_day": 1.0}, "at least 2"),
        ({"accuracy": ((6000, 0.9),)}, "measure one with fewer"),
        ({"requests_per_day": 0.0}, "requests_per_day"),
        ({"visits_per_second": float("inf")}, "visits_per_second"),
        ({"deadline_hours": -1.0}, "deadline_hours"),
        ({"effect_hours": 0.0}, "effect_hours"),
        ({"cores": 0}, "cores"),
        ({"epochs": float("nan")}, "epochs"),
        ({"subjects": 50_001}, "subjects"),
        ({"requests_per_day": 5_001.0}, "each asks once"),
        ({"most_behind": 0.0}, "most_behind"),
        ({"worst_accuracy": None}, "belong together"),
        ({"accuracy": ()}, "belong together"),
        ({"accuracy": ((1, 0.9), (1, 0.8))}, "distinct"),
        ({"risks": (Risk(0.6, 0.1), Risk(0.6, 0.1))}, "subjects of all risk classes"),
        ({"risks": (Risk(0.1, 0.6), Risk(0.1, 0.6))}, "requests of all risk classes"),
        ({"risks": (Risk(0.0, 0.6),)}, "a share of the subjects above 0"),
        ({"risks": (Risk(1.0, 0.6),)}, "not all requests"),
        ({"cores": 1.5}, "cores must be a whole number"),
        ({"records": 50_000.5}, "records must be a whole number"),
        ({"subjects": 2.5}, "subjects must be a whole number"),
        ({"seconds_per_step": -1.0}, "seconds_per_step must be"),
        ({"seconds_per_step": float("inf")}, "seconds_per_step must be"),
        ({"record_bytes": float("nan")}, "record_bytes must be"),
        ({"store_bytes": float("nan")}, "store_bytes must be"),
        ({"memory_bytes": -1.0}, "memory_bytes must be"),
        ({"worst_accuracy": float("nan")}, "accuracies must be numbers"),
        ({"accuracy": ((1, 0.9), (20, float("nan")))}, "accuracies must be numbers"),
        ({"accuracy": ((1.5, 0.9),)}, "distinct numbers of shards"),
        ({"current_regions": (Region(), Region())}, "places 2 risk classes"),
        ({"current": (20, 5), "current_regions": (Region(), Region())}, "places 2 risk classes"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(SMALL, **wrong)


@settings(max_examples=25)
@given(
    records=st.integers(2, 10**9),
    people=st.floats(0, 1),
    asking=st.floats(1e-9, 1),
    deadline=st.sampled_from([1e-3, 0.3, 5.0, 72.0, 9999.0]),
    speed=st.sampled_from([1e-2, 1e3, 1e7]),
    behind=st.sampled_from([1e-6, 0.3, 1.0]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_whatever_the_constraints_a_recommendation_keeps_them(
    records: int, people: float, asking: float, deadline: float, speed: float, behind: float, flags: tuple[bool, ...]
) -> None:
    subjects = max(round(people * records), 1)
    found = plan(
        Constraints(
            records=records,
            subjects=subjects,
            requests_per_day=max(asking * subjects, 1e-9),
            visits_per_second=speed,
            deadline_hours=deadline,
            effect_hours=deadline / 2 if flags[0] else None,
            most_behind=behind,
            accuracy=((1, 0.9), (30, 0.8)) if flags[1] else (),
            worst_accuracy=0.85 if flags[1] else None,
            sums=flags[2],
            current=(3, 2),
        )
    )
    json.dumps(to_plain(found), allow_nan=False)  # every figure is a number
    assert found.reasons
    fitting = [option for option in found.options if option.fits]
    if found.chosen is None:
        assert not [option for option in fitting if option.family is not Family.SHARDED]
        assert not found.sharding_pays
        return
    assert found.chosen in fitting
    assert found.chosen.predicted.latest_hours <= deadline
    assert 0 <= found.chosen.predicted.of_retraining <= 1 + 1e-9
    assert found.chosen.family is Family.RETRAINING or found.chosen.predicted.behind <= behind
    assert found.chosen.family is not Family.SHARDED or found.sharding_pays


def test_planning_needs_numpy_alone() -> None:
    script = (
        "import sys, unlearn.plan\n"
        "print(sorted({'torch', 'sklearn', 'pandas', 'scipy', 'pyarrow', 'sqlalchemy', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
