"""A network whose computation depends on what it is given: torch cannot export it."""

from __future__ import annotations

import torch


class Branching(torch.nn.Module):
    """Reads its input backwards where it adds up to more than nothing."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """As many inputs and outputs as the task has."""
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        found: torch.Tensor = self.layer(x.flip(1) if x.sum().item() > 0 else x)
        return found


def make(input_shape: tuple[int, ...], n_outputs: int) -> torch.nn.Module:
    """The network."""
    return Branching(input_shape[0], n_outputs)
