"""What the removal of records would do to a test loss or a prediction (Koh and Liang 2017), in the sum convention.

    score_i = ∇f(w)ᵀ H⁻¹ Δ_i ≈ f(w without i) - f(w),       Δ_i = ∇l_i(w) + per_example · w

f is any function of w. The score is the change of f itself, neither divided nor multiplied by n. **Positive: removing
the record raises f**; where f is a test loss, the record was helpful. Other tools differ in sign and by factors of n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.func import jacrev

from unlearn.errors import InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.linear_models import ScalarModel
from unlearn.methods.influence.objective import Objective, batches
from unlearn.methods.influence.solvers.base import Inverse
from unlearn.methods.influence.solvers.woodbury import CachedInverse

Target: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""f: w `[p]` → `[t]`, differentiable: test losses, predictions, a norm."""

AT_ONCE = 2**23
"""Numbers held at once where each record's gradient is made: 64 MB."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores with their meaning.

    Attributes:
        values: `[n, t]`: of n records (or groups) on t targets, float64.
        residual: |H x - v| / |v| of the solver; None of a factorisation.
        sign: What positive means.
        normalisation: In what unit.
    """

    values: torch.Tensor
    residual: float | None = None
    sign: str = "positive: removing the record raises the target"
    normalisation: str = "change of the target itself; objective a sum over records, nothing divided by n"


def influence(objective: Objective, w: torch.Tensor, records: Examples, target: Target, inverse: Inverse) -> Scores:
    """First-order scores: one solve for each target, one product for each record.

    Args:
        objective: What w minimises.
        w: `[p]`, the optimum on all data.
        records: n records of the data.
        target: f.
        inverse: A solver, fitted to the curvature at w on all data.

    Returns:
        Scores `[n, t]`.
    """
    solution = inverse.solve(_gradient(target, w))
    return Scores(_products(objective, w, records, solution.x), solution.residual)


def self_influence(objective: Objective, w: torch.Tensor, records: Examples, inverse: Inverse) -> Scores:
    """Each record on its own loss: Δ_iᵀ H⁻¹ Δ_i (of the penalised one, where the penalty is per example).

    High where a record is memorised: mislabelled, rare, or an outlier.

    Args:
        objective: What w minimises.
        w: `[p]`.
        records: n records of the data.
        inverse: A solver, fitted to the curvature at w on all data.

    Returns:
        Scores `[n, 1]`.
    """
    values, residuals = [w.new_zeros(0)], [0.0]
    for batch in batches(records, max(1, AT_ONCE // len(w))):
        removals = _removals(objective, w, batch)
        solution = inverse.solve(removals.T)
        values.append((removals.T * solution.x).sum(0))
        residuals.append(solution.residual or 0.0)
    return Scores(torch.cat(values)[:, None], max(residuals), sign="positive: removing the record raises its own loss")


def group_influence(
    objective: Objective, w: torch.Tensor, groups: Sequence[Examples], target: Target, cache: CachedInverse
) -> Scores:
    """Groups that are removed together: ∇fᵀ H(D - M)⁻¹ Δ_M, which unlike a sum of scores knows that they overlap.

    Args:
        objective: What w minimises.
        w: `[p]`.
        groups: Sets M of the data.
        target: f.
        cache: The inverse of the curvature at w on all data.

    Returns:
        Scores `[groups, t]`.
    """
    gradient = _gradient(target, w)
    values = [gradient.T @ cache.solve_without(group, objective.removal(w, group)).x for group in groups]
    return Scores(torch.stack(values) if values else w.new_zeros(0, gradient.shape[1]))


def leave_one_out(
    objective: ScalarModel, w: torch.Tensor, records: Examples, target: Target, cache: CachedInverse
) -> Scores:
    """Scores of a generalised linear model, corrected by leverage: one Newton step on what remains, for every record.

    By the rank-one formula H(D - i)⁻¹ xᵢ = H⁻¹ xᵢ / (1 - h_i) with h_i = φ''ᵢ xᵢᵀ H⁻¹ xᵢ: the first-order score divided
    by 1 - h_i. For squared loss it is exact.

    Args:
        objective: A generalised linear model with one score a record.
        w: `[d]`, the optimum on all data.
        records: n records of the data.
        target: f.
        cache: The inverse of the Hessian at w on all data.

    Returns:
        Scores `[n, t]`.

    Raises:
        InputError: If a record's leverage is 1: without it the data determine no w.
    """
    kept = 1 - cache.leverages(records)
    if not bool((kept > 1e-10).all()):
        raise InputError(f"record {int(kept.argmin())} has leverage 1: without it the optimum is not determined")
    first = influence(objective, w, records, target, cache)
    return Scores(first.values / kept[:, None])


def _gradient(target: Target, w: torch.Tensor) -> torch.Tensor:
    """∇f, `[p, t]`."""
    jacobian: torch.Tensor = jacrev(target)(w)
    return jacobian.reshape(-1, len(w)).T.detach().contiguous()


def _products(objective: Objective, w: torch.Tensor, records: Examples, x: torch.Tensor) -> torch.Tensor:
    pieces = [_removals(objective, w, batch) @ x for batch in batches(records, max(1, AT_ONCE // len(w)))]
    return torch.cat(pieces) if pieces else x.new_zeros(0, x.shape[1])


def _removals(objective: Objective, w: torch.Tensor, records: Examples) -> torch.Tensor:
    """Δ_i, `[n, p]`."""
    return objective.gradients(w, records) + objective.l2.per_example * w
