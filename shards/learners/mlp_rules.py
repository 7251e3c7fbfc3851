"""What an optimiser does with the gradients of one minibatch: SGD, with momentum or not, and Adam.

The same formulas as `torch.optim.SGD` and `torch.optim.Adam` (decay added to the gradient) [Kingma and Ba 2015], over
one vector of parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from shards.learners.mlp_network import Network, layers_of

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Rule(ABC):
    """Abstract: changes a vector of parameters after each minibatch."""

    @abstractmethod
    def update(self, network: Network, x: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """Go one step.

        Args:
            network: Over the parameters, fresh from `forward(x)`.
            x: `[n, inputs]`: the minibatch.
            gradient: `[n, outputs]`: by the output, of the sum of the records' losses.
            rate: Learning rate.
        """

    def state(self) -> dict[str, np.ndarray]:
        """What a later step needs to go on, by name."""
        return {}

    @abstractmethod
    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` gave."""


class PlainSGD(Rule):
    """w := (1 - rate decay) w - rate g, the product of the gradient added to the weights as it is made.

    Args:
        vector: All parameters.
        decay: Weight of half the squared norm.
    """

    def __init__(self, vector: np.ndarray, decay: float) -> None:
        # Loaded where it is used: who only serves need not wait for it.
        from scipy.linalg.blas import sgemm

        self._product = sgemm
        self._vector = vector
        self._decay = decay

    def update(self, network: Network, x: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """See `Rule.update`."""
        scale = -rate / len(x)
        shrink = 1 - rate * self._decay
        for number, inputs, by_outputs in network.backward(x, gradient):
            layer = network.layers[number]
            # In place, and in Fortran's order of axes: weights' = shrink * weights' + scale * by_outputs' inputs.
            weights = layer.weights.T
            self._product(scale, by_outputs.T, inputs.T, beta=shrink, c=weights, trans_b=1, overwrite_c=1)
            if shrink != 1:
                layer.biases[...] *= np.float32(shrink)
            layer.biases[...] += np.float32(scale) * by_outputs.sum(axis=0)

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Rule.go_on`: there is nothing."""
        del state


class _Gathered(Rule):
    """Abstract: a rule that needs the whole gradient at once."""

    def __init__(self, vector: np.ndarray, sizes: Sequence[int], decay: float) -> None:
        self._vector = vector
        self._decay = np.float32(decay)
        self._gradient = np.empty_like(vector)
        self._layers = layers_of(self._gradient, sizes)

    def update(self, network: Network, x: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """See `Rule.update`."""
        for number, inputs, by_outputs in network.backward(x, gradient):
            layer = self._layers[number]
            np.matmul(inputs.T, by_outputs, out=layer.weights)
            np.sum(by_outputs, axis=0, out=layer.biases)
        self._gradient *= np.float32(1 / len(x))
        if self._decay:
            self._gradient += self._decay * self._vector
        self._step(self._gradient, rate)

    @abstractmethod
    def _step(self, gradient: np.ndarray, rate: float) -> None:
        """Change the parameters; the gradient may be overwritten."""


class Momentum(_Gathered):
    """b := momentum b + g; w := w - rate b; the first b is g.

    Args:
        vector: All parameters.
        sizes: Of the layers.
        decay: Weight of half the squared norm.
        momentum: In (0, 1).
    """

    def __init__(self, vector: np.ndarray, sizes: Sequence[int], decay: float, momentum: float) -> None:
        super().__init__(vector, sizes, decay)
        self._momentum = np.float32(momentum)
        self._velocity = np.zeros_like(vector)

    def _step(self, gradient: np.ndarray, rate: float) -> None:
        self._velocity *= self._momentum
        self._velocity += gradient
        np.multiply(self._velocity, np.float32(rate), out=gradient)
        self._vector -= gradient

    def state(self) -> dict[str, np.ndarray]:
        """See `Rule.state`."""
        return {"velocity": self._velocity}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Rule.go_on`."""
        self._velocity[...] = state["velocity"]


class Adam(_Gathered):
    """m := b1 m + (1 - b1) g; v := b2 v + (1 - b2) g^2; w := w - rate m' / (sqrt(v') + eps), m' and v' unbiased.

    Args:
        vector: All parameters.
        sizes: Of the layers.
        decay: Weight of half the squared norm.
    """

    def __init__(self, vector: np.ndarray, sizes: Sequence[int], decay: float) -> None:
        super().__init__(vector, sizes, decay)
        self._mean, self._square = np.zeros_like(vector), np.zeros_like(vector)
        self._work = np.empty_like(vector)
        self._steps = 0

    def _step(self, gradient: np.ndarray, rate: float) -> None:
        first, second = BETAS
        self._steps += 1
        work = self._work
        np.multiply(gradient, np.float32(1 - first), out=work)
        self._mean *= np.float32(first)
        self._mean += work
        np.multiply(gradient, gradient, out=work)
        work *= np.float32(1 - second)
        self._square *= np.float32(second)
        self._square += work
        np.sqrt(self._square, out=work)
        work *= np.float32(1 / math.sqrt(1 - second**self._steps))
        work += np.float32(EPSILON)
        np.divide(self._mean, work, out=work)
        work *= np.float32(rate / (1 - first**self._steps))
        self._vector -= work

    def state(self) -> dict[str, np.ndarray]:
        """See `Rule.state`."""
        return {"mean": self._mean, "square": self._square, "steps": np.array(self._steps, dtype=np.int64)}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Rule.go_on`."""
        self._mean[...] = state["mean"]
        self._square[...] = state["square"]
        self._steps = int(state["steps"])
