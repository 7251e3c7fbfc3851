"""`python -m experiments.bench_ray [--quick]`: what Ray costs beside the local executor, and what it brings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from sklearn.linear_model import SGDClassifier

from experiments.bench_ray.trainings import Training, time_training
from experiments.benchmark import Benchmark, Figure, Say
from shards.executors.local import LocalExecutor
from shards.executors.ray import RayExecutor
from shards.learners.sklearn import SklearnLearner
from shards.learners.torch import TorchLearner

OVERHEAD_MS = 30.0
SPEEDUP = 1.7

ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Else Ray listens on the machine's own address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""A Ray that nobody else sees; it has to be said before Ray is loaded."""


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    os.environ.update(ALONE)
    os.environ.pop("RAY_ADDRESS", None)
    repeats = setting["repeats"]
    say("starting Ray")
    both = {"local": LocalExecutor(), "ray": RayExecutor()}
    figures = _overhead(setting["overhead"], both, repeats, folder, say)
    figures += _workers(setting["workers"], repeats, folder, say)
    for shards in setting["growth"]["shards"]:
        figures += _growth(shards, setting["growth"], both, folder, say)
    return figures


def _overhead(
    wanted: Mapping[str, Any],
    both: dict[str, LocalExecutor | RayExecutor],
    repeats: int,
    folder: Path,
    say: Say,
) -> list[Figure]:
    shards, slices = wanted["shards"], wanted["slices"]
    say(f"{shards} shards of {slices} tiny steps")
    learner = SklearnLearner(SGDClassifier(loss="log_loss"))
    timing = time_training(Training(learner, shards, slices, wanted["records"]), both, repeats, folder)
    pairs = zip(timing.samples["ray"], timing.samples["local"], strict=True)
    each = [1e3 * (ray - local) / shards for ray, local in pairs]
    what = f"{shards} shards of {slices} tiny steps"
    return [
        Figure("overhead.local", what, timing.seconds("local"), "s", samples=timing.samples["local"]),
        Figure("overhead.ray", f"{what}, on Ray", timing.seconds("ray"), "s", samples=timing.samples["ray"]),
        Figure(
            "overhead.task", "what Ray adds to a task (a shard)", median(each), "ms", at_most=OVERHEAD_MS, samples=each
        ),
    ]


def _workers(wanted: Mapping[str, Any], repeats: int, folder: Path, say: Say) -> list[Figure]:
    say(f"{wanted['shards']} long steps by one worker and by two")
    learner = TorchLearner("mlp", {"hidden": [256, 256]}, epochs=wanted["epochs"], batch_size=32)
    executors = {
        "local.1": LocalExecutor(1),
        "local.2": LocalExecutor(2),
        "ray.1": RayExecutor(in_flight=1),
        "ray.2": RayExecutor(in_flight=2),
    }
    timing = time_training(Training(learner, wanted["shards"], 1, wanted["records"]), executors, repeats, folder)
    figures = [
        Figure(
            f"workers.{name}",
            f"{wanted['shards']} long steps, {name[-1]} worker{'s' * (name[-1] == '2')}",
            timing.seconds(name),
            "s",
            samples=seconds,
        )
        for name, seconds in timing.samples.items()
    ]
    for place, goal in (("local", None), ("ray", SPEEDUP)):
        gains = timing.ratios(f"{place}.1", f"{place}.2")
        what = f"one worker over two, {'on Ray' if place == 'ray' else 'here'}"
        figures.append(Figure(f"workers.{place}.gain", what, median(gains), "x", at_least=goal, samples=gains))
    return figures


def _growth(
    shards: int,
    wanted: Mapping[str, Any],
    both: dict[str, LocalExecutor | RayExecutor],
    folder: Path,
    say: Say,
) -> list[Figure]:
    say(f"the same work in {shards:,} shards")
    learner = SklearnLearner(SGDClassifier(loss="log_loss"), epochs=wanted["epochs"])
    timing = time_training(Training(learner, shards, 1, wanted["records"]), both, wanted["repeats"], folder)
    what = f"{wanted['records']:,} records in {shards:,} shards"
    figures = [
        Figure(f"growth.{shards}.{name}", f"{what}, {name}", timing.seconds(name), "s", samples=seconds)
        for name, seconds in timing.samples.items()
    ]
    ratios = timing.ratios("ray", "local")
    return [*figures, Figure(f"growth.{shards}.ratio", "Ray over local", median(ratios), "x", samples=ratios)]


BENCHMARK = Benchmark(
    "bench_ray", "Ray beside the local executor", measure, where=None, versions={"ray": version("ray")}
)
