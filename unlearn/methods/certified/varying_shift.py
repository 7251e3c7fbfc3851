r"""Gaussian noise that is shifted by an amount which depends on the noise itself (decision 0028, lemma A).

Let b ~ N(0, sigma² I), T(b) = b + u(b), |u| ≤ β. For a *fixed* u the pair (T(b), b) is β/sigma-GDP. For one that varies
this is false: rounding b to a grid has |u| ≤ β and gives b away. With ‖Du‖ ≤ κ and ‖Du‖_F ≤ κ_F both Rényi divergences
of order alpha, alpha κ < 1, are at most

\[ \rho(\alpha) = \frac{\alpha\beta^2}{2\sigma^2} + \frac{\kappa_F^2}{\kappa^2(\alpha-1)}
   \max\{f(\alpha\kappa) - \alpha f(\kappa),\; f((\alpha-1)\kappa) + (\alpha-1) f(\kappa)\},
   \quad f(x) = -\ln(1-x) - x, \]

to first order alpha/2 · (β²/sigma² + κ_F²). The conversion to (ε, δ) is that of arXiv 2004.00010, proposition 12.
"""

from __future__ import annotations

import math

import numpy as np

_ORDERS = 1 + np.logspace(-3, 6, 4_000)


def rho(alpha: float, *, beta: float, sigma: float, kappa: float, kappa_frobenius: float) -> float:
    """The bound on both Rényi divergences.

    Args:
        alpha: Order above 1.
        beta: Bound on |u|.
        sigma: Standard deviation of the noise.
        kappa: Bound on ‖Du‖, both in a frame and outside.
        kappa_frobenius: Bound on ‖Du‖_F, in any frame at each point.

    Returns:
        rho; infinite where alpha κ ≥ 1.
    """
    if alpha * kappa >= 1:
        return math.inf
    shift = alpha * beta**2 / (2 * sigma**2)
    if kappa == 0:
        return shift
    q = alpha - 1
    larger = max(_f(alpha * kappa) - alpha * _f(kappa), _f(q * kappa) + q * _f(kappa))
    return shift + (kappa_frobenius / kappa) ** 2 * larger / q


def epsilon(*, beta: float, sigma: float, kappa: float, kappa_frobenius: float, delta: float) -> float:
    """The smallest ε over a grid of orders.

    Args:
        beta: Bound on |u|.
        sigma: Standard deviation of the noise.
        kappa: Bound on ‖Du‖, both in a frame and outside.
        kappa_frobenius: Bound on ‖Du‖_F.
        delta: That ε is stated for, above 0.

    Returns:
        ε; infinite where nothing is proven.
    """
    best = math.inf
    for alpha in _ORDERS:
        if alpha * kappa >= 1:
            break
        divergence = rho(float(alpha), beta=beta, sigma=sigma, kappa=kappa, kappa_frobenius=kappa_frobenius)
        best = min(best, divergence + math.log1p(-1 / alpha) - (math.log(delta) + math.log(alpha)) / (alpha - 1))
    return max(0.0, best)


def _f(x: float) -> float:
    """-ln(1 - x) - x, without cancellation near 0."""
    if x < 1e-3:
        return x * x * (1 / 2 + x * (1 / 3 + x * (1 / 4 + x / 5 + x * x / 6)))
    return -math.log1p(-x) - x
