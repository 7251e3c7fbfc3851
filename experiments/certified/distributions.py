"""Are unlearned weights distributed as retrained ones? Projections, p-values, and a lower bound on epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp

from experiments.benchmark import Figure
from experiments.certified.data import breast_cancer
from unlearn.audit.epsilon.dkw import dkw
from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.audit.epsilon.scores import Scores
from unlearn.methods.certified.objective_perturbation import DataDependent, ObjectivePerturbation
from unlearn.methods.certified.output_perturbation import OutputPerturbation
from unlearn.methods.certified.problem import Problem

DIRECTIONS = 3
DELTA = 1e-4


def distributions(setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Test each way of adding noise at an epsilon of 1, and one that does nothing to forget.

    Args:
        setting: What, and how much.

    Yields:
        Figures.
    """
    problem = breast_cancer().problem(setting["regularisation"])
    gone, left = list(range(setting["removed"])), list(range(setting["removed"], len(problem)))
    after = problem.take(left)
    yield from _output(problem, after, setting)
    yield from _objective(problem, problem.take(gone), after, setting)


def _output(problem: Problem, after: Problem, setting: Mapping[str, Any]) -> Iterator[Figure]:
    # A tolerance that leaves something to see: with the usual one, both centres agree to ten digits.
    loose = OutputPerturbation(scale=1.0, tolerance=setting["tolerance"])
    held = loose.train(problem, np.zeros)
    moved = loose.remove(problem, problem, after, held, np.zeros)
    exact = loose.train(after, np.zeros).weights
    scale = math.sqrt(moved.account["mu_squared"]) / gdp_mu(1.0, DELTA)
    rng = np.random.default_rng(setting["seed"])
    runs = setting["output_runs"]

    def draw(centre: torch.Tensor, width: float = scale) -> np.ndarray:
        return centre.numpy()[:, 0] + width * rng.normal(size=(runs, len(centre)))

    apart = (moved.weights - exact).numpy()[:, 0]
    yield from _judge("output", "noise on the output, epsilon 1", draw(moved.weights), draw(exact), apart)
    usual = OutputPerturbation()
    before = usual.train(problem, np.zeros)
    left, fresh = usual.remove(problem, problem, after, before, np.zeros).weights, usual.train(after, np.zeros).weights
    unlearned, retrained = draw(left, usual.scale), draw(fresh, usual.scale)
    yield from _judge(
        "output_usual", "noise on the output, defaults", unlearned, retrained, (left - fresh).numpy()[:, 0]
    )
    kept = (held.weights - exact).numpy()[:, 0]
    yield from _judge(
        "output_nothing", "the same noise, nothing forgotten", draw(held.weights), draw(exact), kept, control=True
    )


def _objective(problem: Problem, removed: Problem, after: Problem, setting: Mapping[str, Any]) -> Iterator[Figure]:
    def mechanism(sigma: float) -> ObjectivePerturbation:
        return ObjectivePerturbation(sigma, DataDependent())

    at_zero = mechanism(1.0).train_with(problem, torch.zeros(problem.shape, dtype=torch.float64))
    step = mechanism(1.0).remove(problem, removed, after, at_zero, np.zeros)
    sigma = step.account["beta"] / gdp_mu(1.0, DELTA)
    retrained = mechanism(1.0).train_with(after, torch.zeros(problem.shape, dtype=torch.float64)).weights
    rng = np.random.default_rng(setting["seed"] + 1)
    before, unlearned, fresh, spent = [], [], [], []
    for _ in range(setting["objective_runs"]):
        held = mechanism(sigma).train(problem, lambda shape: rng.normal(size=shape))
        moved = mechanism(sigma).remove(problem, removed, after, held, np.zeros)
        before.append(held.weights.numpy()[:, 0])
        spent.append(moved.account["beta"])
        unlearned.append(moved.weights.numpy()[:, 0])
        fresh.append(mechanism(sigma).train(after, lambda shape: rng.normal(size=shape)).weights.numpy()[:, 0])
    apart = (step.weights - retrained).numpy()[:, 0]
    kept = (at_zero.weights - retrained).numpy()[:, 0]
    yield from _judge(
        "objective_nothing", "the same, nothing forgotten", np.array(before), np.array(fresh), kept, control=True
    )
    yield from _judge(
        "objective", "noise in the objective, epsilon 1 as published", np.array(unlearned), np.array(fresh), apart
    )
    spread = float(np.std(spent) / np.mean(spent))
    yield Figure(
        "distribution.objective.spread", "how the data-dependent charge varies with the noise b", spread, "of the mean"
    )


def _judge(
    name: str, what: str, unlearned: np.ndarray, retrained: np.ndarray, apart: np.ndarray, *, control: bool = False
) -> Iterator[Figure]:
    rng = np.random.default_rng(0)
    directions = np.vstack([rng.normal(size=(DIRECTIONS, len(apart))), apart])
    values = [ks_2samp(unlearned @ direction, retrained @ direction).pvalue for direction in directions]
    yield Figure(
        f"distribution.{name}.p",
        f"{what}: smallest of {len(values)} Kolmogorov-Smirnov p-values, times their number",
        min(1.0, len(values) * float(min(values))),
        "",
        samples=[float(value) for value in values],
    )
    bound = dkw(Scores(unlearned @ apart, retrained @ apart), delta=DELTA)
    yield Figure(
        f"distribution.{name}.epsilon",
        f"{what}: lower bound on epsilon, along the centres' difference (at most {bound.certifiable:.2f} to be found)",
        bound.epsilon,
        "",
        at_most=None if control else 1.0,
        at_least=1.0 if control else None,
    )
