r"""Masked small gradients (MSG): the second place of the NeurIPS 2023 unlearning challenge ("Kookmin").

1. The gradient of \(\ell(D_r') - \ell(D_f)\), with \(D_r'\) as many retained examples as are forgotten.
2. In each layer, the share of the weights where it is smallest is drawn afresh (Kaiming, normal, fan out).
3. Training on the retain set, where gradients of the weights that were kept count for a tenth.

The entry did so in convolutions alone; for networks without, here also in linear layers, the last one excepted. Its
rate rose linearly over half of the epochs and then fell; here `schedule` says what it does.

[Triantafillou et al. 2024, Are we making progress in unlearning? Findings from the first NeurIPS unlearning
competition, arXiv:2406.09073; steps and constants as in the port of Cadet et al. 2024, arXiv:2410.01276, who call it
MSG]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.importance import gradient
from unlearn.methods.training import (
    Loss,
    Training,
    copied,
    fit,
    problem,
    require,
    training,
)

CARD = MethodCard(
    name="masked_small_gradients",
    title="Masked small gradients (NeurIPS 2023 challenge, second place)",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification", "regression"),
    citation="Triantafillou et al. 2024, Are we making progress in unlearning?, arXiv:2406.09073; as ported by Cadet "
    "et al. 2024, Deep Unlearn, arXiv:2410.01276",
    statement="Weights that neither the forgotten nor the other records pull at are drawn afresh, and the model is "
    "trained again on the others. Nothing is promised about what is still known of the forgotten records.",
    uses_retain=True,
    moves_towards_retraining=False,
    published=("one of the two best of 18 methods in Cadet et al. 2024",),
)

Masks: TypeAlias = dict[str, torch.Tensor]
"""By the name of a weight, which of its entries are drawn afresh."""

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class MaskedSmallGradientsConfig(Training):
    """Settings; the defaults are the entry's.

    Attributes:
        share: Of each layer's weights, drawn afresh.
        kept_factor: Of the gradients of weights that were not.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 5e-4
    share: float = 0.3
    kept_factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.share <= 1 and 0 <= self.kept_factor <= 1, "share and kept_factor must lie in [0, 1]", self)


DEFAULTS = MaskedSmallGradientsConfig()


def masked_small_gradients(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: MaskedSmallGradientsConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Draw some weights afresh and train.

    Args:
        model: Only read.
        forget: Examples to forget.
        retain: Examples that stay.
        config: The settings.
        loss: Mean over a batch; None: cross-entropy, or the squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        rows = torch.randperm(len(posed.retain), generator=rng)[: len(posed.forget)]
        beside = posed.retain.take(rows.to(posed.retain.inputs.device))
        masks = small_gradients(model, posed.forget, beside, posed.loss, config.share)
        _draw(student, masks, rng)
        with _slowed(student, masks, config.kept_factor):
            fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


def small_gradients(model: torch.nn.Module, forget: Examples, retain: Examples, loss: Loss, share: float) -> Masks:
    """Of each layer's weights, those where the gradient of retain loss minus forget loss is smallest.

    Args:
        model: Only read; evaluated as in inference.
        forget: Examples to forget.
        retain: Some that stay.
        loss: Mean over a batch.
        share: Of the weights of a layer.

    Returns:
        Bool tensors like the weights; `round(share * weights)` entries of each are true.
    """
    ours, theirs = gradient(model, forget, loss), gradient(model, retain, loss)
    masks = {}
    for name in _layers(model):
        size = (theirs[name] - ours[name]).abs()
        mask = torch.zeros(size.numel(), dtype=torch.bool, device=size.device)
        mask[size.flatten().topk(round(share * size.numel()), largest=False).indices] = True
        masks[name] = mask.reshape(size.shape)
    return masks


def _layers(model: torch.nn.Module) -> list[str]:
    """Names of trainable weights of convolutions; in a network without any, of linear layers but the last."""
    kinds: dict[str, list[str]] = {"convolution": [], "linear": []}
    for name, module in model.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, torch.nn.Linear)) and module.weight.requires_grad:
            kind = "linear" if isinstance(module, torch.nn.Linear) else "convolution"
            kinds[kind].append(f"{name}.weight" if name else "weight")
    return kinds["convolution"] or kinds["linear"][:-1]


@torch.no_grad()
def _draw(student: torch.nn.Module, masks: Masks, rng: torch.Generator) -> None:
    for name, mask in masks.items():
        weight = student.get_parameter(name)
        fresh = torch.empty(weight.shape, dtype=torch.float64)
        torch.nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu", generator=rng)
        weight.copy_(torch.where(mask, fresh.to(weight), weight))


@contextmanager
def _slowed(student: torch.nn.Module, masks: Masks, factor: float) -> Iterator[None]:
    """Gradients of entries outside the masks are multiplied by the factor, for a block."""
    hooks = []
    for name, mask in masks.items():
        weight = student.get_parameter(name)
        scale = torch.where(mask, 1.0, factor).to(weight)
        hooks.append(weight.register_hook(scale.mul))  # type: ignore[no-untyped-call]
    yield
    for hook in hooks:
        hook.remove()


METHOD = Method(CARD, masked_small_gradients, MaskedSmallGradientsConfig)
