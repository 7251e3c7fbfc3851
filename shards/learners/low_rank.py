"""Small trained parts of a module that stays as it is: low-rank updates of linear layers, and layers trained in full.

`W + (scale / rank) up down` in place of a weight `W` [Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language
Models]: `down` `[rank, inputs]` is drawn, `up` `[outputs, rank]` starts at zero, so that an untrained adapter changes
nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import torch
from torch import nn

from shards.errors import ConfigurationError


class LowRank(nn.Module):
    """A linear layer that stays as it is, and its low-rank update.

    Attributes:
        layer: The layer.
        name: What it is called, for messages.
        factor: Of the update.
        down: `[rank, inputs]`.
        up: `[outputs, rank]`.
    """

    layer: nn.Module

    def __init__(self, layer: nn.Module, name: str, rank: int, scale: float) -> None:
        """Draw `down` from torch's global generator, as torch draws a linear layer's weight.

        Args:
            layer: The layer; no parameter of the module that is made.
            name: What the layer is called, for messages.
            rank: Of the update.
            scale: Of the update, before it is divided by the rank.

        Raises:
            ConfigurationError: If it is no linear layer.
        """
        super().__init__()
        found = sizes(layer)
        if found is None:
            raise ConfigurationError(f"AdapterLearner: {name!r} is a {type(layer).__name__}, which is no linear layer")
        inputs, outputs = found
        weight = layer.get_parameter("weight")
        self.name, self.factor = name, scale / rank
        # Past torch's registry: what stays as it is belongs to no checkpoint and to no optimiser.
        object.__setattr__(self, "layer", layer)
        self.down = nn.Parameter(weight.new_empty(rank, inputs))
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.uniform_(self.down, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer says of `[…, inputs]`, and the update: `[…, outputs]`."""
        said: torch.Tensor = self.layer(x)
        return said + (x @ self.down.T) @ self.up.T * self.factor

    @property
    def weight(self) -> NoReturn:
        """Refused: who reads the weight instead of calling the layer would leave the update out.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            f"AdapterLearner: the weight of {self.name!r} is read by the layer around it, which does not call it: "
            "leave it out of adapt"
        )


class Adapted(nn.Module):
    """A base that stays as it is, in evaluation mode, with its trained parts; they alone are its parameters.

    Attributes:
        base: The base, with updates in place of the layers that have one.
        adapters: The low-rank updates, by the names of their layers with `/` for `.`.
        trained: The layers that are trained in full, likewise.
    """

    base: nn.Module

    def __init__(self, base: nn.Module, adapt: Sequence[str], train: Sequence[str], rank: int, scale: float) -> None:
        """Copy the base's structure and what is trained of it; all other weights are shared.

        Args:
            base: Is not changed.
            adapt: Patterns of names of linear layers, as in `fnmatch`, that get a low-rank update.
            train: Patterns of names of layers that are trained in full.
            rank: Of the updates.
            scale: Of the updates, before it is divided by the rank.

        Raises:
            ConfigurationError: If a pattern finds no layer, or what is trained has two names or is shared with what is
                not.
        """
        super().__init__()
        named = dict(base.named_modules())
        whole = _outermost(_matching("train", train, [name for name in named if name]))
        linear = [name for name in named if sizes(named[name]) and not _within(name, whole)]
        updated = _matching("adapt", adapt, linear)
        for name, layer in base.named_modules(remove_duplicate=False):
            if any(name != other and layer is named[other] for other in [*updated, *whole]):
                raise ConfigurationError(
                    f"AdapterLearner: {name!r} is the same layer as one that is to be trained: leave it out, or make "
                    "two layers of it in the module's factory"
                )
        own = {id(value) for name in whole for value in _tensors(named[name])}
        shared = {id(value): value for value in _outside(base, whole)}
        tied = own & shared.keys()
        if tied:
            raise ConfigurationError(
                f"AdapterLearner: train {list(train)} names a weight that is tied to one that stays as it is: leave it "
                "out, or untie it in the module's factory"
            )
        if not updated and not whole:
            raise ConfigurationError(
                "AdapterLearner: adapt and train are empty, so there is nothing to train: name layers"
            )
        copied = copy.deepcopy(base, dict(shared)).requires_grad_(requires_grad=False).eval()
        object.__setattr__(self, "base", copied)
        self.adapters, self.trained = nn.ModuleDict(), nn.ModuleDict()
        for name in updated:
            update = LowRank(copied.get_submodule(name), name, rank, scale)
            _put(copied, name, update)
            self.adapters[_key(name)] = update
        for name in whole:
            self.trained[_key(name)] = copied.get_submodule(name).requires_grad_(requires_grad=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the base says with its updates."""
        return self.base(*args, **kwargs)


def sizes(layer: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer.

    Args:
        layer: Any module.

    Returns:
        Both; None if it is neither torch's linear layer nor transformers' transposed one.
    """
    if type(layer) is nn.Linear:
        return layer.in_features, layer.out_features
    # Not imported: transformers is an extra. Its weight is [inputs, outputs].
    if type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers."):
        inputs, outputs = layer.get_parameter("weight").shape
        return inputs, outputs
    return None


def is_trained(name: str, train: Sequence[str]) -> bool:
    """Whether a tensor of the base's state dict belongs to a layer that is trained in full.

    Args:
        name: Of the tensor.
        train: Patterns of layers' names.

    Returns:
        Whether one of them, or of the layers around it, matches.
    """
    parts = name.split(".")
    layers = [".".join(parts[:end]) for end in range(1, len(parts))]
    return any(fnmatchcase(layer, pattern) for layer in layers for pattern in train)


def _matching(option: str, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that match a pattern, in the order of the module; every pattern must find one."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(
                f"AdapterLearner: {option} {pattern!r} finds no {'linear ' if option == 'adapt' else ''}layer: there "
                f"are {', '.join(names) or 'none'}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _outermost(names: Sequence[str]) -> list[str]:
    """Without layers inside of others that are named too."""
    return [name for name in names if not _within(name, [other for other in names if other != name])]


def _within(name: str, layers: Sequence[str]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _outside(base: nn.Module, whole: Sequence[str]) -> Iterator[torch.Tensor]:
    """Parameters and buffers that stay as they are."""
    for name, value in [
        *base.named_parameters(remove_duplicate=False),
        *base.named_buffers(remove_duplicate=False),
    ]:
        if not _within(name, whole):
            yield value


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace a layer by another."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)


def _key(name: str) -> str:
    """A name that `ModuleDict` takes."""
    return name.replace(".", "/")
