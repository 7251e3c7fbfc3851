"""Retraining: a new model, trained on the examples that stay; what every other method is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Training, copied, fit, problem, reinitialised, training

CARD = MethodCard(
    name="retrain",
    title="Retraining from scratch",
    guarantee=Guarantee.EXACT,
    needs=("retain set", "labels", "training configuration"),
    tasks=("classification", "regression"),
    citation="the definition of exact unlearning: Cao & Yang 2015, Towards Making Systems Forget with Machine "
    "Unlearning, IEEE S&P; Bourtoule et al. 2021, Machine Unlearning, IEEE S&P, arXiv:1912.03817",
    statement="The result owes nothing to the forgotten examples, provided that nothing else does: neither the "
    "untrained model, nor hyper-parameters, nor frozen layers, nor anything else fitted on them.",
    uses_retain=True,
    moves_towards_retraining=True,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten: UA 5.24, RA 100.00, TA 94.26, MIA 12.88 (Fan et al. 2024, "
            "arXiv:2310.12508, Table 1)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class RetrainConfig(Training):
    """How the model was trained, so that it is trained the same way again; see `Training`."""

    epochs: int = 30


DEFAULTS = RetrainConfig()


def retrain(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: RetrainConfig = DEFAULTS,
    *,
    initial: torch.nn.Module | None = None,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Train a new model on the examples that stay.

    Args:
        model: Tells the architecture; not changed, and none of its trained weights is used.
        forget: Examples to forget; only checked, never trained on.
        retain: Examples that stay.
        config: How to train.
        initial: The untrained model; None: `model`, all of whose trainable layers draw their weights afresh.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy, or mean squared error.
        advance: Told of the examples visited.

    Returns:
        The new model, in the mode of the one it starts from.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = reinitialised(model, config.seed) if initial is None else copied(initial)
    with training(student, config.seed) as rng:
        fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


METHOD = Method(CARD, retrain, RetrainConfig)
