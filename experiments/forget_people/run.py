"""`python -m experiments.forget_people [--quick]`: what forgetting real people costs, in work and in accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from experiments.forget_people.data import People, diabetes, writers
from experiments.forget_people.lab import Forgotten, Lab
from shards.cost import sequential_fraction
from unlearn.plan import PAYS, Constraints, Design, Family, predict

HOURS = 24.0
"""The window in which a group asks."""

NEAR = 0.1
"""How far predictions may be off."""

SOURCES: Mapping[str, Callable[[], People]] = {"writers": writers, "patients": diabetes}


@dataclass(frozen=True)
class Labs:
    """The same people in two workspaces.

    Attributes:
        name: What they are called.
        sharded: In shards and slices.
        whole: In one of each: one model, trained again from nothing whenever somebody is forgotten.
        order: Everybody, in the order in which they ask.
        setting: The entries of `config.toml`.
    """

    name: str
    sharded: Lab
    whole: Lab
    order: Sequence[str]
    setting: Mapping[str, Any]

    def retraining(self, asked: int) -> int:
        """Record-visits of training one model again without the first so many people."""
        return self.whole.together(self.order[:asked])

    def expected(self, asked: int) -> float:
        """Record-visits of recovering from so many people's requests together, by the plan, which knows no layout."""
        lab = self.sharded
        people, epochs = len(self.order), float(Fraction(str(lab.learner.epochs)))
        constraints = Constraints(
            records=len(lab.people.y),
            subjects=people,
            # Each asks at a constant rate, so that so many are expected to have asked when the window ends.
            requests_per_day=-math.log1p(-asked / people) * people,
            visits_per_second=lab.trained.visits / lab.trained.training_seconds,
            epochs=epochs,
            cores=self.setting["workers"],
        )
        design = Design(lab.n_shards, lab.n_slices, HOURS)
        return predict(constraints, Family.SHARDED, design).visits_per_day * HOURS / 24


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    figures: list[Figure] = []
    for name, read in SOURCES.items():
        people = read()
        order = np.random.default_rng(setting["seed"]).permutation(people.everybody()).tolist()
        say(f"{name}: {len(people.y):,} records of {len(order):,} people")
        labs = Labs(
            name,
            Lab(folder / f"{name}-sharded", people, setting, setting[name], setting["n_shards"], setting["n_slices"]),
            Lab(folder / f"{name}-whole", people, setting, setting[name], 1, 1),
            order,
            setting,
        )
        figures += _trained(labs)
        figures += _retrained(labs, say)
        figures += _on_average(labs)
        largest = largest_paying(labs)
        figures += [
            Figure(f"{name}.largest.{by}", f"largest group with which sharding pays: {_words(by)}", value, "people")
            for by, value in largest.items()
        ]
        figures += _together(labs, largest["together.layout"], say)
        figures += _one_by_one(labs, largest["one_by_one.layout"], say)
    return figures


def _trained(labs: Labs) -> Iterator[Figure]:
    for kind, lab in (("sharded", labs.sharded), ("whole", labs.whole)):
        what = f"{labs.name}, {lab.n_shards} shards of {lab.n_slices} slices"
        yield Figure(f"{labs.name}.{kind}.train", f"{what}: training, wall time", lab.trained.seconds, "s")
        seconds = lab.trained.training_seconds
        yield Figure(f"{labs.name}.{kind}.core_seconds", f"{what}: training, over all workers", seconds, "s")
        for score, value in lab.scores.items():
            yield Figure(f"{labs.name}.{kind}.{score}", f"{what}: test {score}", value, "share")


def _together(labs: Labs, largest: int, say: Say) -> Iterator[Figure]:
    for asked in sorted({*labs.setting["groups"], largest, largest + 1}):
        if not 0 < asked < len(labs.order):
            continue
        group = labs.order[:asked]
        say(f"{labs.name}: {asked} together")
        ours = labs.sharded.forget_together([[person] for person in group])
        name = f"{labs.name}.together.{asked}"
        yield from _of(labs, name, ours, labs.sharded.together(group))
        off = ours.visits / labs.expected(asked)
        yield Figure(f"{name}.of_expected", "record-visits of this one group by those expected", off, "x")


def _one_by_one(labs: Labs, largest: int, say: Say) -> Iterator[Figure]:
    stops = sorted({*labs.setting["singly"], largest, largest + 1} - {0})
    people = labs.order[: stops[-1]]
    say(f"{labs.name}: {len(people)} one by one")
    predicted = np.cumsum(labs.sharded.one_by_one(people))
    for ours in labs.sharded.forget_one_by_one(people, stops):
        name = f"{labs.name}.one_by_one.{ours.people}"
        yield from _of(labs, name, ours, int(predicted[ours.people - 1]))


