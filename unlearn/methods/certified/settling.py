"""To the optimum of what remains: Newton steps with a factor that is kept, and renewed where it has grown stale."""

from __future__ import annotations

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.certified.problem import Problem
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.solvers.cholesky import factor_of

_STALE = 0.5
"""A step with a kept factor must leave less than this part of the gradient, or the factor is made anew."""


def settle(
    problem: Problem, start: torch.Tensor, factors: tuple[torch.Tensor, ...], tolerance: float
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Go down until the gradient of each head is at a tolerance, rounding included.

    Args:
        problem: What remains.
        start: `[d, heads]`.
        factors: Kept Cholesky factors, a head each; none: they are made.
        tolerance: For |∇F| of each head, absolute.

    Returns:
        Weights `[d, heads]` and factors.

    Raises:
        ConfigurationError: If float64 cannot get there.
    """
    columns, kept = [], []
    for k in range(start.shape[1]):
        w, factor = _settle_head(problem, k, start[:, k].clone(), factors[k] if factors else None, tolerance)
        columns.append(w)
        kept.append(factor)
    return torch.stack(columns, 1), tuple(kept)


def _settle_head(
    problem: Problem, k: int, w: torch.Tensor, factor: torch.Tensor | None, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    head, loss = problem.head(k), problem.loss
    if factor is not None:
        gradient = loss.gradient(w, head)
        while not _at(problem, w, gradient, tolerance):
            moved = w - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            reached = loss.gradient(moved, head)
            if not float(reached.norm()) < _STALE * float(gradient.norm()):
                break
            w, gradient = moved, reached
        else:
            return w, factor
    w = minimise(loss, head, w, tolerance=tolerance / (2 * len(problem))).w
    if not _at(problem, w, loss.gradient(w, head), tolerance):
        raise ConfigurationError(
            f"the gradient stays above {tolerance:.3g}, where rounding alone may be {problem.floor(w[:, None]):.3g}: "
            "raise the tolerance, or scale the columns"
        )
    return w, factor_of(Hessian(loss, w, head).dense())


def _at(problem: Problem, w: torch.Tensor, gradient: torch.Tensor, tolerance: float) -> bool:
    size = float(gradient.norm())
    return size <= tolerance and size + problem.floor(w[:, None]) <= tolerance
