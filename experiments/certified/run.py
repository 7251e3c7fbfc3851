"""`python -m experiments.certified [--quick]`: how many removals a certificate supports, and whether it is true."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmark import Benchmark, Figure, Say
from experiments.certified.data import SMALL, Binary, small_three_or_eight, three_or_eight
from experiments.certified.distributions import distributions
from experiments.certified.sequences import BOUNDS, order, remove_all, supported
from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.errors import BudgetSpentError
from unlearn.methods.certified import (
    CertifiedRemoval,
    DataDependent,
    ObjectivePerturbation,
    OutputPerturbation,
    WorstCase,
)
from unlearn.methods.certified.objective_perturbation import composed
from unlearn.methods.certified.problem import Problem
from unlearn.methods.certified.residuals import published_worst_case, worst_case
from unlearn.methods.influence.newton import minimise

EPSILON, DELTA = 1.0, 1e-4
CLASSIC = EPSILON / math.sqrt(2 * math.log(1.5 / DELTA))
"""Budget of beta/sigma by the published formula."""
EXACT = gdp_mu(EPSILON, DELTA)
"""The same by the exact curve."""
WORDS = {
    "published": "as published",
    "constant": "with the Lipschitz constant √3/18 and the exact Gaussian",
    "fourth": "with Taylor's half and fourth powers too",
}


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: Not used.
        say: Told what is under way.

    Returns:
        The figures.
    """
    del folder
    torch.set_num_threads(1)
    figures = [*_bounds(setting["bounds"], say)]
    say("a small setting, to the end of its budget")
    figures += _small(setting["small"])
    say("distributions")
    figures += distributions(setting["distributions"])
    figures += _grid(setting["grid"], say)
    return figures


def _bounds(setting: Mapping[str, Any], say: Say) -> Iterator[Figure]:
    """Bound against measured residual on every removal."""
    worst, removals = 0.0, 0
    for name, read in SMALL.items():
        problem = read().problem(setting["regularisation"])
        for kind in ("random", "adversarial"):
            say(f"{name}: {problem.shape[0]} columns, {len(problem)} rows, {kind}")
            rows = order(problem, kind, setting["seed"])
            singles = [[int(row)] for row in rows[: setting["singles"]]]
            start = setting["singles"]
            tens = [rows[start + 10 * batch : start + 10 * batch + 10].tolist() for batch in range(setting["tens"])]
            found = remove_all(problem, setting["sigma"], [*singles, *tens], setting["seed"])
            # The residual after t removals is bounded by the sum of the first t charges.
            ratio = found.measured / np.cumsum(found.charges["fourth"])
            worst, removals = max(worst, float(ratio.max())), removals + len(ratio)
            what = f"{name}, {kind} order: bound over measured residual, after {len(ratio)} removals"
            for bound in BOUNDS:
                value = float(found.charges[bound].sum() / found.measured[-1])
                yield Figure(f"bounds.{name}.{kind}.{bound}", f"{what}, {WORDS[bound]}", value, "times")
    what = "removals on which bounds were compared with the measured residual"
    yield Figure("bounds.removals", what, removals, "", at_least=setting["at_least"])
    what = "largest measured residual on any of them, over its (smallest) bound"
    yield Figure("bounds.worst", what, worst, "", at_most=1.0)


def _small(setting: Mapping[str, Any]) -> Iterator[Figure]:
    """800 threes and eights: count until the budget ends, by adding up and by the class."""
    images, sigma = small_three_or_eight(), setting["sigma"]
    problem = images.problem(setting["regularisation"])
    rows = np.random.default_rng(5).permutation(len(problem))[: setting["removals"]]
    found = remove_all(problem, sigma, [[int(row)] for row in rows], 7)
    rule = f"lambda {setting['regularisation']:g}, sigma {sigma:g}"
    for name, bound, budget in (
        ("published", "published", CLASSIC),
        ("constant_alone", "constant", CLASSIC),
        ("constant", "constant", EXACT),
        ("fourth", "fourth", EXACT),
    ):
        what = f"800 rows, {rule}: removals supported, {name.replace('_', ' ')}"
        yield Figure(
            f"small.{name}", what, supported(found.charges[bound], budget * sigma, len(problem) - 1), "removals"
        )
    rng = np.random.default_rng(7)
    model = CertifiedRemoval(
        ObjectivePerturbation(sigma, DataDependent()),
        regularisation=setting["regularisation"],
        epsilon=EPSILON,
        delta=DELTA,
        noise=lambda shape: rng.normal(size=shape),
    ).fit(images.x, images.y)
    try:
        for row in rows:
            model.forget([int(row)])
    except BudgetSpentError:
        pass
    counted = supported(found.charges["fourth"], EXACT * sigma, len(problem) - 1)
    what = "the same by `CertifiedRemoval`, until it refuses (or all rows tried are gone)"
    yield Figure(
        "small.refused_after",
        what,
        model.budget.removed,
        "removals",
        at_most=counted,
        at_least=min(counted, len(rows)) - 1,
    )
    yield Figure("small.accuracy", f"800 rows, {rule}: test accuracy", images.accuracy(found.weights), "share")


