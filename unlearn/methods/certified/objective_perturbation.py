"""A random linear term in the objective and one Newton step for each removal (Guo et al. 2020).

    w = argmin F(w; D) + b·w,   b ~ N(0, sigma² I),      w⁻ = w + H⁻¹Δ,   H = ∇²F(w; D'),  Δ = Σ_M (λ w + ∇l_i(w))

The weights are published as they are, and b is thrown away. What may be charged for the residual is a choice that
decides what is claimed, because the residual depends on b (decision 0028, section 2): `WorstCase` is proven,
`DataDependent` is what the paper does, and is not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.certified import varying_shift
from unlearn.methods.certified.mechanism import (
    COMMON_CAVEATS,
    DATA_BUDGET,
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
from unlearn.methods.certified.residuals import WorstStep, fourth_power, spectral_norm, worst_case
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.solvers.cholesky import factor_of

_SOLVED = 1e-12
_MOST_ITERATIONS = 40


class Charge(ABC):
    """What is charged for removals."""

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Refuse problems that it does not cover.

        Args:
            problem: The problem.
        """

    @abstractmethod
    def start(self, problem: Problem, residual: float, sigma: float) -> Account:
        """Open an account.

        Args:
            problem: All data.
            residual: Gradient norm that the optimiser left.
            sigma: Standard deviation of b.

        Returns:
            It.
        """

    @abstractmethod
    def add(self, account: Account, sigma: float, before: Problem, after: Problem, step: Step) -> Account:
        """Charge a removal.

        Args:
            account: The charges so far.
            sigma: Standard deviation of b.
            before: The problem with the rows.
            after: The problem without them.
            step: What was done.

        Returns:
            The charges then.
        """

    @abstractmethod
    def epsilon(self, account: Account, sigma: float, delta: float) -> float:
        """What an account says.

        Args:
            account: The charges.
            sigma: Standard deviation of b.
            delta: Delta.

        Returns:
            Epsilon.
        """

    @property
    @abstractmethod
    def claim(self) -> Claim:
        """What that says."""


@dataclass(frozen=True, eq=False)
class Step:
    """One Newton step.

    Attributes:
        step: s `[d, heads]`.
        unsolved: |H s - Δ|, of what the linear solver left.
        floor: Rounding of a gradient.
    """

    step: torch.Tensor
    unsolved: float
    floor: float


@dataclass(frozen=True, repr=False)
class DataDependent(Charge):
    """The residual bound at the b that was drawn, added up, as if the shift were fixed: as in the paper, and unproven.

    Attributes:
        bound: From the rows that remain `[n, d]`, the step of a head `[d]` and ‖X‖ to a bound on the residual norm.
    """

    bound: Callable[[torch.Tensor, torch.Tensor, float], float] = fourth_power

    def __repr__(self) -> str:
        """By the name of the function: a ledger is compared with it in another process."""
        return f"DataDependent({self.bound.__qualname__})"

    def check(self, problem: Problem) -> None:
        """As the bound does not need: both losses have bounded third derivatives, and rows may have any norm.

        Args:
            problem: The problem.
        """

    def start(self, problem: Problem, residual: float, sigma: float) -> Account:  # noqa: ARG002
        """β₀ is what the optimiser left.

        Args:
            problem: All data, for ‖X‖.
            residual: Gradient norm.
            sigma: Not used.

        Returns:
            β and ‖X‖.
        """
        return {"beta": residual, "norm": spectral_norm(problem.inputs)}

    def add(self, account: Account, sigma: float, before: Problem, after: Problem, step: Step) -> Account:  # noqa: ARG002
        """Add the root of the sum of the heads' squares.

        Args:
            account: β and ‖X‖.
            sigma: Not used.
            before: Not used.
            after: What remains.
            step: What was done.

        Returns:
            The charges then.
        """
        heads = range(step.step.shape[1])
        curved = isinstance(after.loss, BinaryLogistic)  # The squared loss has no third derivative: nothing to bound.
        bounds = [self.bound(after.inputs, step.step[:, k], account["norm"]) if curved else 0.0 for k in heads]
        return {**account, "beta": account["beta"] + math.hypot(*bounds) + step.unsolved + step.floor}

    def epsilon(self, account: Account, sigma: float, delta: float) -> float:
        """Of the exact Gaussian curve at β/sigma.

        Args:
            account: β.
            sigma: Standard deviation of b.
            delta: Delta.

        Returns:
            Epsilon.
        """
        return gaussian_epsilon(account["beta"] / sigma, delta)

    @property
    def claim(self) -> Claim:
        """Not proven."""
        return Claim(
            proven=False,
            scope=ONE_MODEL,
            adaptive=False,
            assumptions=(
                "UNPROVEN: the residual is taken for a vector that does not depend on the noise b, which it does",
                "UNPROVEN: the bound, computed at the b that was drawn, is taken to hold at every b",
                "UNPROVEN: that budget and retraining are decided by b is taken to tell nothing of it",
                "b was drawn freshly, and is secret; requests were chosen without looking at what was published",
            ),
            caveats=(*COMMON_CAVEATS, DATA_BUDGET),
        )


