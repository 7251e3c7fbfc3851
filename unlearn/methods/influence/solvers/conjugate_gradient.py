"""Conjugate gradient (Hestenes and Stiefel 1952): products with H alone, H positive definite.

All right-hand sides advance together, each with step lengths of its own; one product with H a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.influence.curvature import Curvature, as_block
from unlearn.methods.influence.solvers.base import Inverse, SingularCurvatureError, Solution, Solver, residual


@dataclass(frozen=True)
class ConjugateGradient(Solver):
    """Ends when every right-hand side is solved, or the iterations are spent; `Solution.residual` says which.

    Attributes:
        tolerance: |H x - v| / |v| to reach.
        iterations: At most so many.
    """

    tolerance: float = 1e-10
    iterations: int = 1_000

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1 or self.iterations < 1:
            raise ConfigurationError(
                f"ConjugateGradient: tolerance must lie in [0, 1) and iterations be at least 1, got {self.tolerance} "
                f"and {self.iterations}"
            )

    def fit(self, curvature: Curvature) -> ConjugateGradientInverse:
        """Nothing to prepare.

        Args:
            curvature: H.

        Returns:
            What solves.
        """
        return ConjugateGradientInverse(curvature, self)


@dataclass(frozen=True, eq=False)
class ConjugateGradientInverse(Inverse):
    """Solves by iteration.

    Attributes:
        curvature: H.
        specification: Tolerance and iterations.
    """

    curvature: Curvature
    specification: ConjugateGradient

    def solve(self, vectors: torch.Tensor) -> Solution:
        """Iterate from 0.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x with its residual.

        Raises:
            SingularCurvatureError: If a direction of curvature 0 or less is met.
        """
        v = as_block(vectors, self.curvature.size)
        x, left, direction = torch.zeros_like(v), v.clone(), v.clone()
        squares = (left * left).sum(0)
        enough = self.specification.tolerance**2 * squares
        steps = 0
        while steps < self.specification.iterations and bool((squares > enough).any()):
            active = squares > enough
            product = self.curvature.matvec(direction)
            bend = (direction * product).sum(0)
            if not bool((bend > 0)[active].all()):
                raise SingularCurvatureError(
                    "conjugate gradient met a direction without positive curvature: use GaussNewton, or more damping"
                )
            step = torch.where(active, squares / bend, 0.0)
            x += step * direction
            left -= step * product
            before, squares = squares, torch.where(active, (left * left).sum(0), squares)
            direction = torch.where(active, left + (squares / before) * direction, direction)
            steps += 1
        return Solution(x.reshape(vectors.shape), residual(self.curvature, x, v), steps)
