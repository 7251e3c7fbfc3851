"""What removals and scores are on a convex model, where retraining says what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from experiments.benchmark import Figure
from experiments.influence.digits import Digits, left_out, read
from unlearn.methods.influence import (
    L2,
    Arnoldi,
    Cholesky,
    ConjugateGradient,
    EmpiricalFisher,
    Hessian,
    LiSSA,
    Woodbury,
    influence,
    leave_one_out,
    minimise,
    split,
)
from unlearn.methods.influence.projective_residual import projected


def leave_one_out_figures(decay: float, setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Scores against exact leave-one-out: correlations over draws of records, and over all 800.

    Args:
        decay: λ, the penalty for each example, fixed as a total.
        setting: Draws, goals.

    Yields:
        Figures.
    """
    digits = read(L2(total=800 * decay))
    objective, w, train, test = digits.objective, digits.w, digits.train, digits.test
    hessian, cache = Hessian(objective, w, train), Woodbury().fit(Hessian(objective, w, train))

    def loss(v: torch.Tensor) -> torch.Tensor:
        return objective.losses(v, test).mean(0, keepdim=True)

    truth = torch.stack([loss(v) - loss(w) for v in left_out(digits)])[:, 0]
    exact = influence(objective, w, train, loss, Cholesky().fit(hessian)).values[:, 0]
    corrected = leave_one_out(objective, w, train, loss, cache).values[:, 0]
    rows = {"drawn": _draw(setting["draw"]), "redrawn": _draw(setting["redraw"]), "all": np.arange(800)}
    for name, chosen in rows.items():
        goal = setting["goals"][f"{decay:g}"] if name == "drawn" else None
        words = f"3 against 8, λ={decay:g}, {len(chosen)} records ({name})"
        key = f"leave_one_out.{decay:g}.{name}"
        yield Figure(f"{key}.influence", f"{words}: influence", _pearson(exact, truth, chosen), "r", at_least=goal)
        yield Figure(f"{key}.corrected", f"{words}: corrected by leverage", _pearson(corrected, truth, chosen), "r")
        yield Figure(f"{key}.slope", f"{words}: true on influence", _slope(exact, truth, chosen), "")
        yield Figure(f"{key}.corrected_slope", f"{words}: true on corrected", _slope(corrected, truth, chosen), "")
    yield Figure(
        f"leave_one_out.{decay:g}.leverage", f"λ={decay:g}: largest leverage", float(cache.leverages(train).max()), ""
    )
    chosen = rows["drawn"]
    others = {
        "conjugate_gradient_10": ConjugateGradient(iterations=10).fit(hessian),
        "lissa": LiSSA(**setting["lissa"]).fit(hessian),
        "arnoldi": Arnoldi(**setting["arnoldi"]).fit(hessian),
        "empirical_fisher": Cholesky().fit(EmpiricalFisher(objective, w, train)),
    }
    for name, inverse in others.items():
        scores = influence(objective, w, train, loss, inverse).values[:, 0]
        yield Figure(
            f"leave_one_out.{decay:g}.{name}", f"λ={decay:g}, drawn: {name}", _pearson(scores, truth, chosen), "r"
        )
    iterative = influence(objective, w, train, loss, ConjugateGradient(tolerance=1e-12).fit(hessian)).values[:, 0]
    off = float((iterative - exact).norm() / exact.norm())
    yield Figure(f"solvers.{decay:g}.conjugate_gradient", f"λ={decay:g}: CG against dense", off, "", at_most=1e-8)


def removal_figures(decay: float, setting: Mapping[str, Any]) -> Iterator[Figure]:
    """Distance to retraining that removals leave, of the distance without one: random sets, and those of highest loss.

    Args:
        decay: λ for each example; the penalty shrinks with the data.
        setting: Sizes.

    Yields:
        Figures: mean distance over mean distance, as the reference has it on the same sets.
    """
    digits = read(L2(per_example=decay))
    losses = digits.objective.losses(digits.w, digits.train)
    worst = losses.argsort(descending=True)
    order = torch.from_numpy(np.random.default_rng(1).permutation(800))
    for m in setting["sizes"]:
        sets = [order[start * m : (start + 1) * m] for start in range(3)]
        for kind, chosen in (("random", sets), ("highest_loss", [worst[:m]])):
            found = [_removals(digits, forget) for forget in chosen]
            before = sum(each["nothing"] for each in found)
            for name in ("infinitesimal_jackknife", "newton", "newton_twice", "projective_residual"):
                goal = setting["ratios"][f"{decay:g}"][str(m)] if (name, kind) == ("newton", "random") else None
                yield Figure(
                    f"removal.{decay:g}.{m}.{kind}.{name}",
                    f"3 against 8, λ={decay:g}, {m} removed ({kind}): {name}",
                    sum(each[name] for each in found) / before,
                    "of the distance",
                    at_most=goal,
                    samples=[each[name] / each["nothing"] for each in found],
                )
    yield from _woodbury(decay, order, setting["sizes"])


def _removals(digits: Digits, forget: torch.Tensor) -> dict[str, float]:
    objective, w = digits.objective, digits.w
    gone, kept = split(digits.train, forget)
    delta = objective.removal(w, gone)
    retrained = minimise(objective, kept, w, tolerance=1e-14).w
    step = Cholesky().fit(Hessian(objective, w, kept)).solve(delta).x
    jackknife = Cholesky().fit(Hessian(objective, w, digits.train)).solve(delta).x
    second = w + step - Cholesky().fit(Hessian(objective, w + step, kept)).solve(objective.gradient(w + step, kept)).x
    # Distances to retraining.
    ways = {
        "nothing": w,
        "infinitesimal_jackknife": w + jackknife,
        "newton": w + step,
        "newton_twice": second,
        "projective_residual": w + projected(step, gone),
    }
    return {name: float((way - retrained).norm()) for name, way in ways.items()}


def _woodbury(decay: float, order: torch.Tensor, sizes: Sequence[int]) -> Iterator[Figure]:
    digits = read(L2(total=800 * decay))
    cache = Woodbury().fit(Hessian(digits.objective, digits.w, digits.train))
    off = 0.0
    for m in sizes:
        gone, kept = split(digits.train, order[:m])
        delta = digits.objective.removal(digits.w, gone)
        direct = Cholesky().fit(Hessian(digits.objective, digits.w, kept)).solve(delta).x
        off = max(off, float((cache.solve_without(gone, delta).x - direct).norm() / direct.norm()))
    yield Figure(f"solvers.{decay:g}.woodbury", f"λ={decay:g}: Woodbury against direct Newton", off, "", at_most=1e-12)


def _draw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(800, 150, replace=False)


def _pearson(scores: torch.Tensor, truth: torch.Tensor, chosen: np.ndarray) -> float:
    return float(np.corrcoef(scores.numpy()[chosen], truth.numpy()[chosen])[0, 1])


def _slope(scores: torch.Tensor, truth: torch.Tensor, chosen: np.ndarray) -> float:
    return float(np.polyfit(scores.numpy()[chosen], truth.numpy()[chosen], 1)[0])
