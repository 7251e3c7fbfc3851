"""Removals one after another with noise in the objective: what each bound charges, and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unlearn.methods.certified.objective_perturbation import DataDependent, ObjectivePerturbation, newton_step
from unlearn.methods.certified.problem import Problem
from unlearn.methods.certified.residuals import LIPSCHITZ, fourth_power, published

BOUNDS = ("published", "constant", "fourth")
"""As published; with the Lipschitz constant of the second derivative; and as derived here."""


@dataclass(frozen=True)
class Removals:
    """What came of it.

    Attributes:
        charges: `[removals]` by bound, each removal's alone.
        measured: `[removals]` residual gradient norm after each.
        weights: After training, with the noise.
    """

    charges: dict[str, np.ndarray]
    measured: np.ndarray
    weights: torch.Tensor


def remove_all(problem: Problem, sigma: float, batches: Sequence[Sequence[int]], seed: int) -> Removals:
    """Train with noise in the objective, then remove.

    Args:
        problem: All rows.
        sigma: Standard deviation of the noise.
        batches: Rows of each removal, numbered as in the problem.
        seed: Of the noise, which is secret elsewhere.

    Returns:
        Charges and residuals.
    """
    b = sigma * torch.from_numpy(np.random.default_rng(seed).normal(size=problem.shape))
    trained = ObjectivePerturbation(sigma, DataDependent()).train_with(problem, b)
    weights, factors, norm = trained.weights, trained.factors, trained.account["norm"]
    charges: dict[str, list[float]] = {name: [] for name in BOUNDS}
    measured, left = [], list(range(len(problem)))
    for batch in batches:
        gone = set(batch)
        left = [row for row in left if row not in gone]
        after = problem.take(left)
        step, factors = newton_step(problem.take(list(batch)), after, weights, factors)
        moved = step.step[:, 0]
        rest = step.unsolved + step.floor
        charges["published"].append(published(after.inputs, moved, norm) + rest)
        charges["constant"].append(published(after.inputs, moved, norm, LIPSCHITZ) + rest)
        charges["fourth"].append(fourth_power(after.inputs, moved, norm) + rest)
        weights = weights + step.step
        measured.append(float((after.gradient(weights) + b).norm()))
    found = {name: np.array(values) for name, values in charges.items()}
    return Removals(found, np.array(measured), trained.weights)


def order(problem: Problem, kind: str, seed: int) -> np.ndarray:
    """Rows in the order of removal.

    Args:
        problem: All rows.
        kind: "random", or "adversarial": the largest losses of the model without noise first.
        seed: Of the random one.

    Returns:
        `[n]` row numbers.
    """
    if kind == "random":
        return np.random.default_rng(seed).permutation(len(problem))
    weights = (
        ObjectivePerturbation(1.0, DataDependent()).train_with(problem, torch.zeros(problem.shape).double()).weights
    )
    losses = problem.loss.losses(weights[:, 0], problem.head(0)).numpy()
    return np.argsort(-losses)


def supported(charges: np.ndarray, budget: float, most: int) -> int:
    """How many removals a budget pays for; beyond those that were made, at their mean charge.

    Args:
        charges: `[removals]`.
        budget: In the same unit.
        most: All rows but one.

    Returns:
        The number.
    """
    spent = np.cumsum(charges)
    if spent[-1] > budget:
        return int((spent <= budget).sum())
    return min(most, int(len(charges) + (budget - spent[-1]) // charges.mean()))