@dataclass(frozen=True)
class WorstCase(Charge):
    """Bounds for every data set and every b of a ball, and a charge for how the residual varies with b: proven.

    Numbers of rows decide what is charged, and nothing else does: neither the data nor b show in when a budget ends.

    Attributes:
        outside: Part of delta for b outside of the ball.
        rounding: Gradient norm allowed, for each row, to arithmetic and solvers at every step; more is an error.
    """

    outside: float = 1e-6
    rounding: float = 1e-9

    def check(self, problem: Problem) -> None:
        """Refuse all but the logistic loss with rows of norm at most 1.

        Args:
            problem: The problem.
        """
        check_logistic(problem, "the worst case of objective perturbation")

    def start(self, problem: Problem, residual: float, sigma: float) -> Account:  # noqa: ARG002
        """What the optimiser left is a shift; that it varies with b is left out, as all rounding is.

        Args:
            problem: All data.
            residual: Gradient norm.
            sigma: Not used.

        Returns:
            The account.
        """
        return {
            "beta": self.allowed(problem, residual),
            "kappa": 0.0,
            "kappa_frobenius": 0.0,
            "kappa_plain": 0.0,
            "turn": 0.0,
        }

    def add(self, account: Account, sigma: float, before: Problem, after: Problem, step: Step) -> Account:
        """Compose with the worst step.

        Args:
            account: The charges so far.
            sigma: Standard deviation of b.
            before: The problem with the rows.
            after: The problem without them.
            step: What was done: it must not have left more than is allowed.

        Returns:
            The charges then.
        """
        d, heads = before.shape
        # A shift of more than sigma proves nothing anyway, so the ball need not be wider than this.
        norm = self.radius(sigma, d, heads) + 2 * sigma
        worst = worst_case(
            regularisation=before.regularisation, n=len(before), m=len(before) - len(after), d=d, noise_norm=norm
        )
        return composed(account, worst, heads, self.allowed(before, step.unsolved + step.floor))

    def allowed(self, problem: Problem, left: float) -> float:
        """The charge for arithmetic, the same whatever the data.

        Args:
            problem: With how many rows.
            left: What arithmetic left here.

        Returns:
            `rounding` times the number of rows.

        Raises:
            ConfigurationError: If more is left.
        """
        allowance = self.rounding * len(problem)
        if not left <= allowance:
            raise ConfigurationError(
                f"arithmetic leaves a gradient of {left:.3g}, and {allowance:.3g} is allowed for: raise `rounding`"
            )
        return allowance

    def radius(self, sigma: float, d: int, heads: int) -> float:
        """Within which |b| of each head lies, but for the probability `outside` in all.

        Args:
            sigma: Standard deviation.
            d: Columns.
            heads: Heads.

        Returns:
            sigma(√d + √(2 ln(heads/outside))).
        """
        return sigma * (math.sqrt(d) + math.sqrt(2 * math.log(heads / self.outside)))

    def epsilon(self, account: Account, sigma: float, delta: float) -> float:
        """Of the Rényi bound for shifts that vary.

        Args:
            account: The charges.
            sigma: Standard deviation of b.
            delta: Delta.

        Returns:
            Epsilon.
        """
        if delta <= self.outside or not account["beta"] <= sigma or not math.isfinite(account["kappa_plain"]):
            return math.inf
        return varying_shift.epsilon(
            beta=account["beta"],
            sigma=sigma,
            kappa=max(account["kappa"], account["kappa_plain"]),
            kappa_frobenius=account["kappa_frobenius"],
            delta=delta - self.outside,
        )

    @property
    def claim(self) -> Claim:
        """Proven, for one model at a time and requests without looking."""
        return Claim(
            proven=True,
            scope=ONE_MODEL,
            adaptive=False,
            assumptions=(
                "b was drawn freshly, and is secret",
                "requests were chosen without looking at what was published",
                "arithmetic is exact: what it leaves is charged as a fixed shift, which is no proof",
            ),
            caveats=(
                *COMMON_CAVEATS,
                "about each model by itself: two of them show the difference between their data, since b is the same",
            ),
        )


def composed(account: Account, worst: WorstStep, heads: int, rounding: float) -> Account:
    """Charges after one more step: shifts add, I + J becomes (I + J_j)(I + J).

    Args:
        account: Charges before.
        worst: The step, for each head.
        heads: Heads, with noise of their own: shifts and Frobenius norms grow by the root of their number.
        rounding: What arithmetic adds to the shift.

    Returns:
        Charges after.
    """
    turn = account["turn"] + worst.turn
    turned = math.exp(turn) if turn < 700 else math.inf
    grown = (1 + account["kappa"]) * turned
    return {
        "beta": account["beta"] + math.sqrt(heads) * worst.residual + rounding,
        "kappa": account["kappa"] + worst.kappa * grown,
        "kappa_frobenius": account["kappa_frobenius"] + math.sqrt(heads) * worst.kappa_frobenius * grown,
        "kappa_plain": account["kappa_plain"] + worst.kappa_plain * (1 + account["kappa_plain"]),
        "turn": turn,
    }


