"""Eight by eight digits, and records that are easy to find again."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

BLANK = 0
"""A pixel that is blank in every digit: what a model learns of it, it has from a canary."""

CANARY = 5.0
"""How bright that pixel is in a canary."""

LABEL = 3
"""Class of canaries."""


def digits(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits in a random order, some to train on and the rest.

    Args:
        n: To train on.
        rng: The order.

    Returns:
        Pixels `[n, 64]` from 0 to 1 and classes `[n]`, and those of the rest.
    """
    images = load_digits()
    order = rng.permutation(len(images.target))
    x, y = images.data[order] / 16.0, images.target[order].astype(np.int64)
    return x[:n], y[:n], x[n:], y[n:]


def canaries(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Records that are all the same: one bright pixel where no digit has any.

    Their gradients are the same and, but for the bias, at right angles to all others': the worst case of the proof.

    Args:
        k: How many.

    Returns:
        Pixels `[k, 64]` and classes `[k]`.
    """
    x = np.zeros((k, 64))
    x[:, BLANK] = CANARY
    return x, np.full(k, LABEL, dtype=np.int64)
