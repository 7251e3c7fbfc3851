"""Trainings to be timed: the same workspace, built by one executor after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shards.executors.base import Executor
from unlearn import Workspace


@dataclass(frozen=True)
class Training:
    """What is trained.

    Attributes:
        learner: By whom.
        n_shards: Tasks.
        n_slices: Steps of each.
        records: Random records in all, of 20 features and two classes.
    """

    learner: Any
    n_shards: int
    n_slices: int
    records: int


@dataclass(frozen=True)
class Timing:
    """Of one training by several executors.

    Attributes:
        steps: Steps that were built.
        samples: Seconds, by the executor's name, one for each repeat.
    """

    steps: int
    samples: Mapping[str, list[float]]

    def seconds(self, name: str) -> float:
        """The median of an executor."""
        return median(self.samples[name])

    def ratios(self, slow: str, fast: str) -> list[float]:
        """How often the one's time is the other's, repeat by repeat: both ran under the same load."""
        return [a / b for a, b in zip(self.samples[slow], self.samples[fast], strict=True)]


def time_training(training: Training, executors: Mapping[str, Executor], repeats: int, folder: Path) -> Timing:
    """Train a fresh workspace with every executor in turn.

    Args:
        training: What.
        executors: By whom, by name. Each trains something small first, so that none has a process to start.
        repeats: How often.
        folder: Where workspaces are made, and removed.

    Returns:
        The seconds of each.

    Raises:
        AssertionError: If two did not come to the same bytes.
    """
    small = Training(training.learner, 4, 1, 80)
    for executor in executors.values():
        _train(small, executor, folder)
    samples: dict[str, list[float]] = {name: [] for name in executors}
    results = set()
    for _ in range(repeats):
        for name, executor in executors.items():
            seconds, *result = _train(training, executor, folder)
            samples[name].append(seconds)
            results.add(tuple(result))
    assert len(results) == 1, f"not the same everywhere: {results}"
    ((steps, _digest),) = results
    return Timing(steps, samples)


def _train(training: Training, executor: Executor, folder: Path) -> tuple[float, int, str]:
    """Seconds, steps, and the digest of the state."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(training.records, 20)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        workspace = Workspace.create(
            Path(home) / "run",
            training.learner,
            n_shards=training.n_shards,
            n_slices=training.n_slices,
            classes=[0, 1],
            random_state=0,
            executor=executor,
        )
        workspace.ingest(X, y)
        report = workspace.train()
        digest = workspace.state_digest()
        workspace.close()
    return report.seconds, report.steps, digest
