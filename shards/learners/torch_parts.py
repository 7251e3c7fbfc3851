"""Make the parts that a TorchLearner names: module, optimiser, schedule, loss, augmentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from shards.code import resolve_callable
from shards.errors import ConfigurationError
from shards.learners.schedules import SCHEDULES
from shards.learners.torch_output import output_size
from shards.learners.torch_settings import json_copy, text_of
from shards.task import Task

if TYPE_CHECKING:
    import torch

    from shards.learners.torch import TorchLearner


def make_module(learner: TorchLearner, task: Task) -> torch.nn.Module:
    """Make the module; draws from the global generators.

    Args:
        learner: Names the factory and its arguments.
        task: What the factory may ask about.

    Returns:
        A new module.

    Raises:
        ConfigurationError: If it is no module, or one that cannot be trained.
        CodeError: If the reference leads nowhere.
    """
    import torch

    factory = resolve_callable(text_of(learner.module))
    module = factory(**module_arguments(learner, factory, task))
    if not isinstance(module, torch.nn.Module):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} made a {type(module).__qualname__}: it must return a torch.nn.Module"
        )
    lazy = [name for name, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise ConfigurationError(
            f"TorchLearner: parameter {lazy[0]!r} of {learner.module!r} has no shape before the first batch: replace "
            "the Lazy… layer; a factory with a parameter `input_shape` is told the shape"
        )
    if not any(value.requires_grad for value in module.parameters()):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} has no parameter that requires a gradient: leave at least one unfrozen"
        )
    return module


def module_arguments(learner: TorchLearner, factory: Callable[..., Any], task: Task) -> dict[str, Any]:
    """Arguments for the module's factory: the learner's, and what the task declares if it asks for that.

    Args:
        learner: Has `module_args`, which take precedence.
        factory: Asks by having parameters `n_outputs` or `input_shape`.
        task: What is predicted from what.

    Returns:
        Keyword arguments, the learner's copied.
    """
    shapes = {name: tuple(schema.shape) for name, schema in task.features.items()}
    declared = {
        "n_outputs": output_size(task),
        "input_shape": next(iter(shapes.values())) if len(shapes) == 1 else shapes,
    }
    asked = inspect.signature(factory).parameters
    return {name: value for name, value in declared.items() if name in asked} | dict(json_copy(learner.module_args))


def make_optimizer(learner: TorchLearner, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Make a fresh optimiser.

    Args:
        learner: Names it and its arguments.
        parameters: What it is to change.

    Returns:
        The optimiser.

    Raises:
        ConfigurationError: If the name is unknown, or what is made cannot step without a closure.
        CodeError: If the reference leads nowhere.
    """
    import torch

    name = text_of(learner.optimizer)
    # LBFGS evaluates the loss several times a step, which a minibatch loop cannot give it.
    excluded = {"Optimizer", "LBFGS"}
    names = [
        key
        for key, value in sorted(vars(torch.optim).items())
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and key not in excluded
    ]
    if ":" not in name and name not in names:
        raise ConfigurationError(
            f"TorchLearner: optimizer {name!r} is unknown: choose one of {', '.join(names)}, or give a reference "
            "'package.module:name'"
        )
    make = resolve_callable(name) if ":" in name else getattr(torch.optim, name)
    optimizer = make(parameters, **json_copy(learner.optimizer_args))
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise ConfigurationError(
            f"TorchLearner: optimizer {name!r} made a {type(optimizer).__qualname__}: it must return a "
            "torch.optim.Optimizer whose step() needs no closure"
        )
    return optimizer


def schedule_factor(learner: TorchLearner) -> Callable[[int, int], float] | None:
    """The schedule with its arguments bound.

    Args:
        learner: Names it and its arguments.

    Returns:
        Minibatch k and count n to the factor on the learning rate; None for a constant rate.

    Raises:
        CodeError: If the reference leads nowhere.
    """
    if learner.schedule is None:
        return None
    name = text_of(learner.schedule)
    return partial(resolve_callable(name) if ":" in name else SCHEDULES[name], **json_copy(learner.schedule_args))


def loss_function(learner: TorchLearner, task: Task) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss as a function of a module's output and the targets.

    Args:
        learner: Names it, or leaves it to the task.
        task: What is predicted; for regression the output is brought to the target's shape first.

    Returns:
        `(output, target)` to a tensor, of any shape so far.

    Raises:
        ConfigurationError: If the name is unknown.
        CodeError: If the reference leads nowhere.
    """
    import torch.nn.functional as functional

    default = "cross_entropy" if task.kind == "classification" else "mse_loss"
    name = default if learner.loss is None else text_of(learner.loss)
    names = [key for key in sorted(vars(functional)) if re.fullmatch(r"[a-z].*_loss|.*cross_entropy.*|kl_div", key)]
    if ":" not in name and name not in names:
        raise ConfigurationError(
            f"TorchLearner: loss {name!r} is unknown: choose one of {', '.join(names)}, or give a reference "
            "'package.module:name' to a function (output, target) -> scalar tensor"
        )
    loss: Callable[..., torch.Tensor] = resolve_callable(name) if ":" in name else getattr(functional, name)
    if task.kind == "classification":
        return loss
    return lambda output, target: loss(output.reshape(target.shape), target)


def augmentation(learner: TorchLearner) -> Callable[[torch.Tensor], torch.Tensor]:
    """The augmentation with its arguments bound, or made by its factory.

    Args:
        learner: Names it and its arguments; not None.

    Returns:
        One record to one record.

    Raises:
        ConfigurationError: If it takes neither these arguments nor a record and these, or makes no function.
        CodeError: If the reference leads nowhere.
    """
    name = text_of(learner.transform or "")
    found, arguments = resolve_callable(name), json_copy(learner.transform_args)
    if not accepts(found, **arguments):
        if not accepts(found, None, **arguments):
            raise ConfigurationError(
                f"TorchLearner: transform {name!r} can be called neither with transform_args {arguments} nor with a "
                f"record and these: its parameters are {inspect.signature(found)}"
            )
        return partial(found, **arguments)
    made = found(**arguments)
    if not callable(made):
        raise ConfigurationError(
            f"TorchLearner: transform {name!r} made a {type(made).__qualname__}: it must return a function of a record"
        )
    return made  # type: ignore[no-any-return]


def accepts(function: Callable[..., Any], *args: object, **kwargs: object) -> bool:
    """Whether a function can be called with some arguments, judged by its signature alone.

    Args:
        function: Is not called.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        Whether its parameters take them.
    """
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True
