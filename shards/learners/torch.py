"""A shard trains a torch module: one minibatch loop for first training, recovery, replay and audit alike."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import numbers
import operator
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, fields
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from shards.code import reference, resolve
from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError, InputError
from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData, epoch_visits
from shards.learners.visits import count_windows, windows
from shards.task import Kind, Task

if TYPE_CHECKING:
    import torch

    Tensors: TypeAlias = Mapping[str, torch.Tensor]
    Scaling: TypeAlias = tuple[np.ndarray, np.ndarray]

Reference: TypeAlias = str | Callable[..., Any]
"""`"package.module:name"`, or the function or class itself; kept as the former."""

READY_MADE: Mapping[str, str] = {"mlp": "shards.learners.modules:mlp", "cnn": "shards.learners.modules:cnn"}
"""Short names of the module factories that come with the package."""

_INPUT_DTYPES = ("float16", "bfloat16", "float32", "float64")
_PREDICT_CHUNK = 1024
_CONVERT_BYTES = 2**22
_PROGRESS_SECONDS = 0.2


# --- schedules -----------------------------------------------------------------------------------------------


def cosine(k: int, n: int, final: float = 0.0) -> float:
    """Half a cosine from 1 down to `final`: final + (1 - final)(1 + cos(pi k / n)) / 2."""
    return final + (1 - final) * (1 + math.cos(math.pi * k / n)) / 2


def linear(k: int, n: int, final: float = 0.0) -> float:
    """A straight line from 1 down to `final`: 1 - (1 - final) k / n."""
    return 1 - (1 - final) * k / n


def step(k: int, n: int, gamma: float = 0.1, parts: int = 3) -> float:
    """A staircase of `parts` equal parts, each `gamma` times the one before: gamma^floor(k parts / n)."""
    return float(gamma ** (k * parts // n))


SCHEDULES: Mapping[str, Callable[..., float]] = {"cosine": cosine, "linear": linear, "step": step}
"""Schedules by short name: `(k, n, **args)` to the factor on the learning rate of minibatch k of n."""


# --- the learner ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TorchLearner(Learner):
    """Minibatch training of a `torch.nn.Module` on the CPU.

    Floating, boolean and uint8 features reach the module as `input_dtype`, all other integers as int64 (so
    that they can index an embedding). One feature is passed as `module(x)`, several as `module(name=tensor)`.
    The module gives logits `[n, classes]`, or targets `[n, *target shape]` up to a reshape. A factory with
    parameters `input_shape` or `n_outputs` receives them from the task unless `module_args` has them:
    `input_shape` is a tuple, or a dict of tuples by feature name where there are several features.

    Attributes:
        module: `"mlp"`, `"cnn"`, or a reference to a function or class that makes the module, or that itself.
        module_args: Keyword arguments for it, JSON values.
        optimizer: Name in `torch.optim`, or a reference to `(parameters, **optimizer_args) -> Optimizer`.
        optimizer_args: Keyword arguments for it.
        schedule: None, a name in `SCHEDULES`, or a reference to a pure function `(k, n, **schedule_args)` that
            gives the factor on the learning rate of minibatch k (from 0) of the n of one step.
        schedule_args: Keyword arguments for it.
        loss: Name in `torch.nn.functional`, or a reference to `(output, target) -> scalar tensor`; None is
            `"cross_entropy"` for classification and `"mse_loss"` for regression.
        epochs: E, nominal passes over the data: an int, a float, or a fraction such as `"7/2"`.
        batch_size: Records a minibatch.
        shuffle: Visit the records of each pass in a fresh order; otherwise in canonical order.
        carry_optimizer: Keep the optimiser's tensors in the state and go on with them in the next step;
            otherwise every step starts a fresh optimiser.
        standardize: Subtract the mean and divide by the standard deviation of the records of the step, kept in
            the state. For one floating feature.
        input_dtype: `"float16"`, `"bfloat16"`, `"float32"`, `"float64"`, or None for each feature's own.
        transform: Reference to an augmentation, applied to one record (as the module would see it) at a time
            and in training only. If it can be called with `transform_args` alone, it is a factory of the
            augmentation, such as a class of `torchvision.transforms`; otherwise it is called as
            `(record, **transform_args)`. For one feature.
        transform_args: Keyword arguments for it.
        clip_norm: Clip the gradient of all parameters together to this 2-norm.

    Raises:
        ConfigurationError: If a value is out of its range or is not JSON.
        CodeError: If a function or class cannot be referenced, such as a lambda or one of `__main__`.
    """

    module: Reference
    module_args: Mapping[str, Json] = field(default_factory=dict)
    _: KW_ONLY
    optimizer: Reference = "SGD"
    optimizer_args: Mapping[str, Json] = field(default_factory=lambda: {"lr": 0.1})
    schedule: Reference | None = None
    schedule_args: Mapping[str, Json] = field(default_factory=dict)
    loss: Reference | None = None
    epochs: int | float | str | Fraction = 20
    batch_size: int = 16
    shuffle: bool = True
    carry_optimizer: bool = False
    standardize: bool = False
    input_dtype: str | None = "float32"
    transform: Reference | None = None
    transform_args: Mapping[str, Json] = field(default_factory=dict)
    clip_norm: float | None = None

    kernel: ClassVar[str] = "torch/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch")

    def __post_init__(self) -> None:
        """Bring every value to its one canonical form, so that equal learners have equal keys."""
        arguments = ("module_args", "optimizer_args", "schedule_args", "transform_args")
        settings: dict[str, Any] = {name: _json_object(name, getattr(self, name)) for name in arguments}
        settings["module"] = _named("module", self.module, READY_MADE)
        settings["module"] = READY_MADE.get(settings["module"], settings["module"])
        settings["optimizer"] = _named("optimizer", self.optimizer, None)
        settings["loss"] = None if self.loss is None else _named("loss", self.loss, None)
        settings["schedule"] = None if self.schedule is None else _named("schedule", self.schedule, SCHEDULES)
        settings["transform"] = None if self.transform is None else _named("transform", self.transform, {})
        settings["epochs"] = _epochs(self.epochs)
        settings["batch_size"] = _batch_size(self.batch_size)
        settings["clip_norm"] = _clip_norm(self.clip_norm)
        for name in ("shuffle", "carry_optimizer", "standardize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"TorchLearner: {name} is {getattr(self, name)!r}: give True or False")
        if self.input_dtype is not None and self.input_dtype not in _INPUT_DTYPES:
            raise ConfigurationError(
                f"TorchLearner: input_dtype is {self.input_dtype!r}: choose one of "
                f"{', '.join(_INPUT_DTYPES)}, or "
                "None to keep each feature's own"
            )
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        return hash(canonical_json(self.params()))

    def kinds(self) -> tuple[Kind, ...]:
        """Both kinds of task."""
        return ("classification", "regression")

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return dict(_copy(values))

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> TorchLearner:
        """Build the learner again from `params()`.

        Args:
            params: What `params()` gave, perhaps read back from JSON.

        Returns:
            An equal learner.

        Raises:
            ConfigurationError: If a name is unknown or a value out of its range.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(params) - known)
        if unknown or "module" not in params:
            raise ConfigurationError(
                f"TorchLearner: parameters {unknown or ['module']} are "
                f"{'unknown' if unknown else 'missing'}: it has "
                f"{', '.join(sorted(known))}"
            )
        return cls(**params)

    def code(self) -> tuple[str, ...]:
        """References to the code this learner runs, apart from that of torch and torchvision."""
        values = (self.module, self.optimizer, self.loss, self.schedule, self.transform)
        names = (value for value in values if isinstance(value, str) and ":" in value)
        return tuple(sorted({name for name in names if _package(name) not in {"torch", "torchvision"}}))

    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits of a step; see `epoch_visits`."""
        return epoch_visits(Fraction(str(self.epochs)), records, n_slices)

    def check(self, task: Task) -> None:
        """Refuse a task this learner cannot be trained on; imports torch and the user's code, trains nothing.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit and what would.
            CodeError: If a reference leads nowhere.
        """
        _check_features(self, task)
        _check_target(task)
        _check_installed()
        with _generators_kept():
            _check_module(self, task)
            _check_optimizer(self)
            _check_schedule(self)
            _check_loss(self, task)
            if self.transform is not None:
                _augmentation(self)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step: a pure function of its arguments within one numeric environment.

        Args:
            parent: State after the previous step, or None for the first.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            The new state: `"module/…"`, `"standardize/mean"` and `"standardize/std"`, `"optimizer/…"`. A group
            name followed by `:bfloat16` says that the array holds the bits of bfloat16 values as uint16, one
            followed by `:int`, `:float` or `:bool` that it holds a Python number.

        Raises:
            ConfigurationError: If the module does not fit the task or the parent state.
            FloatingPointError: If loss or weights are not finite at the end.
        """
        import torch

        task = context.task
        with _generators_kept(), torch.inference_mode(False), torch.enable_grad():
            _seed_generators(context.seed("module"))
            module = _build(self, task)
            if parent is not None:
                _load_module(module, parent)
            module.train()
            optimizer = _make_optimizer(self, list(module.parameters()))
            if parent is not None and self.carry_optimizer:
                _load_optimizer(module, optimizer, parent)
            scaling = _moments(data.features[next(iter(task.features))]) if self.standardize else None
            _seed_generators(context.seed("train"))
            last = _minibatches(self, module, optimizer, data, scaling, context)
            _check_finite(module, last, context)
            state = _arrays("module", _tensors_of(module))
            if scaling is not None:
                state |= {"standardize/mean": scaling[0], "standardize/std": scaling[1]}
            if self.carry_optimizer:
                state |= _arrays("optimizer", _optimizer_values(module, optimizer))
        return state

    def predictor(self, state: State, task: Task) -> Predictor:
        """Make a state ready to predict; leaves global random generators and settings as they were.

        Args:
            state: What `train_step` gave, perhaps read back from a file.
            task: What is predicted.

        Returns:
            Features to softmax probabilities `[n, classes]` or targets `[n, *target shape]`, float64.

        Raises:
            ConfigurationError: If the state does not fit the module.
        """
        import torch

        # A module may draw random numbers in its constructor or in forward that are in no state: the same ones
        # then for every prediction.
        with _generators_kept(), torch.inference_mode(False):
            _seed_generators(0)
            module = _build(self, task)
            _load_module(module, state)
        module.eval()
        scaling = (state["standardize/mean"], state["standardize/std"]) if self.standardize else None

        def predict(features: Features) -> np.ndarray:
            n = _count(features, task)
            result = np.empty((n, *_output_shape(task)), dtype=np.float64)
            with _generators_kept(), torch.inference_mode():
                _seed_generators(0)
                for start in range(0, n, _PREDICT_CHUNK):
                    rows = slice(start, min(n, start + _PREDICT_CHUNK))
                    inputs = {name: _tensor(features[name][rows], self.input_dtype, scaling) for name in task.features}
                    output = _call(module, inputs)
                    _check_output(self, output, rows.stop - start, task)
                    result[rows] = _predicted(output, task).numpy()
            return result

        return predict


