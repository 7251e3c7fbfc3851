"""Newton's step on what remains (Guo, Goldstein, Hannun and van der Maaten 2020), once or several times.

    w⁻ = w + H⁻¹Δ,     H = curvature of L(·; D - M) at w,     Δ = Σ_{i in M} (∇l_i(w) + per_example · w)

Further steps go on with what the last one left, g(v) = ∇L(v; D - M) - ∇L(w; D), and the curvature there. What the
optimiser had left, ∇L(w; D), stays as it was, so that forgetting nothing changes nothing. The first step is exact for
squared loss; each further one about squares the error of a smooth convex loss, which makes it the cheapest improvement
there is. The certificate of the paper is in `unlearn.methods.certified`; this is the update alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.influence.configuration import CurvatureConfig
from unlearn.methods.influence.diagnostics import diagnose, gradient_left
from unlearn.methods.influence.problem import Problem, removal_of

CARD = MethodCard(
    name="newton",
    title="Newton steps on what remains",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels", "training configuration"),
    tasks=("classification", "regression"),
    citation=(
        "Guo, Goldstein, Hannun and van der Maaten, Certified Data Removal from Machine Learning Models, ICML 2020"
    ),
    statement=(
        "Moves the weights to the optimum of a quadratic model of the loss on what remains, once or several times. For "
        "a convex model several steps reach the retrained one to rounding; without noise nothing is certified, and on "
        "a model that is not convex it is an estimate."
    ),
    uses_retain=True,
    moves_towards_retraining=True,
    published=("MNIST 3 against 8: 0.04 s a removal, 15.6 s a training (re-check)",),
)


@dataclass(frozen=True)
class NewtonConfig(CurvatureConfig):
    """See `CurvatureConfig`; the curvature is that of what remains.

    Attributes:
        steps: Newton steps.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ConfigurationError(f"steps must be at least 1, got {self.steps}")


DEFAULTS = NewtonConfig()


def newton(
    model: nn.Module, forget: object, retain: object, config: NewtonConfig = DEFAULTS, *, advance: Advance | None = None
) -> nn.Module:
    """So many Newton steps on what remains.

    Args:
        model: A trained model; it is left alone.
        forget: M.
        retain: D - M.
        config: Penalty, damping, curvature, solver, steps.
        advance: Told of examples visited.

    Returns:
        The changed copy; a `StepSizeWarning` is issued where the steps went too far.
    """
    problem = removal_of(model, forget, retain, config.l2)
    w, residual = problem.w, None
    for _ in range(config.steps):
        solution = config.fit(problem.objective, w, problem.retain).solve(-_left(problem, w))
        w, residual = w + solution.x, solution.residual
        if advance is not None:
            advance(len(problem.data))
    diagnose(problem.objective, problem.w, w, problem.forget, problem.retain, residual).warn()
    return problem.model_of(w)


def _left(problem: Problem, w: torch.Tensor) -> torch.Tensor:
    return gradient_left(problem.objective, problem.w, w, problem.forget, problem.retain)


METHOD = Method(CARD, newton, NewtonConfig)
