"""Many small networks trained at once: each layer of many shadow models is one batched product.

For a network of a hundred units most of a training step in a framework is recording and dispatching, and that is the
same for one model and for sixty-four. Gradients are written out and added to the weights in place. A model's visits,
seeds and updates are its own; only the arithmetic is shared, so results equal those of training alone up to rounding.
That is enough here: nobody compares a shadow model's digest. `experiments/attack_strength` measures the gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from shards.digest import derive_seed
from shards.learners.mlp_network import count_parameters
from shards.learners.visits import count_windows, windows
from unlearn.audit.attacks.base import classes_of, finite
from unlearn.audit.shadows import Progress, checked_membership, model_seed
from unlearn.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

_PREDICT_CHUNK = 512

_BYTES = 8
"""Of a parameter, and of what it was before."""

_CACHE = 8 * 2**20
"""So many bytes of parameters in one stack: in a larger one, every update waits for the memory."""


def stack_size(sizes: tuple[int, ...]) -> int:
    """How many networks are trained in one stack.

    Args:
        sizes: Widths of the input, of the hidden layers and of the output.

    Returns:
        At least 1.
    """
    return max(1, _CACHE // (_BYTES * count_parameters(sizes)))


@dataclass(frozen=True)
class StackedModels:
    """Trained networks.

    Attributes:
        weights: One `[models, inputs, outputs]` float32 tensor a layer.
        biases: One `[models, 1, outputs]` float32 tensor a layer.
        membership: `[models, n]` bool: the model was trained on the record.
    """

    weights: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor, ...]
    membership: np.ndarray

    def logits(self, X: np.ndarray) -> np.ndarray:
        """What every model says.

        Args:
            X: `[n, d]` records.

        Returns:
            `[models, n, classes]` float32.
        """
        import torch

        found = []
        with torch.no_grad():
            for at in range(0, len(X), _PREDICT_CHUNK):
                x = torch.tensor(X[at : at + _PREDICT_CHUNK], dtype=torch.float32)
                found.append(_forward(x.expand(len(self.membership), -1, -1), self.weights, self.biases)[-1])
        return np.asarray(torch.cat(found, dim=1).numpy())

    def probabilities(self, X: np.ndarray) -> np.ndarray:
        """What every model says.

        Args:
            X: `[n, d]` records.

        Returns:
            `[models, n, classes]` float64.
        """
        z = self.logits(X).astype(np.float64)
        z -= z.max(axis=-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=-1, keepdims=True)
        return z


@dataclass(frozen=True)
class StackedMLP:
    """ReLU networks, trained by SGD with momentum and cross-entropy.

    Attributes:
        hidden: Widths of the hidden layers.
        epochs: Passes over a model's records, on average over the models: all make the same number of visits.
        batch_size: Records a minibatch.
        learning_rate: Positive.
        momentum: In [0, 1).
        weight_decay: Weight of half the squared norm of all parameters.

    Raises:
        ConfigurationError: If a value is out of its range.
    """

    hidden: tuple[int, ...] = (128,)
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        counts = (*self.hidden, self.epochs, self.batch_size)
        if min(counts) < 1 or not self.learning_rate > 0 or not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise ConfigurationError(
                f"{self}: give widths, epochs and batch_size of 1 or more, a positive learning_rate, a momentum in "
                "[0, 1) and a weight_decay of 0 or more"
            )

    def visits(self, membership: np.ndarray) -> int:
        """Record-visits of each model.

        Args:
            membership: `[models, n]` bool.

        Returns:
            At least 1.
        """
        return max(1, round(self.epochs * float(membership.sum(axis=1).mean())))

    def minibatches(self, rows: np.ndarray, visits: int, seed: int, number: int) -> list[np.ndarray]:
        """Which records each minibatch of one model holds: its own passes, shuffled by its own seed.

        Args:
            rows: `[m]` int: the model's records.
            visits: To be made.
            seed: Of all models.
            number: Of this one.

        Returns:
            Record numbers of each minibatch.
        """
        order = partial(derive_seed, model_seed(seed, number), "pass")
        return [rows[window] for window in windows(len(rows), visits, self.batch_size, order)]

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        n_classes: int,
        membership: np.ndarray,
        seed: int,
        progress: Progress | None = None,
    ) -> StackedModels:
        """Train all models at once.

        Args:
            X: `[n, d]` records, numbers.
            y: `[n]` int, classes 0 to n_classes - 1.
            n_classes: C.
            membership: `[models, n]` bool, as from `half_splits`.
            seed: From which each model's first parameters and order are derived.
            progress: Told now and then how many minibatches are done.

        Returns:
            The models.

        Raises:
            ConfigurationError: If a parameter is not finite at the end.
            InputError: If shapes differ, or a feature is not finite.
        """
        import torch

        inputs = np.ascontiguousarray(finite(X, "features", 2), dtype=np.float32)  # else every gathering copies all
        member = checked_membership(membership, len(X))
        labels = classes_of(y, len(X), n_classes)
        sizes = (X.shape[1], *self.hidden, n_classes)
        visits = self.visits(member)
        most = stack_size(sizes)
        groups = [range(at, min(at + most, len(member))) for at in range(0, len(member), most)]
        each = count_windows(visits, self.batch_size)
        found = []
        for number, group in enumerate(groups):
            rows = [self.minibatches(np.flatnonzero(member[model]), visits, seed, model) for model in group]
            weights, biases = _first(sizes, [model_seed(seed, model) for model in group])
            before = [value.clone() for value in (*weights, *biases)]
            room = np.empty((len(group) * (self.batch_size + 1), X.shape[1]), dtype=np.float32)
            for step, window in enumerate(zip(*rows, strict=True)):
                chosen = np.concatenate(window)
                # numpy gathers rows faster than torch; "clip" writes where it is told to.
                x = np.take(inputs, chosen, axis=0, out=room[: len(chosen)], mode="clip")
                given = torch.from_numpy(x).view(len(group), -1, X.shape[1])
                self._update(given, torch.from_numpy(labels[chosen]), weights, biases, before)
                if progress is not None and (step % 64 == 0 or step == each - 1):
                    progress(number * each + step + 1, len(groups) * each)
            found.append((weights, biases))
        weights, biases = ([torch.cat(layer) for layer in zip(*part, strict=True)] for part in zip(*found, strict=True))
        if not all(bool(value.isfinite().all()) for value in (*weights, *biases)):
            raise ConfigurationError(f"a parameter is not finite after {each} minibatches: lower learning_rate")
        return StackedModels(tuple(weights), tuple(biases), member)

    def _update(
        self,
        x: torch.Tensor,
        classes: torch.Tensor,
        weights: list[torch.Tensor],
        biases: list[torch.Tensor],
        before: list[torch.Tensor],
    ) -> None:
        """One minibatch of every model, as torch's SGD: v := momentum v + g + decay w, then w := w - rate v.

        As v is (w before - w) / rate, the same without v: w := (1 + momentum - rate decay) w - momentum (w before) -
        rate g [Polyak 1964]. That goes over the parameters twice where v would be gone over three times.
        """
        import torch

        keep = 1 + self.momentum - self.learning_rate * self.weight_decay
        models, batch, _ = x.shape
        layers = [x, *_forward(x, weights, biases)]
        gradient = torch.softmax(layers[-1], dim=-1)
        gradient.view(models * batch, -1).scatter_add_(1, classes.unsqueeze(1), x.new_full((models * batch, 1), -1.0))
        every = x.new_ones((1, 1, batch)).expand(models, 1, batch)
        rate = self.learning_rate / batch
        for number in range(len(weights) - 1, -1, -1):
            below, bias, given = layers[number], len(weights) + number, gradient
            if number:  # by the weights as they were
                gradient = torch.bmm(given, weights[number].transpose(1, 2))
                gradient = torch.ops.aten.threshold_backward(gradient, below, 0)
            for now, at, seen in ((weights, number, below.transpose(1, 2)), (biases, bias, every)):
                before[at].baddbmm_(seen, given, beta=-self.momentum, alpha=-rate).add_(now[number], alpha=keep)
                now[number], before[at] = before[at], now[number]


def _forward(
    x: torch.Tensor,
    weights: list[torch.Tensor] | tuple[torch.Tensor, ...],
    biases: list[torch.Tensor] | tuple[torch.Tensor, ...],
) -> list[torch.Tensor]:
    """Outputs `[models, batch, width]` of every layer, the last without ReLU."""
    import torch

    found: list[torch.Tensor] = []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.baddbmm(bias, x, weight)
        if number < len(weights) - 1:
            x.relu_()
        found.append(x)
    return found


def _first(sizes: tuple[int, ...], seeds: list[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Uniform within 1 / sqrt(inputs) of zero, as torch's linear layers, from each model's own seed."""
    import torch

    draws = [np.random.Generator(np.random.PCG64(derive_seed(seed, "module"))) for seed in seeds]
    weights: list[torch.Tensor] = []
    biases: list[torch.Tensor] = []
    for inputs, outputs in pairwise(sizes):
        bound = 1 / math.sqrt(inputs)
        for shape, found in (((inputs, outputs), weights), ((1, outputs), biases)):
            values = np.stack([2 * draw.random(shape, dtype=np.float32) - 1 for draw in draws])
            found.append(torch.tensor(values * np.float32(bound)))
    return weights, biases
