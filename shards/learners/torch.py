"""A shard trains a torch module: one minibatch loop for first training, recovery, replay and audit alike."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Joined, Learner, Predictor, State, StepContext, StepData, epoch_visits
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.joined import JoinedDense
from shards.learners.limits import check_sizes
from shards.learners.schedules import SCHEDULES
from shards.learners.torch_checks import check_configuration
from shards.learners.torch_dense import dense
from shards.learners.torch_forward import call_module, window_forward
from shards.learners.torch_output import check_output, prediction_shape, predictions
from shards.learners.torch_parts import loss_function, make_module, make_optimizer, schedule_factor
from shards.learners.torch_settings import (
    Reference,
    canonical_arguments,
    canonical_batch_size,
    canonical_epochs,
    canonical_name,
    canonical_norm,
    json_copy,
    package_of,
)
from shards.learners.torch_state import load_module, load_optimizer, module_arrays, optimizer_arrays
from shards.learners.torch_tensors import Scaling, count_records, feature_tensor, moments, target_tensor
from shards.learners.visits import count_windows, windows
from shards.task import Kind, Task

if TYPE_CHECKING:
    import torch

READY_MADE: Mapping[str, str] = {"mlp": "shards.learners.modules:mlp", "cnn": "shards.learners.modules:cnn"}
"""Short names of the module factories that come with the package."""

_INPUT_DTYPES = ("float16", "bfloat16", "float32", "float64")
_PREDICT_CHUNK = 1024
_PROGRESS_SECONDS = 0.2


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
        settings: dict[str, Any] = {name: canonical_arguments(name, getattr(self, name)) for name in arguments}
        settings["module"] = canonical_name("module", self.module, READY_MADE)
        settings["module"] = READY_MADE.get(settings["module"], settings["module"])
        settings["optimizer"] = canonical_name("optimizer", self.optimizer, None)
        settings["loss"] = None if self.loss is None else canonical_name("loss", self.loss, None)
        settings["schedule"] = None if self.schedule is None else canonical_name("schedule", self.schedule, SCHEDULES)
        settings["transform"] = None if self.transform is None else canonical_name("transform", self.transform, {})
        settings["epochs"] = canonical_epochs(self.epochs)
        settings["batch_size"] = canonical_batch_size(self.batch_size)
        settings["clip_norm"] = canonical_norm(self.clip_norm)
        for name in ("shuffle", "carry_optimizer", "standardize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"TorchLearner: {name} is {getattr(self, name)!r}: give True or False")
        if self.input_dtype is not None and self.input_dtype not in _INPUT_DTYPES:
            raise ConfigurationError(
                f"TorchLearner: input_dtype is {self.input_dtype!r}: choose one of {', '.join(_INPUT_DTYPES)}, or None "
                "to keep each feature's own"
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
        return dict(json_copy(values))

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
                f"TorchLearner: parameters {unknown or ['module']} are {'unknown' if unknown else 'missing'}: it has "
                f"{', '.join(sorted(known))}"
            )
        return cls(**params)

    def code(self) -> tuple[str, ...]:
        """References to the code this learner runs, apart from torch's own, whose version is in the environment."""
        values = (self.module, self.optimizer, self.loss, self.schedule, self.transform)
        names = (value for value in values if isinstance(value, str) and ":" in value)
        return tuple(sorted({name for name in names if package_of(name) != "torch"}))

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
        check_configuration(self, task)

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses features that would be infinite as the module sees them."""
        del target
        # All others are finite however the module sees them.
        floats = {name: values for name, values in features.items() if values.dtype.kind == "f"}
        check_sizes(floats, task, self.input_dtype, standardize=self.standardize)

    def make(self, task: Task) -> torch.nn.Module:
        """Make the module that is trained, as it is before training; draws from the global generators.

        Args:
            task: What is predicted.

        Returns:
            A new module, whose state dict is what checkpoints hold.

        Raises:
            ConfigurationError: If it is no module, or one that cannot be trained.
            CodeError: If a reference leads nowhere.
        """
        return make_module(self, task)

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
        with generators_kept(), torch.inference_mode(False), torch.enable_grad():
            seed_generators(context.seed("module"))
            module = self.make(task)
            if parent is not None:
                load_module(module, parent)
            module.train()
            optimizer = make_optimizer(self, list(module.parameters()))
            if parent is not None and self.carry_optimizer:
                load_optimizer(module, optimizer, parent)
            scaling = moments(data.features[next(iter(task.features))]) if self.standardize else None
            seed_generators(context.seed("train"))
            last = _minibatches(self, module, optimizer, data, scaling, context)
            _check_finite(module, last, context)
            state = module_arrays(module)
            if scaling is not None:
                state |= {"standardize/mean": scaling[0], "standardize/std": scaling[1]}
            if self.carry_optimizer:
                state |= optimizer_arrays(module, optimizer)
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
        with generators_kept(), torch.inference_mode(False):
            seed_generators(0)
            module = self.make(task)
            load_module(module, state)
        module.eval()
        scaling = (state["standardize/mean"], state["standardize/std"]) if self.standardize else None
        return _Prediction(self, module, scaling, task)

    def module_of(self, state: State, task: Task) -> torch.nn.Module:
        """A state as the module it is of, for whoever changes it and gives it back (`state_of`).

        Args:
            state: What `train_step` gave, perhaps read back from a file.
            task: What is predicted.

        Returns:
            A new module, in evaluation mode.

        Raises:
            ConfigurationError: If the state does not fit the module.
        """
        import torch

        with generators_kept(), torch.inference_mode(False):
            seed_generators(0)
            module = self.make(task)
            load_module(module, state)
        return module.eval()

    def state_of(self, module: torch.nn.Module, state: State) -> State:
        """A changed module as a state.

        Args:
            module: What `module_of` gave, or a copy of it, with other weights.
            state: The state it was made of, whose standardisation is kept, and whose optimiser's memory is not: that
                is of other weights.

        Returns:
            The new state.
        """
        kept = {name: value for name, value in state.items() if name.startswith("standardize/")}
        return {**module_arrays(module), **kept}

    def tensors_of(
        self, state: State, features: Features, target: np.ndarray, module: torch.nn.Module, task: Task
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Records as a state's module and its loss take them; of a task with one feature.

        Args:
            state: The state, whose standardisation they get.
            features: Feature name to array `[n, *shape]`.
            target: `[n]` class indices, or `[n, *shape]` values.
            module: Whose dtype values get.
            task: What is predicted.

        Returns:
            Inputs `[n, *shape]`, and targets.
        """
        (name,) = task.features
        scaling = (state["standardize/mean"], state["standardize/std"]) if self.standardize else None
        return feature_tensor(features[name], self.input_dtype, scaling), target_tensor(target, module, task)

    def join(self, members: Sequence[Predictor], task: Task) -> Joined | None:
        """Make several shards' networks one, where they are the ready-made multilayer perceptron in float32.

        Args:
            members: What `predictor` gave.
            task: What is predicted.

        Returns:
            What says the same to rounding (see `JoinedDense`), or None for any other module.
        """
        ours = [member for member in members if isinstance(member, _Prediction)]
        scale = float(self.module_args.get("input_scale", 1.0))
        found = [dense(member.module, member.scaling, scale) for member in ours] if self._is_dense() else []
        networks = [network for network in found if network is not None]
        return JoinedDense(networks, task) if networks and len(networks) == len(members) else None

    def as_module(self, members: Sequence[Predictor], task: Task) -> torch.nn.Module:
        """Make several shards' modules one; see `Learner.as_module`."""
        from shards.learners.torch_modules import stacked_module

        ours = [member for member in members if isinstance(member, _Prediction)]
        return stacked_module([(member.module, member.scaling) for member in ours], self.input_dtype, task)

    def _is_dense(self) -> bool:
        """Whether inputs reach the layers as float32 numbers that nothing was rounded from on the way."""
        return self.module == READY_MADE["mlp"] and self.input_dtype not in ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class _Prediction:
    """A module that predicts.

    Attributes:
        learner: Whose it is.
        module: In evaluation mode.
        scaling: Mean and standard deviation to standardise with, or None.
        task: What is predicted.
    """

    learner: TorchLearner
    module: torch.nn.Module
    scaling: Scaling | None
    task: Task

    def __call__(self, features: Features) -> np.ndarray:
        """Softmax probabilities `[n, classes]` or targets `[n, *target shape]`, float64."""
        import torch

        learner, task, n = self.learner, self.task, count_records(features, self.task)
        result = np.empty((n, *prediction_shape(task)), dtype=np.float64)
        with generators_kept(), torch.inference_mode():
            seed_generators(0)
            for start in range(0, n, _PREDICT_CHUNK):
                rows = slice(start, min(n, start + _PREDICT_CHUNK))
                inputs = {
                    name: feature_tensor(features[name][rows], learner.input_dtype, self.scaling)
                    for name in task.features
                }
                output = call_module(self.module, inputs)
                check_output(learner, output, rows.stop - start, task)
                result[rows] = predictions(output, task).numpy()
        return result


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
    inputs = {name: feature_tensor(data.features[name], learner.input_dtype, scaling) for name in task.features}
    target = target_tensor(data.target, module, task)
    loss_of, forward = loss_function(learner, task), window_forward(learner, module, inputs, data, context)
    factor = schedule_factor(learner)
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
            check_output(learner, output, len(window), task)
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
