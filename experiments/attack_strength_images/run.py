"""`python -m experiments.attack_strength_images [--quick]`: attacks on small convolutional networks."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.attack_strength.location import BLOCK, Pool, measure_pool
from experiments.attack_strength.posteriors import DATA
from experiments.attack_strength_images.network import SmallConvolution, Training
from experiments.benchmark import Benchmark, Figure, Say
from unlearn.audit.attacks.base import confidence, own_class
from unlearn.audit.shadows import half_splits, train_shadows


def cifar(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of CIFAR-10-JPEG, whose pixels JPEG has changed a little.

    Args:
        count: How many, at most 10,000.

    Returns:
        `[count, 3, 32, 32]` uint8 and `[count]` int64 classes.
    """
    from PIL import Image

    found = dict(np.load(DATA / "cifar10_jpeg" / "train_0.npz"))
    ends = found["offset"].astype(np.int64)
    data = found["jpeg"].tobytes()
    pictures = [
        np.asarray(Image.open(io.BytesIO(data[ends[i] : ends[i + 1]])).convert("RGB")).transpose(2, 0, 1)
        for i in range(count)
    ]
    return np.stack(pictures), found["y"][:count].astype(np.int64)


def train(setting: Mapping[str, Any], say: Say) -> Pool:
    """Train the shadow models, one after another.

    Args:
        setting: The entries of `config.toml`.
        say: Told what is under way.

    Returns:
        What they say.
    """
    import torch

    torch.set_num_threads(1)
    n, m, seed = setting["records"], setting["population"], setting["seed"]
    X, y = cifar(n + m)
    membership = np.concatenate([half_splits(BLOCK, n, seed + block) for block in range(setting["blocks"])])
    names = ("epochs", "batch_size", "learning_rate", "momentum", "widths")
    how = Training(**{name: setting[name] for name in names})
    shadows = train_shadows(
        lambda number: SmallConvolution(how, number),
        X[:n],
        y[:n],
        membership,
        seed,
        lambda done, of: say(f"{done} of {of} models of about {n // 2:,} images"),
    )
    p = shadows.probabilities(X[:n])
    z = own_class(shadows.probabilities(X[n:]), y[n:])
    return Pool(y[:n], membership, p, confidence(p, y[:n]), own_class(p, y[:n]), z)


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: The entries of `config.toml`.
        folder: Not used: nothing is written.
        say: Told what is under way.

    Returns:
        The figures.
    """
    del folder
    return measure_pool("cifar", train(setting, say), setting, say)


BENCHMARK = Benchmark("attack_strength_images", "How strong the attacks are on images", measure)
"""`python -m experiments.attack_strength_images`."""
