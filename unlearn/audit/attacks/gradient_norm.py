"""How strongly a record still pulls at the parameters: hardly, where training fitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unlearn.audit.attacks.base import Card, finite
from unlearn.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

CARD = Card(
    "gradient_norm",
    "norm of the loss's gradient",
    ("a torch module", "records", "labels"),
    "after Nasr, Shokri & Houmansadr 2019, Comprehensive Privacy Analysis of Deep Learning, arXiv:1812.00910",
)


def gradient_norm_score(
    module: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    chunk: int = 64,
) -> np.ndarray:
    r"""\(-\| \nabla_\theta \ell(f(x), y) \|_2\), of each record alone, over the parameters that are trained.

    The module is looked at in evaluation mode, and left in the mode it was in.

    Args:
        module: Records to logits `[n, classes]`.
        x: `[n, ...]`.
        y: `[n]`.
        loss: `(output [1, ...], target [1])` to a scalar; None: cross-entropy.
        chunk: Records at once; memory is so many times the parameters.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If no parameter is trained, counts differ, or a norm is not finite.
    """
    import torch
    from torch.func import functional_call, grad, vmap

    chosen = torch.nn.functional.cross_entropy if loss is None else loss
    parameters = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    if not parameters or len(x) != len(y) or chunk < 1:
        raise InputError(
            f"{len(parameters)} parameters are trained, and there are {len(x)} records, {len(y)} labels and chunks of "
            f"{chunk}: a gradient needs parameters, each record a label, and a chunk a record"
        )

    def one(values: dict[str, torch.Tensor], record: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        output = functional_call(module, values, (record[None],))
        return chosen(output, label[None])

    gradients = vmap(grad(one), in_dims=(None, 0, 0))
    was_training = module.training
    module.eval()
    try:
        norms = []
        for at in range(0, len(x), chunk):
            found = gradients(parameters, x[at : at + chunk], y[at : at + chunk])
            norms.append(torch.stack([g.double().flatten(1).square().sum(1) for g in found.values()]).sum(0).sqrt())
    finally:
        module.train(was_training)
    return -finite(torch.cat(norms).cpu().numpy(), "gradient norms", 1)
