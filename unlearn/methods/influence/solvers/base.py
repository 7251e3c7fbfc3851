"""What solvers share: a specification, fitted to a curvature, solves H x = v for one or many right-hand sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from unlearn.errors import UnlearnError
from unlearn.methods.influence.curvature import Curvature, as_block


class SingularCurvatureError(UnlearnError):
    """A curvature that is singular, indefinite or so badly conditioned that an answer would mean nothing."""


class DivergedError(UnlearnError):
    """An iteration that ran away instead of converging."""


@dataclass(frozen=True, eq=False)
class Solution:
    """x with H x = v.

    Attributes:
        x: In the shape of v.
        residual: |H x - v| / |v|, the largest over the right-hand sides, measured by a product with H after the last
            iteration; None of a factorisation, for which `residual` of this module measures it on demand.
        iterations: Steps taken; 0 of a factorisation.
    """

    x: torch.Tensor
    residual: float | None = None
    iterations: int = 0


class Inverse(ABC):
    """A solver fitted to a curvature. Abstract; `solve` is all that a consumer needs."""

    curvature: Curvature

    @abstractmethod
    def solve(self, vectors: torch.Tensor) -> Solution:
        """Solve H x = v.

        Args:
            vectors: v, `[p]` or `[p, r]`, float64.

        Returns:
            x, and how well it fits.
        """


class Solver(ABC):
    """A specification, with every choice as a field; a frozen dataclass."""

    @abstractmethod
    def fit(self, curvature: Curvature) -> Inverse:
        """Prepare for a curvature: factorise, or choose a scale.

        Args:
            curvature: H.

        Returns:
            What solves.
        """


def residual(curvature: Curvature, x: torch.Tensor, vectors: torch.Tensor) -> float:
    """|H x - v| / |v|, the largest over the right-hand sides; those of zeros count as 0 if x is zero as well.

    Args:
        curvature: H.
        x: `[p]` or `[p, r]`.
        vectors: v, in the same shape.

    Returns:
        The residual, relative.

    Raises:
        DivergedError: If it is no number.
    """
    v = as_block(vectors, curvature.size)
    missed = (curvature.matvec(x.reshape(v.shape)) - v).norm(dim=0)
    relative = float((missed / v.norm(dim=0).clamp_min(torch.finfo(v.dtype).tiny)).max()) if v.shape[1] else 0.0
    if not relative < float("inf"):
        raise DivergedError("the solver's answer holds no finite numbers")
    return relative
