r"""Neurons beside those of an MLP: \(\mathrm{FFN}'(h) = \mathrm{FFN}(h) + \sigma(h K^\top + b) \, V\)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from unlearn.language.editing.base import Hang, Task
from unlearn.language.hooks import Anatomy, Architecture, anatomy, inputs_seen, logits_of

Added = Callable[[torch.Tensor], torch.Tensor]
"""Of what an MLP reads, `[…, in]`, to what is added to what it writes, `[…, out]`."""


@dataclass(frozen=True, eq=False)
class Neurons:
    r"""Some neurons.

    Attributes:
        keys: `[n, in]`, K.
        biases: `[n]`, b.
        values: `[n, out]`, V.
        activation: \(\sigma\).
    """

    keys: torch.Tensor
    biases: torch.Tensor
    values: torch.Tensor
    activation: Added

    def excitation(self, read: torch.Tensor) -> torch.Tensor:
        """What each neuron makes of what the MLP reads, before its activation.

        Args:
            read: `[…, in]`.

        Returns:
            `[…, n]`.
        """
        return read.to(self.keys) @ self.keys.T + self.biases

    def __call__(self, read: torch.Tensor) -> torch.Tensor:
        """What they write.

        Args:
            read: `[…, in]`.

        Returns:
            `[…, out]`.
        """
        return self.activation(self.excitation(read)) @ self.values

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """The numbers."""
        return {"keys": self.keys, "biases": self.biases, "values": self.values}


def hang(body: Anatomy, layer: int, added: Added) -> Iterable[RemovableHandle]:
    """Put neurons beside those of an MLP.

    Args:
        body: The model.
        layer: Number of the block.
        added: What the neurons write.

    Yields:
        What takes each hook away again.
    """
    held: list[torch.Tensor] = []

    def read(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        held[:] = [arguments[0]]

    def wrote(_: nn.Module, __: Any, out: torch.Tensor) -> torch.Tensor:
        return out + added(held.pop()).to(out)

    yield body.up(layer).register_forward_pre_hook(read)
    yield body.down(layer).module.register_forward_hook(wrote)


def hanging(neurons: Neurons, layer: int, layout: Architecture | None) -> Hang:
    """The same for a model that is given later.

    Args:
        neurons: Some.
        layer: Number of the block.
        layout: Where things are; None: what the model's type says.

    Returns:
        Puts them there.
    """
    return lambda model: hang(anatomy(model, layout), layer, neurons)


@contextmanager
def beside(body: Anatomy, layer: int, added: Added) -> Iterator[None]:
    """Put neurons beside those of an MLP for a while.

    Args:
        body: The model.
        layer: Number of the block.
        added: What they write.

    Yields:
        Nothing.
    """
    handles = list(hang(body, layer, added))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def sizes(task: Task, body: Anatomy, layer: int) -> tuple[int, int]:
    """How many numbers an MLP reads and writes.

    Args:
        task: What the editor was given.
        body: Its model.
        layer: Number of the block.

    Returns:
        in, out.
    """
    with torch.no_grad(), inputs_seen(body.up(layer)) as seen:
        logits_of(task.model, torch.zeros((1, 1), dtype=torch.int64, device=task.device))
    return seen[0].shape[-1], body.down(layer).sizes[0]
