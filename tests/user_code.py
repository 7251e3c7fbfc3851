"""Code as a user would write it, referred to by the tests as `"user_code:name"`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def digits_cnn(input_shape: Sequence[int], n_outputs: int, rate: float = 0.3) -> nn.Module:
    """A small convolutional network with dropout for images `[n, height, width]`."""
    height, width = input_shape
    return nn.Sequential(
        nn.Unflatten(1, (1, height)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(rate),
        nn.Flatten(),
        nn.Linear(4 * (height // 2) * (width // 2), n_outputs),
    )
