r"""Quantisation: round an unlearnt model's weights, and see whether what was unlearnt in small differences shows again.

Zhang, Wang, Li, Wu, Tang, Liu, He, Yin & Wang, *Catastrophic failure of LLM unlearning via quantization*, ICLR 2025
(arXiv 2410.16454); recalled. Unlearning that keeps utility moves weights little, often by less than half a step of a
coarse grid: then the rounded model is the rounded model from before.

Round to nearest, symmetric, per output channel. For the row \(w\) of weights that make one output, and b bits:

\[ q_{\max} = 2^{b-1} - 1, \qquad s = \max_i \lvert w_i \rvert / q_{\max}, \qquad w'_i = s \cdot
\mathrm{round}(w_i / s), \]

where halves are rounded to the even number, and a row of zeros stays. No \(\lvert w_i / s \rvert\) is above
\(q_{\max}\), so nothing is clipped. The weights of `nn.Linear` (a row is an output), transformers' `Conv1D` (a column
is one) and `nn.Embedding` (a row is a token) are rounded; biases, norms and convolutions are not. Experts that are held
as one block of several matrices are refused: which axis is that of inputs depends on the model. Activations stay in
floating point: this is about what the weights hold, not about speed.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from unlearn.errors import InputError


def quantised(model: nn.Module, bits: int) -> nn.Module:
    """Round the weights of all matrices to so many bits.

    Args:
        model: It; stays as it is.
        bits: 2 to 8.

    Returns:
        A new model, whose weights are the rounded ones in the old dtype; weights that were shared still are.

    Raises:
        InputError: If there are fewer or more bits; if a weight cannot be rounded in its place, or none is there to be.
    """
    if not 2 <= bits <= 8:
        raise InputError(f"bits must be 2 to 8, got {bits}")
    found = copy.deepcopy(model)
    seen: set[int] = set()
    with torch.no_grad():
        for name, module in found.named_modules():
            _check(name, module)
            axis = _inputs(module)
            if axis is None:
                continue
            weight = module.get_parameter("weight")
            if id(weight) not in seen:
                seen.add(id(weight))
                weight.copy_(rounded(weight, bits, axis))
    if not seen:
        raise InputError(f"{type(model).__name__} has no linear map and no embedding: nothing would be rounded")
    return found


def rounded(weight: torch.Tensor, bits: int, axis: int) -> torch.Tensor:
    """Round one matrix.

    Args:
        weight: `[out, in]`, or the other way round.
        bits: At least 2.
        axis: Along which inputs are counted: numbers along it share a step.

    Returns:
        The same shape and dtype.
    """
    largest = 2 ** (bits - 1) - 1
    # In 16 bits, steps and quotients would be off by whole steps.
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
    step = exact.abs().amax(axis, keepdim=True) / largest
    step = torch.where(step > 0, step, torch.ones_like(step))
    return ((exact / step).round() * step).to(weight)


def _check(name: str, module: nn.Module) -> None:
    """Refuse weights that would stay as they are without anybody being told."""
    if _inputs(module) is not None:
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if weight is None or not weight.is_floating_point():
            raise InputError(
                f"{name}.weight is no parameter in floating point: take the model before it was quantised or "
                "parametrised"
            )
    for own, parameter in module.named_parameters(recurse=False):
        several = sum(size > 1 for size in parameter.shape) > 2
        if several and not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise InputError(f"{name}.{own} holds several matrices in one: experts cannot be rounded")


def _inputs(module: nn.Module) -> int | None:
    """The axis of inputs of a module's weight; None: it is not rounded."""
    if isinstance(module, nn.Linear | nn.Embedding):
        return 1
    kinds = type(module).__mro__
    conv = any(kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.") for kind in kinds)
    return 0 if conv else None
