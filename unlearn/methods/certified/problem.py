"""The convex problems that certificates are issued for: F(W; D) = Σ l(x·w_k, y_k) + (λ n / 2) |W|², a column a head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.linear_models import BinaryLogistic, ScalarModel, SquaredLoss
from unlearn.methods.influence.objective import L2

UNIT = 2.0**-53
"""Unit roundoff of float64."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and loss of independent linear heads, in the sum convention with a penalty for each example.

    Attributes:
        inputs: `[n, d]` float64.
        targets: `[n, heads]`: int64 0 and 1 for the logistic loss, float64 for the squared loss.
        loss: `BinaryLogistic` or `SquaredLoss` with its penalty; no linear term.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    loss: ScalarModel

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape `(d, heads)` of the weights."""
        return self.inputs.shape[1], self.targets.shape[1]

    @property
    def regularisation(self) -> float:
        """Lambda, the penalty for each example."""
        return self.loss.l2.per_example

    @property
    def convexity(self) -> float:
        """Strong convexity λ n of F."""
        return self.loss.l2.strength(len(self))

    def head(self, k: int) -> Examples:
        """Examples of one head.

        Args:
            k: Its number.

        Returns:
            Inputs `[n, d]` with targets `[n]`.
        """
        return Examples(self.inputs, self.targets[:, k])

    def take(self, rows: Sequence[int] | torch.Tensor) -> Problem:
        """The problem of some of the rows; the penalty follows their number.

        Args:
            rows: Their numbers.

        Returns:
            It.
        """
        index = torch.as_tensor(rows, dtype=torch.int64)
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """∇F.

        Args:
            weights: `[d, heads]` float64.

        Returns:
            `[d, heads]`.
        """
        return torch.stack([self.loss.gradient(weights[:, k], self.head(k)) for k in range(weights.shape[1])], 1)

    def residual(self, weights: torch.Tensor) -> float:
        """An upper bound of |∇F|, rounding included.

        Args:
            weights: `[d, heads]` float64.

        Returns:
            The computed norm plus `floor`.
        """
        return float(self.gradient(weights).norm()) + self.floor(weights)

    def floor(self, weights: torch.Tensor) -> float:
        r"""How far the computed ∇F may be from the true one, by rounding.

        With \(\gamma_k = ku/(1-ku)\): scores err by at most \(\gamma_d |x||w|\), slopes by that times the largest
        curvature and a few units in the last place, sums of n by \(\gamma_n\) times the sum of the sizes.

        Args:
            weights: `[d, heads]` float64.

        Returns:
            A norm.
        """
        n, d = self.inputs.shape
        norms = self.inputs.norm(dim=1)
        curvature = 0.25 if isinstance(self.loss, BinaryLogistic) else 1.0
        total = 0.0
        for k in range(weights.shape[1]):
            w, size = weights[:, k], float(weights[:, k].norm())
            slopes = self.loss.slopes(w, self.head(k)).abs()
            summed = accumulated(n + 8) * float(slopes @ norms)
            scored = curvature * accumulated(d + 8) * size * float(norms @ norms) + accumulated(8) * float(norms.sum())
            total += (summed + scored + accumulated(8) * self.convexity * size) ** 2
        return math.sqrt(total)


def accumulated(k: int) -> float:
    r"""Relative error of k roundings in a row.

    Args:
        k: Their number.

    Returns:
        \(\gamma_k = ku/(1-ku)\).
    """
    return k * UNIT / (1 - k * UNIT)


def logistic(regularisation: float) -> ScalarModel:
    """The logistic loss.

    Args:
        regularisation: λ, for each example.

    Returns:
        The loss.

    Raises:
        ConfigurationError: If λ is not above 0.
    """
    return BinaryLogistic(_penalty(regularisation))


def squared(regularisation: float) -> ScalarModel:
    """The squared loss (s - y)²/2.

    Args:
        regularisation: λ, for each example.

    Returns:
        The loss.

    Raises:
        ConfigurationError: If λ is not above 0.
    """
    return SquaredLoss(_penalty(regularisation))


def _penalty(regularisation: float) -> L2:
    if not (math.isfinite(regularisation) and regularisation > 0):
        raise ConfigurationError(
            f"regularisation must be a finite number above 0, got {regularisation!r}: without a penalty the problem is "
            "not strongly convex, and no residual bounds how far the weights are from retrained ones"
        )
    return L2(per_example=regularisation)


def check_logistic(problem: Problem, who: str) -> None:
    """Refuse what a bound for the logistic loss with rows of norm at most 1 does not cover.

    Args:
        problem: The problem.
        who: Whose bound, in a message.

    Raises:
        ConfigurationError: If the loss is another one.
        InputError: If a row is longer than 1.
    """
    if not isinstance(problem.loss, BinaryLogistic):
        raise ConfigurationError(
            f"{who} is derived for the logistic loss, whose gradients are bounded, and not for "
            f"{type(problem.loss).__name__}: use OutputPerturbation"
        )
    norms = problem.inputs.norm(dim=1)
    longest = float(norms.max()) if len(norms) else 0.0
    # What a division by the norm may leave, and no more: contractions are raised to the power of all steps.
    if longest > 1 + 1e-12:
        raise InputError(
            f"{who} needs rows of norm at most 1, and row {int(norms.argmax())} has norm {longest:.6g}: divide each "
            "row by its norm, or all rows by a public constant"
        )