def _retrained(labs: Labs, say: Say) -> Iterator[Figure]:
    """One model, trained again without the largest group: what the formula says."""
    asked = max(labs.setting["groups"])
    say(f"{labs.name}: one model, trained again without {asked}")
    found = labs.whole.forget_together([labs.order[:asked]])
    assert found.visits == labs.retraining(asked), "retraining is not what the layout says"
    what = f"one model, trained again without {asked}"
    yield Figure(f"{labs.name}.retrained.visits", f"{what}: record-visits", found.visits, "visits")
    yield Figure(f"{labs.name}.retrained.seconds", f"{what}: wall time", found.recover, "s")
    yield Figure(f"{labs.name}.retrained.core_seconds", f"{what}: training", found.training, "s")
    for score, value in found.recovered.items():
        yield Figure(f"{labs.name}.retrained.{score}", f"{what}: test {score}", value, "share")


def _of(labs: Labs, name: str, ours: Forgotten, predicted: int) -> Iterator[Figure]:
    trained, whole = labs.sharded.trained, labs.whole.trained
    rate = trained.training_seconds / trained.visits
    retraining = labs.retraining(ours.people)
    yield Figure(f"{name}.visits", "recovery: record-visits", ours.visits, "visits")
    yield Figure(
        f"{name}.of_layout",
        "record-visits by those the layout predicts",
        ours.visits / predicted,
        "x",
        1 - NEAR,
        1 + NEAR,
    )
    yield Figure(
        f"{name}.of_retraining", "record-visits by those of retraining one model", ours.visits / retraining, "x"
    )
    yield Figure(f"{name}.seconds", "recovery: wall time", ours.recover, "s")
    yield Figure(f"{name}.core_seconds", "recovery: training, over all workers", ours.training, "s")
    yield Figure(
        f"{name}.of_layout_seconds",
        "seconds of training by those the layout predicts at the speed of the first training",
        ours.training / (predicted * rate),
        "x",
    )
    yield Figure(
        f"{name}.of_retraining_seconds",
        "seconds of training by those of retraining one model at the speed of its first training",
        ours.training / (retraining * whole.training_seconds / whole.visits),
        "x",
    )
    yield Figure(
        f"{name}.forget", "forget one of them: median", 1e3 * median(ours.forget), "ms", samples=list(ours.forget)
    )
    for score, value in ours.reduced.items():
        yield Figure(f"{name}.reduced.{score}", f"test {score} until recovery", value, "share")
    for score, value in ours.recovered.items():
        yield Figure(f"{name}.recovered.{score}", f"test {score} after recovery", value, "share")


def _on_average(labs: Labs) -> Iterator[Figure]:
    """The plan knows neither who asks nor where they lie: it predicts a mean."""
    random = np.random.default_rng(labs.setting["seed"] + 1)
    draws = labs.setting["draws"]
    for asked in labs.setting["groups"]:
        costs = [labs.sharded.together(random.choice(labs.order, asked, replace=False).tolist()) for _ in range(draws)]
        ratio = float(np.mean(costs)) / labs.expected(asked)
        what = f"{asked} together: mean record-visits of {draws} groups, by the layout, by those expected by the plan"
        yield Figure(f"{labs.name}.average.{asked}.of_expected", what, ratio, "x", at_least=1 - NEAR, at_most=1 + NEAR)


LARGEST = ("together.expected", "together.layout", "one_by_one.expected", "one_by_one.layout")


def largest_paying(labs: Labs) -> Mapping[str, int]:
    """The largest groups with which sharding pays: at most `PAYS` of the record-visits of retraining one model.

    Args:
        labs: Of whom.

    Returns:
        By each of `LARGEST`: how many people; 0 if it never pays.
    """
    sizes = range(1, min(labs.setting["most"], len(labs.order) - 1) + 1)
    lab = labs.sharded
    single = np.cumsum(lab.one_by_one(labs.order[: sizes[-1]]))
    shares = (
        [labs.expected(k) / labs.retraining(k) for k in sizes],
        [lab.together(labs.order[:k]) / labs.retraining(k) for k in sizes],
        [sequential_fraction(lab.n_shards, lab.n_slices, k) for k in sizes],
        [int(single[k - 1]) / labs.retraining(k) for k in sizes],
    )
    return {
        name: max((k for k, share in zip(sizes, found, strict=True) if share <= PAYS), default=0)
        for name, found in zip(LARGEST, shares, strict=True)
    }


def _words(by: str) -> str:
    return by.replace("_", " ").replace(".layout", ", by the layout").replace(".expected", ", by the plan")


BENCHMARK = Benchmark("forget_people", "Forgetting real people", measure)
"""`python -m experiments.forget_people`."""
