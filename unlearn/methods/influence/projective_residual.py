"""The projective residual update (Izzo, Smart, Chaudhuri and Zou 2021), for linear models.

    margins = X_M s,       s = H(D - M)⁻¹ Δ:   by how much leaving M out changes the predictions on M
    w⁻ = w + X_M⁺ margins:                     the shortest step that changes them so

The step s of leave-M-out training is projected onto the span of the removed inputs. For squared loss s is exact; for a
logistic model it is that of one reweighted least-squares step, as in the paper. The margins come from an m x m system
(`CachedInverse.solve_without`), and with the rows of the hat matrix at hand, as the paper assumes, all of it costs
O(m² d): nothing grows with n. What lies outside the span is not corrected, so that the result is as good as the removed
inputs are many, or far from the others (an outlier group in a direction of its own is removed completely).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.module import ModuleObjective
from unlearn.methods.influence.objective import L2
from unlearn.methods.influence.problem import removal_of
from unlearn.methods.influence.solvers.cholesky import Cholesky

CARD = MethodCard(
    name="projective_residual",
    title="Projective residual update",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels", "training configuration"),
    tasks=("classification", "regression"),
    citation="Izzo, Smart, Chaudhuri and Zou, Approximate Data Deletion from Machine Learning Models, AISTATS 2021",
    statement=(
        "Corrects a linear model in the directions of the removed records' inputs alone, where its predictions on them "
        "become those of a model retrained without them. What else they left in the weights stays."
    ),
    uses_retain=True,
    moves_towards_retraining=True,
)


@dataclass(frozen=True)
class ProjectiveResidualConfig:
    """Of a linear model.

    Attributes:
        l2: The penalty it was trained with, in the sum convention.
        damping: Added to H for each example; 0 where the penalty makes H positive definite.
    """

    l2: L2 = field(default_factory=L2)
    damping: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.damping < float("inf"):
            raise ConfigurationError(f"damping must be a finite number of at least 0, got {self.damping}")


DEFAULTS = ProjectiveResidualConfig()


def projective_residual(
    model: nn.Module,
    forget: object,
    retain: object,
    config: ProjectiveResidualConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> nn.Module:
    """The shortest step that gives M its leave-M-out predictions.

    Args:
        model: One linear layer, alone or behind `nn.Flatten`; classes, or one value. It is left alone.
        forget: M.
        retain: D - M.
        config: Penalty, damping.
        advance: Told of examples visited.

    Returns:
        The changed copy.

    Raises:
        InputError: If the model is not linear.
    """
    problem = removal_of(model, forget, retain, config.l2)
    if isinstance(problem.objective, ModuleObjective):
        raise InputError(
            "the projective residual update is for linear models, one nn.Linear with several classes or one value: "
            "use newton or infinitesimal_jackknife"
        )
    damping = config.damping * len(problem.retain)
    inverse = Cholesky().fit(Hessian(problem.objective, problem.w, problem.retain, damping))
    step = inverse.solve(problem.objective.removal(problem.w, problem.forget)).x
    if advance is not None:
        advance(len(problem.data))
    return problem.model_of(problem.w + projected(step, problem.forget))


def projected(step: torch.Tensor, removed: Examples) -> torch.Tensor:
    """X_M⁺ X_M s, for each output of the model: the part of a step that lies in the span of the removed inputs.

    Args:
        step: s `[k d]`, row after row of W `[k, d]`.
        removed: M, inputs `[m, d]`.

    Returns:
        `[k d]`.
    """
    rows, inputs = step.reshape(-1, removed.inputs.shape[1]), removed.inputs
    margins: torch.Tensor = inputs @ rows.T
    within: torch.Tensor = torch.linalg.pinv(inputs) @ margins
    return within.T.reshape(-1)


METHOD = Method(CARD, projective_residual, ProjectiveResidualConfig)
