"""CF-k and EU-k: fine-tune the last k layers on the examples that stay, or train them from scratch.

The layers below are frozen: their weights, and the running statistics of their normalisations, stay bit for bit.
(In the published code these statistics go on moving, since only the weights are frozen; and a normalisation among the
last k keeps its trained scale in EU-k, where here it starts afresh like the rest.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.layers import freeze_all_but_last
from unlearn.methods.training import Loss, Training, copied, fit, problem, require, reset, training

CITATION = (
    "Goel, Prabhu, Sanyal, Lim, Torr & Kumaraguru 2022, Towards Adversarial Evaluations for Inexact Machine "
    "Unlearning, arXiv:2201.06640"
)

CF_K = MethodCard(
    name="cf_k",
    title="CF-k: catastrophic forgetting in the last k layers",
    guarantee=Guarantee.EMPIRICAL,
    needs=("retain set", "labels"),
    tasks=("classification", "regression"),
    citation=CITATION,
    statement="The last layers go on learning from the others. All that the layers below have learned from the "
    "forgotten examples is still there.",
    uses_retain=True,
    moves_towards_retraining=True,
)

EU_K = MethodCard(
    name="eu_k",
    title="EU-k: exact unlearning of the last k layers",
    guarantee=Guarantee.EMPIRICAL,
    needs=("retain set", "labels"),
    tasks=("classification", "regression"),
    citation=CITATION,
    statement="The last layers have never seen the forgotten examples. All that the layers below have learned from "
    "them is still there, so the model as a whole is not unlearned exactly, whatever the method's name says.",
    uses_retain=True,
    moves_towards_retraining=True,
)


@dataclass(frozen=True, kw_only=True)
class CFkConfig(Training):
    """How to train; see `Training`.

    Attributes:
        k: Number of layers that learn, counted from the outputs; a layer is a module with a matrix of weights, and the
            normalisation after it.
    """

    k: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.k >= 1, "k must be at least 1", self)


@dataclass(frozen=True, kw_only=True)
class EUkConfig(CFkConfig):
    """How to train; see `Training`, and `CFkConfig` for `k`."""

    epochs: int = 30


CF_K_DEFAULTS = CFkConfig()
EU_K_DEFAULTS = EUkConfig()


def cf_k(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: CFkConfig = CF_K_DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Go on training the last k layers on the examples that stay.

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
    posed = problem(CF_K, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        freeze_all_but_last(student, config.k)
        fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


def eu_k(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: EUkConfig = EU_K_DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Draw the weights of the last k layers afresh, and train them on the examples that stay.

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
    posed = problem(EU_K, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        for name, module in freeze_all_but_last(student, config.k):
            reset(module, name)
        fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


CF_K_METHOD = Method(CF_K, cf_k, CFkConfig)
EU_K_METHOD = Method(EU_K, eu_k, EUkConfig)
