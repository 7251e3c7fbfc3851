"""Mechanisms whose epsilon is known: how often is a bound above it?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.audit_calibration.null import BAYES, FIXED, errors
from experiments.audit_calibration.one_run import BOUNDS, FDP, ORDER, REJECTED, STEINKE, too_high
from experiments.audit_calibration.rates import Rate, rate_of, rate_of_bounds
from unlearn.audit.epsilon.bayesian import posterior_below
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson_grid
from unlearn.audit.epsilon.dkw import dkw
from unlearn.audit.epsilon.gdp import gdp_epsilon, gdp_grid
from unlearn.audit.epsilon.one_run import Guesses
from unlearn.audit.epsilon.scores import Scores, hold_out

Floats = npt.NDArray[np.float64]
Draw = Callable[[int], tuple[Floats, Floats]]
"""From a number of runs to their scores in and out."""


def gaussian(mu: float, rng: np.random.Generator) -> Draw:
    """Normal scores, mu apart: mu-GDP, exactly."""
    return lambda n: (rng.normal(mu, 1, n), rng.normal(0, 1, n))


def response(epsilon: float, delta: float, rng: np.random.Generator) -> Draw:
    """Randomised response that tells the truth for certain with probability delta: the extremal mechanism."""

    def draw(n: int) -> tuple[Floats, Floats]:
        sides = []
        for truth in (1.0, -1.0):
            right = rng.random(n) < 1 / (1 + math.exp(-epsilon))
            said = np.where(right, truth, -truth)
            sides.append(np.where(rng.random(n) < delta, 2 * truth, said))
        return sides[0], sides[1]

    return draw


def measure_many_runs(setting: Mapping[str, Any], alpha: float, delta: float, rng: np.random.Generator) -> list[Rate]:
    """Bounds from many runs."""
    mechanisms: list[tuple[str, Draw, float, float, bool]] = [
        (
            f"Gaussian, mu {setting['mu']:g}",
            gaussian(setting["mu"], rng),
            gdp_epsilon(setting["mu"], delta),
            delta,
            True,
        )
    ]
    mechanisms += [
        (f"randomised response, {epsilon:g}", response(epsilon, 0, rng), epsilon, 0.0, False)
        for epsilon in setting["epsilons"]
    ]
    often = setting["delta"]
    for epsilon in (0.0, *setting["epsilons"]):
        name = f"(0, {often:g})" if epsilon == 0 else f"extremal ({epsilon:g}, {often:g})"
        mechanisms.append((name, response(epsilon, often, rng), epsilon, often, False))
    rates = []
    for name, draw, truth, at, normal in mechanisms:
        bounds: dict[str, list[float]] = {}
        credible: list[bool] = []
        for _ in range(setting["repetitions"]):
            scores = Scores(*draw(setting["runs"]))
            aside, judged = hold_out(scores, rng)
            threshold = float(np.median(aside)) if normal else 0.0
            counted = errors(judged, threshold)
            credible.append(posterior_below(truth, *counted, delta=at) <= alpha / 2)
            for rule, bound in FIXED.items():
                if normal or not rule.startswith("GDP"):
                    found = bound(*counted, delta=at, alpha=alpha)
                    bounds.setdefault(rule, []).append(found.epsilon)
            grid = clopper_pearson_grid(judged, aside, delta=at, alpha=alpha)
            bounds.setdefault("Clopper-Pearson, grid", []).append(grid.epsilon)
            bounds.setdefault("DKW band", []).append(dkw(scores, delta=at, alpha=alpha).epsilon)
            if normal:
                bounds.setdefault("GDP, grid", []).append(gdp_grid(judged, aside, delta=at, alpha=alpha).epsilon)
        rates += [rate_of_bounds("ours", name, rule, values, truth, alpha) for rule, values in bounds.items()]
        rates.append(rate_of("credible, no promise", name, BAYES, credible, truth, alpha))
    return rates


def measure_one_run(setting: Mapping[str, Any], alpha: float, delta: float, rng: np.random.Generator) -> list[Rate]:
    """Bounds from one run."""
    m, r, repetitions = setting["canaries"], setting["guesses"], setting["one_run_repetitions"]
    rates: list[Rate] = []

    def judge(
        name: str, right: npt.NDArray[np.int64], guesses: int, truth: float, at: float, rules: list[str], group: str
    ) -> None:
        for rule in rules:
            wrong = [too_high(rule, m, guesses, int(v), truth, at, alpha) for v in right]
            # Bounds rise with the count, so the median count has the median bound.
            middle = BOUNDS[rule](Guesses(m, guesses, int(np.median(right))), delta=at, alpha=alpha).epsilon
            rates.append(rate_of(group, name, rule, wrong, truth, alpha, median=middle))

    general, broken = [STEINKE, FDP], "outside its assumptions"
    for epsilon in setting["epsilons"]:
        q = 1 / (1 + math.exp(-epsilon))
        right = rng.binomial(r, q, repetitions)
        name = f"randomised response, {epsilon:g}, for each coin"
        judge(name, right, r, epsilon, 0.0, [*general, ORDER], "ours")

    mu = setting["mu"]
    # Scores of all canaries take room, so there are fewer repetitions than where counts alone are drawn.
    fewer = setting["repetitions"]
    coins = rng.random((fewer, m)) < 0.5
    scores = rng.normal(size=(fewer, m)) + mu * coins
    order = np.argsort(np.abs(scores - mu / 2), axis=1)[:, -r:]
    guessed = np.take_along_axis(scores, order, axis=1) > mu / 2
    right = (guessed == np.take_along_axis(coins, order, axis=1)).sum(axis=1)
    judge(f"Gaussian, mu {mu:g}, for each coin", right, r, gdp_epsilon(mu, delta), delta, list(REJECTED), "ours")

    for at, epsilon in itertools.product(setting["burst_deltas"], setting["burst_epsilons"]):
        q = 1 / (1 + math.exp(-epsilon))
        # All coins are guessed: fewer could all be revealed together more often than a false alarm may happen.
        opened = rng.binomial(m, at, repetitions)
        right = opened + rng.binomial(m - opened, q)
        name = f"extremal ({epsilon:g}, {at:g}), each coin by itself"
        judge(name, right, m, epsilon, at, [*general, ORDER], "ours")
        for burst in setting["bursts"]:
            # A random set of coins, revealed together; each coin is in it with probability delta.
            opened = np.where(rng.random(repetitions) < m * at / burst, burst, 0)
            right = opened + rng.binomial(m - opened, q)
            name = f"extremal ({epsilon:g}, {at:g}), {burst} coins together"
            judge(name, right, m, epsilon, at, general, "ours")
            judge(name, right, m, epsilon, at, [ORDER], broken)
    return rates


def measure_power(setting: Mapping[str, Any], alpha: float, delta: float, rng: np.random.Generator) -> list[Rate]:
    """Mean bounds on a Gaussian mechanism, for few and for many runs."""
    mu = setting["mu"]
    rates = []
    for n in setting["power_runs"]:
        bounds: dict[str, list[float]] = {"DKW band": [], "Clopper-Pearson, grid": [], "GDP, grid": []}
        for _ in range(setting["power_repetitions"]):
            scores = Scores(*gaussian(mu, rng)(n))
            aside, judged = hold_out(scores, rng)
            bounds["DKW band"].append(dkw(scores, delta=delta, alpha=alpha).epsilon)
            bounds["Clopper-Pearson, grid"].append(
                clopper_pearson_grid(judged, aside, delta=delta, alpha=alpha).epsilon
            )
            bounds["GDP, grid"].append(gdp_grid(judged, aside, delta=delta, alpha=alpha).epsilon)
        name = f"Gaussian, mu {mu:g}, {n} runs of each kind"
        rates += [
            rate_of_bounds("ours", name, rule, values, gdp_epsilon(mu, delta), alpha) for rule, values in bounds.items()
        ]
    return rates
