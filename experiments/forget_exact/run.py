"""`python -m experiments.forget_exact [--quick]`: deletions from a ridge model of MNIST, each of them exact."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from shards.learners.merging import MergeLearner
from shards.learners.naive_bayes import GaussianNBLearner
from shards.learners.random_trees import RandomTreesLearner
from shards.learners.ridge import RidgeLearner
from unlearn import Workspace

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mnist_writers"

ACCURACY = 0.97
DELETION_MS = 100.0
DRIFT = 1.2

DELETED = 20
"""The median over so many, the first ones, is the time of one deletion."""


@dataclass(frozen=True)
class Images:
    """Images to train on and to test with.

    Attributes:
        x: `[n, pixels]` uint8.
        y: `[n]` int64, classes from 0.
        writer: `[n]`, who wrote each.
        test_x: `[m, pixels]` uint8.
        test_y: `[m]`.
    """

    x: np.ndarray
    y: np.ndarray
    writer: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def mnist() -> Images:
    """MNIST with its writers: 60,000 images of 539, and 10,000 of others."""
    train = [dict(np.load(DATA / f"train_{part}.npz")) for part in range(3)]
    test = dict(np.load(DATA / "test_0.npz"))
    x, y, writer = (np.concatenate([part[name] for part in train]) for name in ("x", "y", "writer"))
    return Images(x.reshape(len(x), -1), y, writer, test["x"].reshape(len(test["x"]), -1), test["y"])


@dataclass(frozen=True)
class Deletion:
    """What one deletion took, all included: in milliseconds.

    Attributes:
        forget: Until it is durable, destroyed and receipted.
        recover: Until the model is that of all records left, with a receipt.
        predict: The first prediction with it.
        summing: Of `recover`: summing in the worker.
        cpu: Processor time of this process, and `summing`.
    """

    forget: float
    recover: float
    predict: float
    summing: float
    cpu: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.forget + self.recover + self.predict


class Model:
    """A workspace, and what is left of its records.

    Args:
        folder: Where to make it.
        images: What to train on.
        learner: What each shard sums.
        n_shards: In how many shards.
        without: Rows to leave out.
    """

    def __init__(
        self,
        folder: Path,
        images: Images,
        learner: MergeLearner,
        n_shards: int,
        without: frozenset[int] = frozenset(),
    ) -> None:
        self.images, self.learner, self.gone = images, learner, set(without)
        self.workspace = Workspace.create(
            folder,
            learner,
            n_shards=n_shards,
            classes=list(range(10)),
            random_state=0,
        )
        rows = self.left()
        self.workspace.ingest(
            images.x[rows],
            images.y[rows],
            subjects=[f"writer-{name}" for name in images.writer[rows].tolist()],
            record_ids=[f"row-{row}" for row in rows],
        )
        started = time.perf_counter()
        self.workspace.train()
        self.seconds = time.perf_counter() - started

    def left(self) -> list[int]:
        """Rows that are left."""
        return [row for row in range(len(self.images.x)) if row not in self.gone]

    def delete(self, rows: Sequence[int], writer: int | None = None) -> Deletion:
        """Delete some records.

        Args:
            rows: Which.
            writer: Whose they all are, if all of a writer's are named by that; None: they are named one by one.

        Returns:
            What it took.
        """
        named = {"record_ids": [f"row-{row}" for row in rows]} if writer is None else {"subjects": [f"writer-{writer}"]}
        with _timed() as times:
            self.workspace.forget(reason="measured", **named)
            times.lap()
            summing = self.workspace.recover().training_seconds
            times.lap()
            self.workspace.predict_proba(self.images.test_x[:1])
            times.lap()
        self.gone |= set(rows)
        return Deletion(*(1e3 * lap for lap in times.laps), 1e3 * summing, 1e3 * (times.cpu + summing))

    def accuracy(self) -> float:
        """Of the test images."""
        return float((self.workspace.predict(self.images.test_x) == self.images.test_y).mean())

    def model(self) -> bytes:
        """What it says of every test image."""
        return self.workspace.predict_proba(self.images.test_x).tobytes()


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
    figures = _ridge(setting, images, folder, say)
    features, trees = setting["features"], setting["trees"]
    others: dict[str, MergeLearner] = {
        "naive_bayes": GaussianNBLearner(setting["var_smoothing"], features),
        "trees": RandomTreesLearner(
            trees["trees"], trees["depth"], low=trees["low"], high=trees["high"], features=features
        ),
    }
    for name, learner in others.items():
        figures += _other(name, learner, setting, images, folder / name, say)
    return figures


def _ridge(setting: Mapping[str, Any], images: Images, folder: Path, say: Say) -> list[Figure]:
    n_shards = setting["n_shards"]
    say(f"{len(images.x):,} images in {n_shards} shards")
    model = Model(folder / "lived", images, RidgeLearner(setting["alpha"], setting["features"]), n_shards)
    figures = [
        Figure("accuracy", "test accuracy of the model of all", model.accuracy(), "share", at_least=ACCURACY),
        Figure("train", f"training of {len(images.x):,} images in {n_shards} shards", model.seconds, "s"),
    ]
    random = np.random.default_rng(0)
    writers = random.permutation(np.unique(images.writer))[: setting["writers"]].tolist()
    say(f"{len(writers)} writers, one after another")
    found = [model.delete(np.flatnonzero(images.writer == writer).tolist(), writer) for writer in writers]
    figures += _of("writer", "deletion of a writer", found, DELETION_MS)
    rows = random.permutation(model.left()).tolist()
    say(f"{setting['records']} records, one after another")
    found = [model.delete([row]) for row in rows[: setting["records"]]]
    figures += _of("record", "deletion of a record", found, DELETION_MS)
    some = rows[setting["records"] :][: setting["together"]]
    say(f"{len(some)} records together")
    took = model.delete(some)
    figures.append(Figure("together", f"deletion of {len(some)} records by one request", took.total, "ms"))
    say("the same without them, from the start")
    check_equal(model, folder)
    deleted = len(images.x) - len(model.left())
    what = "images deleted; afterwards the state is that of a fresh training without them, byte for byte"
    return [
        *figures,
        Figure("deleted", what, deleted, "images"),
        Figure("accuracy_left", "test accuracy of the model of those left", model.accuracy(), "share"),
    ]


def _other(
    name: str, learner: MergeLearner, setting: Mapping[str, Any], images: Images, folder: Path, say: Say
) -> list[Figure]:
    """Another exact learner over the same features: what it predicts, and what some writers cost."""
    n_shards, some = setting["trees"]["n_shards"], setting["trees"]["writers"]
    say(f"{name}, in {n_shards} shards")
    folder.mkdir()
    model = Model(folder / "lived", images, learner, n_shards)
    accuracy = model.accuracy()
    writers = np.random.default_rng(0).permutation(np.unique(images.writer))[:some].tolist()
    found = [model.delete(np.flatnonzero(images.writer == writer).tolist(), writer) for writer in writers]
    check_equal(model, folder)
    what = f"{name}: deletion of a writer, {{}}, median of {len(found)}"
    parts = (("total", "all included"), ("summing", "summing in the worker"), ("cpu", "processor time"))
    return [
        Figure(f"{name}.accuracy", f"{name}: test accuracy of the model of all", accuracy, "share"),
        Figure(f"{name}.train", f"{name}: training in {n_shards} shards", model.seconds, "s"),
        *(
            Figure(f"{name}.writer.{part}", what.format(words), median(getattr(item, part) for item in found), "ms")
            for part, words in parts
        ),
    ]


def check_equal(model: Model, folder: Path) -> None:
    """Compare with what never saw the deleted records: the state, and the model in a single shard.

    Args:
        model: What lived through the deletions.
        folder: Where to train again.
    """
    gone, learner = frozenset(model.gone), model.learner
    fresh = Model(folder / "fresh", model.images, learner, model.workspace.declaration.n_shards, gone)
    assert fresh.workspace.state_digest() == model.workspace.state_digest(), "the state is not that of a fresh training"
    single = Model(folder / "single", model.images, learner, 1, gone)
    assert single.model() == model.model(), "the model is not that of a single shard"


def _of(name: str, what: str, found: Sequence[Deletion], at_most: float) -> list[Figure]:
    first, quarter = found[:DELETED], max(len(found) // 4, 1)
    totals = [item.total for item in found]
    drift = median(totals[-quarter:]) / median(totals[:quarter])
    parts = (
        ("forget", "of that, forget: durable, destroyed, receipted"),
        ("recover", "of that, recover: the model of all records left, receipted"),
        ("summing", "of that, summing in the worker"),
        ("predict", "of that, the first prediction"),
        ("cpu", "processor time"),
    )
    return [
        Figure(
            name,
            f"{what}, all included; median of the first {len(first)}",
            median(totals[:DELETED]),
            "ms",
            at_most=at_most,
            samples=totals,
        ),
        *(
            Figure(f"{name}.{part}", words, median(getattr(item, part) for item in first), "ms")
            for part, words in parts
        ),
        Figure(f"{name}.all", f"all {len(found)} one after another", sum(totals) / 1e3, "s"),
        Figure(f"{name}.drift", "the last quarter's median over the first's", drift, "x", at_most=DRIFT),
    ]


class _Laps:
    def __init__(self) -> None:
        self.laps: list[float] = []
        self.cpu = 0.0
        self._last = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.laps.append(now - self._last)
        self._last = now


@contextmanager
def _timed() -> Iterator[_Laps]:
    cpu, laps = time.process_time(), _Laps()
    yield laps
    laps.cpu = time.process_time() - cpu


BENCHMARK = Benchmark("forget_exact", "Deletions from a model out of exact sums", measure)
"""`python -m experiments.forget_exact`."""
