"""Expected costs against every placement and every set of requests, counted one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest

from shards.cost import batch_fraction
from shards.cost_expected import Chain, RiskClass, Spread, Work, blind, expected_recovery, spread_over, untouched
from shards.errors import ConfigurationError
from shards.placement import Region

HOURS = 5.0
TWO_CLASSES = (RiskClass(2, 0.05, records=3.0), RiskClass(1, 0.6, records=2.0))
# One shard of two slices for everybody, and one for the second class alone, mostly in its late slice.
DEDICATED = Spread(np.array([1, 1]), np.array([[[0.5, 0.5], [0.0, 0.0]], [[0.0, 0.1], [0.2, 0.7]]]))


def everything(spread: Spread, classes: Sequence[RiskClass]) -> Iterator[tuple[float, list[tuple[int, int]], list]]:
    """Every placement of every subject with every subset that asks: probability, places of who asks, who stays."""
    shards = np.repeat(np.arange(len(spread.shards)), spread.shards)
    cells = [(shard, r) for shard in range(len(shards)) for r in range(spread.n_slices)]
    people = [(index, group) for index, group in enumerate(classes) for _ in range(group.subjects)]
    for places in product(cells, repeat=len(people)):
        placed = np.prod([spread.chance[c, shards[s], r] for (c, _), (s, r) in zip(people, places, strict=True)])
        for asks in product((False, True), repeat=len(people)):
            p = [
                g.asks_within(HOURS) if a else 1 - g.asks_within(HOURS) for (_, g), a in zip(people, asks, strict=True)
            ]
            gone = [place for place, a in zip(places, asks, strict=True) if a]
            left = [(place, g.records) for (_, g), place, a in zip(people, places, asks, strict=True) if not a]
            yield float(placed * np.prod(p)), gone, left


def enumerated(spread: Spread, classes: Sequence[RiskClass], work: Work) -> dict[str, float]:
    """Means over everything: of visits, steps and shards built again, and of the shares as a ratio of means."""
    total = dict.fromkeys(("requests", "shards", "steps", "visits", "training"), 0.0)
    n_slices = spread.n_slices
    each = work.epochs * 2 / (n_slices + 1) if work.chain is Chain.EPOCHS else 1
    for chance, gone, left in everything(spread, classes):
        total["requests"] += chance * len(gone)
        for shard in range(int(spread.shards.sum())):
            hit = [r for s, r in gone if s == shard]
            for r in range(n_slices):
                mine = [m for (s, q), m in left if s == shard and (q == r if work.chain is Chain.SUMS else q <= r)]
                visits = sum(mine) * each
                total["training"] += chance * visits
                if hit and min(hit) <= r:
                    total["steps"] += chance
                    total["visits"] += chance * visits
            total["shards"] += chance * bool(hit)
    return total


@pytest.mark.parametrize("chain", Chain)
@pytest.mark.parametrize(
    ("spread", "classes"),
    [
        (blind(2, 2), [RiskClass(3, 0.1, records=4.0)]),
        (blind(1, 3), [RiskClass(2, 0.3)]),
        (blind(3, 1), [RiskClass(2, 0.3)]),
        (spread_over([Region(range(1)), Region(range(1, 3))], 3, 1), TWO_CLASSES),
        (spread_over([Region(None, range(1, 2)), Region(range(1, 2), None)], 2, 2), TWO_CLASSES),
        (blind(2, 2, 2), TWO_CLASSES),
        (DEDICATED, TWO_CLASSES),
    ],
)
def test_expected_cost_is_the_mean_over_everything(chain: Chain, spread: Spread, classes: list[RiskClass]) -> None:
    work = Work(chain, epochs=4.0)
    found, mean = expected_recovery(spread, classes, HOURS, work, 1), enumerated(spread, classes, work)
    assert found.requests == pytest.approx(mean["requests"])
    assert found.shards == pytest.approx(mean["shards"])
    assert found.steps == pytest.approx(mean["steps"])
    assert found.visits == pytest.approx(mean["visits"])
    assert found.of_training == pytest.approx(mean["visits"] / mean["training"])


@pytest.mark.parametrize(("shards", "slices", "requests"), [(20, 5, 16), (5, 1, 3), (50, 10, 40), (1, 4, 1)])
def test_many_subjects_agree_with_the_closed_form_of_k_requests(shards: int, slices: int, requests: int) -> None:
    """The number of requests within a window is Poisson here: the mean of the closed form over that number."""
    people = 10_000_000
    found = expected_recovery(blind(shards, slices), [RiskClass(people, requests / people)], 1.0, Work(), 1)
    chance = np.exp(-requests)
    mean = 0.0
    for k in range(300):
        mean += chance * batch_fraction(shards, slices, k)
        chance *= requests / (k + 1)
    assert found.of_training == pytest.approx(mean, rel=1e-4)


def test_blind_placement_makes_nothing_of_skew() -> None:
    """Nine in ten requests from a hundredth of the subjects cost what the same number costs from anybody."""
    skewed = [RiskClass(10_000, 0.9e-3), RiskClass(990_000, 0.1e-3 / 99)]
    even = [RiskClass(1_000_000, 1e-5)]
    costs = [
        expected_recovery(blind(50, 5, len(classes)), classes, 4.0, Work(), 1).visits for classes in (skewed, even)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=5e-3)


def test_subjects_with_many_records_cost_no_more_than_their_number() -> None:
    one = expected_recovery(blind(20, 5), [RiskClass(1000, 1e-3)], 4.0, Work(), 1)
    many = expected_recovery(blind(20, 5), [RiskClass(1000, 1e-3, records=30.0)], 4.0, Work(), 1)
    assert many.of_training == pytest.approx(one.of_training)
    assert many.visits == pytest.approx(30 * one.visits)


def test_late_slices_for_those_who_ask_most_save_work() -> None:
    classes = [RiskClass(90_000, 1e-7), RiskClass(10_000, 1e-4)]
    late = np.full((2, 1, 5), 1 / 100)
    late[1, 0] = [0, 0, 0, 0, 1 / 20]
    aware, unaware = (
        expected_recovery(s, classes, 10.0, Work(), 1) for s in (Spread(np.array([20]), late), blind(20, 5, 2))
    )
    assert aware.requests == pytest.approx(unaware.requests)
    assert aware.visits < 0.75 * unaware.visits


def test_seconds_are_bounds_of_chains_drawn_at_random() -> None:
    """Durations of chains hit by simulated requests, longest first on three cores."""
    classes, work, cores = [RiskClass(40_000, 2e-4)], Work(epochs=3, seconds_per_visit=1e-3, seconds_per_step=2.0), 3
    found = expected_recovery(blind(12, 4), classes, 1.0, work, cores)
    rng = np.random.default_rng(0)
    spans, totals = [], []
    for _ in range(3000):
        hits = rng.multinomial(rng.poisson(8), [1 / 48] * 48).reshape(12, 4) > 0
        steps = np.where(hits.any(axis=1)[:, None], np.arange(4) >= hits.argmax(axis=1)[:, None], False)
        seconds = steps @ (work.passes(4) * 40_000 / 48 * np.arange(1, 5) * 1e-3 + 2.0)
        loads = np.zeros(cores)
        for chain in sorted(seconds, reverse=True):
            loads[loads.argmin()] += chain
        spans.append(loads.max())
        totals.append(seconds.sum())
    assert found.compute_seconds == pytest.approx(np.mean(totals), rel=0.02)
    assert found.least_seconds < np.mean(spans) < found.most_seconds
    assert found.most_seconds < 1.5 * found.least_seconds


def test_without_requests_nothing_is_to_do() -> None:
    found = expected_recovery(blind(20, 5), [RiskClass(100, 0.0)], 24.0, Work(seconds_per_step=1.0), 2)
    assert (found.requests, found.visits, found.steps, found.compute_seconds, found.most_seconds, found.behind) == (
        *(0,) * 6,
    )
    assert (untouched(blind(20, 5), [RiskClass(100, 0.0)], 24.0) == 1).all()


def test_when_everybody_asks_nothing_is_left() -> None:
    found = expected_recovery(blind(1, 1), [RiskClass(1, 1e9)], 24.0, Work(), 1)
    assert (found.requests, found.visits, found.of_training) == (1, 0, 0)
    assert found.shards == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"rate": -1.0}, {"rate": float("nan")}, {"records": 0.0}])
def test_classes_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="risk class"):
        RiskClass(**{"subjects": 1, "rate": 0.1, **wrong})  # type: ignore[arg-type]


def test_spreads_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="sum to 1"):
        Spread(np.array([2]), np.full((1, 1, 2), 0.5))
    with pytest.raises(ConfigurationError, match="at least 1"):
        blind(0, 5)


def test_a_spread_over_regions_is_where_they_may_lie() -> None:
    """Against every shard on its own."""
    regions = [Region(range(2), range(1, 3)), Region(range(1, 6)), Region()]
    found = spread_over(regions, 7, 3)
    each = np.repeat(found.chance, found.shards, axis=1)
    for index, region in enumerate(regions):
        inside = np.zeros((7, 3))
        inside[np.ix_(region.shards or range(7), region.slices or range(3))] = 1
        assert each[index] == pytest.approx(inside / inside.sum())
    assert len(found.shards) == 4
    whole = spread_over([Region()], 5, 2)
    assert (whole.shards == blind(5, 2).shards).all()
    assert whole.chance == pytest.approx(blind(5, 2).chance)
    with pytest.raises(ConfigurationError, match="they are 0 to 6"):
        spread_over([Region(range(8))], 7, 3)
