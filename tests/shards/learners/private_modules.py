"""Modules that a private learner must refuse, and one for every layer that it takes."""

from __future__ import annotations

import torch
from torch import nn


def normalised() -> nn.Module:
    """Batch normalisation."""
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


class Centred(nn.Module):
    """Subtracts the mean over the batch, which no rule about layers sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x - x.mean(0))
        return out


class Counting(nn.Module):
    """Scales by how many records are in the batch: what they are changes none of the others, but that they are does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x) * len(x)
        return out


class Dropping(nn.Module):
    """Drops out by a function, which nobody can switch off to look at the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(nn.functional.dropout(self.layer(x), 0.5, self.training))
        return out


class Remembering(nn.Module):
    """Keeps the largest value it has seen, in a part without parameters, which Opacus does not look at."""

    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("largest", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.largest: torch.Tensor = torch.maximum(self.largest, x.max())
            return x

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.layer = self.Largest(), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.seen(x))
        return out


class Unused(nn.Module):
    """Has a layer that the output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def wide() -> nn.Module:
    """Twelve thousand weights, for the distribution of noise."""
    return nn.Sequential(nn.Linear(6, 2000, bias=False), nn.Linear(2000, 3))


def normal_layers() -> nn.Module:
    """Normalisation within a record, dropout, and convolution."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)
    )
