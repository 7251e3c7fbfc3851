"""Fully connected layers, forward and backward, written out in numpy: no graph is recorded, nothing is allocated.

All parameters lie in one vector, layer after layer, weights `[inputs, outputs]` before biases `[outputs]`, so that an
optimiser handles them in a few operations. Activations and their derivatives are computed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Activate = Callable[[np.ndarray], None]
"""Applies an activation to `[n, width]` in place."""

Derive = Callable[[np.ndarray, np.ndarray], None]
"""Given what an activation returned, multiplies a gradient by its derivative, in place."""


def _relu(z: np.ndarray) -> None:
    np.maximum(z, 0, out=z)


def _relu_back(z: np.ndarray, gradient: np.ndarray) -> None:
    np.multiply(gradient, z > 0, out=gradient)


def _tanh(z: np.ndarray) -> None:
    np.tanh(z, out=z)


def _tanh_back(z: np.ndarray, gradient: np.ndarray) -> None:
    np.multiply(gradient, 1 - z * z, out=gradient)


ACTIVATIONS: dict[str, tuple[Activate, Derive]] = {"relu": (_relu, _relu_back), "tanh": (_tanh, _tanh_back)}
"""Activations by name, with what they do on the way back."""


@dataclass(frozen=True)
class Layer:
    """Views of one layer in a vector of parameters, or of gradients.

    Attributes:
        weights: `[inputs, outputs]` float32.
        biases: `[outputs]` float32.
    """

    weights: np.ndarray
    biases: np.ndarray


def count_parameters(sizes: Sequence[int]) -> int:
    """Length of the vector of all parameters.

    Args:
        sizes: Inputs, hidden widths, outputs.

    Returns:
        Their number.
    """
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def layers_of(vector: np.ndarray, sizes: Sequence[int]) -> list[Layer]:
    """Views of each layer.

    Args:
        vector: `[count_parameters(sizes)]` float32.
        sizes: Inputs, hidden widths, outputs.

    Returns:
        One a layer, which share the vector's memory.
    """
    found, at = [], 0
    for inputs, outputs in pairwise(sizes):
        middle, end = at + inputs * outputs, at + (inputs + 1) * outputs
        found.append(Layer(vector[at:middle].reshape(inputs, outputs), vector[middle:end]))
        at = end
    return found


def first_parameters(sizes: Sequence[int], seed: int) -> np.ndarray:
    """Parameters to begin with: uniform within 1 / sqrt(inputs) of zero, weights and biases alike.

    Args:
        sizes: Inputs, hidden widths, outputs.
        seed: Of the generator.

    Returns:
        `[count_parameters(sizes)]` float32.
    """
    vector = np.random.Generator(np.random.PCG64(seed)).random(count_parameters(sizes), dtype=np.float32)
    vector = 2 * vector - 1
    for layer, inputs in zip(layers_of(vector, sizes), sizes, strict=False):
        bound = np.float32(1 / math.sqrt(inputs))
        layer.weights[...] *= bound
        layer.biases[...] *= bound
    return vector


class Network:
    """Layers over a vector of parameters, with room for what one minibatch leaves in each.

    Args:
        vector: All parameters; read at every call.
        sizes: Inputs, hidden widths, outputs.
        activation: One of `ACTIVATIONS`, between layers.
        rows: Records of a minibatch, at most.
    """

    def __init__(self, vector: np.ndarray, sizes: Sequence[int], activation: str, rows: int) -> None:
        self.layers = layers_of(vector, sizes)
        self._activate, self._derive = ACTIVATIONS[activation]
        self._outputs = [np.empty((rows, size), dtype=np.float32) for size in sizes[1:]]
        self._gradients = [np.empty((rows, size), dtype=np.float32) for size in sizes[1:-1]]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Output of the last layer.

        Args:
            x: `[n, inputs]` float32, n at most `rows`.

        Returns:
            `[n, outputs]` float32, overwritten by the next call.
        """
        n, last = len(x), len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            z = self._outputs[number][:n]
            np.matmul(x, layer.weights, out=z)
            z += layer.biases
            if number < last:
                self._activate(z)
            x = z
        return x

    def backward(self, x: np.ndarray, gradient: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """What is needed to change each layer, the last layer first.

        Each layer is given after its weights were used, and may be changed before the next one is asked for.

        Args:
            x: What `forward` was given.
            gradient: `[n, outputs]`: of the loss, by the last layer's output.

        Yields:
            Number of the layer, its inputs `[n, inputs]`, and the gradient by its outputs `[n, outputs]`.
        """
        n = len(x)
        for number in range(len(self.layers) - 1, 0, -1):
            inputs = self._outputs[number - 1][:n]
            below = self._gradients[number - 1][:n]
            np.matmul(gradient, self.layers[number].weights.T, out=below)
            yield number, inputs, gradient
            # Only now: who changes the layer reads its inputs.
            self._derive(inputs, below)
            gradient = below
        yield 0, x, gradient
