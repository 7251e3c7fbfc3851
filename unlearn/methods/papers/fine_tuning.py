"""Fine-tuning: go on training on the examples that stay, and count on the others being forgotten on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Training, copied, fit, problem, training

CARD = MethodCard(
    name="fine_tune",
    title="Fine-tuning on the retain set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("retain set", "labels"),
    tasks=("classification", "regression"),
    citation="Golatkar, Achille & Soatto 2020, Eternal Sunshine of the Spotless Net, CVPR, arXiv:1911.04933 (as the "
    "baseline Finetune)",
    statement="The model goes on learning from the others. A network that fits the forgotten examples has no reason "
    "to leave them; where the loss is strongly convex, enough steps end where retraining ends.",
    uses_retain=True,
    moves_towards_retraining=True,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten: UA 0.63, RA 99.88, TA 94.06, MIA 2.70, average gap 3.78 "
            "(Fan et al. 2024, arXiv:2310.12508, Table 1; re-check)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(Training):
    """How to train; see `Training`."""


DEFAULTS = FineTuneConfig()


def fine_tune(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: FineTuneConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Go on training on the examples that stay.

    Args:
        model: The trained model; not changed.
        forget: Examples to forget; only checked.
        retain: Examples that stay.
        config: How to train.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy, or mean squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


METHOD = Method(CARD, fine_tune, FineTuneConfig)
