"""The first-order influence update, or infinitesimal jackknife: Newton's step with the curvature of **all** data.

    w⁻ = w + H(D)⁻¹ Δ,      Δ = Σ_{i in M} (∇l_i(w) + per_example · w)

The derivative of the optimum by the weight of M, followed to weight 0. H(D) does not depend on M, so that it can be
factorised before anybody asks; what that costs is that the step ignores how M's leaving flattens the loss: it is too
short by the factor 1 - h in the direction of a record of leverage h. One update under two names: Koh and Liang (2017)
estimate with it what a record did, Suriyakumar and Wilson (2022) unlearn by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.influence.configuration import CurvatureConfig
from unlearn.methods.influence.diagnostics import diagnose
from unlearn.methods.influence.problem import removal_of

CARD = MethodCard(
    name="infinitesimal_jackknife",
    title="First-order influence update (infinitesimal jackknife)",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels", "training configuration"),
    tasks=("classification", "regression"),
    citation=(
        "Koh and Liang, Understanding Black-box Predictions via Influence Functions, ICML 2017; Suriyakumar and "
        "Wilson, Algorithms that Approximate Data Removal, NeurIPS 2022"
    ),
    statement=(
        "Moves the weights to where, to first order, training without the records would have put them. Near for few "
        "records of a convex model; an estimate without a bound elsewhere, and no proof of removal anywhere."
    ),
    uses_retain=True,
    moves_towards_retraining=True,
)


@dataclass(frozen=True)
class InfinitesimalJackknifeConfig(CurvatureConfig):
    """See `CurvatureConfig`; the curvature is that of all data."""


DEFAULTS = InfinitesimalJackknifeConfig()


def infinitesimal_jackknife(
    model: nn.Module,
    forget: object,
    retain: object,
    config: InfinitesimalJackknifeConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> nn.Module:
    """Step by H(D)⁻¹ Δ.

    Args:
        model: A trained model; it is left alone.
        forget: M.
        retain: D - M.
        config: Penalty, damping, curvature, solver.
        advance: Told of examples visited.

    Returns:
        The changed copy; a `StepSizeWarning` is issued where the step went too far.
    """
    problem = removal_of(model, forget, retain, config.l2)
    inverse = config.fit(problem.objective, problem.w, problem.data)
    solution = inverse.solve(problem.objective.removal(problem.w, problem.forget))
    after = problem.w + solution.x
    diagnose(problem.objective, problem.w, after, problem.forget, problem.retain, solution.residual).warn()
    if advance is not None:
        advance(len(problem.data))
    return problem.model_of(after)


METHOD = Method(CARD, infinitesimal_jackknife, InfinitesimalJackknifeConfig)
