r"""Boundary shrink: each forgotten record gets the wrong class that lies nearest, and the model is trained on that.

A step against the original model across its nearest boundary, \(x' = x + \varepsilon\,\mathrm{sign} \nabla_x \ell(x,
y)\), says which class that is: the most probable one at x', other than y. The paper's code takes the most probable
class even where the step was too short to leave y, and then trains on the true label; here it is a wrong one always.
Nor are x' clipped to pixel values: inputs may be anything. The retain set is not used.

[Chen, Gao, Liu, Peng & Wang 2023, Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary, CVPR]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Training, copied, fit, problem, require, statistics_kept, training

CARD = MethodCard(
    name="boundary_shrink",
    title="Boundary shrink",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "labels"),
    tasks=("classification",),
    citation="Chen, Gao, Liu, Peng & Wang 2023, Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting "
    "the Decision Boundary, CVPR",
    statement="The model is trained to put each forgotten record into the wrong class that lies nearest. Records "
    "that stay are not used, so what is known of them may be lost; nothing is promised about what is still known of "
    "the others.",
    uses_retain=False,
    moves_towards_retraining=False,
    published=("CIFAR-10, ResNet-18, random 10 %: UA 1.78, RA 98.29, TA 92.69, MIA 8.96, average gap 2.67 (re-check)",),
)


@dataclass(frozen=True, kw_only=True)
class BoundaryShrinkConfig(Training):
    r"""Settings.

    Attributes:
        bound: \(\varepsilon\), in units of the inputs; 0.1 for pixels from 0 to 1 in the paper's code.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    bound: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.bound > 0, "bound must be positive", self)


DEFAULTS = BoundaryShrinkConfig()


def boundary_shrink(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: BoundaryShrinkConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Train on the nearest wrong classes.

    Args:
        model: A classifier that returns logits; only read.
        forget: Examples to forget.
        retain: Not used.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    moved = replace(posed.forget, targets=nearest_wrong_classes(model, posed.forget, config.bound, posed.loss))
    student = copied(model)
    with training(student, config.seed) as rng, statistics_kept(student):
        fit(student, moved, posed.loss, config, rng, advance)
    return student


def nearest_wrong_classes(model: torch.nn.Module, forget: Examples, bound: float, loss: Loss) -> torch.Tensor:
    """The most probable class, other than the true one, after one step of the fast gradient sign method.

    Args:
        model: Only read; evaluated as in inference.
        forget: Examples.
        bound: Length of the step in each coordinate.
        loss: Mean over a batch.

    Returns:
        `[n]` int64.
    """
    frozen = copied(model).eval().requires_grad_(False)
    found = []
    for inputs, targets in zip(torch.split(forget.inputs, 512), torch.split(forget.targets, 512), strict=True):
        x = inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(frozen(x), targets), x)
        with torch.no_grad():
            logits = frozen(inputs + bound * gradient.sign())
            logits[torch.arange(len(targets)), targets] = -torch.inf
        found.append(logits.argmax(dim=1))
    return torch.cat(found)


METHOD = Method(CARD, boundary_shrink, BoundaryShrinkConfig)
