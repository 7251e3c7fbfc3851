"""Softmax regression by stochastic gradient descent, many trainings at once; with and without privacy.

A record's gradient is (p - y) x', so its norm is |p - y| |(x, 1)| and clipping needs no gradient of its own: the sum
over a batch is one product of matrices for all trainings together. It is what `PrivateTorchLearner` does with a linear
module, which a test holds it against, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """How to train.

    Attributes:
        noise_multiplier: In clipping norms.
        clip_norm: Of each record's gradient.
        sampling_rate: Of each record in each batch.
        batch_size: What sums are divided by.
        rate: Of learning.
        steps: Batches.
    """

    noise_multiplier: float
    clip_norm: float
    sampling_rate: float
    batch_size: int
    rate: float
    steps: int


@dataclass(frozen=True)
class Models:
    """Trained models.

    Attributes:
        weights: `[runs, classes, d]`.
        biases: `[runs, classes]`.
    """

    weights: np.ndarray
    biases: np.ndarray

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mean loss of each model on some records, `[runs]`."""
        p = _probabilities(x.astype(self.weights.dtype), self)
        mean: np.ndarray = -np.log(p[np.arange(len(y)), :, y] + 1e-30).mean(axis=0)
        return mean

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """Mean accuracy of all models."""
        said = _probabilities(x.astype(self.weights.dtype), self).argmax(axis=2)
        return float((said == y[:, None]).mean())


def train_private(x: np.ndarray, y: np.ndarray, setting: Setting, runs: int, rng: np.random.Generator) -> Models:
    """Train by DP-SGD, from weights of zero.

    Args:
        x: `[n, d]`.
        y: `[n]` classes.
        setting: How to train.
        runs: Trainings, each with batches and noise of its own.
        rng: Where those come from.

    Returns:
        The models.
    """
    x32 = x.astype(np.float32)
    hot = np.eye(CLASSES, dtype=np.float32)[y][:, None, :]
    norms = np.sqrt((x32**2).sum(axis=1) + 1)[:, None]
    models = Models(
        np.zeros((runs, CLASSES, x.shape[1]), dtype=np.float32), np.zeros((runs, CLASSES), dtype=np.float32)
    )
    scale, factor = setting.noise_multiplier * setting.clip_norm, setting.rate / setting.batch_size
    for _ in range(setting.steps):
        uniform = rng.random((runs, len(y))).T
        error = _probabilities(x32, models) - hot
        length = np.sqrt((error**2).sum(axis=2)) * norms
        error *= (np.minimum(1, setting.clip_norm / np.maximum(length, 1e-12)) * (uniform < setting.sampling_rate))[
            :, :, None
        ]
        sums = (error.reshape(len(y), -1).T @ x32).reshape(models.weights.shape)
        models = Models(
            models.weights - factor * (sums + _noise(models.weights.shape, scale, rng)),
            models.biases - factor * (error.sum(axis=0) + _noise(models.biases.shape, scale, rng)),
        )
    return models


def train_plain(
    x: np.ndarray, y: np.ndarray, rate: float, steps: int, batch_size: int, runs: int, rng: np.random.Generator
) -> Models:
    """Train by plain stochastic gradient descent from random weights: no clipping, no noise.

    Args:
        x: `[n, d]`.
        y: `[n]` classes.
        rate: Of learning.
        steps: Batches.
        batch_size: Records a batch, each drawn anew.
        runs: Trainings, each with first weights and batches of its own.
        rng: Where those come from.

    Returns:
        The models.
    """
    hot = np.eye(CLASSES)[y][:, None, :]
    models = Models(rng.normal(scale=0.1, size=(runs, CLASSES, x.shape[1])), np.zeros((runs, CLASSES)))
    for _ in range(steps):
        times = rng.multinomial(batch_size, np.full(len(y), 1 / len(y)), size=runs).T
        error = (_probabilities(x, models) - hot) * times[:, :, None] / batch_size
        sums = (error.reshape(len(y), -1).T @ x).reshape(models.weights.shape)
        models = Models(models.weights - rate * sums, models.biases - rate * error.sum(axis=0))
    return models


def _probabilities(x: np.ndarray, models: Models) -> np.ndarray:
    """Of each record by each model, `[n, runs, classes]`."""
    runs, classes, d = models.weights.shape
    logits = (x @ models.weights.reshape(runs * classes, d).T).reshape(len(x), runs, classes) + models.biases
    logits -= logits.max(axis=2, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=2, keepdims=True)
    return logits


def _noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)
