"""The layers of a ready-made multilayer perceptron, as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shards.learners.joined import Dense
from shards.learners.mlp_network import Layer
from shards.learners.torch_tensors import Scaling

if TYPE_CHECKING:
    import torch


def dense(module: torch.nn.Module, scaling: Scaling | None, scale: float) -> Dense | None:
    """What a module of `shards.learners.modules.mlp` computes.

    Args:
        module: In evaluation mode, where dropout does nothing.
        scaling: Mean and standard deviation `[*shape]` to standardise its inputs with, or None.
        scale: What it multiplies its inputs by.

    Returns:
        Views of its layers; None if it computes in another dtype than float32, or has no hidden layer.
    """
    from torch import nn

    layers = [layer for layer in module.children() if isinstance(layer, nn.Linear)]
    names = {nn.ReLU: "relu", nn.Tanh: "tanh"}
    kinds = [names[type(layer)] for layer in module.children() if type(layer) in names]
    arrays = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]
    if not kinds or any(array.dtype != "float32" for pair in arrays for array in pair):
        return None
    flat = None if scaling is None else (scaling[0].reshape(-1), scaling[1].reshape(-1))
    return Dense([Layer(*pair) for pair in arrays], kinds[0], flat, scale)
