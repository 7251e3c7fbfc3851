"""A cached inverse that follows removals and additions by rank-m changes (Sherman-Morrison-Woodbury).

With R the rows of the removed examples' curvature at the same w, A = H⁻¹Rᵀ and K = I - R A,

    (H - RᵀR)⁻¹ = H⁻¹ + A K⁻¹ Aᵀ.

O(p² m) instead of O(n p² + p³). The change has rank m only if the penalty's **total** strength stays as it is
(`L2(total=…)`): a penalty per example changes every diagonal entry with n, and is refused. The largest eigenvalue of
R A is the removed set's joint leverage; at 1 the remaining data no longer determine w.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Curvature, as_block
from unlearn.methods.influence.solvers.base import Inverse, SingularCurvatureError, Solution, Solver
from unlearn.methods.influence.solvers.cholesky import factor_of


@dataclass(frozen=True)
class Woodbury(Solver):
    """H⁻¹, kept as a matrix."""

    def fit(self, curvature: Curvature) -> CachedInverse:
        """Invert.

        Args:
            curvature: H, positive definite.

        Returns:
            The inverse.

        Raises:
            ConfigurationError: If the penalty grows with the number of examples.
        """
        if curvature.objective.l2.per_example:
            raise ConfigurationError(
                "a removal changes a penalty per example in every direction, which is no change of low rank: use "
                "L2(total=per_example * n), and keep the total as it is"
            )
        return CachedInverse(curvature, torch.cholesky_inverse(factor_of(curvature.dense())))


@dataclass(frozen=True, eq=False)
class CachedInverse(Inverse):
    """An inverse, at the w where its curvature was taken.

    Attributes:
        curvature: The matrix that was inverted when the cache was made; `without` and `including` leave it as it is.
        inverse: H⁻¹ `[p, p]` of what remains now.
    """

    curvature: Curvature
    inverse: torch.Tensor

    def solve(self, vectors: torch.Tensor) -> Solution:
        """H⁻¹v.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x.
        """
        as_block(vectors, self.curvature.size)
        return Solution(self.inverse @ vectors)

    def solve_without(self, removed: Examples, vectors: torch.Tensor) -> Solution:
        """Solve with the Hessian of what remains, leaving the cache alone.

        Args:
            removed: Examples that the cache holds.
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x = H⁻¹v + A K⁻¹ R H⁻¹ v.
        """
        as_block(vectors, self.curvature.size)
        rows = self.curvature.rows(removed)
        spread, small = self._downdate(rows)
        x = self.inverse @ vectors
        moved = (rows @ x).reshape(len(rows), -1)
        return Solution(x + (spread @ torch.cholesky_solve(moved, small)).reshape(x.shape))

    def without(self, removed: Examples) -> CachedInverse:
        """The cache after a removal.

        Args:
            removed: Examples that the cache holds.

        Returns:
            (H - RᵀR)⁻¹.
        """
        spread, small = self._downdate(self.curvature.rows(removed))
        half = torch.linalg.solve_triangular(small, spread.T, upper=False)
        return CachedInverse(self.curvature, torch.addmm(self.inverse, half.T, half))

    def including(self, added: Examples) -> CachedInverse:
        """The cache after an addition.

        Args:
            added: Further examples.

        Returns:
            (H + RᵀR)⁻¹ = H⁻¹ - A (I + R A)⁻¹ Aᵀ.
        """
        rows = self.curvature.rows(added)
        spread = self.inverse @ rows.T
        small = rows @ spread
        small.diagonal().add_(1.0)
        half = torch.linalg.solve_triangular(factor_of(small), spread.T, upper=False)
        return CachedInverse(self.curvature, torch.addmm(self.inverse, half.T, half, alpha=-1.0))

    def leverages(self, examples: Examples) -> torch.Tensor:
        """The leverage of each row, [R H⁻¹ Rᵀ]_jj: how much of its own fit a record makes, from 0 to 1.

        Args:
            examples: m examples that the cache holds.

        Returns:
            `[m · k]`, k rows for each example.
        """
        rows = self.curvature.rows(examples)
        return ((rows @ self.inverse) * rows).sum(1)

    def _downdate(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A `[p, m]`, and the factor of K `[m, m]`."""
        spread = self.inverse @ rows.T
        small = (rows @ spread).neg_()
        small.diagonal().add_(1.0)
        try:
            return spread, factor_of(small)
        except SingularCurvatureError:
            raise SingularCurvatureError(
                "what remains after the removal has a singular curvature (the removed set's leverage reaches 1), or "
                "the examples are not among those the cache holds: fit the solver on the remaining examples"
            ) from None
