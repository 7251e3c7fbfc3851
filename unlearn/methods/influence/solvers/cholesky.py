"""Dense Cholesky factorisation: the reference for all others. O(p³) once, O(p²) for each right-hand side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unlearn.methods.influence.curvature import Curvature, as_block
from unlearn.methods.influence.solvers.base import Inverse, SingularCurvatureError, Solution, Solver


@dataclass(frozen=True)
class Cholesky(Solver):
    """H = C Cᵀ."""

    def fit(self, curvature: Curvature) -> CholeskyFactor:
        """Factorise.

        Args:
            curvature: H, positive definite.

        Returns:
            The factor.
        """
        return CholeskyFactor(curvature, factor_of(curvature.dense()))


@dataclass(frozen=True, eq=False)
class CholeskyFactor(Inverse):
    """A factorised curvature.

    Attributes:
        curvature: H.
        factor: C `[p, p]`, lower triangular.
    """

    curvature: Curvature
    factor: torch.Tensor

    def solve(self, vectors: torch.Tensor) -> Solution:
        """C⁻ᵀ C⁻¹ v.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x.
        """
        block = as_block(vectors, self.curvature.size)
        return Solution(torch.cholesky_solve(block, self.factor).reshape(vectors.shape))


def factor_of(matrix: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of a matrix that must be positive definite, and by a margin that rounding leaves.

    A pivot of C is the distance of a column from the span of those before it, so that min C_ii² / max C_ii² bounds the
    reciprocal of the condition number from above: where it is at the rounding error, the factor is noise.

    Args:
        matrix: `[p, p]`, symmetric.

    Returns:
        C `[p, p]`.

    Raises:
        SingularCurvatureError: If it is singular, indefinite, or not finite.
    """
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal()
    rounding = torch.finfo(matrix.dtype).eps * len(matrix)
    if int(failed) or not bool(pivots.min() ** 2 > rounding * pivots.max() ** 2):
        raise SingularCurvatureError(
            "the curvature is singular or not positive definite: train with an L2 penalty and state it, or add damping "
            "(then the answer is that of the damped problem); for a model that is no convex problem, use GaussNewton"
        )
    return factor
