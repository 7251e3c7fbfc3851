"""Whether an answer can be relied on: condition number, and what a step left of the gradient it was to remove."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Curvature
from unlearn.methods.influence.objective import Objective
from unlearn.methods.influence.solvers.base import Inverse
from unlearn.methods.influence.solvers.lissa import largest_eigenvalue

FAR = 0.5
"""Share of the gradient left above which a step is warned of: it went beyond where the curvature it used holds."""


class StepSizeWarning(RuntimeWarning):
    """A weight update that left the region where its quadratic model holds."""


@dataclass(frozen=True)
class Diagnosis:
    """A weight update, judged by the gradient on what remains, g(v) = ∇L(v; D - M) - ∇L(w; D).

    What the optimiser left, ∇L(w; D), is none of the update's business; at an optimum it is 0.

    Attributes:
        step_norm: |w⁻ - w|.
        relative_step: |w⁻ - w| / |w|.
        gradient_before: |g(w)| = |Δ|.
        gradient_after: |g(w⁻)|; 0 if the update does exactly what retraining would. Over Λ, it bounds the distance to
            retraining where the objective is convex and w was its optimum.
        residual: Of the solver; None of a factorisation.
    """

    step_norm: float
    relative_step: float
    gradient_before: float
    gradient_after: float
    residual: float | None = None

    @property
    def left(self) -> float:
        """Share of the gradient that is left: 0 where the removal is complete, 1 and more where it did no good."""
        return self.gradient_after / self.gradient_before if self.gradient_before else 0.0

    @property
    def warning(self) -> str | None:
        """What is to be feared, or None."""
        if self.left <= FAR:
            return None
        return (
            f"the update leaves {self.left:.0%} of the gradient it was to remove: its step ({self.relative_step:.2g} "
            "of the weights' norm) goes beyond where the curvature holds. Take more Newton steps, remove less at "
            "once, add damping, or retrain"
        )

    def warn(self) -> None:
        """Issue the warning, if there is one."""
        if self.warning is not None:
            warnings.warn(self.warning, StepSizeWarning, stacklevel=3)


def gradient_left(
    objective: Objective, before: torch.Tensor, after: torch.Tensor, forget: Examples, retain: Examples
) -> torch.Tensor:
    """g(w⁻) = ∇L(w⁻; D - M) - ∇L(w; D), without a pass over what is to be forgotten but for Δ.

    Args:
        objective: L.
        before: w `[p]`.
        after: w⁻ `[p]`.
        forget: M.
        retain: D - M.

    Returns:
        `[p]`.
    """
    moved = objective.gradient(after, retain) - objective.gradient(before, retain)
    return moved - objective.removal(before, forget)


def diagnose(
    objective: Objective,
    before: torch.Tensor,
    after: torch.Tensor,
    forget: Examples,
    retain: Examples,
    residual: float | None = None,
) -> Diagnosis:
    """Judge a weight update; two passes over what remains.

    Args:
        objective: What w minimised on all data.
        before: w `[p]`.
        after: w⁻ `[p]`.
        forget: M.
        retain: D - M.
        residual: Of the solver.

    Returns:
        The diagnosis.
    """
    step = float((after - before).norm())
    return Diagnosis(
        step_norm=step,
        relative_step=step / max(float(before.norm()), torch.finfo(torch.float64).tiny),
        gradient_before=float(objective.removal(before, forget).norm()),
        gradient_after=float(gradient_left(objective, before, after, forget, retain).norm()),
        residual=residual,
    )


def condition_number(curvature: Curvature, inverse: Inverse, *, iterations: int = 100, seed: int = 0) -> float:
    """|H| |H⁻¹|, by power iteration with products and with solves: from below, close where eigenvalues are apart.

    Args:
        curvature: H.
        inverse: A solver fitted to it.
        iterations: Products, and solves.
        seed: Of the first vectors.

    Returns:
        The estimate.
    """
    generator = torch.Generator().manual_seed(seed)
    largest = largest_eigenvalue(curvature.matvec, curvature.size, generator, iterations=iterations)
    return largest * largest_eigenvalue(lambda v: inverse.solve(v).x, curvature.size, generator, iterations=iterations)
