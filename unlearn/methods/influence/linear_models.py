"""Generalised linear models, whose derivatives have closed forms: logistic regression, softmax, squared loss.

Inputs are `[n, d]` float64; an intercept is a column of ones (`with_intercept`), and penalised like the others.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch.nn import functional

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.objective import Objective


@dataclass(frozen=True, eq=False)
class ScalarModel(Objective):
    """One score w·x an example: l(w; x, y) = φ(w·x, y), φ convex in the score."""

    @property
    def convex(self) -> bool:
        """True."""
        return True

    @property
    @abstractmethod
    def bend_log_slope(self) -> float:
        """Smallest c with |φ'''| ≤ c φ'': then Hessians at w and w+s differ by a factor of e^{±c max|xᵢ·s|} at most."""

    @abstractmethod
    def value_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """φ.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """

    @abstractmethod
    def slope_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """φ', the derivative by the score.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """

    @abstractmethod
    def bend_of(self, scores: torch.Tensor) -> torch.Tensor:
        """φ'', the curvature; it does not depend on the target.

        Args:
            scores: `[n]`.

        Returns:
            `[n]`.
        """

    @abstractmethod
    def _targets(self, examples: Examples) -> torch.Tensor: ...

    def size(self, examples: Examples) -> int:
        """Number of columns.

        Args:
            examples: Examples.

        Returns:
            d.
        """
        return columns(examples)

    def scores(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """w·x of each.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        columns(examples)
        return examples.inputs @ w

    def slopes(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """φ' of each: ∇l_i = φ'ᵢ xᵢ.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        return self.slope_of(self.scores(w, examples), self._targets(examples))

    def bends(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """φ'' of each: Hess l_i = φ''ᵢ xᵢxᵢᵀ.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        return self.bend_of(self.scores(w, examples))

    def losses(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """φ(w·xᵢ, yᵢ).

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        return self.value_of(self.scores(w, examples), self._targets(examples))

    def gradients(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """φ'ᵢ xᵢ.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n, d]`.
        """
        return self.slopes(w, examples)[:, None] * examples.inputs

    def loss_gradient(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ φ'ᵢ xᵢ.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[d]`.
        """
        return self.slopes(w, examples) @ examples.inputs

    def loss_hvp(self, w: torch.Tensor, examples: Examples, vectors: torch.Tensor) -> torch.Tensor:
        """Xᵀ diag(φ'') X V.

        Args:
            w: `[d]`.
            examples: n examples.
            vectors: `[d, r]`.

        Returns:
            `[d, r]`.
        """
        return examples.inputs.T @ (self.bends(w, examples)[:, None] * (examples.inputs @ vectors))

    def loss_hessian(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Xᵀ diag(φ'') X.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[d, d]`.
        """
        rows = self.gauss_newton_rows(w, examples)
        return rows.T @ rows

    def gauss_newton_rows(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """√φ''ᵢ xᵢ.

        Args:
            w: `[d]`.
            examples: n examples.

        Returns:
            `[n, d]`.
        """
        return self.bends(w, examples).sqrt()[:, None] * examples.inputs


@dataclass(frozen=True, eq=False)
class BinaryLogistic(ScalarModel):
    """φ(s, y) = log(1 + e^s) - y s, y in {0, 1}: class 1 has probability p = 1/(1 + e^-s)."""

    @property
    def bend_log_slope(self) -> float:
        """1: φ''' = (1 - 2p) φ''."""
        return 1.0

    def value_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """log(1 + e^s) - y s.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """
        return torch.logaddexp(scores, torch.zeros_like(scores)) - targets * scores

    def slope_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Probability - y.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """
        return torch.sigmoid(scores) - targets

    def bend_of(self, scores: torch.Tensor) -> torch.Tensor:
        """p(s) p(-s), which loses no digits at large scores as p (1 - p) would.

        Args:
            scores: `[n]`.

        Returns:
            `[n]`.
        """
        return torch.sigmoid(scores) * torch.sigmoid(-scores)

    def _targets(self, examples: Examples) -> torch.Tensor:
        targets = examples.targets
        if targets.dtype != torch.int64 or (len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) <= 1):
            raise InputError("targets of a logistic regression must be int64 class numbers 0 and 1: map -1 to 0")
        return targets.to(torch.float64)


