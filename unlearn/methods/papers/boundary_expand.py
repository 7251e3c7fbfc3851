"""Boundary expand: forgotten records are taught to belong to a class of their own, which is then cut off.

The last linear layer gets one more output, a shadow class; the model is trained to put the forget set into it; then
that output is removed again. The retain set is not used.

[Chen, Gao, Liu, Peng & Wang 2023, Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary, CVPR]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.errors import InputError
from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import (
    Training,
    copied,
    fit,
    generators_kept,
    problem,
    statistics_kept,
    training,
)

CARD = MethodCard(
    name="boundary_expand",
    title="Boundary expand",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set",),
    tasks=("classification",),
    citation="Chen, Gao, Liu, Peng & Wang 2023, Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting "
    "the Decision Boundary, CVPR",
    statement="The model is trained to put the forgotten records into a class of their own, which is then removed. "
    "Records that stay are not used, so what is known of them may be lost; nothing is promised about what is still "
    "known of the others.",
    uses_retain=False,
    moves_towards_retraining=False,
    published=("CIFAR-10, ResNet-18, random 10 %: UA 0.59, RA 99.42, TA 93.85, MIA 7.47, average gap 2.76 (re-check)",),
)


@dataclass(frozen=True, kw_only=True)
class BoundaryExpandConfig(Training):
    """Settings of the training with the shadow class."""

    epochs: int = 10
    learning_rate: float = 1e-3


DEFAULTS = BoundaryExpandConfig()


def boundary_expand(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: BoundaryExpandConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Train with a shadow class, and cut it off.

    Args:
        model: A classifier that returns logits, which are the outputs of its last linear layer; only read.
        forget: Examples to forget.
        retain: Not used.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    n_classes = posed.outputs[0]
    student = copied(model)
    name, last = _last_layer(student, n_classes)
    wider = _resized(last, n_classes + 1, config.seed)
    student = _with(student, name, wider)
    shadow = replace(posed.forget, targets=torch.full_like(posed.forget.targets, n_classes))
    with training(student, config.seed) as rng, statistics_kept(student):
        fit(student, shadow, posed.loss, config, rng, advance)
    return _with(student, name, _resized(wider, n_classes, config.seed))


def _last_layer(model: torch.nn.Module, n_classes: int) -> tuple[str, torch.nn.Linear]:
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not found or found[-1][1].out_features != n_classes:
        raise InputError(
            f"{CARD.name} widens the last torch.nn.Linear of a model, which must return its {n_classes} logits: "
            f"{type(model).__name__} has none such"
        )
    return found[-1]


def _resized(layer: torch.nn.Linear, outputs: int, seed: int) -> torch.nn.Linear:
    """A layer with the same first outputs; new ones start as those of a new layer do."""
    with generators_kept(layer, seed):
        fresh = torch.nn.Linear(layer.in_features, outputs, bias=layer.bias is not None)
    fresh = fresh.to(layer.weight.device, layer.weight.dtype).train(layer.training)
    shared = min(outputs, layer.out_features)
    with torch.no_grad():
        for own, other in zip(fresh.parameters(), layer.parameters(), strict=True):
            own[:shared] = other[:shared]
            own.requires_grad_(other.requires_grad)
    return fresh


def _with(model: torch.nn.Module, name: str, layer: torch.nn.Module) -> torch.nn.Module:
    """The model with one of its layers exchanged, in place; where the model is that layer, the layer."""
    if not name:
        return layer
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
    return model


METHOD = Method(CARD, boundary_expand, BoundaryExpandConfig)
