r"""Fresh noise on the published weights, none in the objective: the default, and proven (decision 0028, lemma C).

What is held follows the optimum of what remains to a measured gradient residual; it is a function of the data and of
the requests so far. By strong convexity it is within \((|\nabla F(w; D')| + \rho)/(\lambda n')\) of what training from
nothing finds to a residual rho. So every publication of w + N(0, s² I) is one Gaussian mechanism of

\[ \mu_t = \frac{|\nabla F(w_t; D_t)| + \rho_t}{\lambda n_t s}, \qquad \mu^2 = \sum_t \mu_t^2 \]

for all publications together, requests that look at them included. For the squared loss Newton's step is exact, and the
residual is the floor of floating-point arithmetic.
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
    DATA_BUDGET,
    Account,
    Claim,
    Mechanism,
    Move,
    Noise,
    gaussian_epsilon,
    masked,
)
from unlearn.methods.certified.problem import Problem
from unlearn.methods.certified.settling import settle


@dataclass(frozen=True)
class OutputPerturbation(Mechanism):
    """Noise on the weights.

    Attributes:
        scale: s, the standard deviation of the noise on each published weight.
        tolerance: Gradient norm that is left for each row and head, by removals and by retraining alike.
    """

    name: ClassVar[str] = "output perturbation"
    scale: float = 1e-3
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("tolerance", self.tolerance)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} must be a finite number above 0, got {value!r}")

    def check(self, problem: Problem) -> None:
        """Nothing: any data and both losses are covered.

        Args:
            problem: The problem.
        """

    def train(self, problem: Problem, noise: Noise) -> Move:  # noqa: ARG002
        """Minimise from 0: the yardstick itself, which is charged nothing.

        Args:
            problem: The problem.
            noise: Not used here.

        Returns:
            The optimum, nothing charged.
        """
        start = torch.zeros(problem.shape, dtype=torch.float64)
        weights, factors = settle(problem, start, (), self.tolerance * len(problem))
        return Move(weights, {"mu_squared": 0.0}, factors)

    def remove(self, before: Problem, removed: Problem, after: Problem, held: Move, noise: Noise) -> Move:  # noqa: ARG002
        """Newton steps on what remains until the residual is at the tolerance; the measured residual is charged.

        Args:
            before: Not used.
            removed: Not used.
            after: What remains.
            held: What is held.
            noise: Not used here.

        Returns:
            The new optimum, charged.
        """
        weights, factors = settle(after, held.weights, held.factors, self.tolerance * len(after))
        return Move(weights, {"mu_squared": held.account["mu_squared"] + self.charge(after, weights) ** 2}, factors)

    def charge(self, after: Problem, weights: torch.Tensor) -> float:
        """μ_t of one publication.

        Args:
            after: What remains.
            weights: `[d, heads]` without noise.

        Returns:
            (|∇F| + rho)/(λ n s), over all heads.
        """
        yardstick = math.sqrt(weights.shape[1]) * self.tolerance * len(after)
        return (after.residual(weights) + yardstick) / (after.convexity * self.scale)

    def retrain(self, after: Problem, held: Move, noise: Noise) -> Move:
        """Train from nothing: no charge, but what was published before stays published, and charged.

        Args:
            after: What remains.
            held: What is held.
            noise: Not used here.

        Returns:
            The optimum.
        """
        fresh = self.train(after, noise)
        return Move(fresh.weights, held.account, fresh.factors)

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
                "whoever retrains uses this program with the same tolerance, on a machine with the same arithmetic",
                "the residual was measured on the data that remain",
            ),
            caveats=(*COMMON_CAVEATS, DATA_BUDGET),
        )
