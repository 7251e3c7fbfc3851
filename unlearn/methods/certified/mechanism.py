"""What every certified mechanism does: train, move, publish, and say what it has spent and what that proves."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from shards.noise import rounded
from unlearn.audit.epsilon.gdp import gdp_epsilon
from unlearn.methods.certified.problem import Problem

Noise = Callable[[tuple[int, int]], np.ndarray]
"""Shape to independent standard normal numbers, float64; `system_normal` of the operating system, unless in a test."""

Account = Mapping[str, float]
"""What a mechanism has to remember of its charges: numbers only, which a ledger can keep."""

ONE_MODEL = "each published model by itself"
ALL_MODELS = "all published models together, each beside one retrained at its own request"

COMMON_CAVEATS = (
    "it compares with retraining: what was published before may have depended on the forgotten records, in both worlds",
    "noise and sums are floating-point numbers, and proofs are about real ones",
    "how long a removal takes, and that one was made at all, is not hidden",
    "penalty, features and other choices were not made by looking at the records that are forgotten",
    "classes are those of all records: one that no record has any more keeps its head, and shows that there were some",
)
DATA_BUDGET = (
    "charges are computed from the data: when the budget ends tells something of them (who retrains is taken to stop "
    "there too), and so do the numbers of the account, which are not for publication; the promise is"
)


@dataclass(frozen=True)
class Claim:
    """What a mechanism's epsilon says.

    Attributes:
        proven: Whether decision 0028 has a proof of it, under the assumptions.
        scope: Which outputs it is about.
        adaptive: Whether requests may depend on what was published.
        assumptions: What it rests on.
        caveats: What it does not say.
    """

    proven: bool
    scope: str
    adaptive: bool
    assumptions: tuple[str, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Move:
    """What a mechanism holds, and what it has been charged.

    Attributes:
        weights: `[d, heads]` float64. Secret, unless the mechanism publishes them as they are.
        account: Its charges.
        factors: Cholesky factors of an earlier Hessian, a head each: for speed alone, and never kept on disk.
    """

    weights: torch.Tensor
    account: Account
    factors: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Mechanism(ABC):
    """A way to train and to forget, with an account of what distinguishes the second from retraining."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Refuse problems that the proof does not cover.

        Args:
            problem: The problem.

        Raises:
            ConfigurationError: If the loss is not covered.
            InputError: If the data are not.
        """

    @abstractmethod
    def train(self, problem: Problem, noise: Noise) -> Move:
        """Train from nothing.

        Args:
            problem: The problem.
            noise: Fresh noise.

        Returns:
            What is held, with a new account.
        """

    @abstractmethod
    def remove(self, before: Problem, removed: Problem, after: Problem, held: Move, noise: Noise) -> Move:
        """Forget rows.

        Args:
            before: The problem with them.
            removed: That of them alone.
            after: The problem without them.
            held: What is held.
            noise: Fresh noise.

        Returns:
            What is held then, charged.
        """

    def retrain(self, after: Problem, held: Move, noise: Noise) -> Move:  # noqa: ARG002
        """Forget by training from nothing; an account of one model at a time starts anew.

        Args:
            after: The problem without the rows.
            held: What is held.
            noise: Fresh noise.

        Returns:
            What is held then.
        """
        return self.train(after, noise)

    def publish(self, weights: torch.Tensor, noise: Noise) -> torch.Tensor:  # noqa: ARG002
        """Make what may be seen of what is held.

        Args:
            weights: `[d, heads]`.
            noise: Fresh noise.

        Returns:
            `[d, heads]`: the same, where the noise is in it already.
        """
        return weights

    @abstractmethod
    def epsilon(self, account: Account, delta: float) -> float:
        """What an account proves (or would, if the claim says that it is not proven).

        Args:
            account: The charges.
            delta: Delta.

        Returns:
            Epsilon; infinite for nothing.
        """

    @property
    @abstractmethod
    def claim(self) -> Claim:
        """What that epsilon says."""


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε of a μ-GDP pair at δ, and infinity for an infinite μ.

    Args:
        mu: At least 0.
        delta: Above 0.

    Returns:
        Epsilon.
    """
    return gdp_epsilon(mu, delta) if math.isfinite(mu) else math.inf


def drawn(noise: Noise, shape: tuple[int, int], scale: float) -> torch.Tensor:
    """Gaussian noise of a standard deviation.

    Args:
        noise: Where it comes from.
        shape: `(d, heads)`.
        scale: The standard deviation.

    Returns:
        float64.
    """
    return scale * torch.from_numpy(np.ascontiguousarray(noise(shape), dtype=np.float64))


def masked(weights: torch.Tensor, noise: Noise, scale: float) -> torch.Tensor:
    """Weights with noise, rounded to a grid; see `shards.noise.rounded`.

    Args:
        weights: `[d, heads]`.
        noise: Where it comes from.
        scale: Its standard deviation.

    Returns:
        `[d, heads]`.
    """
    noisy = weights + drawn(noise, (weights.shape[0], weights.shape[1]), scale)
    return torch.from_numpy(rounded(noisy.numpy(), scale))
