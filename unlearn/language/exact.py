"""AdamW for models kept in 16 bits: what a step adds to a weight is summed in 32.

A weight of 16 bits has eight or eleven binary digits. A step that is less than half of the last one is rounded away,
and so is the next: a model tuned in small steps would hardly move, however many there are. So the sums are kept in
float32 beside the model, which holds them rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Descent:
    """AdamW without weight decay.

    Args:
        parameters: What is tuned, of any types.
        learning_rate: Of AdamW.
        longest: Gradients longer than this, all together, are shortened to it; None: none are.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, longest: float | None = None) -> None:
        self._parameters = tuple(parameters)
        # Those of 32 bits and more are their own sums.
        self._sums = [nn.Parameter(one.detach().float()) if _is_short(one) else one for one in self._parameters]
        self._optimizer = torch.optim.AdamW(self._sums, lr=learning_rate, weight_decay=0.0)
        self._longest = longest

    def step(self, loss: torch.Tensor) -> None:
        """Make a loss smaller.

        Args:
            loss: `[]`, of the parameters as they are now.
        """
        for parameter in self._parameters:
            parameter.grad = None
        torch.autograd.backward(loss)
        pairs = [(own, kept) for own, kept in zip(self._parameters, self._sums, strict=True) if own is not kept]
        for own, kept in pairs:
            kept.grad, own.grad = None if own.grad is None else own.grad.float(), None
        if self._longest is not None:
            nn.utils.clip_grad_norm_(self._sums, self._longest)
        self._optimizer.step()
        with torch.no_grad():
            for own, kept in pairs:
                own.copy_(kept)


def _is_short(parameter: nn.Parameter) -> bool:
    return parameter.dtype in (torch.bfloat16, torch.float16)
