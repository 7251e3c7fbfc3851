r"""Bounds on the gradient residual that one Newton step leaves (Guo, Goldstein, Hannun and van der Maaten 2020).

After w⁻ = w + s, H's = Δ, with t = X's on the n' rows that remain, \(r = X'^T c\) and
\(c_i = l'(z_i + t_i) - l'(z_i) - l''(z_i) t_i\), so \(|c_i| \le \gamma t_i^2 / 2\) by Taylor's remainder. All constants
are derived in decision 0028, where the published ones are halved, sharpened, and completed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

LIPSCHITZ = math.sqrt(3) / 18
"""The Lipschitz constant of the second derivative of the logistic loss, max |l'''|."""

PUBLISHED_LIPSCHITZ = 0.25
"""What the published experiments take for it; it bounds the second derivative itself."""


def published(inputs: torch.Tensor, step: torch.Tensor, norm: float, lipschitz: float = PUBLISHED_LIPSCHITZ) -> float:
    """Lipschitz constant · ‖X'‖ |s| |X's|: the published data-dependent bound; rows of norm at most 1.

    Args:
        inputs: `[n, d]` rows that remain.
        step: s, `[d]`.
        norm: At least ‖X'‖.
        lipschitz: gamma.

    Returns:
        The bound.
    """
    return lipschitz * norm * float(step.norm()) * float((inputs @ step).norm())


def fourth_power(inputs: torch.Tensor, step: torch.Tensor, norm: float, lipschitz: float = LIPSCHITZ) -> float:
    """(gamma/2) ‖X'‖ (Σ t_i⁴)^½: at most half of the published bound at the same cost, and for rows of any norm.

    Args:
        inputs: `[n, d]` rows that remain.
        step: s, `[d]`.
        norm: At least ‖X'‖.
        lipschitz: gamma; 0 for the squared loss.

    Returns:
        The bound.
    """
    return lipschitz / 2 * norm * float(((inputs @ step) ** 2).norm())


def published_worst_case(*, regularisation: float, n: int, m: int = 1, lipschitz: float = PUBLISHED_LIPSCHITZ) -> float:
    """4 gamma m² / (λ² (n - m)): the published worst case, C = 1; it leaves the noise out of the norm of w.

    Args:
        regularisation: λ.
        n: Rows before the removal.
        m: Rows removed.
        lipschitz: gamma.

    Returns:
        The bound.
    """
    return 4 * lipschitz * m**2 / (regularisation**2 * (n - m))


@dataclass(frozen=True)
class WorstStep:
    """What one removal may do at worst, whatever the data and the noise b in a ball.

    Attributes:
        residual: Bound on |r|.
        kappa: Bound on the operator norm of Dr in the frame of the Hessian.
        kappa_frobenius: Bound on its Frobenius norm there.
        kappa_plain: Bound on its operator norm.
        turn: Logarithm of what the frame may be distorted by, until the next removal.
    """

    residual: float
    kappa: float
    kappa_frobenius: float
    kappa_plain: float
    turn: float


def worst_case(*, regularisation: float, n: int, m: int, d: int, noise_norm: float) -> WorstStep:
    """Residual and its variation with the noise, for the logistic loss and rows of norm at most 1 (0028, lemma B).

    Args:
        regularisation: λ.
        n: Rows before the removal.
        m: Rows removed, fewer than n.
        d: Columns.
        noise_norm: Bound on |b|.

    Returns:
        The bounds; infinite where the step is too long for any.
    """
    left = n - m
    delta = m * (2 + noise_norm / n)
    tau = delta / (regularisation * left)
    if tau > 1:
        return WorstStep(math.inf, math.inf, math.inf, math.inf, math.inf)
    beyond = math.expm1(tau) - tau
    concordant = math.sqrt(left) / 2 * (beyond / tau) * delta / math.sqrt(regularisation * left)
    taylor = LIPSCHITZ / 2 * left * tau**2
    leverage = m * (regularisation + 0.25) / (regularisation * left)
    kappa = variation(tau, leverage)
    effective = min(d, 1 / (4 * regularisation))
    return WorstStep(
        residual=min(concordant, taylor),
        kappa=kappa,
        kappa_frobenius=math.sqrt(effective) * kappa,
        kappa_plain=kappa * math.sqrt((0.25 + regularisation) / regularisation),
        turn=tau + math.log1p(leverage) / 2,
    )


def variation(tau: float, leverage: float) -> float:
    """How much the residual of a Newton step varies with the noise: the norm of Dr in the frame of the Hessian.

    Args:
        tau: Bound on |x_i·s| over the rows that remain.
        leverage: Bound on the Hessian of the rows that go, in the same frame.

    Returns:
        k + tau leverage + (tau + k) tau, k = e^tau - 1 - tau.
    """
    beyond = math.expm1(tau) - tau
    return beyond + tau * leverage + (tau + beyond) * tau


def spectral_norm(inputs: torch.Tensor) -> float:
    """An upper bound of ‖X‖, which stays one when rows are removed.

    Power iteration gives a lower bound. The largest eigenvalue of the Gram matrix is taken instead, with its rounding.

    Args:
        inputs: `[n, d]`.

    Returns:
        The bound.
    """
    gram = inputs.T @ inputs if inputs.shape[0] >= inputs.shape[1] else inputs @ inputs.T
    slack = 1e-15 * (sum(inputs.shape) + 8) * float(gram.diagonal().sum())
    return math.sqrt(float(torch.linalg.eigvalsh(gram)[-1]) + slack)
