"""NegGrad+: descend on examples that stay while climbing on those to forget, in every step.

Minimises beta L(D_r; theta) - (1 - beta) L(D_f; theta) over pairs of batches: a pass is one over the examples that
stay, and those to forget come round as often as needed. Batch normalisation learns from the former alone; the latter
pass through its running statistics. (The published code normalises both by their own batch.)
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
    endless,
    passes,
    problem,
    require,
    statistics_kept,
    steps_in,
    training,
)

CARD = MethodCard(
    name="neg_grad_plus",
    title="NegGrad+: descent on the retain set, ascent on the forget set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification", "regression"),
    citation="Kurmanji, Triantafillou, Hayes & Triantafillou 2023, Towards Unbounded Machine Unlearning, NeurIPS, "
    "arXiv:2302.09880",
    statement="The model does worse on the forgotten examples and keeps its skill on the others. How much worse is "
    "decided by a weight nobody can set without a retrained model to compare with.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class NegGradPlusConfig(Training):
    """How to train; see `Training`.

    Attributes:
        beta: Weight of the examples that stay; those to forget have 1 - beta.
    """

    beta: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.beta <= 1, "beta must lie in (0, 1]", self)


DEFAULTS = NegGradPlusConfig()


def neg_grad_plus(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: NegGradPlusConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Descend on the examples that stay and climb on those to forget.

    Args:
        model: The trained model; not changed.
        forget: Examples to forget.
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
        descent = Descent(student, config, config.epochs * steps_in(posed.retain, config.batch_size), advance)
        unwanted = endless(posed.forget, config.batch_size, rng)
        for kept, gone in zip(passes(posed.retain, config, rng), unwanted, strict=False):
            descended = posed.loss(student(kept.inputs), kept.targets)
            with statistics_kept(student):
                climbed = posed.loss(student(gone.inputs), gone.targets)
            descent.step(config.beta * descended - (1 - config.beta) * climbed, len(kept) + len(gone))
    return student


METHOD = Method(CARD, neg_grad_plus, NegGradPlusConfig)
