"""The proximal Bregman response function (Bae, Ng, Lo, Ghassemi and Grosse 2022).

On a model that is not convex, or not trained to its optimum, influence functions do not say what retraining would give.
They approximate this instead: from the weights w_s there are, remove M while predictions elsewhere stay close,

    w_M = argmin_w  Σ_i D(f_i(w), f_i(w_s)) - Σ_{i in M} l(f_i(w), y_i) + (damping/2) |w - w_s|²,

D(f, f') = l(f, y) - l(f', y) - l'(f', y)·(f - f') the Bregman divergence of the loss in the outputs. To first order
its solution is w_s + (G + damping I)⁻¹ Σ_M ∇l, G the Gauss-Newton matrix. It is a truth to hold scores against, and no
retraining: no certificate rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.func import grad_and_value

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.module import ModuleObjective, losses_of
from unlearn.methods.influence.scores import Target


@dataclass(frozen=True, eq=False)
class Response:
    """The response to a removal.

    Attributes:
        w: w_M `[p]`.
        gradient_norm: Of the proximal objective at w_M, against its value at w_s.
        iterations: Evaluations of it.
    """

    w: torch.Tensor
    gradient_norm: float
    iterations: int


def proximal_bregman_response(
    objective: ModuleObjective,
    w: torch.Tensor,
    examples: Examples,
    removed: Examples,
    damping: float,
    *,
    tolerance: float = 1e-6,
    iterations: int = 500,
) -> Response:
    """Minimise the proximal objective by L-BFGS in float64, from w_s.

    The divergences of M and its losses, taken together, are linear in the outputs, but for a constant:
    D(f, f') - l(f, y) = -l'(f', y)·(f - f') - l(f', y). It is summed in that form, where nothing large cancels.

    Args:
        objective: The model's loss; its penalty is not looked at, `damping` takes its place.
        w: w_s `[p]`.
        examples: D without M.
        removed: M.
        damping: > 0, in the sum convention.
        tolerance: Ends where the gradient is so small against the one at w_s.
        iterations: At most so many.

    Returns:
        w_M.

    Raises:
        ConfigurationError: If damping is not above 0.
        InputError: If nothing is removed.
    """
    if not damping > 0:
        raise ConfigurationError(f"damping must be above 0, got {damping}: the proximal term holds w in place")
    if not len(removed):
        raise InputError("removed is empty: the response to no removal is w itself")
    before, slopes = _at(objective, w, examples)
    gone, gone_slopes = _at(objective, w, removed)
    start_losses = losses_of(before, examples.targets)

    def proximal(v: torch.Tensor) -> torch.Tensor:
        outputs = objective.outputs(v, examples.inputs)
        kept = (losses_of(outputs, examples.targets) - start_losses).sum() - (slopes * (outputs - before)).sum()
        leaving = (gone_slopes * (objective.outputs(v, removed.inputs) - gone)).sum()
        return kept - leaving + damping / 2 * ((v - w) ** 2).sum()

    return _minimise(proximal, w, tolerance, iterations)


def response_score(target: Target, w: torch.Tensor, response: Response) -> torch.Tensor:
    """F(w_M) - f(w_s): what the scores of `influence` approximate, with the same sign.

    Args:
        target: f.
        w: w_s.
        response: w_M.

    Returns:
        `[t]`.
    """
    return (target(response.w) - target(w)).detach()


def _at(objective: ModuleObjective, w: torch.Tensor, examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs at w_s, and the slopes of the loss by them."""
    outputs = objective.outputs(w, examples.inputs).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(losses_of(outputs, examples.targets).sum(), outputs)
    return outputs.detach(), slopes


def _minimise(proximal: Target, start: torch.Tensor, tolerance: float, iterations: int) -> Response:
    w = start.detach().clone().requires_grad_()
    slope = grad_and_value(proximal)
    enough = tolerance * float(slope(start)[0].norm())
    optimiser = torch.optim.LBFGS(
        [w],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=50,
        tolerance_grad=enough / len(w) ** 0.5,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    evaluations = 0

    def closure() -> float:
        nonlocal evaluations
        evaluations += 1
        w.grad, value = slope(w.detach())
        return float(value)

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    end = w.detach()
    return Response(end, float(slope(end)[0].norm()), evaluations)
