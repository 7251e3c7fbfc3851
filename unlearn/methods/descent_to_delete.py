r"""Descent-to-delete (Neel, Roth and Sharifi-Malvajerdi, arXiv 2007.02923): a few more steps, then noise on the output.

Projected gradient descent on the mean loss f = F/n over |w| ≤ R, a-strongly convex and B-smooth, with step 2/(a+B),
contracts to the optimum by q = (B-a)/(B+a). What is held is secret and noise-free; a request takes I steps from it.
With gradients of the loss of norm at most 1 (logistic, rows of norm at most 1) the optimum moves by at most

\[ \Delta = \min\{2m/(an),\; m(1+\lambda R)/(a(n-m))\}, \qquad e \leftarrow q^I (e + \Delta), \]

a model trained from nothing in T steps is within \(q^T R\) of its optimum, and each publication of w + N(0, s² I) is
\((e + q^T R)/s\)-GDP, all together and requests that look included. Nothing of this is computed from data: the budget
tells only how many records were removed. Derived in decision 0028, section 4, with smaller constants than the paper's.
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
from unlearn.methods.certified.problem import Problem, check_logistic

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
        error = contraction(after.regularisation) ** self.iterations * (held.account["error"] + moved)
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
            problem: The problem, for λ.

        Returns:
            q^T R.
        """
        return contraction(problem.regularisation) ** self.training * self.radius

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
    rate = 2 / ((CURVATURE + 2 * problem.regularisation) * len(problem))
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
