r"""Saliency unlearning (SalUn): only the weights that the forget set pulls at most are trained on random labels.

\[ m = \mathbb 1(|\nabla_w L_f(w_0)| \ge \gamma), \qquad
w_u = m \odot (w_0 + \Delta) + (1 - m) \odot w_0, \qquad
\min_\Delta\; E_{D_f,\, y' \ne y}\, \ell(x, y') + \alpha\, E_{D_r}\, \ell(x, y). \]

As in the released code, each epoch passes over the forget set, with wrong labels drawn afresh, and then over the
retain set. There, only gradients were masked at first, so momentum and weight decay moved the other weights as well.
Here these are put back after every step: they stay equal to the last bit.

[Fan, Liu, Zhang, Wong, Wei & Liu 2024, SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both
Image Classification and Generation, ICLR, arXiv:2310.12508]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.importance import Weights, gradient
from unlearn.methods.papers.random_labelling import wrong_labels
from unlearn.methods.training import (
    Descent,
    Loss,
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
    name="salun",
    title="SalUn: random labels on salient weights",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification",),
    citation="Fan, Liu, Zhang, Wong, Wei & Liu 2024, SalUn: Empowering Machine Unlearning via Gradient-based Weight "
    "Saliency in Both Image Classification and Generation, ICLR, arXiv:2310.12508",
    statement="The weights that the forgotten records pull at most are trained to answer wrongly on them, and "
    "rightly on all others. Nothing is promised about what the model still knows of them.",
    uses_retain=True,
    moves_towards_retraining=False,
    published=(
        "CIFAR-10, ResNet-18, random 10 %: UA 2.85, RA 99.62, TA 93.93, MIA 14.39, average gap 1.15",
        "retraining there: UA 5.24, RA 100.00, TA 94.26, MIA 12.88",
        "random labels there: average gap 7.15 (re-check)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class SalUnConfig(Training):
    r"""Settings.

    Attributes:
        share: Of all weights, those with the largest gradients: the mask.
        retain_weight: \(\alpha\).
    """

    share: float = 0.5
    retain_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.share <= 1, "share must lie in (0, 1]", self)
        require(self.retain_weight >= 0, "retain_weight must not be negative", self)


DEFAULTS = SalUnConfig()


def salun(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: SalUnConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Train the salient weights.

    Args:
        model: A classifier that returns logits; only read.
        forget: Examples to forget.
        retain: Examples that stay.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    mask = saliency_mask(model, posed.forget, posed.loss, config.share)
    original = {name: value.detach() for name, value in model.named_parameters()}
    student = copied(model)
    with training(student, config.seed) as rng:
        steps = config.epochs * (steps_in(posed.forget, config.batch_size) + steps_in(posed.retain, config.batch_size))
        descent = Descent(student, config, steps, advance)
        for _ in range(config.epochs):
            wrong = replace(posed.forget, targets=wrong_labels(posed.forget.targets, posed.outputs[0], rng))
            with statistics_kept(student):
                for batch in batches(wrong, config.batch_size, rng):
                    descent.step(posed.loss(student(batch.inputs), batch.targets), len(batch))
                    _put_back(student, original, mask)
            for batch in batches(posed.retain, config.batch_size, rng):
                loss = posed.loss(student(batch.inputs), batch.targets)
                descent.step(config.retain_weight * loss, len(batch))
                _put_back(student, original, mask)
    return student


def saliency_mask(model: torch.nn.Module, forget: Examples, loss: Loss, share: float) -> Weights:
    """The weights with the largest absolute gradient of the forget set's loss, over all layers together.

    Args:
        model: Only read; evaluated as in inference.
        forget: Examples to forget.
        loss: Mean over a batch.
        share: Of the weights.

    Returns:
        Bool tensors; `round(share * weights)` of the entries are true.
    """
    sizes = {name: value.abs() for name, value in gradient(model, forget, loss).items()}
    flat = torch.cat([value.flatten() for value in sizes.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.topk(round(share * len(flat))).indices] = True
    parts = torch.split(chosen, [value.numel() for value in sizes.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(sizes.items(), parts, strict=True)}


@torch.no_grad()
def _put_back(student: torch.nn.Module, original: Weights, mask: Weights) -> None:
    for name, value in student.named_parameters():
        if name in mask:
            value.copy_(torch.where(mask[name], value, original[name]))


METHOD = Method(CARD, salun, SalUnConfig)
