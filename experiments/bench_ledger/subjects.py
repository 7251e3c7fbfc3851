"""One request that names very many subjects."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier

from experiments.benchmark import Figure
from unlearn import Workspace
from unlearn.request import RequestState

STAY = 1_000
"""Subjects nobody asks to forget."""


def measure_subjects(folder: Path, subjects: int, say: Callable[[str], None]) -> list[Figure]:
    """Submit one request for very many subjects, then carry it out.

    Args:
        folder: An empty folder on the disk to be measured.
        subjects: How many; each has one record, and nothing is trained.
        say: Told what is under way.

    Returns:
        The figures.
    """
    workspace = Workspace.create(
        folder / "subjects", SGDClassifier(loss="log_loss"), n_shards=8, n_slices=4, classes=[0, 1]
    )
    rng = np.random.default_rng(0)
    names = [f"subject {number}" for number in range(subjects + STAY)]
    say(f"ingesting {len(names):,} records")
    workspace.ingest(rng.normal(size=(len(names), 4)), rng.integers(0, 2, len(names)), subjects=names)
    say(f"submitting {subjects:,} subjects")
    since = time.perf_counter()
    request = workspace.submit(subjects=names[:subjects])
    submitted = time.perf_counter() - since
    say("forgetting them")
    since = time.perf_counter()
    (done,) = workspace.process()
    forgotten = time.perf_counter() - since
    assert (done.id, done.state, done.n_records) == (request.id, RequestState.FORGOTTEN, subjects)
    assert workspace.status().records == STAY
    receipt = workspace.receipt(request.id).path.stat().st_size
    workspace.close()
    return [
        Figure("subjects.submit", f"one request for {subjects:,} subjects, acknowledged", submitted, "s", at_most=5),
        Figure("subjects.forget", "carrying it out, its receipt issued", forgotten, "s"),
        Figure("subjects.receipt", "size of that receipt", receipt / 1e6, "MB"),
    ]
