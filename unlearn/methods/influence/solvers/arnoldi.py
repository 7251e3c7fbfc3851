"""Arnoldi iteration (Schioppa, Zablotskaia, Vilar and Sokolov 2022): H⁻¹ restricted to its leading eigenvectors.

From a random start, an orthonormal basis Q of the Krylov space is built; the eigenvectors of QᵀHQ with the largest
absolute eigenvalues are kept: x = Σ_kept u (uᵀv)/θ. H is symmetric, so this is Lanczos' method with every vector
orthogonalised against all before it. What lies outside the kept directions is answered with 0, so x is too small, most
so where the curvature is least; the residual says by how much. Of an eigenvalue that occurs several times (the
penalty's own, in a softmax regression) the space holds one direction, however large it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.influence.curvature import Curvature, as_block
from unlearn.methods.influence.solvers.base import Inverse, SingularCurvatureError, Solution, Solver, residual


@dataclass(frozen=True)
class Arnoldi(Solver):
    """A Krylov space and what to keep of it.

    Attributes:
        iterations: Its dimension, at most p.
        kept: Directions kept, at most as many.
        seed: Of the first vector.
    """

    iterations: int = 200
    kept: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.iterations:
            raise ConfigurationError(f"Arnoldi: 1 <= kept <= iterations, got {self.kept} and {self.iterations}")

    def fit(self, curvature: Curvature) -> ArnoldiInverse:
        """Build the space.

        Args:
            curvature: H.

        Returns:
            Its leading eigenpairs.

        Raises:
            SingularCurvatureError: If an eigenvalue kept is 0.
        """
        basis = krylov_basis(curvature, self.iterations, self.seed)
        small = basis.T @ curvature.matvec(basis)
        values, vectors = torch.linalg.eigh((small + small.T) / 2)
        leading = values.abs().argsort(descending=True)[: self.kept]
        values = values[leading]
        if not bool(values.abs().min() > torch.finfo(values.dtype).eps * values.abs().max()):
            raise SingularCurvatureError("Arnoldi: an eigenvalue kept is 0: keep fewer, or add damping")
        return ArnoldiInverse(curvature, basis @ vectors[:, leading], values, len(basis.T))


@dataclass(frozen=True, eq=False)
class ArnoldiInverse(Inverse):
    """Solves in the kept directions.

    Attributes:
        curvature: H.
        directions: `[p, kept]`, orthonormal.
        values: Their Ritz values `[kept]`.
        iterations: Dimension of the space.
    """

    curvature: Curvature
    directions: torch.Tensor
    values: torch.Tensor
    iterations: int

    def solve(self, vectors: torch.Tensor) -> Solution:
        """Σ u (uᵀv)/θ.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x with its residual.
        """
        v = as_block(vectors, self.curvature.size)
        x = self.directions @ ((self.directions.T @ v) / self.values[:, None])
        return Solution(x.reshape(vectors.shape), residual(self.curvature, x, v), self.iterations)


def krylov_basis(curvature: Curvature, iterations: int, seed: int) -> torch.Tensor:
    """An orthonormal basis of span(q, Hq, H²q, …).

    Args:
        curvature: H.
        iterations: Its dimension; fewer where the space is exhausted, which plain implementations divide by 0 for.
        seed: Of q.

    Returns:
        `[p, k]`.
    """
    q = torch.randn(curvature.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    basis: torch.Tensor = (q / q.norm())[:, None]
    while basis.shape[1] < min(iterations, curvature.size):
        following = curvature.matvec(basis[:, -1])
        size = following.norm()
        for _ in range(2):  # Twice is enough: once leaves what rounding put back.
            following = following - basis @ (basis.T @ following)
        if not bool(following.norm() > 1e-10 * size):
            break
        basis = torch.cat([basis, (following / following.norm())[:, None]], 1)
    return basis
