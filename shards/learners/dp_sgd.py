r"""Differentially private stochastic gradient descent, by Opacus (Abadi et al. 2016, arXiv 1607.00133).

One step, with sampling probability q, clipping norm C, noise multiplier sigma and a declared batch size B:

1.  *Poisson sampling*: each record is in the batch with probability q, independently of every other.
2.  *Clipping*: \(\bar g_i = g_i \min(1, C / (\|g_i\| + 10^{-6}))\) for each record's gradient, over all parameters
    together (the small constant is Opacus's, and only shortens).
3.  *Noise*: \(\tilde g = \frac1B (\sum_i \bar g_i + N(0, \sigma^2 C^2 I))\), also for an empty batch.
4.  Any optimiser goes on from \(\tilde g\): what it makes of it is post-processing.

q and B are declared, not counted: were they made of the number of records, then a training without one of them would
be another mechanism, and the proof, which is about one mechanism on two data sets, would say nothing.

Opacus gives per-record gradients and clips. Batches and noise come from `shards.noise`: Opacus would draw both from
torch's generators, which are not made to be secret. Nothing that a batch's size could be told from leaves this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.learners.torch_forward import call_module
from shards.noise import Source

if TYPE_CHECKING:
    import torch

CHUNK = 256
"""Records whose gradients are in memory at once, one each."""


@dataclass(frozen=True)
class NoisySteps:
    """What is declared about the steps.

    Attributes:
        noise_multiplier: sigma, standard deviation of the noise in clipping norms.
        clip_norm: C.
        sampling_rate: q.
        batch_size: B, what the noisy sum is divided by.
        steps: How many there are.
    """

    noise_multiplier: float
    clip_norm: float
    sampling_rate: float
    batch_size: int
    steps: int


def noisy_steps(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Mapping[str, torch.Tensor],
    target: torch.Tensor,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    declared: NoisySteps,
    source: Source,
    before: Callable[[int], None],
) -> None:
    """Train; changes module and optimiser in place.

    Args:
        module: In training mode, and found fit by `check_per_record`.
        optimizer: Over the module's parameters.
        inputs: Feature name to tensor `[n, *shape]`.
        target: `[n, ...]`.
        loss_of: Output and target to the mean loss.
        declared: What the privacy of the result follows from.
        source: Where batches and noise come from: `shards.noise.SYSTEM`, unless it is a test.
        before: Called with the number of each step before it, from 0.
    """
    import torch
    from opacus import GradSampleModule  # type: ignore[import-untyped]
    from opacus.optimizers import DPOptimizer  # type: ignore[import-untyped]

    sampled = GradSampleModule(module, loss_reduction="mean", strict=True)
    # Opacus is told to add no noise: it is added in the hook, which runs before the optimiser sees a gradient.
    private = DPOptimizer(
        optimizer,
        noise_multiplier=0.0,
        max_grad_norm=declared.clip_norm,
        expected_batch_size=declared.batch_size,
    )
    private.attach_step_hook(lambda opacus: _add_noise(opacus.params, declared, source))
    for step in range(declared.steps):
        before(step)
        batch = poisson_batch(len(target), declared.sampling_rate, source)
        for rows, last in _chunks(batch):
            private.signal_skip_step(not last)
            private.zero_grad(set_to_none=True)
            if len(rows):
                index = torch.from_numpy(rows)
                output = call_module(sampled, {name: x.index_select(0, index) for name, x in inputs.items()})
                _backward(loss_of(output, target.index_select(0, index)))
            else:
                for parameter in private.params:
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            private.step()
    sampled.remove_hooks()


def poisson_batch(n: int, sampling_rate: float, source: Source) -> np.ndarray:
    """Draw a batch: each record with the same probability, independently.

    Args:
        n: Records there are.
        sampling_rate: Probability of each.
        source: Where the numbers come from.

    Returns:
        Ascending record numbers, int64; there may be none.
    """
    return np.flatnonzero(source.uniform(n) < sampling_rate)


def per_record_gradients(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    target: torch.Tensor,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]:
    """Gradients of each record's loss, and of the mean loss; the module's own are left behind.

    Args:
        module: In training mode.
        inputs: Feature name to tensor `[n, *shape]`.
        target: `[n, ...]`.
        loss_of: Output and target to the mean loss.

    Returns:
        By parameter: `[n, *shape]` and `[*shape]`; None where the loss does not depend on it.
    """
    from opacus import GradSampleModule

    module.zero_grad(set_to_none=True)
    sampled = GradSampleModule(module, loss_reduction="mean", strict=True)
    try:
        _backward(loss_of(call_module(sampled, inputs), target))
        named: dict[str, Any] = {name: value for name, value in module.named_parameters() if value.requires_grad}
        each = {name: value.grad_sample for name, value in named.items()}
        return each, {name: value.grad for name, value in named.items()}
    finally:
        sampled.remove_hooks()


def _add_noise(parameters: list[Any], declared: NoisySteps, source: Source) -> None:
    """Add the noise to gradients that are already divided by the batch size."""
    import torch

    scale = declared.noise_multiplier * declared.clip_norm / declared.batch_size
    for parameter in parameters:
        drawn = scale * source.normal(tuple(parameter.shape))
        parameter.grad += torch.from_numpy(np.asarray(drawn)).to(parameter.dtype)


def _backward(loss: torch.Tensor) -> None:
    with warnings.catch_warnings():
        # The first layer's inputs need no gradient, and torch says what its hook is then given; Opacus wants just that.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        loss.backward()  # type: ignore[no-untyped-call]


def _chunks(batch: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
    """Parts of a batch that fit into memory, with whether each is the last; one empty part of an empty batch."""
    starts = range(0, max(1, len(batch)), CHUNK)
    for start in starts:
        yield batch[start : start + CHUNK], start == starts[-1]