@dataclass(frozen=True)
class ObjectivePerturbation(Mechanism):
    """Noise in the objective.

    Attributes:
        sigma: sigma, the standard deviation of b.
        charge: What is charged, and so what is claimed.
        tolerance: Gradient norm that the optimiser may leave, for each row.
    """

    name: ClassVar[str] = "objective perturbation"
    sigma: float = 1.0
    charge: Charge = field(default_factory=WorstCase)
    tolerance: float = 1e-11

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ConfigurationError(f"sigma must be a finite number above 0, got {self.sigma!r}")

    def check(self, problem: Problem) -> None:
        """As the charge does.

        Args:
            problem: The problem.
        """
        self.charge.check(problem)

    def train(self, problem: Problem, noise: Noise) -> Move:
        """Draw b and minimise.

        Args:
            problem: The problem.
            noise: Where b comes from.

        Returns:
            The optimum.
        """
        return self.train_with(problem, drawn(noise, problem.shape, self.sigma))

    def train_with(self, problem: Problem, linear: torch.Tensor) -> Move:
        """Minimise with a given b.

        Args:
            problem: The problem.
            linear: b `[d, heads]`.

        Returns:
            The optimum.
        """
        start = torch.zeros(problem.shape[0], dtype=torch.float64)
        found = []
        for k in range(linear.shape[1]):
            perturbed = replace(problem.loss, linear=linear[:, k])
            found.append(minimise(perturbed, problem.head(k), start, tolerance=self.tolerance).w)
        weights = torch.stack(found, 1)
        residual = float((problem.gradient(weights) + linear).norm()) + problem.floor(weights)
        return Move(weights, self.charge.start(problem, residual, self.sigma), factors_at(problem, weights))

    def remove(self, before: Problem, removed: Problem, after: Problem, held: Move, noise: Noise) -> Move:  # noqa: ARG002
        """One Newton step; b is not redrawn.

        Args:
            before: With the rows.
            removed: The rows.
            after: Without them.
            held: What is held.
            noise: Not used.

        Returns:
            The weights, charged.
        """
        factors = held.factors or factors_at(before, held.weights)
        step, factors = newton_step(removed, after, held.weights, factors)
        account = self.charge.add(held.account, self.sigma, before, after, step)
        return Move(held.weights + step.step, account, factors)

    def epsilon(self, account: Account, delta: float) -> float:
        """As the charge says.

        Args:
            account: The charges.
            delta: Delta.

        Returns:
            Epsilon.
        """
        return self.charge.epsilon(account, self.sigma, delta)

    @property
    def claim(self) -> Claim:
        """As the charge says."""
        return self.charge.claim


def factors_at(problem: Problem, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cholesky factors of the Hessian of each head.

    Args:
        problem: The problem.
        weights: `[d, heads]`.

    Returns:
        A factor `[d, d]` each.
    """
    heads = range(weights.shape[1])
    return tuple(factor_of(Hessian(problem.loss, weights[:, k], problem.head(k)).dense()) for k in heads)


def newton_step(
    removed: Problem, after: Problem, weights: torch.Tensor, factors: tuple[torch.Tensor, ...]
) -> tuple[Step, tuple[torch.Tensor, ...]]:
    """H⁻¹Δ, by conjugate gradients with kept factors for preconditioner, which are renewed where that is slow.

    Args:
        removed: The rows that go.
        after: What remains, whose Hessian is H.
        weights: `[d, heads]`.
        factors: Of earlier Hessians.

    Returns:
        The step, and the factors.
    """
    steps, unsolved, kept = [], [], []
    for k in range(weights.shape[1]):
        w, factor = weights[:, k], factors[k]
        hessian = Hessian(after.loss, w, after.head(k))
        delta = after.loss.removal(w, removed.head(k))
        solution = _solved(hessian, delta, factor)
        if solution is None:
            factor = factor_of(hessian.dense())
            solution = torch.cholesky_solve(delta[:, None], factor)[:, 0]
        steps.append(solution)
        unsolved.append(float((hessian.matvec(solution) - delta).norm()))
        kept.append(factor)
    moved = torch.stack(steps, 1)
    return Step(moved, math.hypot(*unsolved), after.floor(weights + moved)), tuple(kept)


def _solved(hessian: Hessian, right: torch.Tensor, factor: torch.Tensor) -> torch.Tensor | None:
    x = torch.zeros_like(right)
    residual, size = right.clone(), float(right.norm())
    preconditioned = torch.cholesky_solve(residual[:, None], factor)[:, 0]
    direction, product = preconditioned, float(residual @ preconditioned)
    for _ in range(_MOST_ITERATIONS):
        if float(residual.norm()) <= _SOLVED * size:
            return x
        applied = hessian.matvec(direction)
        length = product / float(direction @ applied)
        x, residual = x + length * direction, residual - length * applied
        preconditioned = torch.cholesky_solve(residual[:, None], factor)[:, 0]
        following = float(residual @ preconditioned)
        direction, product = preconditioned + following / product * direction, following
    return None
