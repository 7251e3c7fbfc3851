"""What the cost functions say against what workspaces report: visits are equal, and the mean is near the expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.cost import batch_fraction
from shards.cost_expected import RiskClass, Work, blind, expected_recovery, spread_over
from shards.cost_realised import Rebuilt, count_records, recovery_cost, training_cost
from shards.placement import Region, place_subjects
from tests.cases import RIDGE, SGD, Case, Record, create, ingest, placed, record
from unlearn.building import BuildReport
from unlearn.declaration import make_secrets

GRID = [
    *((SGD, *design) for design in [(1, 3, 2), (3, 1, 3), (4, 3, 5), (8, 4, 1)]),
    *((RIDGE, *design) for design in [(2, 2, 1), (4, 3, 4)]),
]
"""Learner, S, R, and how many subjects ask together at first; then twice as many."""


def positions(batches: list[list[Record]], n_shards: int, n_slices: int, seed: int) -> np.ndarray:
    """`[n, 2]`: shard and position of every record, batch after batch."""
    parts = []
    for number, batch in enumerate(batches):
        where = placed(batch, n_shards, n_slices, seed)
        parts.append(np.stack([where.shards, number * n_slices + where.slices], axis=1))
    return np.concatenate(parts)


def reported(report: BuildReport) -> Rebuilt:
    return Rebuilt(report.shards, report.steps, report.visits)


@pytest.mark.parametrize(("case", "shards", "slices", "people"), GRID, ids=str)
def test_workspaces_report_the_visits_of_their_layout(
    case: Case, shards: int, slices: int, people: int, tmp_path: Path
) -> None:
    """Two batches; subjects with records in both ask, twice as many together as before, and one single record."""
    seed = 1000 + 10 * shards + slices
    owners = [f"person {i % 23}" for i in range(70)]
    batches = [[record(i, owners[i]) for i in range(50)], [record(i, owners[i]) for i in range(50, 70)]]
    everybody = [item for batch in batches for item in batch]
    where = positions(batches, shards, slices, seed)
    workspace = create(tmp_path / "run", case, shards, slices, random_state=seed)
    for batch in batches:
        ingest(workspace, case, batch)
    budget = workspace._site.learner.budget
    records = count_records(shards, 2 * slices, where)
    assert reported(workspace.train()) == training_cost(records, slices, budget)

    here = np.ones(len(everybody), dtype=bool)
    single = everybody[3]
    for leaving in ({f"person {i}" for i in range(people)}, {f"person {i}" for i in range(people, 3 * people)}):
        asked = np.array([item.subject in leaving for item in everybody]) & here
        if single.subject not in leaving and here[3]:
            workspace.forget(record_ids=[single.id])
            asked[3] = True
        first, *others = sorted(leaving)  # two requests, recovered together
        workspace.forget(subjects=[first])
        if others:
            workspace.forget(subjects=others)
        gone = where[asked]
        assert reported(workspace.recover()) == recovery_cost(records, gone, slices, budget)
        records = records - count_records(shards, 2 * slices, gone)
        here &= ~asked
    workspace.close()


PEOPLE = 60
RECORDS = 2


@pytest.mark.parametrize(("shards", "slices", "requests"), [(4, 1, 3), (5, 4, 2), (3, 3, 6)])
def test_the_expected_cost_is_near_the_mean_over_placements(shards: int, slices: int, requests: int) -> None:
    """By real keys, for so many requests, and for as many on average; the exact cost stands in for workspaces."""
    names = [f"person {i}" for i in range(PEOPLE)]
    learner = SGD.make()

    def cost(seed: int, asked: np.ndarray) -> tuple[int, int]:
        where = np.stack(place_subjects(make_secrets(seed).placement, names, shards, slices), axis=1)
        records = count_records(shards, slices, np.repeat(where, RECORDS, axis=0))
        gone = np.repeat(where[asked], RECORDS, axis=0)
        left = records - count_records(shards, slices, gone)
        again = recovery_cost(records, gone, slices, learner.budget)
        return again.visits, training_cost(left, slices, learner.budget).visits

    visits, training = np.mean([cost(seed, np.arange(requests)) for seed in range(600)], axis=0)
    assert visits == pytest.approx(training * batch_fraction(shards, slices, requests), rel=0.05)

    rng = np.random.default_rng(0)
    share = requests / PEOPLE
    visits, _ = np.mean([cost(seed, rng.random(PEOPLE) < share) for seed in range(600)], axis=0)
    classes, work = [RiskClass(PEOPLE, -np.log1p(-share), RECORDS)], Work(epochs=learner.params()["epochs"])
    found = expected_recovery(blind(shards, slices), classes, 1.0, work, 1)
    assert found.requests == pytest.approx(requests)
    assert visits == pytest.approx(found.visits, rel=0.1)


def test_workspaces_cost_what_is_expected_on_average(tmp_path: Path) -> None:
    """Three placements, and in each six times two subjects of two records; what is left to train on gets less."""
    shards, slices, requests, people = 3, 2, 2, 90
    visits, expected = 0, 0.0
    for seed in range(3):
        workspace = create(tmp_path / str(seed), SGD, shards, slices, random_state=seed)
        ingest(workspace, SGD, [record(i, f"person {i // 2}") for i in range(2 * people)])
        workspace.train()
        left = 2 * people
        for turn in range(6):
            workspace.forget(subjects=[f"person {requests * turn + i}" for i in range(requests)])
            left -= 2 * requests
            visits += workspace.recover().visits
            expected += left * SGD.make().params()["epochs"] * batch_fraction(shards, slices, requests)
        workspace.close()
    assert visits == pytest.approx(expected, rel=0.1)


GUESTS, MEMBERS = 12, 48
OWNED = 20
LAYOUT = (5, 4)
APART = {
    "shards": {"guest": Region(range(1)), "member": Region(range(1, 5))},
    "slices": {"guest": Region(None, range(3, 4)), "member": Region(None, range(3))},
    "both": {"guest": Region(range(1, 2), range(2, 4)), "member": Region()},
}
"""Ways to keep guests apart, a fifth of all people, who make four fifths of the requests."""

NAMES = [*(f"guest {i}" for i in range(GUESTS)), *(f"member {i}" for i in range(MEMBERS))]


def risk(subject: str) -> str:
    return subject.split()[0]


def ask(rng: np.random.Generator) -> np.ndarray:
    """Who asks in a window, `[people]` bool: two guests and half a member on average."""
    return rng.random(GUESTS + MEMBERS) < np.repeat([2 / GUESTS, 0.5 / MEMBERS], [GUESTS, MEMBERS])


def laid_out(seed: int, risk_classes: dict[str, Region] | None) -> np.ndarray:
    """`[people, 2]`: shard and slice of everybody."""
    regions = None if risk_classes is None else [risk_classes[risk(name)] for name in NAMES]
    return np.stack(place_subjects(make_secrets(seed).placement, NAMES, *LAYOUT, regions), axis=1)


@pytest.mark.parametrize("way", APART)
def test_keeping_apart_who_asks_often_saves_what_is_predicted(way: str) -> None:
    """The mean over placements of the exact cost, with classes and without, for the same requests.

    Everybody owns enough records for the rounding of budgets not to matter.
    """
    shards, slices = LAYOUT
    learner = SGD.make()
    classes = [
        RiskClass(GUESTS, -np.log1p(-2 / GUESTS), OWNED),
        RiskClass(MEMBERS, -np.log1p(-0.5 / MEMBERS), OWNED),
    ]
    work = Work(epochs=learner.params()["epochs"])
    means, predicted = [], []
    for risk_classes in (None, APART[way]):
        rng = np.random.default_rng(0)
        visits = []
        for seed in range(800):
            where, asked = laid_out(seed, risk_classes), ask(rng)
            records = count_records(shards, slices, np.repeat(where, OWNED, axis=0))
            gone = np.repeat(where[asked], OWNED, axis=0)
            visits.append(recovery_cost(records, gone, slices, learner.budget).visits)
        means.append(np.mean(visits))
        spread = blind(*LAYOUT, 2) if risk_classes is None else spread_over(list(risk_classes.values()), *LAYOUT)
        predicted.append(expected_recovery(spread, classes, 1.0, work, 1).visits)
    assert means == pytest.approx(predicted, rel=0.1)
    assert predicted[1] < 0.75 * predicted[0]
    assert means[1] < 0.75 * means[0]


def test_workspaces_that_keep_apart_who_asks_often_make_fewer_visits(tmp_path: Path) -> None:
    """The same people and requests: each workspace makes exactly the visits of its layout, and those fall."""
    shards, slices = LAYOUT
    totals = []
    for number, risk_classes in enumerate((None, APART["shards"])):
        workspace = create(tmp_path / str(number), SGD, shards, slices, random_state=7, risk_classes=risk_classes)
        owners = [name for name in NAMES for _ in range(RECORDS)]
        batch = [record(row, owner) for row, owner in enumerate(owners)]
        ingest(workspace, SGD, batch, risk=None if risk_classes is None else risk)
        budget = workspace._site.learner.budget
        where = laid_out(7, risk_classes)
        records = count_records(shards, slices, np.repeat(where, RECORDS, axis=0))
        assert reported(workspace.train()) == training_cost(records, slices, budget)
        here, rng, visits = np.ones(len(NAMES), dtype=bool), np.random.default_rng(1), 0
        for _ in range(4):
            asked = ask(rng) & here
            if asked.any():
                workspace.forget(subjects=[name for name, one in zip(NAMES, asked, strict=True) if one])
            gone = np.repeat(where[asked], RECORDS, axis=0)
            report = workspace.recover()
            assert reported(report) == recovery_cost(records, gone, slices, budget)
            records = records - count_records(shards, slices, gone)
            here &= ~asked
            visits += report.visits
        workspace.close()
        totals.append(visits)
    assert here.sum() < len(NAMES) - 4
    assert totals[1] < 0.75 * totals[0]
