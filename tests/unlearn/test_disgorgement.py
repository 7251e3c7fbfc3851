"""Which family of model disgorgement fits: over every situation there is, and in cases with a known answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest

from unlearn.disgorgement import (
    Access,
    Advice,
    Disgorgement,
    Kind,
    Reason,
    Situation,
    Target,
    Trained,
    disgorge,
)
from unlearn.errors import ConfigurationError
from unlearn.methods.guarantee import Guarantee, keeps
from unlearn.plan import Constraints, plan

ACCESSES = [frozenset(some) for size in (1, 2, 3) for some in combinations(Access, size)]


def situations() -> Iterator[Situation]:
    """Every one that makes sense."""
    switches = (False, True)
    everything = product(Trained, ACCESSES, Guarantee, Target, Reason, switches, switches, (None, 2.0), switches)
    for trained, access, least, target, reason, known, convex, epsilon, released in everything:
        if not known and target in {Target.RECORD, Target.SUBJECT}:
            continue
        if trained is Trained.PRIVATE and epsilon is None:
            continue
        yield Situation(trained, access, least, target, reason, known, convex, epsilon, released)


@pytest.fixture(scope="module")
def decided() -> list[tuple[Situation, Disgorgement]]:
    return [(situation, disgorge(situation)) for situation in situations()]


def of(found: Disgorgement, kind: Kind) -> Advice:
    return next(item for item in found.advice if item.kind is kind)


def test_what_is_recommended_keeps_the_situation(decided: list[tuple[Situation, Disgorgement]]) -> None:
    assert len(decided) > 10_000
    for situation, found in decided:
        assert {item.kind for item in found.advice} == set(Kind)
        for item in found.advice:
            assert item.residual
            assert keeps(item.claim, situation.least) or not item.fits
        fitting = [item for item in found.advice if item.fits]
        assert found.recommended == (fitting[0] if fitting else None)


def test_hiding_is_never_called_removal(decided: list[tuple[Situation, Disgorgement]]) -> None:
    for situation, found in decided:
        for item in found.advice:
            assert item.removes == (item.claim is not Guarantee.SUPPRESSION)
        assert not of(found, Kind.OUTPUT).removes
        if found.recommended is not None and situation.reason is Reason.PRIVACY:
            assert found.recommended.removes
        if found.recommended is not None and situation.least is not Guarantee.SUPPRESSION:
            assert found.recommended.removes


def test_hiding_meanwhile_needs_a_model_that_others_do_not_have(
    decided: list[tuple[Situation, Disgorgement]],
) -> None:
    for situation, found in decided:
        if found.meanwhile is not None:
            assert found.meanwhile.kind is Kind.OUTPUT
            assert found.recommended is not found.meanwhile
            assert situation.is_trained
            assert not situation.released
            assert situation.access != {Access.DATA}


def test_nothing_removes_what_nobody_can_find(decided: list[tuple[Situation, Disgorgement]]) -> None:
    for situation, found in decided:
        assert situation.records_known or not any(item.fits and item.removes for item in found.advice)


def test_a_certificate_needs_a_convex_loss(decided: list[tuple[Situation, Disgorgement]]) -> None:
    claims = {(situation.convex, of(found, Kind.SELECTIVE).claim) for situation, found in decided}
    assert (True, Guarantee.CERTIFIED) in claims
    assert (False, Guarantee.CERTIFIED) not in claims


def test_more_access_never_hurts_and_weaker_wishes_are_kept_as_well(
    decided: list[tuple[Situation, Disgorgement]],
) -> None:
    fits = {situation: {item.kind for item in found.advice if item.fits} for situation, found in decided}
    for situation, kinds in fits.items():
        assert kinds <= fits[replace(situation, access=frozenset(Access))]
        for weaker in Guarantee:
            if keeps(situation.least, weaker):
                assert kinds <= fits[replace(situation, least=weaker)]


WHOLE: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (WHOLE, Kind.SELECTIVE),
        ({"least": Guarantee.EXACT}, Kind.COMPARTMENTS),
        ({"least": Guarantee.DP, "epsilon": 2.0}, Kind.PRIVACY),
        ({"least": Guarantee.DP}, None),
        ({"least": Guarantee.CERTIFIED, "convex": True}, Kind.SELECTIVE),
        ({"least": Guarantee.CERTIFIED}, Kind.COMPARTMENTS),
        ({"trained": Trained.NOT_YET}, Kind.COMPARTMENTS),
        ({"least": Guarantee.EXACT, "access": frozenset({Access.WEIGHTS})}, None),
        ({"least": Guarantee.SUPPRESSION}, None),  # a request for deletion
        (
            {"least": Guarantee.SUPPRESSION, "reason": Reason.SECURITY, "access": frozenset({Access.LOGITS})},
            Kind.OUTPUT,
        ),
        ({"least": Guarantee.SUPPRESSION, "reason": Reason.SECURITY, "released": True}, None),
        (
            {
                "least": Guarantee.SUPPRESSION,
                "reason": Reason.USABILITY,
                "released": True,
                "target": Target.FACT,
                "records_known": False,
            },
            Kind.SELECTIVE,
        ),
        ({"least": Guarantee.DP, "epsilon": 2.0, "target": Target.CLASS, "reason": Reason.BIAS}, None),
        ({"target": Target.CLASS, "reason": Reason.BIAS}, Kind.SELECTIVE),
    ],
)
def test_cases_with_a_known_answer(changes: dict[str, Any], kind: Kind | None) -> None:
    found = disgorge(Situation(**changes)).recommended
    assert (None if found is None else found.kind) == kind


def test_prices_and_constraints_are_those_of_the_plan() -> None:
    few = Constraints(records=50_000, subjects=5_000, requests_per_day=3, visits_per_second=4_000)
    many = replace(few, requests_per_day=4_000)
    exact = Situation(least=Guarantee.EXACT)
    for constraints, kind in ((few, Kind.COMPARTMENTS), (many, Kind.RETRAINING)):
        planned = plan(constraints)
        found = disgorge(exact, planned)
        assert found.recommended is not None
        assert found.recommended.kind is kind
        costs = [option.cost for option in planned.options]
        assert [of(found, item).core_hours_per_day for item in (Kind.COMPARTMENTS, Kind.RETRAINING)] == costs
    sums = plan(replace(few, sums=True))
    found = disgorge(exact, sums)
    assert sums.chosen is not None
    assert sums.chosen.family.value == "exact sums"
    assert found.recommended is of(found, Kind.COMPARTMENTS)
    assert found.recommended.core_hours_per_day == sums.chosen.cost
    late = plan(replace(few, effect_hours=0.001))
    (unmet,) = (option.unmet for option in late.options if option.family.value == "retraining")
    assert unmet
    assert of(disgorge(exact, late), Kind.RETRAINING).unmet == unmet


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (WHOLE, Kind.COMPARTMENTS),
        ({"reason": Reason.SECURITY, "target": Target.RECORD}, Kind.COMPARTMENTS),
        ({"reason": Reason.USABILITY}, Kind.SELECTIVE),
        ({"target": Target.CLASS}, Kind.SELECTIVE),  # a plan prices requests of one subject
        ({"access": frozenset({Access.WEIGHTS})}, Kind.SELECTIVE),  # nothing to train on
        ({"convex": True}, Kind.SELECTIVE),  # certified
        ({"trained": Trained.PRIVATE, "epsilon": 2.0}, Kind.PRIVACY),
    ],
)
def test_what_proves_nothing_gives_way_to_what_the_cores_carry(changes: dict[str, Any], kind: Kind) -> None:
    constraints = Constraints(records=50_000, subjects=5_000, requests_per_day=3, visits_per_second=4_000)
    situation = Situation(**changes)
    found = disgorge(situation, plan(constraints))
    assert found.recommended is of(found, kind)
    assert ("prove nothing" in found.why) is (found.recommended.claim is Guarantee.EXACT)
    # Where no design keeps the constraints, nothing exact does.
    none = disgorge(situation, plan(replace(constraints, effect_hours=0.001, store_bytes=1.0, record_bytes=100.0)))
    assert none.recommended is not None
    assert none.recommended.claim is not Guarantee.EXACT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"access": frozenset()}, "access must name at least one"),
        ({"epsilon": -1.0}, "epsilon must be a positive number, not -1"),
        ({"epsilon": float("nan")}, "epsilon must be a positive number, not nan"),
        ({"trained": Trained.PRIVATE}, "has an ε: name it"),
        ({"records_known": False}, "cannot ask for a subject to go"),
    ],
)
def test_situations_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Situation(**changes)
