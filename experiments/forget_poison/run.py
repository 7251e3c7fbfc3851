"""`python -m experiments.forget_poison [--quick]`: poisoned records, forgotten by the engine that forgets people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from experiments.forget_exact.run import Images, mnist
from experiments.forget_poison.poisons import Poison, backdoor, mislabelled
from shards.executors.local import LocalExecutor
from shards.learners.mlp import MLPLearner
from unlearn import Workspace
from unlearn.building import BuildReport

LEFT = 0.01
"""How much more often an attack may succeed after recovery than on a model that never saw the poison."""

WORKS = 0.5
"""A backdoor works if it succeeds on at least so many images."""


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    images = mnist()
    return _measured(images, setting, folder, say)


def _measured(images: Images, setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    x, test_x = ((part / images.x.max()).astype(np.float32) for part in (images.x, images.test_x))
    clean = replace(images, x=x, test_x=test_x)
    side = round(x.shape[1] ** 0.5)
    order = np.random.default_rng(setting["seed"]).permutation(np.unique(images.writer)).tolist()
    poisons = (
        backdoor(clean, order[: setting["backdoor"]["writers"]], side, setting["backdoor"]),
        mislabelled(clean, order[: setting["mislabelled"]["writers"]], setting["mislabelled"]),
    )
    figures: list[Figure] = []
    for poison in poisons:
        where = folder / poison.name
        where.mkdir()
        figures += _of(poison, setting, where, say)
    return figures


def _of(poison: Poison, setting: Mapping[str, Any], folder: Path, say: Say) -> Iterator[Figure]:
    name, n_shards, n_slices = poison.name, setting["n_shards"], setting["n_slices"]
    everything = np.arange(len(poison.images.x))
    yield Figure(f"{name}.records", "poisoned records, as listed", len(poison.rows), "records")
    writers = len(np.unique(poison.images.writer[poison.rows]))
    yield Figure(f"{name}.writers", "whose they are", writers, "writers")
    say(f"{name}: training with {len(poison.rows):,} poisoned records")
    lived, _ = trained(folder / "lived", poison.images, setting, n_shards, n_slices, everything)
    yield from _scored(poison, lived, "before", "with the poison", works=name == "backdoor")

    say(f"{name}: forgetting them")
    started = time.perf_counter()
    lived.forget(record_ids=_ids(poison.rows), reason="poisoned")
    yield Figure(f"{name}.forget", "one request for all of them, to its receipt", time.perf_counter() - started, "s")
    serving = lived.status().serving
    yield Figure(f"{name}.reduced.shards", f"of {n_shards} shards, those that serve until recovery", serving, "shards")
    if serving:
        yield from _scored(poison, lived, "reduced", "forgotten, before recovery")
    repair = lived.recover()
    yield from _scored(poison, lived, "recovered", "after recovery")

    say(f"{name}: the same without them, from the start")
    kept = np.setdiff1d(everything, poison.rows)
    fresh, _ = trained(folder / "fresh", poison.images, setting, n_shards, n_slices, kept)
    yield from _scored(poison, fresh, "never", "that never saw the poison")
    check_equal(lived, fresh)
    gap = poison.success(lived.predict) - poison.success(fresh.predict)
    yield Figure(f"{name}.left", "success after recovery over that without poison", gap, "share", at_most=LEFT)
    lived.close()
    fresh.close()

    say(f"{name}: one model without them, trained again")
    whole, retraining = trained(folder / "whole", poison.images, setting, 1, 1, kept)
    yield from _scored(poison, whole, "whole", "of one model, trained again without the poison")
    whole.close()
    yield Figure(f"{name}.repair.visits", "recovery: record-visits", repair.visits, "visits")
    share = repair.visits / retraining.visits
    yield Figure(f"{name}.repair.of_retraining", "record-visits by those of training one model again", share, "x")
    share = repair.training_seconds / retraining.training_seconds
    yield Figure(f"{name}.repair.of_retraining_seconds", "seconds of training, likewise", share, "x")
    yield Figure(f"{name}.repair.seconds", "recovery: wall time", repair.seconds, "s")
    yield Figure(f"{name}.retraining.seconds", "training one model again: wall time", retraining.seconds, "s")


def trained(
    folder: Path, images: Images, setting: Mapping[str, Any], n_shards: int, n_slices: int, rows: np.ndarray
) -> tuple[Workspace, BuildReport]:
    """A workspace of some of the records, trained.

    Args:
        folder: Where to make it.
        images: All records.
        setting: The entries of `config.toml`.
        n_shards: S.
        n_slices: R.
        rows: Which records.

    Returns:
        The workspace, and what training it took.
    """
    workspace = Workspace.create(
        folder,
        MLPLearner(**setting["learner"]),
        n_shards=n_shards,
        n_slices=n_slices,
        classes=list(range(10)),
        random_state=setting["seed"],
        executor=LocalExecutor(setting["workers"]),
    )
    workspace.ingest(
        images.x[rows],
        images.y[rows],
        subjects=[f"writer-{name}" for name in images.writer[rows].tolist()],
        record_ids=_ids(rows),
    )
    return workspace, workspace.train()


def check_equal(lived: Workspace, fresh: Workspace) -> None:
    """Whoever forgot the poison must be whoever never saw it: the same state, byte for byte.

    Args:
        lived: Forgot, and recovered.
        fresh: Never saw it.
    """
    assert lived.state_digest() == fresh.state_digest(), "the state is not that of a fresh training without the poison"


def _ids(rows: np.ndarray) -> list[str]:
    return [f"row-{row}" for row in rows.tolist()]


def _scored(poison: Poison, workspace: Workspace, when: str, words: str, *, works: bool = False) -> Iterator[Figure]:
    said = workspace.predict(poison.images.test_x)
    accuracy = float((said == poison.images.test_y).mean())
    yield Figure(f"{poison.name}.{when}.accuracy", f"test accuracy {words}", accuracy, "share")
    success, least = poison.success(workspace.predict), WORKS if works else None
    yield Figure(f"{poison.name}.{when}.success", f"attack success {words}", success, "share", at_least=least)


BENCHMARK = Benchmark("forget_poison", "Poisoned records, forgotten", measure)
"""`python -m experiments.forget_poison`."""
