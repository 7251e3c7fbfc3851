"""What methods that train have in common: the settings, the pass over the data, the step, and the copy trained on.

A method of this kind reads as its paper's algorithm does:

    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        descent = Descent(student, config, config.epochs * steps_in(posed.retain, config.batch_size), advance)
        for batch in passes(posed.retain, config, rng):
            descent.step(posed.loss(student(batch.inputs), batch.targets), len(batch))
    return student

(`fit` is that loop.)

The caller's model is only ever read. Randomness comes from the seed alone, and the global generators of torch are
left as they were found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Advance, Examples, MethodCard, Task, examples

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of the model's outputs and the targets of a batch, their mean loss: a scalar that can be differentiated."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a method trains; the configurations of such methods extend it, with defaults of their own.

    Attributes:
        epochs: Passes over the data.
        learning_rate: Of the optimiser, at the start.
        batch_size: The most examples a step looks at; a pass is split into batches of nearly equal size.
        optimizer: Stochastic gradient descent, or Adam.
        momentum: Of "sgd"; "adam" has moments of its own.
        weight_decay: L2 penalty, added to the gradient times the weights.
        schedule: Whether the learning rate stays, or falls to zero along half a cosine.
        clip: The largest L2 norm of a step's gradient; None: any.
        seed: Decides order, dropout and whatever else is drawn.
    """

    epochs: int = 5
    learning_rate: float = 0.01
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch_size >= 1, "epochs and batch_size must be at least 1", self)
        require(0 < self.learning_rate < math.inf, "learning_rate must be positive", self)
        require(0 <= self.momentum < 1, "momentum must lie in [0, 1)", self)
        require(0 <= self.weight_decay < math.inf, "weight_decay must not be negative", self)
        require(self.optimizer in ("sgd", "adam"), 'optimizer must be "sgd" or "adam"', self)
        require(self.schedule in ("constant", "cosine"), 'schedule must be "constant" or "cosine"', self)
        require(self.clip is None or self.clip > 0, "clip must be positive, or None", self)
        require(0 <= self.seed < 2**63, "seed must lie between 0 and 2**63 - 1", self)


