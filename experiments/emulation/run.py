"""`python -m experiments.emulation [--quick]`: MNIST emulated under several epsilons, for images and for writers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from experiments.forget_exact.run import mnist
from shards.executors.local import LocalExecutor
from shards.learners.mlp import MLPLearner
from shards.records import Records, make_records
from unlearn import Workspace
from unlearn.emulation import emulate

CLASSES = tuple(range(10))


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
    x, y, writer = _small(images.x), images.y.astype(np.int64), images.writer
    held = _small(images.test_x), images.test_y.astype(np.int64)
    learner, figures = MLPLearner(**setting["learner"]), []
    say("the images themselves")
    real = [_accuracy(folder / f"real-{draw}", learner, make_records(x, y), held, draw) for draw in setting["draws"]]
    figures.append(_figure("real", "the images themselves", real))
    for unit, options in setting["units"].items():
        subjects = writer.tolist() if unit == "writer" else None
        for epsilon in setting["epsilons"]:
            say(f"emulated, epsilon {epsilon:g} for {'an' if unit == 'image' else 'a'} {unit}")
            found = []
            for draw in setting["draws"]:
                made = emulate(
                    x,
                    y,
                    classes=CLASSES,
                    bounds=(0.0, 1.0),
                    epsilon=epsilon,
                    n=setting["n"],
                    subjects=subjects,
                    random_state=draw,
                    **options,
                )
                found.append(_accuracy(folder / f"{unit}-{epsilon}-{draw}", learner, made.records(), held, draw))
            words = f"emulated, epsilon {epsilon:g} at delta {options['delta']:g} for one {unit}"
            figures.append(_figure(f"{unit}.{epsilon:g}", words, found))
            name, told = f"{unit}.{epsilon:g}.ten", f"{words}: epsilon for ten of them together"
            figures.append(Figure(name, told, made.guarantee(k=10).epsilon, "epsilon"))
    return figures


def _small(images: np.ndarray) -> np.ndarray:
    """Images `[n, 784]` of bytes as means of 4 x 4 pixels, `[n, 49]` from 0 to 1."""
    means = images.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4), dtype=np.float32) / 255
    return means.reshape(len(images), -1)


def _accuracy(
    folder: Path, learner: MLPLearner, records: Records, held: tuple[np.ndarray, np.ndarray], seed: int
) -> float:
    """Test accuracy of a workspace that trained on some records."""
    workspace = Workspace.create(
        folder, learner, n_shards=1, n_slices=1, classes=CLASSES, random_state=seed, executor=LocalExecutor(1)
    )
    with closing(workspace):
        workspace.ingest(records)
        workspace.train(progress=False)
        return float((workspace.predict(held[0]) == held[1]).mean())


def _figure(name: str, words: str, found: list[float]) -> Figure:
    spread = f" ± {stdev(found):.2g} over {len(found)} draws" if len(found) > 1 else ""
    return Figure(name, f"test accuracy, trained on {words}{spread}", mean(found), "share", samples=found)


BENCHMARK = Benchmark("emulation", "Trained on an emulation", measure, where=None)
"""`python -m experiments.emulation`."""
