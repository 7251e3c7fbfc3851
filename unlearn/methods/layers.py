"""The layers of a network from its inputs to its outputs, and training none but the last of them."""

from __future__ import annotations

import torch

from unlearn.errors import InputError


def layers(model: torch.nn.Module) -> list[list[tuple[str, torch.nn.Module]]]:
    """The layers of a model in the order in which its constructor registered them.

    A layer is a module with weights of at least two dimensions, and the modules without such that follow it: a
    normalisation belongs to the convolution before it. What comes before the first such module belongs to that one.

    Args:
        model: The model.

    Returns:
        Of each layer, its modules with their names.
    """
    found: list[list[tuple[str, torch.nn.Module]]] = []
    before: list[tuple[str, torch.nn.Module]] = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own and not any(True for _ in module.buffers(recurse=False)):
            continue
        if any(value.ndim >= 2 for value in own):
            found.append([*before, (name, module)])
            before = []
        else:
            (found[-1] if found else before).append((name, module))
    return found


def freeze_all_but_last(student: torch.nn.Module, k: int) -> list[tuple[str, torch.nn.Module]]:
    """Let only the last layers learn; the others keep their weights and their running statistics.

    Args:
        student: Changed in place, within `training`, which gives the flags and modes back.
        k: Number of layers that learn.

    Returns:
        The modules of these layers, with their names.

    Raises:
        InputError: If the model has fewer layers.
    """
    found = layers(student)
    if k > len(found):
        raise InputError(f"{type(student).__name__} has {len(found)} layers with weights, and k is {k}")
    last = [item for layer in found[-k:] for item in layer]
    trainable = {value for value in student.parameters() if value.requires_grad}
    student.requires_grad_(False)
    for layer in found[:-k]:
        for _, module in layer:
            module.training = False
    for _, module in last:
        for value in module.parameters(recurse=False):
            value.requires_grad_(value in trainable)
    return last