@dataclass(frozen=True, eq=False)
class SquaredLoss(ScalarModel):
    """φ(s, y) = (s - y)²/2, with the half: its curvature is 1."""

    @property
    def bend_log_slope(self) -> float:
        """0: the curvature is constant, so that one Newton step is exact."""
        return 0.0

    def value_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(s - y)²/2.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """
        return (scores - targets) ** 2 / 2

    def slope_of(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """S - y.

        Args:
            scores: `[n]`.
            targets: `[n]`.

        Returns:
            `[n]`.
        """
        return scores - targets

    def bend_of(self, scores: torch.Tensor) -> torch.Tensor:
        """1.

        Args:
            scores: `[n]`.

        Returns:
            `[n]`.
        """
        return torch.ones_like(scores)

    def _targets(self, examples: Examples) -> torch.Tensor:
        if not examples.targets.is_floating_point() or examples.targets.ndim != 1:
            raise InputError("targets of a least-squares regression must be floating-point values [n]")
        return examples.targets.to(torch.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Objective):
    """l(W; x, y) = log Σ_c e^{s_c} - s_y, s = W x; w is W `[k, d]`, row after row, as a `torch.nn.Linear` keeps it.

    Attributes:
        classes: k.
    """

    classes: int

    @property
    def convex(self) -> bool:
        """True."""
        return True

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ConfigurationError(f"a softmax regression needs 2 classes or more, got {self.classes}")

    def size(self, examples: Examples) -> int:
        """K · d.

        Args:
            examples: Examples.

        Returns:
            k · d.
        """
        return self.classes * columns(examples)

    def scores(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """W x of each.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[n, k]`.
        """
        return examples.inputs @ w.reshape(self.classes, columns(examples)).T

    def losses(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Cross-entropy of each.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        return functional.cross_entropy(self.scores(w, examples), self._targets(examples), reduction="none")

    def slopes(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """P - onehot(y): ∇l_i = slopeᵢ ⊗ xᵢ.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[n, k]`.
        """
        slopes = torch.softmax(self.scores(w, examples), 1)
        slopes[torch.arange(len(examples)), self._targets(examples)] -= 1
        return slopes

    def gradients(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """(p - onehot(y)) ⊗ x.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[n, k d]`.
        """
        slopes = self.slopes(w, examples)
        return (slopes[:, :, None] * examples.inputs[:, None, :]).reshape(len(examples), -1)

    def loss_gradient(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ (p - onehot(y)) ⊗ x.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[k d]`.
        """
        return (self.slopes(w, examples).T @ examples.inputs).reshape(-1)

    def loss_hvp(self, w: torch.Tensor, examples: Examples, vectors: torch.Tensor) -> torch.Tensor:
        """Σ (diag p - ppᵀ) ⊗ xxᵀ, times vectors.

        Args:
            w: `[k d]`.
            examples: n examples.
            vectors: `[k d, r]`.

        Returns:
            `[k d, r]`.
        """
        p = torch.softmax(self.scores(w, examples), 1)
        moved = torch.einsum("nd,kdr->nkr", examples.inputs, vectors.reshape(self.classes, -1, vectors.shape[1]))
        bent = p[:, :, None] * (moved - (p[:, :, None] * moved).sum(1, keepdim=True))
        return torch.einsum("nd,nkr->kdr", examples.inputs, bent).reshape(vectors.shape)

    def loss_hessian(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ (diag p - ppᵀ) ⊗ xxᵀ, one `[d, d]` block for each pair of classes.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[k d, k d]`.
        """
        d, x = columns(examples), examples.inputs
        p = torch.softmax(self.scores(w, examples), 1)
        hessian = x.new_empty(self.classes, d, self.classes, d)
        for a in range(self.classes):
            for b in range(a + 1):
                bend = p[:, a] * (float(a == b) - p[:, b])
                hessian[a, :, b, :] = hessian[b, :, a, :] = x.T @ (bend[:, None] * x)
        return hessian.reshape(self.classes * d, self.classes * d)

    def gauss_newton_rows(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Rows of S ⊗ x with SSᵀ = diag p - ppᵀ: S = diag √p - p √pᵀ.

        Args:
            w: `[k d]`.
            examples: n examples.

        Returns:
            `[n k, k d]`.
        """
        root = softmax_root(torch.softmax(self.scores(w, examples), 1))
        return torch.einsum("nks,nd->nskd", root, examples.inputs).reshape(len(examples) * self.classes, -1)

    def _targets(self, examples: Examples) -> torch.Tensor:
        targets = examples.targets
        if targets.dtype != torch.int64:
            raise InputError(f"targets of a softmax regression must be int64 class numbers, got {targets.dtype}")
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < self.classes:
            raise InputError(f"targets must be class numbers from 0 to {self.classes - 1}")
        return targets


def softmax_root(p: torch.Tensor) -> torch.Tensor:
    """S with SSᵀ = diag p - ppᵀ, the curvature of the cross-entropy by its scores: S = diag √p - p √pᵀ.

    Args:
        p: Probabilities `[n, k]`.

    Returns:
        `[n, k, k]`.
    """
    return torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]


def columns(examples: Examples) -> int:
    """Number of columns of a design matrix.

    Args:
        examples: Examples of a linear model.

    Returns:
        d.

    Raises:
        InputError: If inputs are no float64 matrix.
    """
    if examples.inputs.ndim != 2 or examples.inputs.dtype != torch.float64:
        raise InputError(
            f"inputs of a linear model must be a float64 matrix [n, d], got {examples.inputs.dtype} "
            f"{list(examples.inputs.shape)}"
        )
    return examples.inputs.shape[1]


def with_intercept(examples: Examples) -> Examples:
    """A column of ones at the end.

    Args:
        examples: Inputs `[n, d]`.

    Returns:
        Inputs `[n, d + 1]`.
    """
    columns(examples)
    return Examples(functional.pad(examples.inputs, (0, 1), value=1.0), examples.targets)
