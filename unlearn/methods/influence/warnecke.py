"""Unlearning of records, features and labels by edits (Warnecke, Pirch, Wressnegger and Rieck 2023).

Records z become z~: removed altogether, a feature blanked, a label corrected. With G = Σ ∇l(z~) - Σ ∇l(z), penalties
per example included,

    first order:    w⁻ = w - τ G
    second order:   w⁻ = w - H⁻¹ G,    H the curvature of the corrected data at w.

The paper's derivation leaves open on which data H is taken; on the corrected ones the second-order update is Newton's
step on them, exact for squared loss, and equals `newton` where records vanish. τ follows the loss's mean, τ = rate / n,
since a rate for the sum would have to shrink with the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard, examples
from unlearn.methods.influence.configuration import CurvatureConfig
from unlearn.methods.influence.objective import L2, Objective
from unlearn.methods.influence.problem import joined, problem_of, removal_of

CITATION = "Warnecke, Pirch, Wressnegger and Rieck, Machine Unlearning of Features and Labels, NDSS 2023"

FIRST_ORDER_CARD = MethodCard(
    name="warnecke_first_order",
    title="First-order edit of records, features or labels",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification", "regression"),
    citation=CITATION,
    statement=(
        "One gradient step away from the records as they were and towards their corrected versions. How far is the "
        "caller's choice; nothing bounds what is left of them."
    ),
    uses_retain=False,
    moves_towards_retraining=True,
)

SECOND_ORDER_CARD = MethodCard(
    name="warnecke_second_order",
    title="Second-order edit of records, features or labels",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels", "training configuration"),
    tasks=("classification", "regression"),
    citation=CITATION,
    statement=(
        "Moves the weights to where a quadratic model of the loss puts the optimum on the corrected data. Exact for "
        "squared loss with its penalty, near for other convex models, an estimate elsewhere."
    ),
    uses_retain=True,
    moves_towards_retraining=True,
)


@dataclass(frozen=True)
class WarneckeFirstOrderConfig:
    """See the module.

    Attributes:
        corrected: z~ of the records to forget, which take their place; None: they are removed.
        rate: Learning rate by the mean loss: τ = rate / n.
        l2: The penalty the model was trained with; only its part per example matters.
    """

    corrected: Examples | None = None
    rate: float = 0.1
    l2: L2 = field(default_factory=L2)

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ConfigurationError(f"rate must be a finite number above 0, got {self.rate}")


@dataclass(frozen=True)
class WarneckeSecondOrderConfig(CurvatureConfig):
    """See `CurvatureConfig`; the curvature is that of the corrected data.

    Attributes:
        corrected: z~ of the records to forget, which take their place; None: they are removed.
    """

    corrected: Examples | None = None


FIRST_ORDER_DEFAULTS = WarneckeFirstOrderConfig()


def warnecke_first_order(
    model: nn.Module,
    forget: object,
    retain: object,
    config: WarneckeFirstOrderConfig = FIRST_ORDER_DEFAULTS,
    *,
    advance: Advance | None = None,
) -> nn.Module:
    """Step by -τ G.

    Args:
        model: A trained model; it is left alone.
        forget: z: the records as they were.
        retain: The others; only their number matters.
        config: z~ and the rate.
        advance: Told of examples visited.

    Returns:
        The changed copy.
    """
    problem = removal_of(model, forget, retain, config.l2)
    corrected = problem_of(model, _corrected(forget, config.corrected), retain, config.l2).forget
    difference = edit(problem.objective, problem.w, problem.forget, corrected)
    if advance is not None:
        advance(len(problem.forget) + len(corrected))
    return problem.model_of(problem.w - config.rate / len(problem.data) * difference)


SECOND_ORDER_DEFAULTS = WarneckeSecondOrderConfig()


def warnecke_second_order(
    model: nn.Module,
    forget: object,
    retain: object,
    config: WarneckeSecondOrderConfig = SECOND_ORDER_DEFAULTS,
    *,
    advance: Advance | None = None,
) -> nn.Module:
    """Step by -H⁻¹ G.

    Args:
        model: A trained model; it is left alone.
        forget: z: the records as they were.
        retain: The others.
        config: z~, penalty, damping, curvature, solver.
        advance: Told of examples visited.

    Returns:
        The changed copy.
    """
    problem = removal_of(model, forget, retain, config.l2)
    corrected = problem_of(model, _corrected(forget, config.corrected), retain, config.l2).forget
    difference = edit(problem.objective, problem.w, problem.forget, corrected)
    inverse = config.fit(problem.objective, problem.w, joined(problem.retain, corrected))
    if advance is not None:
        advance(len(problem.data) + len(corrected))
    return problem.model_of(problem.w - inverse.solve(difference).x)


def edit(objective: Objective, w: torch.Tensor, before: Examples, after: Examples) -> torch.Tensor:
    """G = Σ ∇l(z~) - Σ ∇l(z), penalties per example included.

    Args:
        objective: The loss.
        w: `[p]`.
        before: z.
        after: z~; fewer where records vanish.

    Returns:
        `[p]`.
    """
    return objective.removal(w, after) - objective.removal(w, before)


def without_features(given: Examples, features: torch.Tensor, value: float = 0.0) -> Examples:
    """z~ of records whose features are to be forgotten: blanked, as the paper does.

    Args:
        given: z.
        features: Positions along the last axis of the inputs `[f]`, int64.
        value: What takes their place; the training data's mean says least.

    Returns:
        z~.

    Raises:
        InputError: If there is no such feature.
    """
    width = given.inputs.shape[-1]
    outside = features[(features < 0) | (features >= width)]
    if len(outside):
        raise InputError(f"there is no feature {int(outside[0])} among {width}")
    inputs = given.inputs.clone()
    inputs[..., features] = value
    return Examples(inputs, given.targets)


def _corrected(forget: object, corrected: Examples | None) -> Examples:
    if corrected is not None:
        return corrected
    return examples(forget, "forget").take(slice(0))


FIRST_ORDER_METHOD = Method(FIRST_ORDER_CARD, warnecke_first_order, WarneckeFirstOrderConfig)


SECOND_ORDER_METHOD = Method(SECOND_ORDER_CARD, warnecke_second_order, WarneckeSecondOrderConfig)
