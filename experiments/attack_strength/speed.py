"""What a stack of networks saves against torch's own loop over one network, in processor time of one thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.attack_strength.location import network
from experiments.attack_strength.posteriors import CLASSES, location30
from experiments.benchmark import Figure, Say
from unlearn.audit.shadow_mlp import StackedMLP
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
        times = [
            (_alone(inputs, y, one, setting["loop_minibatches"]), _stacked(inputs, y, one, setting["loop_minibatches"]))
            for _ in range(setting["rounds"])
        ]
        # Others on the machine only ever make it slower, so the quickest round is the nearest to the truth.
        alone, stacked = (min(part) for part in zip(*times, strict=True))
        figures += [
            Figure(f"speed.{name}.alone", f"a model's minibatch in torch's loop: {what}", alone * 1e6, "us"),
            Figure(f"speed.{name}.stacked", f"in a stack of {STACK}", stacked * 1e6, "us"),
            Figure(f"speed.{name}.gain", "the first over the second", alone / stacked, "x", at_least=GOAL),
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
