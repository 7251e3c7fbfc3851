"""Two ways to poison records of digits, and how far each reaches into a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.forget_exact.run import Images

Predict = Callable[[np.ndarray], np.ndarray]
"""Images `[n, pixels]` to classes `[n]`."""


@dataclass(frozen=True)
class Poison:
    """Records as the workspace is given them, and what the attacker hopes for.

    Attributes:
        name: What was done.
        images: All of them, poisoned ones among them; pixels from 0 to 1, float32.
        rows: Rows that are poisoned: the given list of what is to be forgotten.
        success: Of a model: the share of test images on which the attack succeeds.
    """

    name: str
    images: Images
    rows: np.ndarray
    success: Callable[[Predict], float]


def backdoor(images: Images, writers: Sequence[int], side: int, options: Mapping[str, Any]) -> Poison:
    """All records of some writers wear a bright patch, and are labelled with the attacker's class [Gu et al. 2017].

    Args:
        images: The clean ones.
        writers: Who poisons.
        side: Rows and columns of an image.
        options: `"rows"` of the patch, and the `"target"` class.

    Returns:
        The poison; it succeeds where an image of another class, with the patch, is taken for the target.
    """
    rows = np.flatnonzero(np.isin(images.writer, writers))
    x, y = images.x.copy(), images.y.copy()
    x[rows], y[rows] = patched(x[rows], side, options["rows"]), options["target"]
    others = images.test_x[images.test_y != options["target"]]
    triggered = patched(others, side, options["rows"])

    def success(predict: Predict) -> float:
        return float((predict(triggered) == options["target"]).mean())

    return Poison("backdoor", replace(images, x=x, y=y), rows, success)


def mislabelled(images: Images, writers: Sequence[int], options: Mapping[str, Any]) -> Poison:
    """Records of one class are labelled as another by some writers.

    Args:
        images: The clean ones.
        writers: Who poisons.
        options: The `"true"` class, and the one that is `"said"`.

    Returns:
        The poison; it succeeds where a test image of the true class is taken for the other.
    """
    rows = np.flatnonzero(np.isin(images.writer, writers) & (images.y == options["true"]))
    y = images.y.copy()
    y[rows] = options["said"]
    mine = images.test_x[images.test_y == options["true"]]

    def success(predict: Predict) -> float:
        return float((predict(mine) == options["said"]).mean())

    return Poison("mislabelled", replace(images, y=y), rows, success)


def patched(x: np.ndarray, side: int, rows: int) -> np.ndarray:
    """Images `[n, side * side]` with a patch of so many rows and columns, of value 1, in the last corner."""
    found = x.reshape(-1, side, side).copy()
    found[:, -rows:, -rows:] = 1.0
    return found.reshape(x.shape)
