"""The simulated desk against one that handles every subject and every request by itself, and against closed forms."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from shards.cost_expected import Chain, RiskClass, Spread, Work, blind, expected_recovery
from shards.cost_realised import count_records, recovery_cost, training_cost
from shards.learners.base import epoch_visits
from unlearn.desk import Desk, Simulated, _longest_first, simulate
from unlearn.errors import ConfigurationError

CLASSES = (RiskClass(3000, 4e-5, records=2.0), RiskClass(400, 8e-4, records=5.0))
WORK = Work(epochs=40, seconds_per_visit=0.002, seconds_per_step=30.0)
DESK = Desk(window_hours=6.0, cores=2, deadline_hours=8.0)


def budget(new: int, records: int, n_slices: int) -> int:
    return epoch_visits(Fraction(WORK.epochs), records, n_slices)


def one_by_one(spread: Spread, classes: Sequence[RiskClass], desk: Desk, days: float, seed: int) -> dict[str, float]:
    """Every subject is placed and asks at a time of its own; chains are counted by the exact cost of their layout."""
    rng = np.random.default_rng(seed)
    n_slices, shards = spread.n_slices, np.repeat(np.arange(len(spread.shards)), spread.shards)
    place, asks, records = [], [], []
    for index, group in enumerate(classes):
        chance = spread.chance[index, shards].ravel()
        place += list(rng.choice(len(chance), size=group.subjects, p=chance / chance.sum()))
        asks += list(rng.exponential(1 / group.rate, group.subjects))
        records += [int(group.records)] * group.subjects
    cell, asked, owned = np.array(place), np.array(asks), np.array(records)
    where = np.stack([cell // n_slices, cell % n_slices], axis=1)
    end_of_all = int(days * 24 / desk.window_hours) * desk.window_hours
    served = np.zeros(len(cell), dtype=bool)
    latencies: list[float] = []
    intervals: list[list[tuple[float, float]]] = [[] for _ in shards]
    free = work_hours = 0.0
    visits = training = 0
    while True:
        waiting = ~served & (asked <= end_of_all)
        if not waiting.any():
            break
        # The first window's end with somebody waiting, or the last one passed when the desk is free.
        first = np.ceil(asked[waiting].min() / desk.window_hours) * desk.window_hours
        close = min(max(first, np.floor(free / desk.window_hours) * desk.window_hours), end_of_all)
        batch = waiting & (asked <= close)
        start = max(close, free)
        before = count_records(len(shards), n_slices, np.repeat(where[~served], owned[~served], axis=0))
        served |= batch
        chains = []
        for shard in np.unique(where[batch, 0]):
            gone = np.repeat(where[batch & (where[:, 0] == shard)], owned[batch & (where[:, 0] == shard)], axis=0)
            cost = recovery_cost(before, gone, n_slices, budget)
            visits += cost.visits
            chains.append(((cost.visits * WORK.seconds_per_visit + cost.steps * WORK.seconds_per_step) / 3600, shard))
        after = count_records(len(shards), n_slices, np.repeat(where[~served], owned[~served], axis=0))
        training += training_cost(after, n_slices, budget).visits
        cores = [start] * desk.cores
        for hours, shard in sorted(chains, reverse=True):
            core = int(np.argmin(cores))
            cores[core] += hours
            work_hours += hours
            intervals[shard].append((asked[batch & (where[:, 0] == shard)].min(), cores[core]))
        free = max(cores)
        latencies += list(free - asked[batch])
    behind = 0.0
    for spans in intervals:
        until = 0.0
        for since, end in sorted(spans):
            behind += max(end - max(since, until), 0)
            until = max(until, end)
    span = max(end_of_all, free)
    return {
        "requests": len(latencies),
        "median_hours": float(np.median(latencies)),
        "p99_hours": float(np.quantile(latencies, 0.99)),
        "late": float(np.mean(np.array(latencies) > desk.deadline_hours)),
        "visits_per_day": visits / span * 24,
        "utilisation": work_hours / desk.cores / span,
        "behind": behind / len(shards) / span,
        "of_retraining": visits / training,
    }


def means(results: Sequence[Simulated]) -> dict[str, float]:
    names = (
        "requests",
        "median_hours",
        "p99_hours",
        "late",
        "visits_per_day",
        "utilisation",
        "behind",
        "of_retraining",
    )
    return {name: float(np.mean([getattr(item, name) for item in results])) for name in names}


LATE = np.zeros((2, 2, 3))
LATE[0, 0] = 1 / 12
LATE[1, 1] = [0, 0.2, 0.3]


@pytest.mark.parametrize(
    ("spread", "desk"),
    [
        (blind(6, 3, 2), DESK),
        (blind(6, 3, 2), replace(DESK, cores=1, window_hours=2.0)),  # busy: a recovery outlasts several windows
        (Spread(np.array([4, 2]), LATE), DESK),
    ],
    ids=["blind", "busy", "dedicated"],
)
def test_counts_say_what_single_records_say(spread: Spread, desk: Desk) -> None:
    runs = 25
    found = means([simulate(spread, CLASSES, desk, WORK, days=30, seed=seed) for seed in range(runs)])
    singles = [one_by_one(spread, CLASSES, desk, 30, 1000 + seed) for seed in range(runs)]
    for name, value in found.items():
        values = [item[name] for item in singles]
        error = np.std(values) / np.sqrt(runs)
        assert value == pytest.approx(np.mean(values), rel=0.02, abs=5 * error), name
        assert error < 0.1 * np.mean(values) + 0.01, name  # else the comparison would say nothing


def test_long_runs_cost_what_the_closed_form_expects() -> None:
    spread, classes = blind(40, 5), [RiskClass(10_000_000, 2e-7)]
    work = Work(epochs=3, seconds_per_visit=1e-5, seconds_per_step=1.0)
    expected = expected_recovery(spread, classes, 12.0, work, 4)
    found = simulate(spread, classes, Desk(12.0, 4, 24.0), work, days=400, seed=3)
    assert found.requests / 800 == pytest.approx(expected.requests, rel=0.02)
    assert found.visits_per_day / 2 == pytest.approx(expected.visits, rel=0.02)
    assert found.of_retraining == pytest.approx(expected.of_training, rel=0.02)
    assert found.utilisation == pytest.approx(expected.compute_seconds / 4 / 43_200, rel=0.02)
    assert found.behind == pytest.approx(expected.behind, rel=0.03)
    recovery = np.array([expected.least_seconds, expected.most_seconds]) / 3600
    assert 6 + 0.9 * recovery[0] < found.median_hours < 6 + 1.1 * recovery[1]


def test_sums_cost_what_the_closed_form_expects() -> None:
    spread, classes, work = blind(30, 3), [RiskClass(100_000_000, 1e-7)], Work(Chain.SUMS)
    expected = expected_recovery(spread, classes, 1.0, work, 1)
    found = simulate(spread, classes, Desk(1.0, 1, 2.0), work, days=200, seed=0)
    assert found.visits_per_day / 24 == pytest.approx(expected.visits, rel=0.03)


def test_an_idle_desk_takes_half_a_window_and_no_time() -> None:
    found = simulate(blind(5, 2), [RiskClass(100_000, 1e-5)], Desk(10.0, 1, 9.0), Work(), days=100, seed=0)
    assert found.median_hours == pytest.approx(5, rel=0.01)
    assert found.p99_hours == pytest.approx(9.9, rel=0.01)
    assert found.late == pytest.approx(0.1, rel=0.02)
    assert found.utilisation == 0


def test_a_shard_that_is_behind_twice_is_behind_once() -> None:
    """One shard, hit in every window, whose recovery outlasts three of them: it is behind all the time."""
    work = Work(seconds_per_step=3.5 * 3600)
    found = simulate(blind(1, 1), [RiskClass(1_000_000, 2e-5)], Desk(1.0, 1, 9.0), work, days=20, seed=0)
    assert 0.98 < found.behind <= 1
    assert 0.98 < found.utilisation <= 1
    assert found.recoveries == pytest.approx(20 * 24 / 3.5, rel=0.02)


@pytest.mark.parametrize("cores", [1, 2, 5, 40])
def test_a_free_core_takes_the_longest_chain(cores: int) -> None:
    hours = np.random.default_rng(cores).integers(1, 30, size=23).astype(float)
    free, ends = [0.0] * cores, {}
    for chain in sorted(range(23), key=lambda at: (-hours[at], at)):
        core = free.index(min(free))
        free[core] += hours[chain]
        ends[chain] = free[core]
    assert _longest_first(hours, cores).tolist() == [ends[at] for at in range(23)]


def test_nobody_asks() -> None:
    found = simulate(blind(5, 2), [RiskClass(100, 0.0)], DESK, WORK, days=10, seed=0)
    assert (found.requests, found.recoveries, found.median_hours, found.late, found.behind) == (0, 0, 0, 0, 0)


def test_equal_seeds_give_equal_results() -> None:
    one, same, other = (simulate(blind(6, 3, 2), CLASSES, DESK, WORK, days=5, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_a_billion_records_and_a_million_requests_a_day_fit() -> None:
    """Memory and time depend on shards, slices and windows: neither is that of records or requests."""
    rate = 1e6 / 24
    classes = [RiskClass(n, rate / 2 / n, records=5.0) for n in (150_000_000, 50_000_000)]
    tracemalloc.start()
    started = time.perf_counter()
    found = simulate(blind(2000, 10, 2), classes, Desk(6.0, 64, 24.0), Work(epochs=3), days=30, seed=0)
    seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20_000_000 < found.requests < 30_000_000
    assert found.of_retraining > 0.99
    assert peak < 50e6
    assert seconds < 60


@pytest.mark.parametrize("wrong", [{"window_hours": 0.0}, {"cores": 0}, {"deadline_hours": -1.0}])
def test_desks_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="desk needs"):
        replace(DESK, **wrong)


def test_a_time_in_which_no_window_closes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="simulate longer"):
        simulate(blind(1, 1), CLASSES[:1], DESK, WORK, days=0.1, seed=0)
