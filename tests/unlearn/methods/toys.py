"""Small models and data on which a method's steps can be computed by hand, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from unlearn.methods.base import Examples, Task

M = TypeVar("M", bound=nn.Module)

CLASSES = 3
FULL = 10_000
"""A batch size that leaves one batch, so that order plays no part."""


def split(task: Task = "classification", rows: int = 60, gone: int = 20) -> tuple[Examples, Examples]:
    """Examples to forget and examples that stay."""
    rng = torch.Generator().manual_seed(5)
    inputs = torch.randn(rows, 4, generator=rng, dtype=torch.float64)
    values = inputs @ torch.randn(4, CLASSES, generator=rng, dtype=torch.float64)
    values += torch.randn(rows, CLASSES, generator=rng, dtype=torch.float64)
    given = Examples(inputs, values[:, :1].clone() if task == "regression" else values.argmax(dim=1))
    return given.take(slice(0, gone)), given.take(slice(gone, None))


def linear(outputs: int = CLASSES, seed: int = 11) -> nn.Linear:
    return drawn(lambda: _linear(4, outputs), seed)


def deep() -> nn.Sequential:
    """Three layers; the second is normalised, so it has no bias, which could not learn."""

    def build() -> nn.Sequential:
        normalised = (_linear(8, 8, bias=False), nn.BatchNorm1d(8, dtype=torch.float64), nn.ReLU())
        return nn.Sequential(_linear(4, 8), nn.Tanh(), *normalised, _linear(8, CLASSES))

    return drawn(build, 11)


def plain(seed: int = 11) -> nn.Sequential:
    return drawn(lambda: nn.Sequential(_linear(4, 8), nn.Tanh(), _linear(8, CLASSES)), seed)


def _linear(features: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(features, outputs, bias=bias, dtype=torch.float64)


def drawn(build: Callable[[], M], seed: int) -> M:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def same(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit."""
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def near(one: nn.Module, other: nn.Module, tolerance: float = 1e-12) -> bool:
    """But for rounding."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum(((a - b) ** 2).sum().item() for a, b in pairs) ** 0.5


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@torch.no_grad()
def step(model: nn.Module, changes: list[torch.Tensor], factor: float) -> None:
    for value, change in zip(model.parameters(), changes, strict=True):
        value += factor * change
