r"""Langevin unlearning (Chien et al., arXiv 2401.10371): noisy projected gradient descent, some more of it to forget.

\[ w \leftarrow \Pi_R(w - \eta \nabla f(w) + \sqrt{2\eta\sigma^2}\, N(0, I)), \qquad \eta = 1/B, \quad c = 1 - \eta a \]

on the mean loss f = F/n, a = λ, B = 1/4 + λ. Run the unlearner and whoever retrains with the same noise: they are
never further apart than z, which a removal of m rows raises by \(\frac{2m}{na}(1-c^N)\), N steps taken so far. The last
K steps have the same gradient, and hide z by shifted interpolation: the pair is μ-GDP with

\[ \mu = \bigl((z + c^{T-K} 2R)\, c^K + \rho\bigr) \sqrt{\frac{1-c^2}{1-c^{2K}}} \Big/ \sqrt{2\eta\sigma^2}, \]

where the second term allows whoever retrains to take T steps, and rho is for rounding, in z as well. Derived in
decision 0028, section 4: less is charged than by the paper's Rényi bound, by an exponent that is 2 alpha times as
large. Weights are published as they are held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.certified.mechanism import (
    COMMON_CAVEATS,
    ONE_MODEL,
    Account,
    Claim,
    Mechanism,
    Move,
    Noise,
    drawn,
    gaussian_epsilon,
)
from unlearn.methods.certified.problem import Problem, check_logistic
from unlearn.methods.descent_to_delete import CURVATURE, project, step_rounding


@dataclass(frozen=True)
class Langevin(Mechanism):
    """Noisy gradient descent.

    Attributes:
        sigma: sigma, the root of the temperature.
        iterations: K, steps for each request.
        training: T, steps of training, at least K.
        radius: R, of the ball that each head's weights are kept in.
    """

    name: ClassVar[str] = "Langevin unlearning"
    sigma: float = 0.03
    iterations: int = 50
    training: int = 1_000
    radius: float = 100.0

    def __post_init__(self) -> None:
        if not self.sigma > 0 or not self.radius > 0 or not 1 <= self.iterations <= self.training:
            raise ConfigurationError(
                "sigma and radius must be above 0, and iterations between 1 and the steps of training, got "
                f"{self.iterations} and {self.training}"
            )

    def check(self, problem: Problem) -> None:
        """Refuse all but the logistic loss with rows of norm at most 1.

        Args:
            problem: The problem.
        """
        check_logistic(problem, self.name)

    def train(self, problem: Problem, noise: Noise) -> Move:
        """T noisy steps from 0.

        Args:
            problem: The problem.
            noise: Fresh noise.

        Returns:
            The weights, nothing charged.
        """
        weights = self.diffuse(problem, torch.zeros(problem.shape, dtype=torch.float64), self.training, noise)
        return Move(weights, {"distance": 0.0, "steps": float(self.training), "mu": 0.0})

    def remove(self, before: Problem, removed: Problem, after: Problem, held: Move, noise: Noise) -> Move:
        """K noisy steps on what remains.

        Args:
            before: With the rows.
            removed: The rows.
            after: Without them.
            held: What is held.
            noise: Fresh noise.

        Returns:
            The weights, charged.
        """
        weights = self.diffuse(after, held.weights, self.iterations, noise)
        return Move(weights, self.charged(held.account, before, len(removed)))

    def charged(self, account: Account, before: Problem, m: int) -> Account:
        """The account after a request.

        Args:
            account: Before it.
            before: The problem with the rows.
            m: Rows that go.

        Returns:
            The account.
        """
        a = before.regularisation
        d, heads = before.shape
        rate = self.rate(before)
        c = 1 - rate * a
        # Two chains that are computed keep apart by this much more than two exact ones.
        rounded = 2 * step_rounding(len(before), d, rate, self.radius) / (1 - c)
        moved = 2 * m / (len(before) * a) * -math.expm1(account["steps"] * math.log(c))
        apart = account["distance"] + moved + rounded
        allowed = apart + c ** (self.training - self.iterations) * 2 * self.radius + rounded
        return {
            "distance": c**self.iterations * apart + rounded,
            "steps": account["steps"] + self.iterations,
            "mu": math.sqrt(heads) * hidden(allowed, c, self.iterations, math.sqrt(2 * rate) * self.sigma, rounded),
        }

    def rate(self, problem: Problem) -> float:
        """Learning rate 1/B.

        Args:
            problem: For λ.

        Returns:
            η.
        """
        return 1 / (CURVATURE + problem.regularisation)

    def diffuse(self, problem: Problem, weights: torch.Tensor, steps: int, noise: Noise) -> torch.Tensor:
        """Noisy steps.

        Args:
            problem: The problem.
            weights: `[d, heads]`, where to start.
            steps: Their number.
            noise: Fresh noise.

        Returns:
            `[d, heads]`.
        """
        rate = self.rate(problem)
        scale = math.sqrt(2 * rate) * self.sigma
        for _ in range(steps):
            gradient = problem.gradient(weights) / len(problem)
            weights = project(weights - rate * gradient + drawn(noise, problem.shape, scale), self.radius)
        return weights

    def epsilon(self, account: Account, delta: float) -> float:
        """Of the exact Gaussian curve.

        Args:
            account: μ.
            delta: Delta.

        Returns:
            Epsilon.
        """
        return gaussian_epsilon(account["mu"], delta)

    @property
    def claim(self) -> Claim:
        """Proven for one model at a time."""
        return Claim(
            proven=True,
            scope=ONE_MODEL,
            adaptive=False,
            assumptions=("noise is fresh at every step, and secret", "requests were chosen without looking"),
            caveats=(*COMMON_CAVEATS, "about each model by itself: the state goes on from what was published"),
        )


def hidden(distance: float, contraction: float, steps: int, scale: float, rounded: float = 0.0) -> float:
    """μ after steps that contract and add noise, of two points at most a distance apart.

    Args:
        distance: z.
        contraction: c below 1.
        steps: K.
        scale: Standard deviation of the noise of each step.
        rounded: rho, by which rounding of gradient steps may keep the points apart.

    Returns:
        (z c^K + rho) √((1 - c²)/(1 - c^{2K})) / scale.
    """
    left = distance * contraction**steps + rounded
    return left * math.sqrt((1 - contraction**2) / -math.expm1(2 * steps * math.log(contraction))) / scale
