"""A shard trains a torch module by differentially private gradient descent, with fresh secret noise.

The one learner so far whose checkpoints are not a function of their key: batches, noise and the seed of dropout are
drawn from the operating system's secure source each time, so two trainings of one step give two states. Equal are their
*distributions*, which is what exact unlearning means for it. Whoever verifies cannot compare bytes, and is told so
(`Learner.reproducible`).

What its privacy is, for one deletion or for k, `unlearn.methods.dp` says of what is declared here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Joined, Learner, Predictor, State, StepContext, StepData
from shards.learners.dp_sgd import NoisySteps, noisy_steps
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.private_checks import (
    canonical_count,
    check_declared,
    check_finite,
    check_installed,
    check_module,
    check_unchanged,
)
from shards.learners.torch import TorchLearner
from shards.learners.torch_parts import loss_function, make_module, make_optimizer, schedule_factor
from shards.learners.torch_settings import Reference, canonical_norm, json_copy
from shards.learners.torch_state import load_module, module_arrays
from shards.learners.torch_tensors import feature_tensor, target_tensor
from shards.noise import SYSTEM, Source
from shards.task import Kind, Task

if TYPE_CHECKING:
    import numpy as np
    import torch

_PLAIN = ("module", "module_args", "optimizer", "optimizer_args", "schedule", "schedule_args", "loss", "input_dtype")
"""What a `TorchLearner` has too, with the same meaning."""

_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class PrivateTorchLearner(Learner):
    """DP-SGD (see `shards.learners.dp_sgd`) on a `torch.nn.Module`, on the CPU.

    Modules, features and predictions are as for `TorchLearner`. A record is in a batch with probability
    `batch_size / records`, both declared: neither is ever computed from how many records there are.

    Every step of a chain makes `steps` noisy steps, so where there are several slices, or batches are ingested later, a
    record's privacy is that of all of its shard's steps together. The state is the weights and nothing else.

    Attributes:
        module: As for `TorchLearner`; no batch normalisation, nor anything else by which one record's gradient would
            depend on another's, and no buffer that training changes.
        module_args: Keyword arguments for it, JSON values.
        noise_multiplier: Standard deviation of the noise on the sum of a batch's gradients, in clipping norms;
            `unlearn.methods.dp.noise_multiplier` finds the one for an epsilon.
        clip_norm: 2-norm that each record's gradient, over all parameters together, is clipped to.
        records: Declared number of records that a step trains on, about; public.
        batch_size: Declared, the expected number of records in a batch where there are that many.
        steps: Noisy steps in each step of a chain.
        delta: That guarantees are stated for; below 1 / records.
        optimizer: As for `TorchLearner`.
        optimizer_args: Keyword arguments for it.
        schedule: As for `TorchLearner`.
        schedule_args: Keyword arguments for it.
        loss: One of `PER_RECORD_LOSSES`, which are means of one loss a record; None is `"cross_entropy"` for
            classification and `"mse_loss"` for regression.
        input_dtype: As for `TorchLearner`.

    Raises:
        ConfigurationError: If a value is out of its range or is not JSON.
        CodeError: If a function or class cannot be referenced, such as a lambda or one of `__main__`.
    """

    module: Reference
    module_args: Mapping[str, Json] = field(default_factory=dict)
    _: KW_ONLY
    noise_multiplier: float
    clip_norm: float
    records: int
    batch_size: int
    steps: int
    delta: float
    optimizer: Reference = "SGD"
    optimizer_args: Mapping[str, Json] = field(default_factory=lambda: {"lr": 0.1})
    schedule: Reference | None = None
    schedule_args: Mapping[str, Json] = field(default_factory=dict)
    loss: str | None = None
    input_dtype: str | None = "float32"

    kernel: ClassVar[str] = "private-torch/2"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "opacus")
    reproducible: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Bring every value to its one canonical form, so that equal learners have equal keys."""
        who = type(self).__name__
        settings: dict[str, Any] = {
            "noise_multiplier": float(self.noise_multiplier),
            "clip_norm": canonical_norm(self.clip_norm),
            "delta": float(self.delta),
            **{name: canonical_count(getattr(self, name), name, who) for name in ("records", "batch_size", "steps")},
            **{name: getattr(self.plain, name) for name in _PLAIN},
        }
        for name, value in settings.items():
            object.__setattr__(self, name, value)
        check_declared(self)

    def __hash__(self) -> int:
        return hash(canonical_json(self.params()))

    @cached_property
    def plain(self) -> TorchLearner:
        """What makes the same modules, optimisers and predictions."""
        return TorchLearner(**{name: getattr(self, name) for name in _PLAIN})

    @property
    def declared(self) -> NoisySteps:
        """What the privacy of one step of a chain follows from."""
        return NoisySteps(
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            sampling_rate=self.batch_size / self.records,
            batch_size=self.batch_size,
            steps=self.steps,
        )

    def kinds(self) -> tuple[Kind, ...]:
        """Both kinds of task."""
        return self.plain.kinds()

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return dict(json_copy({item.name: getattr(self, item.name) for item in fields(self)}))

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> PrivateTorchLearner:
        """Build the learner again from `params()`.

        Args:
            params: What `params()` gave, perhaps read back from JSON.

        Returns:
            An equal learner.

        Raises:
            ConfigurationError: If a name is unknown or missing, or a value out of its range.
        """
        try:
            return cls(**params)
        except TypeError as error:
            raise ConfigurationError(f"{cls.__name__}: the parameters do not fit: {error}") from error

    def code(self) -> tuple[str, ...]:
        """References to the user's code that it runs."""
        return self.plain.code()

    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits to be expected: sampling rate times steps times records, rounded up."""
        del n_slices
        return math.ceil(self.batch_size * self.steps * records / self.records)

    def check(self, task: Task) -> None:
        """Refuse a task or a module that cannot be trained privately; imports torch and Opacus, trains nothing.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit and what would.
            CodeError: If a reference leads nowhere.
        """
        self.plain.check(task)
        check_installed()
        with generators_kept():
            seed_generators(0)
            check_module(self, make_module(self.plain, task), task)

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """Refuse features that would be infinite as the module sees them; see `TorchLearner.check_values`."""
        self.plain.check_values(features, target, task)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step, with fresh noise: the same arguments give another state of the same distribution.

        Args:
            parent: State after the previous step, or None for the first.
            data: Records of slices 1..r, at least one.
            context: Seed of the first weights, and constants.

        Returns:
            The new state: `"module/…"`.

        Raises:
            ConfigurationError: If the module does not fit, or delta is too large for so many records.
            FloatingPointError: If the weights are not finite at the end.
        """
        return self.train_with(SYSTEM, parent, data, context)

    def train_with(self, source: Source, parent: State | None, data: StepData, context: StepContext) -> State:
        """`train_step` with batches and noise from a source; for tests, since a known source protects nobody.

        Args:
            source: Where they come from.
            parent: As in `train_step`.
            data: As in `train_step`.
            context: As in `train_step`.

        Returns:
            The new state.

        Raises:
            ConfigurationError: As in `train_step`.
            FloatingPointError: As in `train_step`.
        """
        import torch

        if self.delta * len(data) >= 1:
            raise ConfigurationError(
                f"{type(self).__name__}: delta is {self.delta:g}, and a step has {len(data)} records: what publishes "
                f"one of them at random keeps to such a delta; declare one well below {1 / len(data):.2g}"
            )
        task = context.task
        with generators_kept(), torch.inference_mode(False), torch.enable_grad():
            seed_generators(context.seed("module"))
            module = make_module(self.plain, task)
            if parent is not None:
                load_module(module, parent)
            check_module(self, module, task)
            module.train()
            optimizer = make_optimizer(self.plain, [value for value in module.parameters() if value.requires_grad])
            buffers = {name: value.clone() for name, value in module.named_buffers()}
            # Which mask of dropout a record gets depends on who else is in its batch: with a known seed, one record
            # more would change the gradients of all after it, which no clipping of its own bounds.
            seed_generators(source.seed())
            noisy_steps(
                module,
                optimizer,
                {name: feature_tensor(data.features[name], self.input_dtype, None) for name in task.features},
                target_tensor(data.target, module, task),
                loss_function(self.plain, task),
                self.declared,
                source,
                _before(self, optimizer, context),
            )
            check_unchanged(self, module, buffers)
            check_finite(self, module)
            return module_arrays(module)

    def predictor(self, state: State, task: Task) -> Predictor:
        """Make a state ready to predict; see `TorchLearner.predictor`."""
        return self.plain.predictor(state, task)

    def join(self, members: Sequence[Predictor], task: Task) -> Joined | None:
        """Make several shards' networks one; see `TorchLearner.join`."""
        return self.plain.join(members, task)

    def as_module(self, members: Sequence[Predictor], task: Task) -> torch.nn.Module:
        """Make several shards' modules one; see `Learner.as_module`."""
        return self.plain.as_module(members, task)

    def prepare(self, features: Features, task: Task) -> Features:
        """Features as they are."""
        return self.plain.prepare(features, task)


def _before(
    learner: PrivateTorchLearner, optimizer: torch.optim.Optimizer, context: StepContext
) -> Callable[[int], None]:
    """What to do before each noisy step: set the learning rate, and tell how far training is.

    Progress counts visits that were to be expected: how many there really were is as secret as the batches.

    Args:
        learner: Names the schedule.
        optimizer: Whose learning rate is set.
        context: Whom to tell.

    Returns:
        A function of the step's number.
    """
    factor = schedule_factor(learner.plain)
    base: list[Any] = [group.get("lr") for group in optimizer.param_groups]
    told = time.monotonic()

    def before(step: int) -> None:
        nonlocal told
        if factor is not None:
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor(step, learner.steps)
        now = time.monotonic()
        if now - told >= _PROGRESS_SECONDS:
            context.progress(context.visits * step // learner.steps)
            told = now

    return before
