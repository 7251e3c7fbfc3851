"""What a module gives for one minibatch: its shape as the task needs it, and what it means as a prediction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shards.errors import ConfigurationError
from shards.task import Task

if TYPE_CHECKING:
    import torch

    from shards.learners.torch import TorchLearner


def prediction_shape(task: Task) -> tuple[int, ...]:
    """Shape of one record's prediction.

    Args:
        task: What is predicted.

    Returns:
        `(classes,)`, or the shape of the target.
    """
    return (len(task.classes),) if task.kind == "classification" else tuple(task.target.shape)


def output_size(task: Task) -> int:
    """Number of values the module gives for one record.

    Args:
        task: What is predicted.

    Returns:
        The number of classes, or of values of the target.
    """
    return math.prod(prediction_shape(task))


def check_output(learner: TorchLearner, output: object, n: int, task: Task) -> None:
    """Refuse an output that would be broadcast or misread.

    Args:
        learner: Whose module gave it.
        output: What the module gave.
        n: Number of records it was given.
        task: What is predicted.

    Raises:
        ConfigurationError: If it is no tensor of the shape the task needs.
    """
    shape = tuple(getattr(output, "shape", ()))
    exact = task.kind == "classification"
    size = output_size(task)
    if shape[:1] == (n,) and (shape[1:] == (size,) if exact else math.prod(shape[1:]) == size):
        return
    found = f"output of shape {shape}" if hasattr(output, "shape") else f"a {type(output).__qualname__}"
    raise ConfigurationError(
        f"TorchLearner: {learner.module!r} gave {found} for {n} records, {task.kind} needs {(n, size)}: set its number "
        "of outputs in module_args (torchvision calls it num_classes), or give the factory a parameter `n_outputs`"
    )


def predictions(output: torch.Tensor, task: Task) -> torch.Tensor:
    """Probabilities or targets of a module's output.

    Args:
        output: `[n, classes]` logits, or n times the target's values in any shape.
        task: What is predicted.

    Returns:
        `[n, classes]` or `[n, *target shape]`, float64.
    """
    if task.kind == "classification":
        return output.double().softmax(1)
    return output.double().reshape(len(output), *task.target.shape)
