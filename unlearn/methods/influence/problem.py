"""A user's model with what is to be forgotten, as an objective with flat weights; and the way back.

A linear classifier or a linear regression with one output becomes a generalised linear model, whose derivatives have
closed forms; every other module is differentiated automatically. Either way the answer is the same, and only the time
differs (`tests/unlearn/methods/influence/test_problem.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.methods.base import Examples, examples
from unlearn.methods.influence.linear_models import Softmax, SquaredLoss
from unlearn.methods.influence.module import ModuleObjective, as_float64, linear_layer, losses_of, of_module
from unlearn.methods.influence.objective import L2, Objective


@dataclass(frozen=True, eq=False)
class Problem:
    """What the functions of this package work on.

    Attributes:
        objective: The loss and its penalty.
        w: The model's trainable parameters `[p]`, float64.
        forget: What is to be forgotten, in float64.
        retain: What stays.
        model_of: w → a copy of the model with these parameters, in its own dtype and mode.
    """

    objective: Objective
    w: torch.Tensor
    forget: Examples
    retain: Examples
    model_of: Callable[[torch.Tensor], nn.Module]

    @property
    def data(self) -> Examples:
        """All of D: what stays, then what is to be forgotten."""
        return joined(self.retain, self.forget)


def problem_of(model: nn.Module, forget: object, retain: object, l2: L2) -> Problem:
    """Read a user's arguments.

    Args:
        model: A module; it is left alone.
        forget: Examples, as `unlearn.methods.base.examples` reads them.
        retain: Likewise.
        l2: The penalty it was trained with, in the sum convention.

    Returns:
        The problem.

    Raises:
        InputError: If model and examples do not go together, or nothing stays: then there is no curvature, and a new
            model is the answer.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
    kept, gone = as_float64(examples(retain, "retain")), as_float64(examples(forget, "forget"))
    if not len(kept):
        raise InputError("retain is empty: without data there is no curvature; initialise a new model instead")
    if gone.inputs.shape[1:] != kept.inputs.shape[1:] or gone.task != kept.task:
        raise InputError(
            f"forget ({gone.task}, {list(gone.inputs.shape[1:])}) and retain ({kept.task}, "
            f"{list(kept.inputs.shape[1:])}) are no examples of one model"
        )
    layer = linear_layer(model)
    if layer is not None and all(value.requires_grad for value in layer.parameters()):
        if kept.task == "classification" and layer.out_features > 1:
            return _linear(model, layer, gone, kept, Softmax(l2=l2, classes=layer.out_features))
        one_value = kept.targets.numel() == len(kept) and gone.targets.numel() == len(gone)
        if kept.task == "regression" and layer.out_features == 1 and one_value:
            return _linear(model, layer, gone, kept, SquaredLoss(l2=l2))
    copy, w = of_module(model)
    objective = ModuleObjective(l2=l2, module=copy)
    for given in (kept, gone):
        _check_targets(objective, w, given)

    def model_of(changed: torch.Tensor) -> nn.Module:
        return _with(model, objective.parameters(changed))

    return Problem(objective, w, gone, kept, model_of)


def removal_of(model: nn.Module, forget: object, retain: object, l2: L2) -> Problem:
    """Read the arguments of a method that removes something.

    Args:
        model: See `problem_of`.
        forget: Examples to forget, one at least.
        retain: The others: none of those to forget.
        l2: See `problem_of`.

    Returns:
        The problem.

    Raises:
        InputError: If there is nothing to forget, or the sets are known to overlap.
    """
    problem = problem_of(model, forget, retain, l2)
    if not len(problem.forget):
        raise InputError("forget is empty: there is nothing to forget")
    gone = getattr(examples(forget, "forget"), "ids", None)
    stays = getattr(examples(retain, "retain"), "ids", None)
    if gone is not None and stays is not None:
        shared = set(gone) & set(stays)
        if shared:
            raise InputError(
                f"{len(shared)} examples of forget are in retain as well: retain holds those that stay, and no others"
            )
    return problem


def joined(first: Examples, second: Examples) -> Examples:
    """One after the other.

    Args:
        first: Examples.
        second: Examples of the same shapes.

    Returns:
        Both.
    """
    return Examples(torch.cat([first.inputs, second.inputs]), torch.cat([first.targets, second.targets]))


def _linear(model: nn.Module, layer: nn.Linear, forget: Examples, retain: Examples, objective: Objective) -> Problem:
    """W `[k, d + 1]`, the bias its last column, row after row."""
    has_bias = layer.bias is not None

    def design(given: Examples) -> Examples:
        inputs = given.inputs.flatten(1) if given.inputs.ndim > 1 else given.inputs[:, None]
        if inputs.shape[1] != layer.in_features:
            raise InputError(f"inputs have {inputs.shape[1]} values, and the model takes {layer.in_features}")
        targets = given.targets.reshape(-1)
        if has_bias:
            inputs = nn.functional.pad(inputs, (0, 1), value=1.0)
        return Examples(inputs, targets)

    def model_of(w: torch.Tensor) -> nn.Module:
        rows = w.reshape(layer.out_features, -1)
        names = {id(value): name for name, value in model.named_parameters()}
        changed = {names[id(layer.weight)]: rows[:, : layer.in_features]}
        if has_bias:
            changed[names[id(layer.bias)]] = rows[:, -1]
        return _with(model, changed)

    parts = [layer.weight.detach().cpu().double()]
    if has_bias:
        parts.append(layer.bias.detach().cpu().double()[:, None])
    return Problem(objective, torch.cat(parts, 1).reshape(-1), design(forget), design(retain), model_of)


def _check_targets(objective: ModuleObjective, w: torch.Tensor, given: Examples) -> None:
    if not len(given):
        return
    outputs = objective.outputs(w, given.inputs[:1]).shape[1]
    if given.task == "regression":
        losses_of(given.targets.new_zeros(len(given), outputs), given.targets)
        return
    if not 0 <= int(given.targets.min()) <= int(given.targets.max()) < outputs:
        raise InputError(f"targets must be class numbers from 0 to {outputs - 1}, one for each output of the model")


def _with(model: nn.Module, parameters: dict[str, torch.Tensor]) -> nn.Module:
    copy = deepcopy(model)
    with torch.no_grad():
        for name, value in copy.named_parameters():
            if name in parameters:
                value.copy_(parameters[name])
    return copy
