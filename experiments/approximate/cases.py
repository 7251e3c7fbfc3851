"""What is learnt and what is forgotten: the data, the networks, and who asks to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments.attack_strength.posteriors import location30
from experiments.attack_strength_images.run import cifar
from experiments.forget_exact.run import mnist
from unlearn.methods.base import Examples
from unlearn.methods.training import Training, generators_kept


@dataclass(frozen=True, eq=False)
class Case:
    """Data and the networks that learn it.

    Attributes:
        train: Examples, their ids being row numbers.
        subject: `[n]` int: whose each is.
        test: Examples of nobody among these.
        held_out: Further ones, for methods that need some which were not trained on.
        n_classes: How many there are.
        options: The case's entries of `config.toml`.
    """

    train: Examples
    subject: np.ndarray
    test: Examples
    held_out: Examples
    n_classes: int
    options: Mapping[str, Any]

    def network(self, seed: int) -> torch.nn.Module:
        """An untrained network.

        Args:
            seed: Of its weights.

        Returns:
            Three convolutions and a linear layer for images, else one hidden layer.
        """
        with generators_kept(torch.nn.Identity(), seed):
            if "widths" in self.options:
                return _convolutions(self.options["widths"], self.n_classes)
            hidden = self.options["hidden"]
            width = self.train.inputs.shape[1]
            return torch.nn.Sequential(
                torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, self.n_classes)
            )

    def training(self, seed: int) -> Training:
        """How it is trained, originally and again."""
        return Training(**self.options["training"], seed=seed)

    def forgotten(self, block: int) -> np.ndarray:
        """Who or what is forgotten; blocks of different numbers share nobody.

        Args:
            block: Its number, from 0 on, or from -1 back: of so many subjects in `in_order`, or of classes.

        Returns:
            `[n]` bool.
        """
        whole, count = self.train.targets.numpy(), self.options["forgotten"]
        whose, order = (
            (whole, np.arange(self.n_classes)) if self.options["kind"] == "class" else (self.subject, self.in_order())
        )
        blocks = np.split(order, range(count, len(order), count))
        full = [chosen for chosen in blocks if len(chosen) == count]
        return np.isin(whose, full[block])

    def in_order(self) -> np.ndarray:
        """All subjects, in the order in which they ask to be forgotten, which is drawn."""
        return np.random.default_rng(1).permutation(np.unique(self.subject))


def read(options: Mapping[str, Any]) -> Case:
    """Read the data of a case.

    Args:
        options: Its entries of `config.toml`.

    Returns:
        The case.
    """
    n, m, held = options["records"], options["test_records"], options["held_out_records"]
    if options["source"] == "location":
        x, y = location30()
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
        return _case(x, y, np.arange(n), (x[-m:], y[-m:]), held, options)
    if options["source"] == "cifar":
        images, y = cifar(n + held + m)
        x = images.astype(np.float32) / 127.5 - 1  # by public constants, not by the images' own moments
        return _case(x, y, np.arange(n), (x[-m:], y[-m:]), held, options)
    found = mnist()
    x, test_x = ((part / 255).astype(np.float32) for part in (found.x, found.test_x))
    # Whole writers, in an order that is drawn, until there are enough records; held out are those who follow.
    names, whose = np.unique(found.writer, return_inverse=True)
    place = np.random.default_rng(0).permutation(len(names))[whose]
    order = np.argsort(place, kind="stable")
    last = place[order[n - 1]]
    subject = found.writer[order][: np.searchsorted(place[order], last, side="right")]
    return _case(x[order], found.y[order], subject, (test_x[:m], found.test_y[:m]), held, options)


def _case(
    x: np.ndarray,
    y: np.ndarray,
    subject: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    held: int,
    options: Mapping[str, Any],
) -> Case:
    """The first rows are trained on, and the next `held` are held out."""
    n = len(subject)
    assert n + held + (0 if options["source"] == "writers" else len(test[0])) <= len(x), "too few records"
    parts = ((x[:n], y[:n]), test, (x[n : n + held], y[n : n + held]))
    train, tested, held_out = (Examples(torch.from_numpy(a.copy()), torch.from_numpy(b.copy())) for a, b in parts)
    numbered = Examples(train.inputs, train.targets, tuple(range(n)))
    return Case(numbered, subject, tested, held_out, int(y.max()) + 1, options)


def _convolutions(widths: list[int], n_classes: int) -> torch.nn.Module:
    """Images are halved first, and then after every convolution, so that thousands of trainings take minutes."""
    layers: list[torch.nn.Module] = [torch.nn.AvgPool2d(2)]
    for inputs, outputs in zip((3, *widths[:-1]), widths, strict=True):
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(widths[-1] * 4, n_classes))
