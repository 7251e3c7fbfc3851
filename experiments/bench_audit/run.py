"""Time what an audit does: train shadow models, test, audit a workspace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.attack_strength.speed import measure_speed
from experiments.audit_planted.run import seconds
from experiments.benchmark import Benchmark, Figure, Say
from unlearn import Workspace
from unlearn.audit import AttackPlan
from unlearn.demo import DemoConfig, choose, default_learner, load

AUDIT_SECONDS = 20.0


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    return [
        *measure_speed(setting, say),
        seconds(setting["test_repeats"]),
        *measure_audits(setting, folder, say),
    ]


def measure_audits(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Audit the workspace of `make demo`.

    Args:
        setting: What, and how much.
        folder: Where to make it.
        say: Told what is under way.

    Returns:
        The figures.
    """
    data = load()
    config = DemoConfig(setting["n_shards"], setting["n_slices"], setting["n_forget"])
    say(f"the demonstration: {len(data.train):,} records in {config.n_shards} shards")
    workspace = Workspace.create(
        folder / "w", default_learner(data), n_shards=config.n_shards, n_slices=config.n_slices, random_state=0
    )
    with closing(workspace):
        workspace.ingest(data.train)
        workspace.train(progress=False)
        gone = [name for group in choose(data.train, config) for name in group]
        workspace.forget(record_ids=gone)
        workspace.recover(progress=False)
        presented = data.train.take(np.isin(data.train.record_ids, gone))
        free = AttackPlan(("loss", "shard_lira", "ensemble_jackknife"))
        shadowed = AttackPlan(("lira_offline_fixed", "rmia"), shadows=setting["shadows"])
        cases: list[tuple[str, str, float | None, Callable[[], Any]]] = [
            ("demo.labels", "by the labels of shards", AUDIT_SECONDS, lambda: workspace.audit(presented)),
            (
                "demo.attacks",
                f"by {', '.join(free.attacks)}",
                AUDIT_SECONDS,
                lambda: workspace.audit(presented, attacks=free, held_out=data.test),
            ),
            (
                "demo.shadows",
                f"by {', '.join(shadowed.attacks)}, {shadowed.shadows} shadow ensembles trained for it",
                None,
                lambda: workspace.audit(presented, attacks=shadowed, held_out=data.test, progress=False),
            ),
        ]
        figures = []
        for name, what, at_most, audit in cases:
            say(f"audit {what}")
            took = [_timed(audit) for _ in range(setting["repeats"])]
            words = f"audit of the demonstration's workspace, {len(gone)} forgotten records, {what}"
            figures.append(Figure(name, words, median(took), "s", at_most=at_most, samples=took))
    return figures


def _timed(audit: Callable[[], Any]) -> float:
    started = time.perf_counter()
    audit()
    return time.perf_counter() - started


BENCHMARK = Benchmark("bench_audit", "What an audit costs", measure)
"""`python -m experiments.bench_audit`."""
