r"""Mechanisms that are epsilon-differentially private without a delta, so that the survey's definition applies.

*A noisy sum*: values of [0, 1], plus Laplace noise of scale 1/epsilon. One value moves the sum by at most 1.

*Noisy logistic regression* (output perturbation: Chaudhuri, Monteleoni and Sarwate 2011, arXiv 0912.0071; here on the
sum of the losses, so that records may be added and removed): with \(\|x_i\| \le 1\), w minimises
\(J(w) = \sum_i \log(1 + e^{-y_i w^\top x_i}) + \frac\Lambda2 \|w\|^2\). J is Lambda-strongly convex and one record's
gradient has a norm of at most 1, so k records move w by at most k / Lambda. Noise of density proportional to
\(e^{-\varepsilon \Lambda \|b\|}\) (a direction at random, a Gamma(d, 1 / (epsilon Lambda)) length) then costs
k epsilon.

Training again means drawing the noise again: the minimum is the same each time.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit


def noisy_sums(values: np.ndarray, epsilon: float, runs: int, rng: np.random.Generator) -> np.ndarray:
    """The sum, published many times.

    Args:
        values: `[n]` from 0 to 1.
        epsilon: For one value.
        runs: How many times.
        rng: The noise.

    Returns:
        `[runs]`.
    """
    sums: np.ndarray = values.sum() + rng.laplace(scale=1 / epsilon, size=runs)
    return sums


def logistic_minimum(x: np.ndarray, y: np.ndarray, regularisation: float) -> np.ndarray:
    """The weights of a regularised logistic regression, by Newton's method to a gradient of 1e-10.

    Args:
        x: `[n, d]`.
        y: `[n]`, -1 or 1.
        regularisation: Lambda.

    Returns:
        `[d]`.

    Raises:
        ArithmeticError: If it is not reached.
    """
    w = np.zeros(x.shape[1])
    for _ in range(100):
        miss = expit(-y * (x @ w))
        gradient = regularisation * w - x.T @ (y * miss)
        if np.linalg.norm(gradient) < 1e-10:
            return w
        curvature = (x * (miss * (1 - miss))[:, None]).T @ x + regularisation * np.eye(len(w))
        w = w - np.linalg.solve(curvature, gradient)
    message = "Newton's method did not reach the minimum"
    raise ArithmeticError(message)


def noisy_weights(w: np.ndarray, scale: float, runs: int, rng: np.random.Generator) -> np.ndarray:
    """Weights with noise of density proportional to exp(-|b| / scale), drawn many times.

    Args:
        w: `[d]`.
        scale: 1 / (epsilon Lambda).
        runs: How many times.
        rng: The noise.

    Returns:
        `[runs, d]`.
    """
    direction = rng.normal(size=(runs, len(w)))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    noisy: np.ndarray = w + direction * rng.gamma(len(w), scale, size=(runs, 1))
    return noisy


def likelihood_ratio(seen: np.ndarray, kept: np.ndarray, retrained: np.ndarray, scale: float) -> np.ndarray:
    """Log likelihood ratio of published weights, the best score there is: between the two minima, not the noise.

    Args:
        seen: `[runs, d]` published.
        kept: `[d]` minimum with the record.
        retrained: `[d]` minimum without it.
        scale: Of the noise.

    Returns:
        `[runs]`; larger where the record seems to have been there.
    """
    ratio: np.ndarray = (np.linalg.norm(seen - retrained, axis=1) - np.linalg.norm(seen - kept, axis=1)) / scale
    return ratio
