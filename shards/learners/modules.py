"""Ready-made torch modules: a multilayer perceptron and a small convolutional network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shards.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import nn


def mlp(
    input_shape: Sequence[int],
    n_outputs: int,
    hidden: Sequence[int] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
    input_scale: float = 1.0,
) -> nn.Module:
    """Multilayer perceptron over the flattened record.

    Args:
        input_shape: Shape of one record.
        n_outputs: Classes, or size of the regression target.
        hidden: Width of each hidden layer; empty makes the model linear.
        activation: `"relu"` or `"tanh"`.
        dropout: Probability of dropping a hidden unit in training, in `[0, 1)`.
        input_scale: A public constant the input is multiplied by, such as 1/255.

    Returns:
        Module from `[n, *input_shape]`, any numeric dtype, to `[n, n_outputs]`.

    Raises:
        ConfigurationError: If an argument is out of its range.
    """
    from torch import nn

    activations: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
    if activation not in activations:
        raise ConfigurationError(f"mlp: activation {activation!r} is unknown: choose one of {sorted(activations)}")
    _check_sizes("mlp", n_outputs=[n_outputs], hidden=hidden, input_shape=input_shape)
    _check_rates("mlp", dropout, input_scale)
    width = size = math.prod(input_shape)
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), activations[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = units
    return _sequential([*layers, nn.Linear(width, n_outputs)], (size,), input_scale)


def cnn(
    input_shape: Sequence[int],
    n_outputs: int,
    channels: Sequence[int] = (16, 32),
    hidden: int = 64,
    dropout: float = 0.25,
    input_scale: float = 1.0,
) -> nn.Module:
    """Convolutional network for images: blocks of 3x3 convolution, ReLU, 2x2 maximum, then one hidden layer.

    An axis of one pixel is no longer halved, so images may be as small as one pixel.

    Args:
        input_shape: `[channels, height, width]` or `[height, width]` of one record.
        n_outputs: Classes, or size of the regression target.
        channels: Output channels of each block, at least one block.
        hidden: Width of the hidden layer.
        dropout: Probability of dropping a hidden unit in training, in `[0, 1)`.
        input_scale: A public constant the input is multiplied by, such as 1/255.

    Returns:
        Module from `[n, *input_shape]`, any numeric dtype, to `[n, n_outputs]`.

    Raises:
        ConfigurationError: If an argument is out of its range.
    """
    from torch import nn

    if len(input_shape) not in {2, 3}:
        raise ConfigurationError(
            f"cnn: a record has shape {tuple(input_shape)}, images have [height, width] or [channels, height, "
            'width]: reshape the feature, or use the module "mlp"'
        )
    if not channels:
        raise ConfigurationError('cnn: channels is empty: give at least one, such as [16], or use the module "mlp"')
    _check_sizes("cnn", n_outputs=[n_outputs], channels=channels, hidden=[hidden], input_shape=input_shape)
    _check_rates("cnn", dropout, input_scale)
    depth, height, width = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
    shape = (depth, height, width)
    layers: list[nn.Module] = []
    for units in channels:
        pool = (min(2, height), min(2, width))
        layers += [nn.Conv2d(depth, units, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool)]
        depth, height, width = units, height // pool[0], width // pool[1]
    layers += [nn.Flatten(), nn.Linear(depth * height * width, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return _sequential([*layers, nn.Linear(hidden, n_outputs)], shape, input_scale)


def _sequential(layers: Sequence[nn.Module], shape: tuple[int, ...], scale: float) -> nn.Module:
    """Layers in a row, which bring their input to a shape, to the default float dtype, and to scale first.

    Args:
        layers: What follows.
        shape: Shape of one record as the first layer takes it.
        scale: What the input is multiplied by.

    Returns:
        The module.
    """
    import torch

    dtype, axes = torch.get_default_dtype(), 1 + len(shape)

    # Not a layer of its own: calling one costs a minibatch of a small network a measurable part of its time.
    class Network(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dim() != axes:
                x = x.reshape(len(x), *shape)
            if x.dtype is not dtype:
                x = x.to(dtype)
            return super().forward(x if scale == 1.0 else x * scale)  # type: ignore[no-any-return, no-untyped-call]

    return Network(*layers)


def _check_sizes(name: str, **sizes: Sequence[int]) -> None:
    """Refuse a size that is not a positive integer."""
    for argument, values in sizes.items():
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{name}: {argument} holds {value!r}: give positive integers")


def _check_rates(name: str, dropout: float, input_scale: float) -> None:
    """Refuse a dropout or scale that cannot work."""
    if not 0 <= dropout < 1:
        raise ConfigurationError(f"{name}: dropout is {dropout!r}: give a number in [0, 1)")
    if not math.isfinite(input_scale) or input_scale == 0:
        raise ConfigurationError(f"{name}: input_scale is {input_scale!r}: give a finite number other than 0")