# --- the loop ------------------------------------------------------------------------------------------------


def _minibatches(
    learner: TorchLearner,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    data: StepData,
    scaling: Scaling | None,
    context: StepContext,
) -> float:
    """Make the visits of a step; changes module and optimiser in place.

    Args:
        learner: Hyper-parameters.
        module: In training mode.
        optimizer: Over the module's parameters.
        data: Records of the step.
        scaling: Mean and standard deviation to standardise with, or None.
        context: Seeds and budget.

    Returns:
        Loss of the last minibatch.
    """
    import torch

    task, total = context.task, count_windows(context.visits, learner.batch_size)
    inputs = {name: _tensor(data.features[name], learner.input_dtype, scaling) for name in task.features}
    target = _target(data.target, module, task)
    loss_of, forward = _loss(learner, task), _forward(learner, module, inputs, data, context)
    factor = _factor(learner)
    base: list[Any] = [group.get("lr") for group in optimizer.param_groups]
    parameters = list(module.parameters())
    done, told = 0, time.monotonic()
    seed = partial(context.seed, "pass") if learner.shuffle else None
    for k, window in enumerate(windows(len(data), context.visits, learner.batch_size, seed)):
        if factor is not None:
            scale = factor(k, total)
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * scale
        index = torch.from_numpy(window)
        optimizer.zero_grad(set_to_none=True)
        output = forward(index, done)
        if k == 0:
            _check_output(learner, output, len(window), task)
        loss = loss_of(output, target.index_select(0, index))
        loss.backward()  # type: ignore[no-untyped-call]
        if learner.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, learner.clip_norm)
        optimizer.step()
        done += len(window)
        now = time.monotonic()
        if now - told >= _PROGRESS_SECONDS:
            context.progress(done)
            told = now
    context.progress(done)
    return loss.item()


