r"""Descent-to-delete (Neel, Roth and Sharifi-Malvajerdi, arXiv 2007.02923): a few more steps, then noise on the output.

Projected gradient descent on the mean loss f = F/n over |w| ≤ R, a-strongly convex and B-smooth, with step 2/(a+B),
contracts to the optimum by q = (B-a)/(B+a). What is held is secret and noise-free; a request takes I steps from it.
With gradients of the loss of norm at most 1 (logistic, rows of norm at most 1) the optimum moves by at most

\[ \Delta = \min\{2m/(an),\; m(1+\lambda R)/(a(n-m))\}, \qquad e \leftarrow q^I (e + \Delta) + \rho, \]

a model trained from nothing in T steps is within \(q^T R + \rho\) of its optimum, and each publication of w + N(0, s²
I) is \((e + q^T R + \rho)/s\)-GDP, all together and requests that look included; rho bounds what rounding adds up to.
Nothing of this is computed from data: the budget tells only how many records were removed. Derived in decision 0028,
section 4, with smaller constants than the paper's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.certified.mechanism import (
    ALL_MODELS,
    COMMON_CAVEATS,
    Account,
    Claim,
    Mechanism,
    Move,
    Noise,
    gaussian_epsilon,
    masked,
)
from unlearn.methods.certified.problem import Problem, accumulated, check_logistic

CURVATURE = 0.25
"""Largest second derivative of the logistic loss."""


@dataclass(frozen=True)
class DescentToDelete(Mechanism):
    """Gradient descent with a secret state.

    Attributes:
        scale: s, the standard deviation of the noise on each published weight.
        iterations: I, steps for each request.
        training: T, steps of training.
        radius: R, of the ball that each head's weights are kept in.
    """

    name: ClassVar[str] = "descent-to-delete"
    scale: float = 0.05
    iterations: int = 100
    training: int = 1_000
    radius: float = 10.0

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.radius > 0 or self.iterations < 1 or self.training < 1:
            raise ConfigurationError(
                "scale and radius must be above 0, and there must be at least one step of each kind"
            )

    def check(self, problem: Problem) -> None:
        """Refuse all but the logistic loss with rows of norm at most 1.

        Args:
            problem: The problem.
        """
        check_logistic(problem, self.name)

    def train(self, problem: Problem, noise: Noise) -> Move:  # noqa: ARG002
        """T steps from 0: the yardstick itself.

        Args:
            problem: The problem.
            noise: Not used here.

        Returns:
            The weights, nothing charged.
        """
        weights = descend(problem, torch.zeros(problem.shape, dtype=torch.float64), self.training, self.radius)
        return Move(weights, {"mu_squared": 0.0, "error": self.untrained(problem)})

    def remove(self, before: Problem, removed: Problem, after: Problem, held: Move, noise: Noise) -> Move:  # noqa: ARG002
        """I steps on what remains.

        Args:
            before: With the rows.
            removed: The rows.
            after: Without them.
            held: What is held.
            noise: Not used here.

        Returns:
            The weights, charged.
        """
        weights = descend(after, held.weights, self.iterations, self.radius)
        moved = optimum_shift(len(before), len(removed), after.regularisation, self.radius)
        shrunk = contraction(after.regularisation) ** self.iterations * (held.account["error"] + moved)
        error = shrunk + self.rounding(after)
        mu = math.sqrt(weights.shape[1]) * (error + self.untrained(after)) / self.scale
        return Move(weights, {"mu_squared": held.account["mu_squared"] + mu**2, "error": error})

    def retrain(self, after: Problem, held: Move, noise: Noise) -> Move:
        """Train from nothing: no charge, but what was published before stays published, and charged.

        Args:
            after: What remains.
            held: What is held.
            noise: Not used.

        Returns:
            The weights.
        """
        fresh = self.train(after, noise)
        return Move(fresh.weights, {**fresh.account, "mu_squared": held.account["mu_squared"]})

    def untrained(self, problem: Problem) -> float:
        """How far from its optimum a head may be after training.

        Args:
            problem: The problem, for its size and λ.

        Returns:
            q^T R + rho.
        """
        return contraction(problem.regularisation) ** self.training * self.radius + self.rounding(problem)

    def rounding(self, problem: Problem) -> float:
        """How far rounding may keep a head from where exact steps lead, however many.

        Args:
            problem: The problem, for its size and λ.

        Returns:
            rho: that of one step, over 1 - q.
        """
        rate = step_size(problem.regularisation)
        step = step_rounding(len(problem), problem.shape[0], rate, self.radius)
        return step / (1 - contraction(problem.regularisation))

    def publish(self, weights: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Add fresh noise.

        Args:
            weights: `[d, heads]`.
            noise: Where it comes from.

        Returns:
            `[d, heads]`.
        """
        return masked(weights, noise, self.scale)

    def epsilon(self, account: Account, delta: float) -> float:
        """Of the exact Gaussian curve.

        Args:
            account: μ².
            delta: Delta.

        Returns:
            Epsilon.
        """
        return gaussian_epsilon(math.sqrt(account["mu_squared"]), delta)

    @property
    def claim(self) -> Claim:
        """Proven for all models together, and for requests that look at them."""
        return Claim(
            proven=True,
            scope=ALL_MODELS,
            adaptive=True,
            assumptions=(
                "noise is fresh at every publication, and secret; so are the weights without it",
                "whoever retrains takes as many steps of training from 0",
            ),
            caveats=COMMON_CAVEATS,
        )


