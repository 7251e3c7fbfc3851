"""`python -m experiments.frozen_heads [--quick]`: what shards cost in accuracy, if all they learn is a small head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmark import Benchmark, Figure, Say
from experiments.frozen_heads.cifar import cifar
from experiments.frozen_heads.images import Images, writers
from shards.executors.local import LocalExecutor
from shards.learners.base import Learner
from shards.learners.mapped import MappedLearner
from shards.learners.mlp import MLPLearner
from unlearn import Workspace

LOST = 0.01
"""So much accuracy a sharded head may lose."""

SOURCES: Mapping[str, Callable[[], Images]] = {"writers": writers, "cifar": cifar}


@dataclass(frozen=True)
class Trial:
    """One training, and in shards a request afterwards.

    Attributes:
        accuracy: Test accuracy.
        training: Seconds of training, features included, summed over the workers.
        forget: Seconds until one subject's request is receipted; None without shards.
        recovery: Seconds of training to recover from it, likewise.
    """

    accuracy: float
    training: float
    forget: float | None = None
    recovery: float | None = None


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
        images, options = read(), setting[name]
        learners: dict[str, Learner] = {
            "heads": MappedLearner(MLPLearner(**options["head"]), options["features"]),
            "networks": MLPLearner(**options["network"]),
        }
        if "freer" in options:
            learners["freer_heads"] = MappedLearner(MLPLearner(**options["freer"]), options["features"])
        for kind, learner in learners.items():
            trials = {}
            for n_shards in (setting["n_shards"], 1):
                say(f"{name}: {kind} in {n_shards} shards")
                where = folder / f"{name}-{kind}-{n_shards}"
                trials[n_shards] = _trial(where, images, learner, n_shards, setting)
            figures += _of(name, kind, trials[setting["n_shards"]], trials[1], setting["n_shards"])
    return figures


def _of(name: str, kind: str, sharded: Trial, whole: Trial, n_shards: int) -> Iterator[Figure]:
    for which, trial, words in (("sharded", sharded, f"in {n_shards} shards"), ("whole", whole, "as one model")):
        what = f"{name}, {kind} {words}"
        yield Figure(f"{name}.{kind}.{which}.accuracy", f"{what}: test accuracy", trial.accuracy, "share")
        yield Figure(f"{name}.{kind}.{which}.training", f"{what}: training, over all workers", trial.training, "s")
        if trial.forget is not None:
            yield Figure(f"{name}.{kind}.forget", f"{what}: one subject, forgotten", 1e3 * trial.forget, "ms")
        if trial.recovery is not None:
            yield Figure(f"{name}.{kind}.recovery", f"{what}: training to recover from that", trial.recovery, "s")
    lost, bound = whole.accuracy - sharded.accuracy, LOST if kind == "heads" else None
    yield Figure(f"{name}.{kind}.lost", f"{name}, {kind}: accuracy lost by sharding", lost, "share", at_most=bound)


def _trial(folder: Path, images: Images, learner: Learner, n_shards: int, setting: Mapping[str, Any]) -> Trial:
    workspace = Workspace.create(
        folder,
        learner,
        n_shards=n_shards,
        n_slices=1,
        classes=list(range(10)),
        random_state=setting["seed"],
        executor=LocalExecutor(setting["workers"]),
    )
    workspace.ingest(images.x, images.y, subjects=images.subjects)
    report = workspace.train()
    tested = slice(setting["test_records"])
    accuracy = float((workspace.predict(images.test_x[tested]) == images.test_y[tested]).mean())
    forget = recovery = None
    if n_shards > 1:
        started = time.perf_counter()
        workspace.forget(subjects=[images.subjects[0]], reason="measured")
        forget = time.perf_counter() - started
        recovery = workspace.recover().training_seconds
    workspace.close()
    return Trial(accuracy, report.training_seconds, forget, recovery)


BENCHMARK = Benchmark("frozen_heads", "Heads on frozen features, in shards", measure)
"""`python -m experiments.frozen_heads`."""
