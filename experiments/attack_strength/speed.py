"""What a stack of networks saves against torch's own loop over one network, in processor time of one thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.attack_strength.location import network
from experiments.attack_strength.posteriors import CLASSES, location30
from experiments.benchmark import Figure, Say
from unlearn.audit.shadow_mlp import StackedMLP, stack_size
from unlearn.audit.shadows import half_splits

STACK = 64
GOAL = 4.0
SMALL = 64
"""Features and hidden units of the small network."""


def measure_speed(setting: Mapping[str, Any], say: Say) -> list[Figure]:
    """Time a minibatch of one model, alone in torch's loop and as one of a stack.

    Args:
        setting: The entries of `config.toml`.
        say: Told what is under way.

    Returns:
        The figures.
    """
    X, y = location30()
    stack = network(setting)
    cases = {
        "location": (X, stack, "446 features, the shadow models' network"),
        "small": (X[:, :SMALL].copy(), replace(stack, hidden=(SMALL,)), f"{SMALL} features, {SMALL} hidden units"),
    }
    figures = []
    for name, (inputs, one, what) in cases.items():
        say(f"time of a minibatch: {what}")
        number = setting["loop_minibatches"]
        times = [
            (
                _alone(inputs, y, one, number),
                _stacked(inputs, y, one, number),
                _products((inputs.shape[1], *one.hidden, CLASSES), one.batch_size, number // 4 + 1),
            )
            for _ in range(setting["rounds"])
        ]
        # Others on the machine only ever make it slower, so the quickest round is the nearest to the truth.
        alone, stacked, products = (min(part) for part in zip(*times, strict=True))
        figures += [
            Figure(f"speed.{name}.alone", f"a model's minibatch in torch's loop: {what}", alone * 1e6, "us"),
            Figure(f"speed.{name}.stacked", f"in a stack of {STACK}", stacked * 1e6, "us"),
            Figure(f"speed.{name}.gain", "the first over the second", alone / stacked, "x", at_least=GOAL),
            Figure(f"speed.{name}.products", "of the stack, its matrix products by themselves", products * 1e6, "us"),
            Figure(f"speed.{name}.limit", "the gain, were there nothing but these", alone / products, "x"),
        ]
    return figures


def _alone(X: np.ndarray, y: np.ndarray, one: StackedMLP, minibatches: int) -> float:
    """Seconds of processor time a minibatch."""
    import torch

    torch.set_num_threads(1)
    sizes = (X.shape[1], *one.hidden, CLASSES)
    layers: list[torch.nn.Module] = []
    for at in range(len(sizes) - 1):
        layers += [torch.nn.Linear(sizes[at], sizes[at + 1]), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(
        module.parameters(), one.learning_rate, momentum=one.momentum, weight_decay=one.weight_decay
    )
    inputs, labels = torch.tensor(X), torch.tensor(y)
    batches = one.minibatches(np.arange(len(X)), 2 * minibatches * one.batch_size, 0, 0)
    started = 0.0
    for number, window in enumerate(batches):
        if number == minibatches:  # the first half warms up
            started = time.process_time()
        rows = torch.from_numpy(window)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    return (time.process_time() - started) / (len(batches) - minibatches)


def _stacked(X: np.ndarray, y: np.ndarray, one: StackedMLP, minibatches: int) -> float:
    """Seconds of processor time a minibatch of one model, all included."""
    membership = half_splits(STACK, len(X), 0)
    epochs = max(1, round(minibatches * one.batch_size / (len(X) / 2)))
    stack = replace(one, epochs=epochs)
    started = time.process_time()
    stack.train(X, y, CLASSES, membership, 0)
    return (time.process_time() - started) / (STACK * stack.visits(membership) / one.batch_size)


def _products(sizes: tuple[int, ...], batch: int, minibatches: int) -> float:
    """Seconds of processor time of what no way of stacking saves: the matrix products of a minibatch of one model."""
    import torch

    torch.set_num_threads(1)
    models = stack_size(sizes)
    values = [torch.rand(models, batch, size) for size in sizes]
    weights = [torch.rand(models, *shape) for shape in pairwise(sizes)]
    gradients = [torch.zeros_like(weight) for weight in weights]
    started = 0.0
    for number in range(2 * minibatches):
        if number == minibatches:
            started = time.process_time()
        for at, weight in enumerate(weights):
            torch.bmm(values[at], weight)
            gradients[at].baddbmm_(values[at].transpose(1, 2), values[at + 1], beta=0)
            if at:
                torch.bmm(values[at + 1], weight.transpose(1, 2))
    return (time.process_time() - started) / (minibatches * models)
