r"""Forget, contrast, strengthen: the first place of the NeurIPS 2023 unlearning challenge ("fanchuan").

1. One pass over the forget set towards uniform predictions: \(\min \mathrm{KL}(u \,\|\, p(x_f))\).
2. In every epoch, first a contrast round over pairs of a forget batch F and a retain batch R, with logits z,

   \[ \min\; -\frac{1}{|F||R|} \sum_{f, r} \ln
   \frac{e^{z_f \cdot z_r / \tau}}{\sum_{r'} e^{z_f \cdot z_{r'} / \tau}}, \]

   whose least value has a forgotten record equally near to all retained ones; the retain logits are held fixed. Then a
   pass over the retain set with its labels.

Rates of the contrast round fall along half a cosine (here to 0, there to 1e-6).

[Triantafillou et al. 2024, Are we making progress in unlearning? Findings from the first NeurIPS unlearning
competition, arXiv:2406.09073; stages, losses and constants as in the port of Cadet et al. 2024, arXiv:2410.01276, who
call it FCS]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import (
    Descent,
    Training,
    batches,
    copied,
    problem,
    require,
    statistics_kept,
    steps_in,
    training,
)

CARD = MethodCard(
    name="forget_contrast",
    title="Forget, contrast, strengthen (NeurIPS 2023 challenge, first place)",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification",),
    citation="Triantafillou et al. 2024, Are we making progress in unlearning?, arXiv:2406.09073; as ported by Cadet "
    "et al. 2024, Deep Unlearn, arXiv:2410.01276",
    statement="The model is driven to say nothing definite of the forgotten records, and trained again on all "
    "others. Nothing is promised about what is still known of the forgotten ones.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class ForgetContrastConfig(Training):
    r"""Settings; those of `Training` are for the passes over the retain set, and the defaults the entry's.

    Attributes:
        uniform_learning_rate: Of the first pass.
        contrast_learning_rate: Of the contrast rounds.
        temperature: \(\tau\).
    """

    epochs: int = 8
    learning_rate: float = 4e-3
    batch_size: int = 256
    weight_decay: float = 1e-2
    uniform_learning_rate: float = 5e-3
    contrast_learning_rate: float = 3e-4
    temperature: float = 1.15

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.uniform_learning_rate > 0 and self.contrast_learning_rate > 0 and self.temperature > 0,
            "uniform_learning_rate, contrast_learning_rate and temperature must be positive",
            self,
        )


DEFAULTS = ForgetContrastConfig()


def forget_contrast(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: ForgetContrastConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Forget, contrast, strengthen.

    Args:
        model: A classifier that returns logits; only read.
        forget: Examples to forget; their labels are not looked at.
        retain: Examples that stay.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    student = copied(model)
    per_pass = steps_in(posed.forget, config.batch_size)
    plain = replace(config, weight_decay=0.0, learning_rate=config.uniform_learning_rate)
    falling = replace(plain, learning_rate=config.contrast_learning_rate, schedule="cosine")
    with training(student, config.seed) as rng:
        forgetting = Descent(student, plain, per_pass, advance)
        with statistics_kept(student):
            for batch in batches(posed.forget, config.batch_size, rng):
                forgetting.step(from_uniform(student(batch.inputs)), len(batch))
        contrasting = Descent(student, falling, config.epochs * per_pass, advance)
        strengthening = Descent(student, config, config.epochs * steps_in(posed.retain, config.batch_size), advance)
        for _ in range(config.epochs):
            with statistics_kept(student):
                # The shorter of the two sets ends the round, as in the entry.
                for ours, theirs in zip(
                    batches(posed.forget, config.batch_size, rng),
                    batches(posed.retain, config.batch_size, rng),
                    strict=False,
                ):
                    held = student(theirs.inputs).detach()
                    contrasting.step(contrast(student(ours.inputs), held, config.temperature), len(ours) + len(theirs))
            for batch in batches(posed.retain, config.batch_size, rng):
                strengthening.step(posed.loss(student(batch.inputs), batch.targets), len(batch))
    return student


def from_uniform(logits: torch.Tensor) -> torch.Tensor:
    r"""Mean of \(\mathrm{KL}(u \,\|\, p) = -\ln C - \frac1C \sum_c \ln p_c\).

    Args:
        logits: `[n, C]`.

    Returns:
        A scalar, 0 where all predictions are uniform.
    """
    return -math.log(logits.shape[1]) - torch.log_softmax(logits, dim=1).mean()


def contrast(forget: torch.Tensor, retain: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean over all pairs of the negative log-softmax, over the retain batch, of the products of logits.

    Args:
        forget: `[n, classes]` logits.
        retain: `[m, classes]` logits.
        temperature: Divides the products.

    Returns:
        A scalar, at least ln m.
    """
    return -torch.log_softmax(forget @ retain.T / temperature, dim=1).mean()


METHOD = Method(CARD, forget_contrast, ForgetContrastConfig)
