"""Fully connected networks of several shards as one: their first layers are one product, the later ones are stacked.

A product of few rows with many small matrices is mostly calls and traffic; one product is one call, and rows of the
joined first layer lie side by side in memory, so that what a record does not have need not be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.learners.base import Features
from shards.learners.mlp_network import ACTIVATIONS, Layer
from shards.learners.torch_tensors import Scaling, count_records
from shards.task import Task

ROOM = 2**25
"""Bytes that the intermediate results of one prediction take at most, unless those of a single row take more."""

MOST_ROWS = 512
"""Rows at a time; more make the products no faster."""

_FEW_ROWS = 16
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Dense:
    """One shard's network.

    Attributes:
        layers: First to last; all shards' have the same shapes.
        activation: One of `ACTIVATIONS`, between layers.
        scaling: Mean and standard deviation `[inputs]` to standardise inputs with in float64, or None.
        scale: What float32 inputs are multiplied by.
    """

    layers: Sequence[Layer]
    activation: str
    scaling: Scaling | None = None
    scale: float = 1.0


class JoinedDense:
    """Says what every member says, `[members, rows, …]` at a time; see `Joined`.

    Rows are taken in chunks of a size that depends on the networks alone, so the same rows give the same bytes. In
    another call, among others, a row's last digits may differ: libraries of linear algebra add in another order there.

    Args:
        members: The networks, at least one; their parameters are copied.
        task: What is predicted.
    """

    def __init__(self, members: Sequence[Dense], task: Task) -> None:
        first, *later = zip(*(member.layers for member in members), strict=True)
        self._task = task
        self._activate = ACTIVATIONS[members[0].activation][0]
        self._scalings = [member.scaling for member in members if member.scaling is not None]
        self._scale = np.float32(members[0].scale)
        self._weights = np.concatenate([layer.weights for layer in first], axis=1)
        self._biases = np.concatenate([layer.biases for layer in first])
        self._later = [
            (np.stack([layer.weights for layer in stack]), np.stack([layer.biases for layer in stack])[:, None])
            for stack in later
        ]
        self._members = len(members)
        inputs, width = self._weights.shape
        widths = [weights.shape[2] for weights, _ in self._later]
        # Float32 but for the inputs, where they are standardised, and the outputs, with room to change them.
        self._row: int = 4 * (width + self._members * sum(widths)) + 24 * self._members * self._outputs
        self._row += (24 if self._scalings else 4) * inputs

    @property
    def _outputs(self) -> int:
        return len(self._task.classes) if self._task.kind == "classification" else math.prod(self._task.target.shape)

    @property
    def rows(self) -> int:
        """Rows of a chunk."""
        return min(MOST_ROWS, max(1, ROOM // self._row))

    def __call__(self, features: Features) -> Iterator[np.ndarray]:
        """What the members say.

        Args:
            features: Feature name to array `[n, *shape]`.

        Yields:
            Class probabilities `[members, rows, classes]` or targets `[members, rows, *target shape]`, float64.

        Raises:
            InputError: If the features are not the task's.
        """
        n = count_records(features, self._task)
        blocks = [np.reshape(array, (n, math.prod(array.shape[1:]))) for array in features.values()]
        room = np.empty((min(n, self.rows), self._weights.shape[1]), dtype=np.float32)
        for start in range(0, max(n, 1), self.rows):
            yield self._said(self._layers([block[start : start + self.rows] for block in blocks], room))

    def _layers(self, blocks: Sequence[np.ndarray], room: np.ndarray) -> np.ndarray:
        """Output of the last layer, `[members, rows, outputs]` float32."""
        z = room[: len(blocks[0])]
        self._first(blocks, z)
        z += self._biases
        z = z.reshape(len(z), self._members, z.shape[1] // self._members).swapaxes(0, 1)
        for weights, biases in self._later:
            self._activate(z)
            z = np.matmul(z, weights)
            z += biases
        return z

    def _first(self, blocks: Sequence[np.ndarray], z: np.ndarray) -> None:
        """Inputs times the first layers' weights, into `[rows, members * width]` float32."""
        if self._scalings:
            x = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
            x, width = x.astype(np.float64, copy=False), z.shape[1] // self._members
            for number, (mean, std) in enumerate(self._scalings):
                own = slice(number * width, (number + 1) * width)
                np.matmul(self._scaled(((x - mean) / std).astype(np.float32)), self._weights[:, own], out=z[:, own])
            return
        plain = [block.astype(np.float32, copy=False) for block in blocks]
        x = self._scaled(plain[0] if len(plain) == 1 else np.concatenate(plain, axis=1))
        if len(x) <= _FEW_ROWS and np.count_nonzero(x) <= len(self._weights):
            self._some_inputs(x, z)
        else:
            np.matmul(x, self._weights, out=z)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self._scale == 1 else x * self._scale

    def _some_inputs(self, x: np.ndarray, z: np.ndarray) -> None:
        """The same for few rows, where reading the weights takes the time: only those of inputs that are not zero."""
        for row, out in zip(x, z, strict=True):
            (found,) = row.nonzero()
            values = row[found]
            out.fill(0)
            for start in range(0, len(found), _BLOCK):  # a block stays in the cache between being copied and used
                end = start + _BLOCK
                np.add(out, values[start:end] @ self._weights.take(found[start:end], axis=0), out=out)

    def _said(self, z: np.ndarray) -> np.ndarray:
        """Outputs of the last layer as predictions."""
        if self._task.kind == "regression":
            return z.astype(np.float64).reshape(*z.shape[:2], *self._task.target.shape)
        # Classes first: a reduction along an axis of few elements is slow.
        said = np.array(z.transpose(2, 0, 1), dtype=np.float64, order="C")
        said -= said.max(axis=0)
        np.exp(said, out=said)
        said /= said.sum(axis=0)
        return said.transpose(1, 2, 0)