def require(holds: bool, message: str, config: object) -> None:
    """Check a configuration.

    Args:
        holds: Whether it is as it must be.
        message: How it must be.
        config: The configuration.

    Raises:
        ConfigurationError: If it is not.
    """
    if not holds:
        raise ConfigurationError(f"{message}: {config}")


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method is asked to do, checked.

    Attributes:
        forget: Examples to forget, on the device and in the dtype of the model; at least one.
        retain: Examples that stay; none only where the method needs none.
        loss: Mean over a batch, of outputs and targets.
        task: What the model does.
        outputs: Shape of what the model returns for one input: `(classes,)` of a classifier.
    """

    forget: Examples
    retain: Examples
    loss: Loss
    task: Task
    outputs: tuple[int, ...]


def problem(card: MethodCard, model: torch.nn.Module, forget: Any, retain: Any, loss: Loss | None = None) -> Problem:
    """Check what a method was given against the model and against what its card says it needs.

    Floating-point inputs are cast to the dtype of the model, and all goes to its device. An empty forget set is an
    error rather than a copy of the model: whoever asks for nothing to be forgotten has looked up the wrong ids, and
    would take the copy for a model that forgot.

    Args:
        card: Of the method.
        model: The model; only read.
        forget: As `unlearn.methods.base.examples` reads it.
        retain: The same; None where the method needs none.
        loss: Of the user; None: cross-entropy of logits for classes, mean squared error for values.

    Returns:
        What to do.

    Raises:
        InputError: If the sets do not fit the method, the model or each other.
    """
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{card.name} works on a torch.nn.Module, got {type(model).__name__}")
    wanted = examples(forget, "forget")
    kept = wanted.take(slice(0, 0)) if retain is None else examples(retain, "retain")
    if not len(wanted):
        raise InputError("forget is empty, so there is nothing to unlearn: look at how its rows were chosen")
    if not len(kept) and "retain set" in card.needs:
        raise InputError(f"{card.name} needs the examples that stay, and retain is empty")
    if wanted.task != kept.task:
        raise InputError(f"targets of forget are for {wanted.task}, those of retain for {kept.task}: give both one way")
    if wanted.task not in card.tasks:
        raise InputError(f"{card.name} works on {' and '.join(card.tasks)}, got targets of {wanted.task}")
    _apart(wanted, kept)
    kept, wanted = readied(model, kept, "retain", loss), readied(model, wanted, "forget", loss)
    used = _LOSSES[wanted.task] if loss is None else loss
    outputs = tuple(outputs_of(model, wanted.inputs[:1]).shape[1:])
    return Problem(wanted, kept, used, wanted.task, outputs)


_LOSSES: Mapping[Task, Loss] = {
    "classification": torch.nn.functional.cross_entropy,
    "regression": torch.nn.functional.mse_loss,
}


def readied(model: torch.nn.Module, given: Examples, name: str, loss: Loss | None = None) -> Examples:
    """Examples as a model takes them: on its device and in its dtype, with targets that fit its outputs.

    Args:
        model: The model; only read.
        given: The examples.
        name: They are called, in a message.
        loss: Of the user, who then answers for what fits; None: the loss of the task.

    Returns:
        The examples, without ids.

    Raises:
        InputError: If they do not fit.
    """
    placed = _placed(model, given)
    return placed if loss is not None or not len(placed) else _fitting(model, placed, name)


def _apart(forget: Examples, retain: Examples) -> None:
    """Rows that have ids are compared; equal rows without ids may well be those of two people."""
    if forget.ids is None or retain.ids is None:
        return
    both = set(forget.ids) & set(retain.ids)
    if both:
        raise InputError(
            f"{len(both)} of {len(forget)} examples to forget are among those that stay: take them out of retain"
        )


def _placed(model: torch.nn.Module, given: Examples) -> Examples:
    first = next((value for value in model.parameters() if value.is_floating_point()), None)
    if first is None:
        raise InputError(f"{type(model).__name__} has no floating-point parameters, so there is nothing to train")
    inputs, targets = (
        values.to(first.device, first.dtype) if values.is_floating_point() else values.to(first.device)
        for values in given
    )
    return Examples(inputs, targets)


def _fitting(model: torch.nn.Module, given: Examples, name: str) -> Examples:
    """Check targets against what the model says to the first row; values take the shape of the outputs."""
    outputs = outputs_of(model, given.inputs[:1])
    if given.task == "regression":
        shape = (len(given), *outputs.shape[1:])
        if math.prod(shape) != given.targets.numel():
            raise InputError(f"{name}: targets {list(given.targets.shape)}, but the model's outputs are {list(shape)}")
        return Examples(given.inputs, given.targets.reshape(shape))
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise InputError(
            f"a classifier must return logits [batch, classes], one for each of at least two classes, got "
            f"{list(outputs.shape)} for one input: for values give floating-point targets, for anything else a loss"
        )
    if given.targets.ndim != 1:
        raise InputError(f"{name}: targets must be class numbers [n], got {list(given.targets.shape)}")
    least, most = int(given.targets.min()), int(given.targets.max())
    if least < 0 or most >= outputs.shape[1]:
        raise InputError(
            f"{name}: targets run from {least} to {most}, but the model knows classes 0 to {outputs.shape[1] - 1}"
        )
    return given


@torch.no_grad()
def outputs_of(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What a model says, in evaluation mode; neither it nor the global generators change.

    Args:
        model: The model.
        inputs: `[n, ...]`, at least one.

    Returns:
        `[n, ...]`, one row an input, without a gradient.

    Raises:
        InputError: If it does not take the inputs, or returns anything but one tensor with a row for each.
    """
    student = copied(model).eval()
    with generators_kept(student, 0):
        return torch.cat([_answers(student, chunk) for chunk in torch.split(inputs, _CHUNK)])


