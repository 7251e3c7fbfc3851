"""CIFAR-10-JPEG: the images of CIFAR-10 after lossy compression, which is not CIFAR-10 to the last bit."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiments.forget_exact.run import DATA
from experiments.frozen_heads.images import Images

FOLDER = DATA.parent / "cifar10_jpeg"


def cifar() -> Images:
    """50,000 images, each its own subject, and 10,000 to test with; colours one after another."""
    x, y = _read([FOLDER / f"train_{part}.npz" for part in range(5)])
    test_x, test_y = _read([FOLDER / "test_0.npz"])
    return Images(x, y, [f"image-{row}" for row in range(len(x))], test_x, test_y)


def _read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    images, classes = [], []
    for file in files:
        part = dict(np.load(file))
        data, ends = part["jpeg"].tobytes(), part["offset"]
        for start, end in pairwise(ends):
            pixels = np.asarray(Image.open(io.BytesIO(data[start:end])).convert("RGB"))
            images.append(pixels.transpose(2, 0, 1).reshape(-1))
        classes.append(part["y"].astype(np.int64))
    return np.stack(images), np.concatenate(classes)
