"""What the weight updates with a curvature have in common: which matrix, on what penalty, and who solves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Curvature, EmpiricalFisher, GaussNewton, Hessian
from unlearn.methods.influence.objective import L2, Objective
from unlearn.methods.influence.solvers.base import Inverse, Solver
from unlearn.methods.influence.solvers.conjugate_gradient import ConjugateGradient

CURVATURES: Mapping[str, type[Curvature]] = {
    "hessian": Hessian,
    "gauss-newton": GaussNewton,
    "empirical-fisher": EmpiricalFisher,
}
"""By their names in a configuration."""


@dataclass(frozen=True)
class CurvatureConfig:
    """Of the updates that solve H x = v.

    Attributes:
        l2: The penalty the model was trained with, in the sum convention: weight decay λ on a mean loss is
            `L2(per_example=λ)`, which takes each removed record's share with it, or `L2(total=λ * n)`; half of that
            beside a squared loss without a half in front, such as torch's.
        damping: Added to H for each of its examples, so that it compares with a weight decay. Needed where H is
            singular (a network, a softmax regression without a penalty); 0 is exact where the penalty makes H positive
            definite.
        curvature: "gauss-newton", which equals the Hessian of a linear model and is never indefinite; "hessian"; or
            "empirical-fisher".
        solver: Dense, iterative; see `unlearn.methods.influence.solvers`.
    """

    l2: L2 = field(default_factory=L2)
    damping: float = 1e-2
    curvature: Literal["gauss-newton", "hessian", "empirical-fisher"] = "gauss-newton"
    solver: Solver = field(default_factory=lambda: ConjugateGradient(tolerance=1e-8, iterations=200))

    def __post_init__(self) -> None:
        if self.curvature not in CURVATURES:
            raise ConfigurationError(f"curvature must be one of {', '.join(CURVATURES)}, got {self.curvature!r}")
        if not 0 <= self.damping < float("inf"):
            raise ConfigurationError(f"damping must be a finite number of at least 0, got {self.damping}")

    def fit(self, objective: Objective, w: torch.Tensor, examples: Examples) -> Inverse:
        """Prepare to solve.

        Args:
            objective: L.
            w: Where the curvature is taken `[p]`.
            examples: On what data.

        Returns:
            The solver, fitted.
        """
        kind = CURVATURES[self.curvature]
        return self.solver.fit(kind(objective, w, examples, self.damping * len(examples)))