def _grid(setting: Mapping[str, Any], say: Say) -> Iterator[Figure]:
    """All threes and eights of MNIST."""
    images = three_or_eight()
    for regularisation in setting["regularisations"]:
        problem = images.problem(regularisation)
        orders = {kind: order(problem, kind, setting["seed"]) for kind in ("random", "adversarial")}
        for sigma in setting["sigmas"]:
            say(f"MNIST, lambda {regularisation:g}, sigma {sigma:g}")
            yield from _objective(images, problem, sigma, orders, setting)
        say(f"MNIST, lambda {regularisation:g}, noise on the output")
        yield from _output(images, problem, orders, setting)


def _objective(
    images: Binary, problem: Problem, sigma: float, orders: Mapping[str, np.ndarray], setting: Mapping[str, Any]
) -> Iterator[Figure]:
    regularisation = problem.regularisation
    name, rule = f"mnist.{regularisation:g}.{sigma:g}", f"lambda {regularisation:g}, sigma {sigma:g}"
    for kind, rows in orders.items():
        singles = [[int(row)] for row in rows[: setting["removals"]]]
        found = remove_all(problem, sigma, singles, setting["seed"])
        for bound in BOUNDS:
            budget = (CLASSIC if bound == "published" else EXACT) * sigma
            what = f"{rule}, {kind} order: removals supported, {WORDS[bound]} (unproven)"
            yield Figure(
                f"{name}.{kind}.{bound}", what, supported(found.charges[bound], budget, len(problem) - 1), "removals"
            )
        gain = found.charges["published"].mean() / found.charges["fourth"].mean() * EXACT / CLASSIC
        yield Figure(f"{name}.{kind}.gain", f"{rule}, {kind} order: factor gained in all", float(gain), "times")
    yield Figure(f"{name}.accuracy", f"{rule}: test accuracy", images.accuracy(found.weights), "share")
    n, d = problem.inputs.shape
    theirs = math.floor(CLASSIC * sigma / published_worst_case(regularisation=regularisation, n=n))
    yield Figure(
        f"{name}.worst_published", f"{rule}: removals supported by the published worst case", theirs, "removals"
    )
    what = f"{rule}: removals supported by the proven worst case"
    yield Figure(f"{name}.proven", what, proven(regularisation, sigma, n, d), "removals")


def proven(regularisation: float, sigma: float, n: int, d: int) -> int:
    """Removals that `WorstCase` supports, from its account alone.

    Args:
        regularisation: Lambda.
        sigma: Of the noise.
        n: Rows.
        d: Columns.

    Returns:
        Their number.
    """
    charge = WorstCase()
    account = {"beta": charge.rounding * n, "kappa": 0.0, "kappa_frobenius": 0.0, "kappa_plain": 0.0, "turn": 0.0}
    norm = charge.radius(sigma, d, 1) + 2 * sigma
    accounts = []
    while n > 1 and account["beta"] <= sigma:
        step = worst_case(regularisation=regularisation, n=n, m=1, d=d, noise_norm=norm)
        account = dict(composed(account, step, 1, charge.rounding * n))
        accounts.append(account)
        n -= 1
    low, high = 0, len(accounts)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if charge.epsilon(accounts[middle - 1], sigma, DELTA) <= EPSILON else (low, middle - 1)
        )
    return low


def _output(
    images: Binary, problem: Problem, orders: Mapping[str, np.ndarray], setting: Mapping[str, Any]
) -> Iterator[Figure]:
    regularisation = problem.regularisation
    name, rule = f"mnist.{regularisation:g}.output", f"lambda {regularisation:g}, noise on the output"
    mechanism = OutputPerturbation()
    for kind, named in orders.items():
        rows = named[: setting["output_removals"]]
        model = CertifiedRemoval(mechanism, regularisation=regularisation, epsilon=EPSILON, delta=DELTA)
        model.fit(images.x, images.y)
        started = time.process_time()
        for row in rows:
            model.forget([int(row)])
        each = (time.process_time() - started) / len(rows)
        per_removal = model.budget.account["mu_squared"] / len(rows)
        most = min(len(problem) - 1, math.floor(EXACT**2 / per_removal))
        what = f"{rule} of {mechanism.scale:g}, {kind} order: removals supported (proven; {len(problem) - 1} is all)"
        yield Figure(f"{name}.{kind}.supported", what, most, "removals")
        what = f"{rule}, {kind} order: processor time of a removal"
        yield Figure(f"{name}.{kind}.milliseconds", what, 1e3 * each, "ms")
        what = f"{rule}, {kind} order: test accuracy after {len(rows)} removals"
        yield Figure(f"{name}.{kind}.accuracy", what, images.accuracy(torch.from_numpy(model.coef_.T)), "share")
        after = problem.take(sorted(set(range(len(problem))) - {int(row) for row in rows}))
        started = time.process_time()
        retrained = minimise(
            after.loss, after.head(0), torch.zeros(problem.shape[0], dtype=torch.float64), tolerance=1e-10
        )
        took = time.process_time() - started
        yield Figure(f"{name}.{kind}.retraining", f"{rule}: processor time of retraining", 1e3 * took, "ms")
        apart = float(np.linalg.norm(model.coef_[0] - retrained.w.numpy()))
        what = f"{rule}, {kind} order: distance of published from retrained weights, all noise included"
        yield Figure(f"{name}.{kind}.distance", what, apart, "")


BENCHMARK = Benchmark("certified", "Certified removal", measure)
"""`python -m experiments.certified`."""
