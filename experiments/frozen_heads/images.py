"""Images to learn, whose they are, and images to test with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.forget_exact.run import mnist


@dataclass(frozen=True)
class Images:
    """Images to train on and to test with.

    Attributes:
        x: `[n, pixels]` uint8.
        y: `[n]` int64, classes from 0.
        subjects: Whose each is, n of them.
        test_x: `[m, pixels]` uint8.
        test_y: `[m]`.
    """

    x: np.ndarray
    y: np.ndarray
    subjects: Sequence[str]
    test_x: np.ndarray
    test_y: np.ndarray


def writers() -> Images:
    """MNIST with its writers, and the official test part: 10,000 images of others."""
    found = mnist()
    return Images(found.x, found.y, [f"writer-{name}" for name in found.writer], found.test_x, found.test_y)