def contraction(regularisation: float) -> float:
    """By what a step of 2/(a+B) brings two points together: q = (B-a)/(B+a), a = λ, B = 1/4 + λ.

    Args:
        regularisation: λ.

    Returns:
        q.
    """
    return CURVATURE / (CURVATURE + 2 * regularisation)


def step_size(regularisation: float) -> float:
    """2/(a+B), on the mean loss.

    Args:
        regularisation: λ.

    Returns:
        It.
    """
    return 2 / (CURVATURE + 2 * regularisation)


def step_rounding(n: int, d: int, rate: float, radius: float) -> float:
    r"""How far a computed step of projected gradient descent may be from the exact one, whatever the data.

    Scores err by \(\gamma_d R\), slopes by a quarter of that, means over rows of norm at most 1 by \(\gamma_n\), the
    projection by \(\gamma_d R\), penalty and step by a few units. Since η is at most 8, all is within
    \(\gamma_k(\eta + R)\).

    Args:
        n: Rows.
        d: Columns.
        rate: η, on the mean loss, at most 8.
        radius: R.

    Returns:
        \(\gamma_k(\eta + R)\), k = n + 3d + 64.
    """
    return accumulated(n + 3 * d + 64) * (rate + radius)


def optimum_shift(n: int, m: int, regularisation: float, radius: float) -> float:
    """How far the optimum over the ball can move when m of n rows go.

    Args:
        n: Rows before.
        m: Rows that go.
        regularisation: λ.
        radius: R.

    Returns:
        The smaller of the two bounds.
    """
    replaced = 2 * m / (regularisation * n)
    return min(replaced, m * (1 + regularisation * radius) / (regularisation * (n - m)))


def descend(problem: Problem, weights: torch.Tensor, steps: int, radius: float) -> torch.Tensor:
    """Projected gradient descent on the mean loss.

    Args:
        problem: The problem.
        weights: `[d, heads]`, where to start.
        steps: Their number.
        radius: Of the ball of each head.

    Returns:
        `[d, heads]`.
    """
    rate = step_size(problem.regularisation) / len(problem)
    for _ in range(steps):
        weights = project(weights - rate * problem.gradient(weights), radius)
    return weights


def project(weights: torch.Tensor, radius: float) -> torch.Tensor:
    """The nearest point of the ball, for each head.

    Args:
        weights: `[d, heads]`.
        radius: Of the ball.

    Returns:
        `[d, heads]`.
    """
    projected: torch.Tensor = weights * (radius / weights.norm(dim=0, keepdim=True).clamp_min(radius))
    return projected
