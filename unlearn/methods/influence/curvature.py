"""Curvature matrices of an objective: what solvers invert.

All are sums over the examples plus Λ I (see `objective`), and symmetric. The Hessian is the matrix of influence
functions; the generalised Gauss-Newton matrix equals it where the model is linear in w, and is positive semi-definite
where it is not; the empirical Fisher Σ ∇l ∇lᵀ needs first derivatives alone, and is neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.objective import Objective, batches, check_weights

LARGEST_DENSE = 5_000
"""Most parameters of a dense matrix: 200 MB in float64, and as much again for its factor."""

AT_ONCE = 2**22
"""Numbers held at once, for each output of the model, where rows are made batch after batch."""


@dataclass(frozen=True, eq=False)
class Curvature(ABC):
    """A symmetric matrix `[p, p]`: curvature of the data plus (Λ + damping) I.

    Attributes:
        objective: What was minimised.
        w: Where the curvature is taken `[p]`, float64.
        examples: On what data.
        damping: Added to the diagonal beside the penalty; what it changes is no property of the objective, so that
            every answer with damping is one for another problem.
    """

    objective: Objective
    w: torch.Tensor
    examples: Examples
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_weights(self.w, self.objective.size(self.examples))
        if not 0 <= self.damping < float("inf"):
            raise ConfigurationError(f"damping must be a finite number of at least 0, got {self.damping}")

    @property
    def size(self) -> int:
        """P."""
        return len(self.w)

    @property
    def shift(self) -> float:
        """What is added to the diagonal: Λ + damping."""
        return self.objective.l2.strength(len(self.examples)) + self.damping

    def matvec(self, vectors: torch.Tensor) -> torch.Tensor:
        """Products with vectors.

        Args:
            vectors: `[p]` or `[p, r]`, float64.

        Returns:
            The same shape.
        """
        block = as_block(vectors, self.size)
        return (self.data_matvec(block) + self.shift * block).reshape(vectors.shape)

    def dense(self) -> torch.Tensor:
        """The matrix.

        Returns:
            `[p, p]`.

        Raises:
            ConfigurationError: If there are too many parameters.
        """
        if self.size > LARGEST_DENSE:
            raise ConfigurationError(
                f"a dense matrix of {self.size:,} parameters would take {8e-9 * self.size**2:.1f} GB, and at most "
                f"{LARGEST_DENSE:,} are allowed: use ConjugateGradient, LiSSA, Arnoldi or EKFAC, or fewer parameters"
            )
        matrix = self.data_dense()
        matrix.diagonal().add_(self.shift)
        return matrix

    @abstractmethod
    def data_matvec(self, vectors: torch.Tensor) -> torch.Tensor:
        """Products of the data's part with vectors.

        Args:
            vectors: `[p, r]`.

        Returns:
            `[p, r]`.
        """

    @abstractmethod
    def data_dense(self) -> torch.Tensor:
        """The data's part.

        Returns:
            `[p, p]`, a fresh tensor.
        """

    @abstractmethod
    def rows(self, examples: Examples) -> torch.Tensor:
        """R with RᵀR the curvature of some of the examples, at the same w: what a removal takes away.

        Args:
            examples: m examples.

        Returns:
            `[m · k, p]`.
        """

    @abstractmethod
    def on(self, examples: Examples) -> Curvature:
        """The same matrix of other examples.

        Args:
            examples: Examples.

        Returns:
            Its curvature.
        """


class Hessian(Curvature):
    """Hess L(w; D)."""

    def data_matvec(self, vectors: torch.Tensor) -> torch.Tensor:
        """Hessian-vector products.

        Args:
            vectors: `[p, r]`.

        Returns:
            `[p, r]`.
        """
        return self.objective.loss_hvp(self.w, self.examples, vectors)

    def data_dense(self) -> torch.Tensor:
        """Σ Hess l_i.

        Returns:
            `[p, p]`.
        """
        return self.objective.loss_hessian(self.w, self.examples)

    def rows(self, examples: Examples) -> torch.Tensor:
        """Gauss-Newton rows, which are those of the Hessian where the model is linear.

        Args:
            examples: m examples.

        Returns:
            `[m · k, p]`.

        Raises:
            ConfigurationError: If the loss is not convex in w.
        """
        if not self.objective.convex:
            raise ConfigurationError(
                "the Hessian of a model that is not linear in its parameters has no square root: use GaussNewton"
            )
        return self.objective.gauss_newton_rows(self.w, examples)

    def on(self, examples: Examples) -> Hessian:
        """The Hessian of other examples.

        Args:
            examples: Examples.

        Returns:
            It.
        """
        return Hessian(self.objective, self.w, examples, self.damping)


class RowCurvature(Curvature):
    """Σ RᵢᵀRᵢ: a curvature that is known by its rows."""

    def data_matvec(self, vectors: torch.Tensor) -> torch.Tensor:
        """Rᵀ(R V), batch after batch.

        Args:
            vectors: `[p, r]`.

        Returns:
            `[p, r]`.
        """
        total = torch.zeros_like(vectors)
        for batch in batches(self.examples, max(1, AT_ONCE // self.size)):
            rows = self.rows(batch)
            total += rows.T @ (rows @ vectors)
        return total

    def data_dense(self) -> torch.Tensor:
        """RᵀR.

        Returns:
            `[p, p]`.
        """
        total = self.w.new_zeros(self.size, self.size)
        for batch in batches(self.examples, max(1, AT_ONCE // self.size)):
            rows = self.rows(batch)
            total.addmm_(rows.T, rows)
        return total


class GaussNewton(RowCurvature):
    """Σ Jᵀ (Hess_f l) J: the Hessian without the curvature of the model itself."""

    def rows(self, examples: Examples) -> torch.Tensor:
        """√(Hess_f l) J.

        Args:
            examples: m examples.

        Returns:
            `[m · k, p]`.
        """
        return self.objective.gauss_newton_rows(self.w, examples)

    def on(self, examples: Examples) -> GaussNewton:
        """That of other examples.

        Args:
            examples: Examples.

        Returns:
            It.
        """
        return GaussNewton(self.objective, self.w, examples, self.damping)


class EmpiricalFisher(RowCurvature):
    """Σ ∇l ∇lᵀ, at the examples' own targets: not the Fisher information, whose targets are drawn from the model."""

    def rows(self, examples: Examples) -> torch.Tensor:
        """∇l of each.

        Args:
            examples: m examples.

        Returns:
            `[m, p]`.
        """
        return self.objective.gradients(self.w, examples)

    def on(self, examples: Examples) -> EmpiricalFisher:
        """That of other examples.

        Args:
            examples: Examples.

        Returns:
            It.
        """
        return EmpiricalFisher(self.objective, self.w, examples, self.damping)


def as_block(vectors: torch.Tensor, size: int) -> torch.Tensor:
    """Right-hand sides as columns.

    Args:
        vectors: `[p]` or `[p, r]`, float64.
        size: p.

    Returns:
        `[p, r]`.

    Raises:
        InputError: If they have another shape or dtype, or are not finite.
    """
    if vectors.ndim not in {1, 2} or vectors.shape[0] != size or vectors.dtype != torch.float64:
        raise InputError(
            f"right-hand sides must be float64 [{size}] or [{size}, r], got {vectors.dtype} {list(vectors.shape)}"
        )
    if not bool(torch.isfinite(vectors).all()):
        raise InputError("right-hand sides are not all finite")
    return vectors.reshape(size, -1)