_CHUNK = 1024
"""Inputs looked at together where no gradient is kept."""


def _answers(student: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    try:
        outputs = student(inputs)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the model does not take inputs {list(inputs.shape)} of {inputs.dtype}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise InputError(
            f"the model returns {type(outputs).__name__}, and a method needs one tensor: wrap it in a module whose "
            "forward returns logits or values"
        )
    if outputs.ndim == 0 or len(outputs) != len(inputs):
        raise InputError(f"the model returns {list(outputs.shape)} for {len(inputs)} inputs: one row each is needed")
    return outputs


def copied(model: torch.nn.Module) -> torch.nn.Module:
    """A copy that shares nothing with the model: same device, dtype, modes and flags, without gradients.

    Args:
        model: The model.

    Returns:
        The copy.

    Raises:
        InputError: If it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{type(model).__name__} cannot be copied: {error}; keep nothing in it but parameters, buffers and values"
        ) from error


def reinitialised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy whose layers draw their weights afresh, each by its own `reset_parameters`.

    A layer none of whose parameters requires a gradient keeps them: it was not trained on the data.
    What the model's constructor did beside that (an initialisation of its own) is not known here: hand an untrained
    model to the method where that matters.

    Args:
        model: The model; only read.
        seed: Of the draw.

    Returns:
        The copy.

    Raises:
        InputError: If a layer has parameters and no `reset_parameters`.
    """
    fresh = copied(model)
    with generators_kept(fresh, seed):
        for name, module in fresh.named_modules():
            reset(module, name)
    return fresh


@torch.no_grad()
def reset(module: torch.nn.Module, name: str) -> None:
    """Draw the weights of one layer afresh, in place, from the global generators; its submodules stay as they are.

    Args:
        module: The layer.
        name: It is called, in a message.

    Raises:
        InputError: If it has parameters and no `reset_parameters`.
    """
    own = list(module.parameters(recurse=False))
    if own and not any(value.requires_grad for value in own):
        return
    # `MultiheadAttention` and `Transformer` have theirs under another name.
    draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if draw is not None:
        draw()
    elif own:
        raise InputError(
            f"layer {name or 'of the model'!r} ({type(module).__name__}) has parameters and no reset_parameters(), so "
            "it cannot start afresh: give it one, or hand over an untrained model"
        )


@contextmanager
def generators_kept(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Seed the global generators of the CPU and of the model's devices for a block, and restore them after it.

    Args:
        model: Modules like dropout draw from the generator of its device.
        seed: The seed.

    Yields:
        Nothing.
    """
    devices = sorted({value.get_device() for value in model.parameters() if value.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


@contextmanager
def training(student: torch.nn.Module, seed: int) -> Iterator[torch.Generator]:
    """Train a copy: in training mode, under a seed; afterwards modes and flags are as before, and gradients gone.

    Args:
        student: Changed in place.
        seed: Of everything drawn in the block.

    Yields:
        A generator for the order of examples and the method's own draws, on the CPU.

    Raises:
        ConfigurationError: If the weights are not finite at the end.
    """
    modes = {module: module.training for module in student.modules()}
    flags = {value: value.requires_grad for value in student.parameters()}
    student.train()
    with generators_kept(student, seed):
        yield torch.Generator().manual_seed(seed)
    for module, mode in modes.items():
        module.training = mode
    for value, flag in flags.items():
        value.requires_grad_(flag)
        value.grad = None
    if not all(bool(torch.isfinite(value).all()) for value in student.parameters()):
        raise ConfigurationError("the weights are not finite any more: lower learning_rate or epochs, or set clip")


@contextmanager
def statistics_kept(student: torch.nn.Module) -> Iterator[None]:
    """Batch normalisation uses and keeps its running statistics for a block; everything else trains on.

    A batch of examples to forget should leave no trace in what is used to normalise those that stay.

    Args:
        student: The model in training.

    Yields:
        Nothing.
    """
    modes = {module: module.training for module in student.modules() if isinstance(module, _BatchNorm)}
    for module in modes:
        module.eval()
    yield
    for module, mode in modes.items():
        module.training = mode


def batches(given: Examples, size: int, rng: torch.Generator) -> Iterator[Examples]:
    """One pass over examples in random order.

    Args:
        given: The examples; none: no batches.
        size: The most that a batch has. Sizes differ by at most one, so that no batch is a leftover of a single
            example, which batch normalisation could not take.
        rng: On the CPU.

    Yields:
        The batches.
    """
    order = torch.randperm(len(given), generator=rng)
    for rows in torch.tensor_split(order, math.ceil(len(given) / size)) if len(given) else ():
        yield given.take(rows.to(given.inputs.device))


def passes(given: Examples, config: Training, rng: torch.Generator) -> Iterator[Examples]:
    """As many passes over examples as the configuration says, each in an order of its own.

    Args:
        given: The examples.
        config: Its `epochs` and `batch_size`.
        rng: On the CPU.

    Yields:
        The batches.
    """
    for _ in range(config.epochs):
        yield from batches(given, config.batch_size, rng)


def endless(given: Examples, size: int, rng: torch.Generator) -> Iterator[Examples]:
    """Pass after pass, for a set that accompanies another one.

    Args:
        given: At least one example.
        size: The most that a batch has.
        rng: On the CPU.

    Yields:
        The batches, for ever.
    """
    while True:
        yield from batches(given, size, rng)


def steps_in(given: Examples, size: int) -> int:
    """Batches of one pass, none of more than `size` examples."""
    return math.ceil(len(given) / size)


class Descent:
    """Steps of an optimiser down a loss, with the schedule, the clipping and the checks of a configuration.

    Args:
        student: Those of its parameters that require a gradient are trained.
        config: The settings.
        steps: To be made in all, which the schedule must know.
        advance: Told of the examples visited.
    """

    def __init__(self, student: torch.nn.Module, config: Training, steps: int, advance: Advance | None = None) -> None:
        self._parameters = [value for value in student.parameters() if value.requires_grad]
        if not self._parameters:
            raise InputError(f"no parameter of {type(student).__name__} requires a gradient: nothing can be trained")
        self._config, self._steps, self._made, self._advance = config, steps, 0, advance
        self._optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(self._parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay)
            if config.optimizer == "sgd"
            else torch.optim.Adam(self._parameters, config.learning_rate, weight_decay=config.weight_decay)
        )

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        if self._config.schedule == "constant":
            return self._config.learning_rate
        return self._config.learning_rate * (1 + math.cos(math.pi * min(1.0, self._made / self._steps))) / 2

    def step(self, loss: torch.Tensor, visited: int) -> None:
        """Make one step.

        Args:
            loss: A scalar; to climb, its negative.
            visited: Examples it took.

        Raises:
            ConfigurationError: If the loss is not finite.
        """
        if not math.isfinite(loss.item()):
            raise ConfigurationError(
                f"the loss is {loss.item()} after {self._made} steps: lower learning_rate, or set clip"
            )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        self._made += 1
        if self._advance is not None:
            self._advance(visited)


def fit(
    student: torch.nn.Module,
    given: Examples,
    loss: Loss,
    config: Training,
    rng: torch.Generator,
    advance: Advance | None = None,
) -> None:
    """Train on examples as usual.

    Args:
        student: Changed in place; in training mode.
        given: The examples.
        loss: Mean over a batch.
        config: The settings.
        rng: Of their order.
        advance: Told of the examples visited.
    """
    descent = Descent(student, config, config.epochs * steps_in(given, config.batch_size), advance)
    for batch in passes(given, config, rng):
        descent.step(loss(student(batch.inputs), batch.targets), len(batch))
