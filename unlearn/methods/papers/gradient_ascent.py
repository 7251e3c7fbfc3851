"""Gradient ascent (NegGrad): climb the loss of the examples to forget.

theta <- theta + eta grad L(D_f; theta), batch by batch. Batch normalisation uses its running statistics, which stay as
they are: examples to forget should leave no trace in how others are normalised. Nothing bounds the loss from above, so
the method is stopped by its number of steps alone; too many of them destroy the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import (
    Descent,
    Loss,
    Training,
    copied,
    passes,
    problem,
    statistics_kept,
    steps_in,
    training,
)

CARD = MethodCard(
    name="gradient_ascent",
    title="Gradient ascent on the forget set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "labels"),
    tasks=("classification", "regression"),
    citation="Golatkar, Achille & Soatto 2020, Eternal Sunshine of the Spotless Net, CVPR, arXiv:1911.04933 (as the "
    "baseline Negative Gradient); one step of it: Thudi et al. 2022, Unrolling SGD, EuroS&P, arXiv:2109.13398",
    statement="The model does worse on the forgotten examples. Nothing says that it treats them as one that never saw "
    "them: a loss higher than that betrays them as well, and other examples suffer.",
    uses_retain=False,
    moves_towards_retraining=False,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten: UA 0.69, RA 99.50, TA 94.01, MIA 1.70, average gap 4.12 "
            "(Fan et al. 2024, arXiv:2310.12508, Table 1; re-check)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class GradientAscentConfig(Training):
    """How to climb; see `Training`. The defaults are small, plain steps."""

    epochs: int = 3
    learning_rate: float = 0.001
    momentum: float = 0.0


DEFAULTS = GradientAscentConfig()


def gradient_ascent(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: GradientAscentConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Climb the loss of the examples to forget.

    Args:
        model: The trained model; not changed.
        forget: Examples to forget.
        retain: Not used.
        config: How to climb.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy, or mean squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng, statistics_kept(student):
        descent = Descent(student, config, config.epochs * steps_in(posed.forget, config.batch_size), advance)
        for batch in passes(posed.forget, config, rng):
            descent.step(-posed.loss(student(batch.inputs), batch.targets), len(batch))
    return student


METHOD = Method(CARD, gradient_ascent, GradientAscentConfig)