def _forward(
    learner: TorchLearner,
    module: torch.nn.Module,
    inputs: Tensors,
    data: StepData,
    context: StepContext,
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The function from a window's indices and its first visit to the module's output."""
    import torch

    if len(inputs) > 1:
        return lambda index, _: module(**{name: x.index_select(0, index) for name, x in inputs.items()})
    (only,) = inputs.values()
    if learner.transform is None:
        return lambda index, _: module(only.index_select(0, index))
    augment, n = _augmentation(learner), len(data)

    def forward(index: torch.Tensor, first: int) -> torch.Tensor:
        # Seeded record by record: what happens to one must not tell how many others there are. The training's
        # own stream goes on afterwards as if nothing had been drawn.
        with _generators_kept():
            rows = []
            for visit, record in enumerate(index.tolist(), start=first):
                _seed_generators(context.seed("transform", data.tokens[record].tobytes(), visit // n))
                # A copy of its own, so that an augmentation in place reaches neither data nor neighbours.
                rows.append(augment(only[record].clone()))
        return module(torch.stack(rows))  # type: ignore[no-any-return]

    return forward


def _call(module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
    """Output of a module: one feature as its first argument, several by name."""
    if len(inputs) > 1:
        return module(**inputs)  # type: ignore[no-any-return]
    return module(*inputs.values())  # type: ignore[no-any-return]


def _predicted(output: torch.Tensor, task: Task) -> torch.Tensor:
    """Probabilities or targets of a module's output, float64."""
    if task.kind == "classification":
        return output.double().softmax(1)
    return output.double().reshape(len(output), *task.target.shape)


def _check_finite(module: torch.nn.Module, loss: float, context: StepContext) -> None:
    """Refuse a step that diverged; buffers may hold infinities on purpose, parameters may not."""
    broken = [name for name, value in module.named_parameters() if not bool(value.isfinite().all())]
    if broken or not math.isfinite(loss):
        what = f"parameter {broken[0]!r} is not finite" if broken else f"the last loss is {loss}"
        raise FloatingPointError(
            f"TorchLearner: {what} after {context.visits} record-visits of shard {context.shard}, step "
            f"{context.position}: lower optimizer_args['lr'], set clip_norm, or standardize the features; make "
            "sure that no feature or target is NaN or infinite"
        )


# --- data into tensors ---------------------------------------------------------------------------------------


def _tensor(array: np.ndarray, input_dtype: str | None, scaling: Scaling | None) -> torch.Tensor:
    """Copy a feature into a tensor the module may read, piece by piece so that one copy is the only one.

    Args:
        array: `[n, *shape]`, possibly read-only or mapped from a file.
        input_dtype: Dtype of floating, boolean and uint8 features, or None for their own.
        scaling: Mean and standard deviation to standardise with in float64, or None.

    Returns:
        `[n, *shape]`, sharing no memory with the array.
    """
    import torch

    is_index = array.dtype.kind in "iu" and array.dtype != np.uint8
    kept = torch.from_numpy(np.empty(0, dtype=np.int64 if is_index else array.dtype.newbyteorder("="))).dtype
    dtype: torch.dtype = kept if is_index or input_dtype is None else getattr(torch, input_dtype)
    result = torch.empty(array.shape, dtype=dtype)
    rows = max(1, _CONVERT_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        chunk = array[start : start + rows]
        if scaling is not None:
            chunk = (chunk.astype(np.float64) - scaling[0]) / scaling[1]
        else:
            chunk = np.array(chunk, dtype=np.int64 if is_index else chunk.dtype.newbyteorder("="))
        result[start : start + rows].copy_(torch.from_numpy(chunk))
    return result


def _target(target: np.ndarray, module: torch.nn.Module, task: Task) -> torch.Tensor:
    """Targets as the loss wants them: int64 classes, or values in the dtype of the module's parameters."""
    import torch

    if task.kind == "classification":
        return torch.from_numpy(np.array(target, dtype=np.int64))
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return torch.from_numpy(np.array(target, dtype=np.float64)).to(dtype)


def _moments(array: np.ndarray) -> Scaling:
    """Mean and standard deviation over the records, two passes in float64 and in canonical order.

    Args:
        array: `[n, *shape]`, n at least 1.

    Returns:
        Two float64 arrays `[*shape]`; the deviation of a constant is 1.
    """
    n = len(array)
    mean = np.asarray(array.sum(axis=0, dtype=np.float64) / n)
    squares = np.zeros_like(mean)
    rows = max(1, _CONVERT_BYTES // max(1, 8 * mean.size))
    for start in range(0, n, rows):
        squares += ((array[start : start + rows].astype(np.float64) - mean) ** 2).sum(axis=0)
    # The rounded mean of equal values need not equal them: their deviation would be tiny instead of zero.
    std = np.where(array.min(axis=0) == array.max(axis=0), 1.0, np.sqrt(squares / n))
    return mean, np.where(std == 0.0, 1.0, std)


def _count(features: Features, task: Task) -> int:
    """Number of records to predict, after checking names and shapes.

    Args:
        features: Feature name to array.
        task: What they should be.

    Returns:
        n, possibly 0.

    Raises:
        InputError: If they are not the task's features, or differ in length.
    """
    if set(features) != set(task.features):
        raise InputError(f"features are named {sorted(features)}, the model has {sorted(task.features)}: give those")
    for name, schema in task.features.items():
        if features[name].ndim == 0 or features[name].shape[1:] != tuple(schema.shape):
            raise InputError(
                f"feature {name!r} has shape {features[name].shape}, the model needs {('n', *schema.shape)}: reshape it"
            )
    lengths = {len(array) for array in features.values()}
    if len(lengths) != 1:
        raise InputError(f"features differ in length, {sorted(lengths)}: give one row a record in each")
    return lengths.pop()


# --- states --------------------------------------------------------------------------------------------------


def _arrays(group: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn tensors and numbers into arrays that a state may hold, copied.

    Args:
        group: `"module"` or `"optimizer"`.
        values: Name to tensor or Python number.

    Returns:
        `"group/name"`, or `"group:kind/name"` for what numpy has no dtype for, to array.

    Raises:
        ConfigurationError: If a value is neither tensor nor number, or of a dtype numpy cannot hold.
    """
    import torch

    arrays: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            plain, kind = value.detach(), ""
            if plain.dtype == torch.bfloat16:
                plain, kind = plain.contiguous().view(torch.int16), ":bfloat16"
            try:
                array = np.array(plain.numpy(), order="C")
            except (TypeError, RuntimeError) as error:
                raise ConfigurationError(
                    f"TorchLearner: {group} tensor {name!r} ({value.dtype}, {value.layout}, {value.device}) "
                    "cannot be "
                    "kept as an array: use dense tensors on the CPU, of a dtype numpy knows or bfloat16"
                ) from error
            arrays[f"{group}{kind}/{name}"] = array.view(np.uint16) if kind else array
        elif isinstance(value, bool | int | float):
            arrays[f"{group}:{type(value).__name__}/{name}"] = np.array(value)
        else:
            raise ConfigurationError(
                f"TorchLearner: {group} value {name!r} is a {type(value).__qualname__}, which a state "
                "cannot hold: "
                "keep it in a tensor" + (", or set carry_optimizer=False" if group == "optimizer" else " buffer")
            )
    return arrays


def _values(group: str, state: State) -> Iterator[tuple[str, Any]]:
    """Undo `_arrays`: yield the names and values of one group of a state, as tensors of their own."""
    import torch

    for key in sorted(state):
        head, _, name = key.partition("/")
        owner, _, kind = head.partition(":")
        if owner != group:
            continue
        # Copied, since arrays read from a file may be read-only, which torch cannot express.
        array = np.array(state[key])
        if kind == "bfloat16":
            yield name, torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        elif kind:
            yield name, array.item()
        else:
            yield name, torch.from_numpy(array)


def _tensors_of(module: torch.nn.Module) -> dict[str, Any]:
    """The module's state dict: parameters and persistent buffers by name."""
    return dict(module.state_dict())


def _load_module(module: torch.nn.Module, state: State) -> None:
    """Load a state's weights into a module that was built alike."""
    try:
        module.load_state_dict(dict(_values("module", state)), strict=True)
    except RuntimeError as error:
        raise ConfigurationError(
            f"TorchLearner: the state does not fit {type(module).__qualname__}: {error}; use the code and "
            "module_args that trained it, or train anew"
        ) from error


def _optimizer_values(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser remembers of each parameter, as `"parameter/key"` to value; None is left out."""
    return {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def _load_optimizer(module: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Give an optimiser the memory a state holds.

    Set directly: `Optimizer.load_state_dict` would cast it to the dtype of the parameters.
    """
    parameters = dict(module.named_parameters())
    for path, value in _values("optimizer", state):
        name, _, key = path.rpartition("/")
        optimizer.state[parameters[name]][key] = value


# --- random generators ---------------------------------------------------------------------------------------


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leave the global generators of torch (CPU), numpy and Python as they were found."""
    import torch

    kept = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def _seed_generators(seed: int) -> None:
    """Seed the global generators that a user's code may draw from.

    `torch.manual_seed` gives the same stream on the CPU, but would also reseed accelerators, whose generators
    belong to the caller.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


# --- making the parts a learner names ------------------------------------------------------------------------


def _build(learner: TorchLearner, task: Task) -> torch.nn.Module:
    """Make the module; draws from the global generators."""
    import torch

    factory = resolve(_text(learner.module))
    module = factory(**_module_arguments(learner, factory, task))
    if not isinstance(module, torch.nn.Module):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} made a {type(module).__qualname__}: it must return a torch.nn.Module"
        )
    lazy = [name for name, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise ConfigurationError(
            f"TorchLearner: parameter {lazy[0]!r} of {learner.module!r} has no shape before the first "
            "batch: replace "
            "the Lazy… layer; a factory with a parameter `input_shape` is told the shape"
        )
    if not any(value.requires_grad for value in module.parameters()):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} has no parameter that requires a gradient: leave at least one unfrozen"
        )
    return module


def _module_arguments(learner: TorchLearner, factory: Callable[..., Any], task: Task) -> dict[str, Any]:
    """Arguments for the module's factory: the learner's, and what the task declares if it asks for that."""
    shapes = {name: tuple(schema.shape) for name, schema in task.features.items()}
    declared = {
        "n_outputs": _size(task),
        "input_shape": next(iter(shapes.values())) if len(shapes) == 1 else shapes,
    }
    asked = inspect.signature(factory).parameters
    return {name: value for name, value in declared.items() if name in asked} | dict(_copy(learner.module_args))


def _make_optimizer(learner: TorchLearner, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Make a fresh optimiser over the parameters."""
    import torch

    name = _text(learner.optimizer)
    excluded = {"LBFGS"}  # evaluates the loss several times a step, which a minibatch loop cannot give it
    names = [
        key
        for key, value in sorted(vars(torch.optim).items())
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and key not in excluded | {"Optimizer"}
    ]
    if ":" not in name and name not in names:
        raise ConfigurationError(
            f"TorchLearner: optimizer {name!r} is unknown: choose one of {', '.join(names)}, or give a "
            "reference "
            "'package.module:name'"
        )
    make = resolve(name) if ":" in name else getattr(torch.optim, name)
    optimizer = make(parameters, **_copy(learner.optimizer_args))
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise ConfigurationError(
            f"TorchLearner: optimizer {name!r} made a {type(optimizer).__qualname__}: it must return a "
            "torch.optim.Optimizer whose step() needs no closure"
        )
    return optimizer


def _factor(learner: TorchLearner) -> Callable[[int, int], float] | None:
    """The schedule as a function of minibatch k and count n, or None."""
    if learner.schedule is None:
        return None
    name = _text(learner.schedule)
    return partial(resolve(name) if ":" in name else SCHEDULES[name], **_copy(learner.schedule_args))


def _loss(learner: TorchLearner, task: Task) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss as a function of a module's output and the targets."""
    import torch.nn.functional as functional

    default = "cross_entropy" if task.kind == "classification" else "mse_loss"
    name = default if learner.loss is None else _text(learner.loss)
    names = [key for key in sorted(vars(functional)) if re.fullmatch(r"[a-z].*_loss|.*cross_entropy.*|kl_div", key)]
    if ":" not in name and name not in names:
        raise ConfigurationError(
            f"TorchLearner: loss {name!r} is unknown: choose one of {', '.join(names)}, or give a reference "
            "'package.module:name' to a function (output, target) -> scalar tensor"
        )
    loss: Callable[..., torch.Tensor] = resolve(name) if ":" in name else getattr(functional, name)
    if task.kind == "classification":
        return loss
    return lambda output, target: loss(output.reshape(target.shape), target)


def _augmentation(learner: TorchLearner) -> Callable[[torch.Tensor], torch.Tensor]:
    """The augmentation of one record."""
    name = _text(learner.transform or "")
    found, arguments = resolve(name), _copy(learner.transform_args)
    if not _accepts(found, **arguments):
        if not _accepts(found, None, **arguments):
            raise ConfigurationError(
                f"TorchLearner: transform {name!r} can be called neither with transform_args {arguments} "
                "nor with a "
                f"record and these: its parameters are {inspect.signature(found)}"
            )
        return partial(found, **arguments)
    made = found(**arguments)
    if not callable(made):
        raise ConfigurationError(
            f"TorchLearner: transform {name!r} made a {type(made).__qualname__}: it must return a function of a record"
        )
    return made  # type: ignore[no-any-return]


def _accepts(function: Callable[..., Any], *args: object, **kwargs: object) -> bool:
    """Whether a function can be called with these arguments, judged by its signature alone."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


# --- checks --------------------------------------------------------------------------------------------------


def _output_shape(task: Task) -> tuple[int, ...]:
    """Shape of one record's prediction."""
    return (len(task.classes),) if task.kind == "classification" else tuple(task.target.shape)


def _size(task: Task) -> int:
    """Number of values the module gives for one record."""
    return math.prod(_output_shape(task))


def _check_output(learner: TorchLearner, output: object, n: int, task: Task) -> None:
    """Refuse an output that would be broadcast or misread."""
    shape = tuple(getattr(output, "shape", ()))
    exact = task.kind == "classification"
    size = _size(task)
    if shape[:1] == (n,) and (shape[1:] == (size,) if exact else math.prod(shape[1:]) == size):
        return
    found = f"output of shape {shape}" if hasattr(output, "shape") else f"a {type(output).__qualname__}"
    raise ConfigurationError(
        f"TorchLearner: {learner.module!r} gave {found} for {n} records, {task.kind} needs {(n, size)}: set "
        "its number "
        "of outputs in module_args (torchvision calls it num_classes), or give the factory a parameter "
        "`n_outputs`"
    )


def _check_features(learner: TorchLearner, task: Task) -> None:
    """Refuse features that cannot become tensors, or not for these options."""
    if not task.features:
        raise ConfigurationError("TorchLearner: the task has no feature: declare at least one")
    for name, schema in task.features.items():
        if schema.dtype == "str" or np.dtype(schema.dtype).kind in "USO":
            raise ConfigurationError(
                f"TorchLearner: feature {name!r} is text: turn it into numbers first, by a public "
                "vocabulary or a "
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
                f"TorchLearner: standardize needs a floating feature, {name!r} is {dtype}: convert it to "
                "float32, or "
                "set standardize=False"
            )
    for option in ("standardize", "transform"):
        if getattr(learner, option) and len(task.features) > 1:
            raise ConfigurationError(
                f"TorchLearner: {option} works on one feature, the task has {len(task.features)}: leave it "
                "out and "
                "normalise or augment inside the module, or join the features into one"
            )


def _check_target(task: Task) -> None:
    """Refuse a target the loss cannot be computed for."""
    if task.kind == "regression" and _size(task) >= 1:
        return
    if task.kind != "classification" or task.target.shape != () or len(task.classes) < 2:
        raise ConfigurationError(
            f"TorchLearner: {task.kind} with {len(task.classes)} classes and a target of shape "
            f"{task.target.shape}: "
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
    """Refuse arguments that the module's factory does not take, or that contradict the task."""
    factory, arguments = resolve(_text(learner.module)), learner.module_args
    if not _accepts(factory, **_module_arguments(learner, factory, task)):
        raise ConfigurationError(
            f"TorchLearner: {learner.module!r} cannot be called with module_args {dict(arguments)}: its "
            "parameters are "
            f"{inspect.signature(factory)}"
        )
    is_torchvision = _package(_text(learner.module)) == "torchvision"
    for name in ("n_outputs", "num_classes") if is_torchvision else ("n_outputs",):
        if arguments.get(name, _size(task)) != _size(task):
            raise ConfigurationError(
                f"TorchLearner: module_args[{name!r}] is {arguments[name]}, the task needs {_size(task)}: correct it"
            )
    if is_torchvision and (arguments.get("pretrained") or arguments.get("weights") in {"DEFAULT", True}):
        raise ConfigurationError(
            "TorchLearner: which weights are the default changes with torchvision's version: name them in "
            "module_args, such as weights='IMAGENET1K_V1', if they are public and owe nothing to the data"
        )


def _check_optimizer(learner: TorchLearner) -> None:
    """Refuse an optimiser that cannot be made."""
    import torch

    try:
        optimizer = _make_optimizer(learner, [torch.nn.Parameter(torch.zeros(2, 2))])
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
    factor = _factor(learner)
    if factor is None:
        return
    try:
        values = [float(factor(k, 4)) for k in range(4)]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(
            f"TorchLearner: schedule {learner.schedule!r} failed with schedule_args "
            f"{dict(learner.schedule_args)}: "
            f"{error}; it is called as (k, n, **schedule_args)"
        ) from error
    if not all(math.isfinite(value) for value in values):
        raise ConfigurationError(
            f"TorchLearner: schedule {learner.schedule!r} gave {values} over four minibatches: it must be finite"
        )


def _check_loss(learner: TorchLearner, task: Task) -> None:
    """Refuse a loss that gives no scalar for outputs and targets of the task's shape."""
    import torch

    loss = _loss(learner, task)
    # As many records as there are classes would let a loss for regression broadcast class indices unnoticed.
    n = 3 if _output_shape(task) == (2,) else 2
    output = torch.zeros(n, *_output_shape(task))
    target = torch.zeros(n, dtype=torch.int64) if task.kind == "classification" else torch.zeros_like(output)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = loss(output, target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"TorchLearner: loss {learner.loss!r} failed on output {tuple(output.shape)} and {target.dtype} "
            "target "
            f"{tuple(target.shape)}: {error}; it is called as (output, target)"
        ) from error
    if not isinstance(value, torch.Tensor) or value.shape != ():
        raise ConfigurationError(
            f"TorchLearner: loss {learner.loss!r} gave {value!r}: it must give a tensor without axes, such as a mean"
        )


# --- canonical values ----------------------------------------------------------------------------------------


def _text(value: Reference) -> str:
    """A reference in its textual form."""
    return value if isinstance(value, str) else reference(value)


def _package(name: str) -> str:
    """Top-level package of a reference."""
    return name.partition(":")[0].partition(".")[0]


def _copy(value: Any) -> Any:
    """A deep copy of a JSON value in JSON's own types: tuples become lists."""
    return json.loads(json.dumps(value, allow_nan=False))


def _json_object(name: str, value: Mapping[str, Json]) -> dict[str, Json]:
    """A deep copy of keyword arguments, refused unless they are JSON."""
    hint = "give a dict of keyword arguments made of None, bool, int, finite float, str, list and dict"
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"TorchLearner: {name} is {value!r}: {hint}")
    try:
        return dict(_copy(dict(value)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"TorchLearner: {name} is {value!r}, not JSON ({error}): {hint}") from error


def _named(what: str, value: Reference, known: Mapping[str, object] | None) -> str:
    """The textual form of a reference, or a short name.

    Args:
        what: Name of the option.
        value: What was given.
        known: Its short names; None if they are looked up later.

    Returns:
        Text.

    Raises:
        ConfigurationError: If it is neither reference nor short name.
    """
    if not isinstance(value, str) and not callable(value):
        raise ConfigurationError(f"TorchLearner: {what} is {value!r}: give a name, or a function or class")
    text = _text(value)
    if ":" in text or (text.isidentifier() and (known is None or text in known)):
        return text
    choices = f"choose one of {', '.join(known)}, or give" if known else "give"
    raise ConfigurationError(f"TorchLearner: {what} {text!r} is unknown: {choices} a reference 'package.module:name'")


def _epochs(value: object) -> int | float | str:
    """E in its one canonical form: an int if whole, a float if that is exact in decimal, else a fraction."""
    try:
        epochs = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        epochs = Fraction(0)
    if isinstance(value, bool) or epochs <= 0:
        raise ConfigurationError(
            f"TorchLearner: epochs is {value!r}: give a positive number, or a fraction such as '7/2'"
        )
    if epochs.denominator == 1:
        return epochs.numerator
    decimal = float(epochs)
    return decimal if Fraction(str(decimal)) == epochs else str(epochs)


def _batch_size(value: Any) -> int:
    """The batch size as an int, refused unless positive."""
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if isinstance(value, bool) or size < 1:
        raise ConfigurationError(f"TorchLearner: batch_size is {value!r}: give a positive integer")
    return size


def _clip_norm(value: Any) -> float | None:
    """The norm as a float, refused unless positive and finite."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise ConfigurationError(f"TorchLearner: clip_norm is {value!r}: give a positive finite number, or None")
    return float(value)
