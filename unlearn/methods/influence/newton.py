"""Newton steps on what remains (Guo, Goldstein, Hannun and van der Maaten 2020), and the optimum they lead to.

    w⁻ = w + H⁻¹Δ,    Δ = Σ_{i in M} (∇l_i(w) + per_example · w),    H = Hess L(w; D - M)

The step holds for w the optimum of L(·; D). `newton_step` takes -∇L(w; D - M) for Δ, which is the same there, and also
corrects what the optimiser left: it needs the gradient over what remains, as H does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.objective import Objective, check_weights
from unlearn.methods.influence.solvers.base import DivergedError, Solver
from unlearn.methods.influence.solvers.cholesky import Cholesky


def newton_step(
    objective: Objective, w: torch.Tensor, examples: Examples, solver: Solver | None = None
) -> torch.Tensor:
    """-H⁻¹∇L(w; D).

    Args:
        objective: L.
        w: `[p]`, float64.
        examples: D: what remains.
        solver: Of H x = v; None: dense.

    Returns:
        The step `[p]`.
    """
    inverse = (solver or Cholesky()).fit(Hessian(objective, w, examples))
    return inverse.solve(-objective.gradient(w, examples)).x


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where Newton's method came to rest.

    Attributes:
        w: `[p]`, float64.
        gradient_norm: |∇L(w; D)|, which certified removal charges.
        iterations: Newton steps.
    """

    w: torch.Tensor
    gradient_norm: float
    iterations: int


def minimise(
    objective: Objective, examples: Examples, start: torch.Tensor, *, tolerance: float = 1e-11, iterations: int = 100
) -> Optimum:
    """The optimum of a convex objective, by Newton's method with halved steps: retraining, to float64's floor.

    A step is judged by the gradient's norm, which falls along Newton's direction at the rate of the norm itself, and
    unlike L still tells steps apart when L no longer does.

    Args:
        objective: L, strongly convex.
        examples: D.
        start: `[p]`, float64; zeros, or a warm start.
        tolerance: Ends at |∇L| ≤ tolerance · n, or at the rounding error, where no step lowers it any more.
        iterations: At most so many.

    Returns:
        The optimum.

    Raises:
        ConfigurationError: If the objective is not convex.
        DivergedError: If it does not get there.
    """
    if not objective.convex:
        raise ConfigurationError("Newton's method finds the optimum of a convex objective only: train this one")
    check_weights(start, objective.size(examples))
    w, norm = start, float(objective.gradient(start, examples).norm())
    for step in range(iterations):
        if norm <= tolerance * len(examples):
            return Optimum(w, norm, step)
        direction = newton_step(objective, w, examples)
        for halving in range(30):
            tried = w + direction / 2**halving
            reached = float(objective.gradient(tried, examples).norm())
            if reached < (1 - 1e-4 / 2**halving) * norm:
                break
        else:
            return Optimum(w, norm, step)
        w, norm = tried, reached
    raise DivergedError(f"Newton's method is at |gradient| {norm:.3g} after {iterations} steps: is there no penalty?")
