"""Influence functions: curvature, solvers, scores of records, and weight updates that follow from them.

Everything is float64 and a sum over examples (see `objective`). From a model to a removal:

    objective, w      what was minimised, and where: `BinaryLogistic`, `Softmax`, `SquaredLoss`, `ModuleObjective`
    curvature         `Hessian`, `GaussNewton`, `EmpiricalFisher` at w
    solver            `Cholesky`, `Woodbury` (cached), `ConjugateGradient`, `LiSSA`, `Arnoldi`, `EKFAC`
    scores            `influence`, `self_influence`, `group_influence`, `leave_one_out`
    removals          `RemovalStream`; of any module, the methods `infinitesimal_jackknife`, `newton`,
                      `projective_residual` and the two of `warnecke`, registered in `unlearn.methods`
"""

from unlearn.methods.influence.curvature import Curvature, EmpiricalFisher, GaussNewton, Hessian
from unlearn.methods.influence.diagnostics import Diagnosis, StepSizeWarning, condition_number, diagnose
from unlearn.methods.influence.linear_models import BinaryLogistic, Softmax, SquaredLoss, with_intercept
from unlearn.methods.influence.module import ModuleObjective, of_module
from unlearn.methods.influence.newton import Optimum, minimise, newton_step
from unlearn.methods.influence.objective import L2, Objective, split
from unlearn.methods.influence.pbrf import proximal_bregman_response, response_score
from unlearn.methods.influence.scores import Scores, group_influence, influence, leave_one_out, self_influence
from unlearn.methods.influence.solvers import (
    EKFAC,
    Arnoldi,
    Cholesky,
    ConjugateGradient,
    LiSSA,
    Solver,
    Woodbury,
)
from unlearn.methods.influence.stream import RemovalStream

__all__ = [
    "EKFAC",
    "L2",
    "Arnoldi",
    "BinaryLogistic",
    "Cholesky",
    "ConjugateGradient",
    "Curvature",
    "Diagnosis",
    "EmpiricalFisher",
    "GaussNewton",
    "Hessian",
    "LiSSA",
    "ModuleObjective",
    "Objective",
    "Optimum",
    "RemovalStream",
    "Scores",
    "Softmax",
    "Solver",
    "SquaredLoss",
    "StepSizeWarning",
    "Woodbury",
    "condition_number",
    "diagnose",
    "group_influence",
    "influence",
    "leave_one_out",
    "minimise",
    "newton_step",
    "of_module",
    "proximal_bregman_response",
    "response_score",
    "self_influence",
    "split",
    "with_intercept",
]
