"""Three convolutions and a linear layer, as a classifier that shadow models can be trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shards.digest import derive_seed

if TYPE_CHECKING:
    import torch

CLASSES = 10


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Passes over its images.
        batch_size: Images a minibatch.
        learning_rate: Of SGD; falls along half a cosine.
        momentum: Of SGD.
        widths: Channels of the three convolutions.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    widths: Sequence[int]


class SmallConvolution:
    """A classifier of images `[n, 3, 32, 32]` uint8.

    Args:
        training: How to train.
        seed: Of first weights and order.
    """

    def __init__(self, training: Training, seed: int) -> None:
        self._training, self._seed = training, seed
        self._module: torch.nn.Module | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> SmallConvolution:
        """Train from nothing; global generators are left alone."""
        import torch

        how = self._training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, "module"))
            module = _module(how.widths)
        sgd = torch.optim.SGD(module.parameters(), how.learning_rate, momentum=how.momentum)
        per_epoch = -(-len(X) // how.batch_size)
        falls = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, how.epochs * per_epoch)
        images, labels = _images(X), torch.tensor(y)
        random = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "order")))
        for _ in range(how.epochs):
            order = torch.from_numpy(random.permutation(len(X)))
            for rows in order.split(how.batch_size):
                sgd.zero_grad()
                torch.nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
                sgd.step()
                falls.step()
        self._module = module
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities `[n, 10]` float64."""
        import torch

        assert self._module is not None, "call fit first"
        with torch.no_grad():
            logits = torch.cat([self._module(part) for part in _images(X).split(256)])
        return np.asarray(torch.softmax(logits.double(), dim=1).numpy())


def _module(widths: Sequence[int]) -> torch.nn.Module:
    import torch

    layers: list[torch.nn.Module] = []
    for inputs, outputs in zip((3, *widths[:-1]), widths, strict=True):
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(widths[-1] * 16, CLASSES))


def _images(X: np.ndarray) -> torch.Tensor:
    import torch

    return torch.tensor(X).float().div_(127.5).sub_(1)  # by public constants, not by the images' own moments
