"""`python -m experiments.frozen_heads [--quick]`: what shards cost in accuracy, if all they learn is a small head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from experiments.frozen_heads.cifar import cifar
from experiments.frozen_heads.images import Images, writers
from shards.cost_realised import count_records, recovery_cost
from shards.executors.local import LocalExecutor
from shards.learners.base import Learner
from shards.learners.mapped import MappedLearner
from shards.learners.mlp import MLPLearner
from shards.placement import place_subjects
from unlearn import Workspace

LOST = 0.01
"""So much accuracy a sharded head may lose."""

COUNTED = 500
"""The record-visits of a deletion are the mean over so many subjects."""

SOURCES: Mapping[str, Callable[[], Images]] = {"writers": writers, "cifar": cifar}


@dataclass(frozen=True)
class Trial:
    """One training, and in shards a request afterwards.

    Attributes:
        accuracy: Test accuracy.
        training: Seconds of training, features included, summed over the workers.
        deletion: What a request costs; None without shards.
    """

    accuracy: float
    training: float
    deletion: Deletion | None = None


@dataclass(frozen=True)
class Deletion:
    """What the request of one subject costs.

    Attributes:
        forget: Seconds until it is receipted, of one subject.
        recovery: Seconds of training to recover from it.
        visits: Record-visits to recover, mean over the subjects, each alone.
        share: That by the record-visits of training everything.
    """

    forget: float
    recovery: float
    visits: float
    share: float


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
    n_shards, (first, *more) = setting["n_shards"], setting["n_slices"]
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
            # Slices are for heads: what networks lose to shards is shown without them.
            grid = [(n_shards, first), (1, 1), *((n_shards, n_slices) for n_slices in more if kind == "heads")]
            for cut in grid:
                say(f"{name}: {kind} in {cut[0]} shards of {cut[1]} slices")
                where = folder / f"{name}-{kind}-{cut[0]}-{cut[1]}"
                trials[cut] = _trial(where, images, learner, cut, setting)
            whole = trials.pop((1, 1))
            figures += _of_training(f"{name}.{kind}.whole", f"{name}, {kind} as one model", whole)
            for (shards, n_slices), trial in trials.items():
                prefix = f"{name}.{kind}.slices_{n_slices}"
                words = f"{name}, {kind} in {shards} shards of {n_slices} slices"
                figures += _of_training(prefix, words, trial)
                figures += _of_deletion(prefix, words, trial.deletion)
                lost, bound = whole.accuracy - trial.accuracy, LOST if kind == "heads" else None
                figures.append(
                    Figure(f"{prefix}.lost", f"{words}: accuracy lost against one model", lost, "share", at_most=bound)
                )
    return figures


def _of_training(prefix: str, words: str, trial: Trial) -> Iterator[Figure]:
    yield Figure(f"{prefix}.accuracy", f"{words}: test accuracy", trial.accuracy, "share")
    yield Figure(f"{prefix}.training", f"{words}: training, over all workers", trial.training, "s")


def _of_deletion(prefix: str, words: str, deletion: Deletion | None) -> Iterator[Figure]:
    if deletion is None:
        return
    yield Figure(f"{prefix}.forget", f"{words}: one subject, forgotten", 1e3 * deletion.forget, "ms")
    yield Figure(f"{prefix}.recovery", f"{words}: training to recover from that", deletion.recovery, "s")
    what = f"{words}: record-visits to recover from one subject, mean over the subjects"
    yield Figure(f"{prefix}.visits", what, deletion.visits, "visits")
    yield Figure(f"{prefix}.visits_share", f"{words}: of those of training everything", deletion.share, "share")


def _trial(folder: Path, images: Images, learner: Learner, cut: tuple[int, int], setting: Mapping[str, Any]) -> Trial:
    n_shards, n_slices = cut
    workspace = Workspace.create(
        folder,
        learner,
        n_shards=n_shards,
        n_slices=n_slices,
        classes=list(range(10)),
        random_state=setting["seed"],
        executor=LocalExecutor(setting["workers"]),
    )
    workspace.ingest(images.x, images.y, subjects=images.subjects)
    report = workspace.train()
    tested = slice(setting["test_records"])
    accuracy = float((workspace.predict(images.test_x[tested]) == images.test_y[tested]).mean())
    deletion = _deletion(workspace, images, report.visits) if n_shards > 1 else None
    workspace.close()
    return Trial(accuracy, report.training_seconds, deletion)


def _deletion(workspace: Workspace, images: Images, trained: int) -> Deletion:
    subject, costs = images.subjects[0], _costs(workspace, images)
    started = time.perf_counter()
    workspace.forget(subjects=[subject], reason="measured")
    forget = time.perf_counter() - started
    recovered = workspace.recover()
    assert recovered.visits == costs[subject], "recovering did not cost what the layout says"
    visits = mean(costs.values())
    return Deletion(forget, recovered.training_seconds, visits, visits / trained)


def _costs(workspace: Workspace, images: Images) -> dict[str, int]:
    """Subject to the record-visits of recovering from its request alone, by the layout; of `COUNTED` subjects."""
    made = workspace.declaration
    with workspace.unchanging() as site:
        learner = site.learner
        shard, piece = place_subjects(site.keys.placement, list(images.subjects), made.n_shards, made.n_slices)
    where = np.stack([shard, piece], axis=1)
    records = count_records(made.n_shards, made.n_slices, where)
    names = np.array(images.subjects)
    counted = list(dict.fromkeys(images.subjects))[:COUNTED]
    return {
        name: recovery_cost(records, where[names == name], made.n_slices, learner.budget).visits for name in counted
    }


BENCHMARK = Benchmark("frozen_heads", "Heads on frozen features, in shards", measure)
"""`python -m experiments.frozen_heads`."""
