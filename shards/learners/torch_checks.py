"""Refuse a TorchLearner that cannot be trained on a task, before anything is trained."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from shards.code import resolve_callable
from shards.errors import ConfigurationError, UnlearnError
from shards.learners.generators import generators_kept
from shards.learners.torch_output import output_size, prediction_shape
from shards.learners.torch_parts import (
    accepts,
    augmentation,
    loss_function,
    make_optimizer,
    module_arguments,
    schedule_factor,
)
from shards.learners.torch_settings import package_of, text_of
from shards.task import Task

if TYPE_CHECKING:
    from shards.learners.torch import TorchLearner


def check_configuration(learner: TorchLearner, task: Task) -> None:
    """Refuse what does not fit together; imports torch and the user's code.

    Args:
        learner: The configuration.
        task: What is predicted from what.

    Raises:
        ConfigurationError: With what does not fit and what would.
        CodeError: If a reference leads nowhere.
    """
    _check_features(learner, task)
    _check_target(task)
    _check_installed()
    with generators_kept():
        _check_module(learner, task)
        _check_optimizer(learner)
        _check_schedule(learner)
        _check_loss(learner, task)
        if learner.transform is not None:
            augmentation(learner)


def _check_features(learner: TorchLearner, task: Task) -> None:
    """Refuse features that cannot become tensors, or not for these options."""
    if not task.features:
        raise ConfigurationError("TorchLearner: the task has no feature: declare at least one")
    for name, schema in task.features.items():
        if schema.dtype == "str" or np.dtype(schema.dtype).kind in "USO":
            raise ConfigurationError(
                f"TorchLearner: feature {name!r} is text: turn it into numbers first, by a public vocabulary or a "
                "frozen public encoder, since a vocabulary fitted on all data would tie the shards together"
            )
        dtype = np.dtype(schema.dtype)
        if dtype.kind not in "fiub" or dtype.itemsize > 8 or dtype == np.uint64:
            raise ConfigurationError(
                f"TorchLearner: feature {name!r} has dtype {dtype}: convert it to float32, int64, uint8 or bool"
            )
        is_index = dtype.kind in "iu" and dtype != np.uint8
        if learner.standardize and (is_index or (dtype.kind != "f" and learner.input_dtype is None)):
            raise ConfigurationError(
                f"TorchLearner: standardize needs a floating feature, {name!r} is {dtype}: convert it to float32, or "
                "set standardize=False"
            )
    for option in ("standardize", "transform"):
        if getattr(learner, option) and len(task.features) > 1:
            raise ConfigurationError(
                f"TorchLearner: {option} works on one feature, the task has {len(task.features)}: leave it out and "
                "normalise or augment inside the module, or join the features into one"
            )


def _check_target(task: Task) -> None:
    """Refuse a target the loss cannot be computed for."""
    if task.kind == "regression" and output_size(task) >= 1:
        return
    if task.kind != "classification" or task.target.shape != () or len(task.classes) < 2:
        raise ConfigurationError(
            f"TorchLearner: {task.kind} with {len(task.classes)} classes and a target of shape {task.target.shape}: "
            "declare at least two classes and one class a record, or a regression target that is not empty"
        )


def _check_installed() -> None:
    """Refuse to go on without torch."""
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"TorchLearner: {error.name!r} is not installed: pip install 'sisa-unlearn[torch]'"
        ) from error


def _check_module(learner: TorchLearner, task: Task) -> None:
    """Refuse arguments that the module's factory does not take, that contradict the task, or that make no module."""
    factory, arguments, size = resolve_callable(text_of(learner.module)), learner.module_args, output_size(task)
    if not accepts(factory, **module_arguments(learner, factory, task)):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} cannot be called with module_args {dict(arguments)}: its parameters are "
            f"{inspect.signature(factory)}"
        )
    is_torchvision = package_of(text_of(learner.module)) == "torchvision"
    for name in ("n_outputs", "num_classes") if is_torchvision else ("n_outputs",):
        if arguments.get(name, size) != size:
            raise ConfigurationError(
                f"TorchLearner: module_args[{name!r}] is {arguments[name]}, the task needs {size}: correct it"
            )
    if is_torchvision and (arguments.get("pretrained") or arguments.get("weights") in {"DEFAULT", True}):
        raise ConfigurationError(
            "TorchLearner: which weights are the default changes with torchvision's version: name them in "
            "module_args, such as weights='IMAGENET1K_V1', if they are public and owe nothing to the data"
        )
    # What the first batch declares stays: if it were made in training only, none could ever begin.
    try:
        learner.make(task)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, UnlearnError):
            raise
        shapes = {name: tuple(schema.shape) for name, schema in task.features.items()}
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} failed with module_args {dict(arguments)} for features of shape "
            f"{shapes} and {size} outputs: {type(error).__name__}: {error}"
        ) from error


def _check_optimizer(learner: TorchLearner) -> None:
    """Refuse an optimiser that cannot be made."""
    import torch

    try:
        optimizer = make_optimizer(learner, [torch.nn.Parameter(torch.zeros(2, 2))])
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"TorchLearner: optimizer {learner.optimizer!r} refuses optimizer_args "
            f"{dict(learner.optimizer_args)}: {error}"
        ) from error
    if learner.schedule is not None and any("lr" not in group for group in optimizer.param_groups):
        raise ConfigurationError(
            f"TorchLearner: optimizer {learner.optimizer!r} has no learning rate to schedule: set schedule=None"
        )


def _check_schedule(learner: TorchLearner) -> None:
    """Refuse a schedule that gives no finite number."""
    factor = schedule_factor(learner)
    if factor is None:
        return
    try:
        values = [float(factor(k, 4)) for k in range(4)]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(
            f"TorchLearner: schedule {learner.schedule!r} failed with schedule_args {dict(learner.schedule_args)}: "
            f"{error}; it is called as (k, n, **schedule_args)"
        ) from error
    if not all(math.isfinite(value) for value in values):
        raise ConfigurationError(
            f"TorchLearner: schedule {learner.schedule!r} gave {values} over four minibatches: it must be finite"
        )


def _check_loss(learner: TorchLearner, task: Task) -> None:
    """Refuse a loss that gives no scalar for outputs and targets of the task's shape."""
    import torch

    loss = loss_function(learner, task)
    # As many records as there are classes would let a loss for regression broadcast class indices unnoticed.
    n = 3 if prediction_shape(task) == (2,) else 2
    output = torch.zeros(n, *prediction_shape(task))
    target = torch.zeros(n, dtype=torch.int64) if task.kind == "classification" else torch.zeros_like(output)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = loss(output, target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"TorchLearner: loss {learner.loss!r} failed on output {tuple(output.shape)} and {target.dtype} target "
            f"{tuple(target.shape)}: {error}; it is called as (output, target)"
        ) from error
    if not isinstance(value, torch.Tensor) or value.shape != ():
        raise ConfigurationError(
            f"TorchLearner: loss {learner.loss!r} gave {value!r}: it must give a tensor without axes, such as a mean"
        )
