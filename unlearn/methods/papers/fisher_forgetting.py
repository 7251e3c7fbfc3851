r"""Fisher forgetting: noise on every weight, the more the less that weight matters to the records that stay.

\[ w \leftarrow w + (\lambda \sigma^2)^{1/4} F^{-1/4} n, \qquad n \sim N(0, I), \]

with F the diagonal of the Fisher information of the retain set, labels drawn from the model: here in expectation over
all classes, example by example. It trades the error on the retain set against the information that is left of the
forget set, under a quadratic loss around the trained weights.

[Golatkar, Achille & Soatto 2020, Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks, CVPR,
arXiv:1911.04933]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.importance import Weights, fisher
from unlearn.methods.training import copied, problem, require

CARD = MethodCard(
    name="fisher_forgetting",
    title="Fisher forgetting",
    guarantee=Guarantee.EMPIRICAL,
    needs=("retain set",),
    tasks=("classification",),
    citation="Golatkar, Achille & Soatto 2020, Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep "
    "Networks, CVPR, arXiv:1911.04933",
    statement="Noise is added to the weights, most to those that the remaining records need least. It is not drawn "
    "under a budget that bounds what is left of the forgotten records.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class FisherForgettingConfig:
    r"""Settings.

    Attributes:
        noise: \((\lambda \sigma^2)^{1/4}\).
        damping: Added to F, whose zeros would ask for infinite noise; 1e-8 in the released code.
        examples: The most examples of the retain set that F is estimated from, drawn by the seed.
        seed: Of the noise and of the draw.
    """

    noise: float = 1e-3
    damping: float = 1e-8
    examples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.noise >= 0 and self.damping > 0, "noise must not be negative, and damping positive", self)
        require(self.examples >= 1, "examples must be at least 1", self)


DEFAULTS = FisherForgettingConfig()


def fisher_forgetting(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: FisherForgettingConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Add the noise.

    Args:
        model: A classifier that returns logits; only read.
        forget: Examples to forget; they are not looked at.
        retain: Examples that stay.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    rng = torch.Generator().manual_seed(config.seed)
    rows = torch.randperm(len(posed.retain), generator=rng)[: config.examples]
    chosen = posed.retain.inputs[rows.to(posed.retain.inputs.device)]
    deviations = deviation(fisher(model, chosen), config)
    if advance is not None:
        advance(len(rows))
    noisy = copied(model)
    with torch.no_grad():
        for name, weight in noisy.named_parameters():
            if name in deviations:
                drawn = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
                weight.add_(deviations[name] * drawn.to(weight))
    return noisy


def deviation(diagonal: Weights, config: FisherForgettingConfig) -> Weights:
    r"""Standard deviation \((\lambda \sigma^2)^{1/4} (F + \text{damping})^{-1/4}\) of the noise.

    Args:
        diagonal: F.
        config: The settings.

    Returns:
        One for each weight.
    """
    return {name: config.noise * (value + config.damping) ** -0.25 for name, value in diagonal.items()}


METHOD = Method(CARD, fisher_forgetting, FisherForgettingConfig)
