"""What was minimised, in the **sum convention** that everything in this package keeps.

    L(w; D) = Σ_{i in D} l(w; z_i) + (Λ/2) |w|² + b·w,        Λ = total + per_example · |D|

A sum, never a mean: the Hessian of n records is n times that of their mean loss, and nothing is ever divided by n. w is
one flat float64 vector `[p]`. Whoever minimised a mean with weight decay λ multiplies by n: `L2(per_example=λ)`, where
λ shrinks with the data, or `L2(total=λ n)`, where the penalty stays as it was while records leave. They differ in what
"retrained without the records" means, and in nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples


@dataclass(frozen=True)
class L2:
    """Strength of the penalty (Λ/2) |w|², Λ = total + per_example · n.

    Attributes:
        total: Part that does not depend on the number of examples.
        per_example: Part for each example.
    """

    total: float = 0.0
    per_example: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("total", self.total), ("per_example", self.per_example)):
            if not 0 <= value < float("inf"):
                raise ConfigurationError(f"L2: {name} must be a finite number of at least 0, got {value}")

    def strength(self, n: int) -> float:
        """Λ for so many examples.

        Args:
            n: Number of examples.

        Returns:
            Λ.
        """
        return self.total + self.per_example * n


@dataclass(frozen=True, eq=False)
class Objective(ABC):
    """L(w; D): a loss, a penalty and a linear term; the data and w are passed in.

    Attributes:
        l2: The penalty.
        linear: b `[p]` float64, the random perturbation of certified removal; None: none.
    """

    l2: L2 = field(default_factory=L2)
    linear: torch.Tensor | None = None

    @property
    @abstractmethod
    def convex(self) -> bool:
        """Whether the loss is convex in w. No certificate may be issued, and no exactness claimed, where it is not."""

    @abstractmethod
    def size(self, examples: Examples) -> int:
        """Number of parameters p.

        Args:
            examples: Examples of the right shape.

        Returns:
            p.
        """

    @abstractmethod
    def losses(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """The loss of each example, without the penalty.

        Args:
            w: Parameters `[p]`.
            examples: n examples.

        Returns:
            `[n]`.
        """

    @abstractmethod
    def gradients(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """The gradient of each example's loss, without the penalty.

        Args:
            w: Parameters `[p]`.
            examples: n examples.

        Returns:
            `[n, p]`.
        """

    @abstractmethod
    def loss_hvp(self, w: torch.Tensor, examples: Examples, vectors: torch.Tensor) -> torch.Tensor:
        """Products of Σ Hess l_i with vectors, without the penalty.

        Args:
            w: Parameters `[p]`.
            examples: n examples.
            vectors: `[p, r]`.

        Returns:
            `[p, r]`.
        """

    @abstractmethod
    def loss_hessian(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ Hess l_i, without the penalty.

        Args:
            w: Parameters `[p]`.
            examples: n examples.

        Returns:
            `[p, p]`.
        """

    @abstractmethod
    def gauss_newton_rows(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Rows R with RᵀR = Σ Jᵢᵀ (Hess_f l)ᵢ Jᵢ, the (generalised) Gauss-Newton matrix: the Hessian, if f is linear.

        Args:
            w: Parameters `[p]`.
            examples: n examples.

        Returns:
            `[n · k, p]`, k rows for each example, in the order of the examples.
        """

    def loss_sum(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ l_i.

        Args:
            w: Parameters `[p]`.
            examples: n examples.

        Returns:
            A number.
        """
        return self.losses(w, examples).sum()

    def loss_gradient(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ ∇l_i, without the penalty.

        Args:
            w: Parameters `[p]`.
            examples: n examples; none give 0.

        Returns:
            `[p]`.
        """
        return self.gradients(w, examples).sum(0)

    def value(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """L(w; D).

        Args:
            w: Parameters `[p]`.
            examples: D.

        Returns:
            A number.
        """
        value = self.loss_sum(w, examples) + self.l2.strength(len(examples)) / 2 * (w @ w)
        return value if self.linear is None else value + self.linear @ w

    def gradient(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """∇L(w; D), penalty and linear term included.

        Args:
            w: Parameters `[p]`.
            examples: D.

        Returns:
            `[p]`.
        """
        gradient = self.loss_gradient(w, examples) + self.l2.strength(len(examples)) * w
        return gradient if self.linear is None else gradient + self.linear

    def removal(self, w: torch.Tensor, removed: Examples) -> torch.Tensor:
        """Δ = Σ_{i in M} (∇l_i(w) + per_example · w), by which ∇L(w; D - M) differs from ∇L(w; D), but for the sign.

        At the optimum of D, ∇L(w; D - M) = -Δ, so that the Newton step is +H⁻¹Δ. The linear term is not redrawn and
        cancels.

        Args:
            w: Parameters `[p]`.
            removed: M.

        Returns:
            `[p]`.
        """
        return self.loss_gradient(w, removed) + self.l2.per_example * len(removed) * w


def check_weights(w: torch.Tensor, size: int) -> None:
    """Refuse weights that this package cannot answer for.

    Args:
        w: Parameters.
        size: p.

    Raises:
        InputError: If they are no float64 vector `[p]` of finite numbers.
    """
    if w.dtype != torch.float64 or tuple(w.shape) != (size,):
        raise InputError(f"parameters must be a float64 tensor [{size}], got {w.dtype} {list(w.shape)}")
    if not bool(torch.isfinite(w).all()):
        raise InputError("parameters are not all finite: the model has diverged")


def batches(examples: Examples, size: int) -> Iterator[Examples]:
    """Consecutive pieces.

    Args:
        examples: Examples.
        size: At most so many in each.

    Yields:
        The pieces; none of no examples.
    """
    for start in range(0, len(examples), size):
        yield examples.take(slice(start, start + size))


def split(examples: Examples, forget: torch.Tensor) -> tuple[Examples, Examples]:
    """Split a data set by the positions of what is to be forgotten.

    Args:
        examples: D, n examples.
        forget: Positions `[m]`, int64.

    Returns:
        M and D - M.
    """
    check_positions(forget, len(examples))
    kept = torch.ones(len(examples), dtype=torch.bool)
    kept[forget] = False
    return examples.take(forget), examples.take(kept)


def check_positions(forget: torch.Tensor, n: int) -> None:
    """Refuse a forget set that is no subset of the data.

    Args:
        forget: Positions `[m]`, int64.
        n: Number of examples.

    Raises:
        InputError: If a position is not in the data, or occurs twice.
    """
    if forget.dtype != torch.int64 or forget.ndim != 1:
        raise InputError(f"positions to forget must be int64 [m], got {forget.dtype} {list(forget.shape)}")
    outside = forget[(forget < 0) | (forget >= n)]
    if len(outside):
        raise InputError(f"the forget set is no subset of the data: there is no position {int(outside[0])} among {n}")
    if len(set(forget.tolist())) != len(forget):
        raise InputError("the forget set holds a position twice: an example can be removed once")
