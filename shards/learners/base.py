"""What a shard trains: the contract every learner keeps.

A learner is a value: a frozen description with every hyper-parameter in it. Its one act, `train_step`, is a
pure function of the parent state, the records and the context; nothing is carried over in process memory.
States are named numpy arrays, so that a checkpoint is the same whether it was just computed or read back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shards.digest import Json, derive_seed, digest_arrays
from shards.task import Kind, Task

if TYPE_CHECKING:
    import torch

State = Mapping[str, np.ndarray]
"""A learner's state: name to array. Everything that prediction or a further step needs, and nothing else."""

Features = Mapping[str, np.ndarray]
"""Feature name to array `[n, *shape]`. A single feature matrix is named `"x"`."""

Predictor = Callable[[Features], np.ndarray]
"""Features to class probabilities `[n, classes]` or to regression targets `[n, *target shape]`, float64."""

Joined = Callable[[Features], Iterator[np.ndarray]]
"""Features to what several members say, some rows after the others: `[members, rows, …]` float64, each as a
`Predictor` gives it; at least one array, even of no rows."""


@dataclass(frozen=True)
class StepData:
    """The records a step visits: slices 1..r of one shard, in canonical order.

    Attributes:
        features: Feature name to array `[n, *shape]`.
        target: `[n]` int64 class indices, or `[n, *shape]` float64.
        tokens: `[n, 16]` uint8: a keyed pseudonym of each record, stable over its life.
    """

    features: Features
    target: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.target)


def _ignore(visits: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class StepContext:
    """Everything besides parent state and records that a step's result may depend on.

    Attributes:
        task: What is predicted.
        root_seed: Declared seed of the whole recipe.
        shard: Shard number, from 0.
        position: Position of the step in the shard's chain, from 0; with the root seed and the shard it
            determines every random choice of the step.
        visits: Record-visits to make, at least 1.
        progress: Called now and then with the record-visits made so far; must not influence the result.
    """

    task: Task
    root_seed: int
    shard: int
    position: int
    visits: int
    progress: Callable[[int], None] = field(default=_ignore, compare=False)

    def seed(self, *purpose: int | str | bytes) -> int:
        """A 63-bit seed for one purpose within this step."""
        return derive_seed(self.root_seed, "shard", self.shard, "position", self.position, *purpose)


class Learner(ABC):
    """Abstract: subclass it, with a frozen dataclass of hyper-parameters.

    Attributes:
        kernel: Name and version of the training algorithm; raise the version whenever the bytes it produces
            may change.
        libraries: Import names of the libraries whose versions decide the bytes.
        reproducible: Whether the same step gives the same state again. False where a privacy guarantee rests on noise
            that is fresh and secret: then a step's key determines the distribution of its state, not its bytes.
    """

    kernel: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]
    reproducible: ClassVar[bool] = True

    @abstractmethod
    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON; `type(self).from_params(self.params()) == self` in effect."""

    @classmethod
    @abstractmethod
    def from_params(cls, params: dict[str, Json]) -> Learner:
        """Build the learner again from `params()`."""

    @abstractmethod
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of task it can be trained on; the first is meant where none is named."""

    @abstractmethod
    def code(self) -> tuple[str, ...]:
        """References `"package.module:name"` to the user's code that this learner runs; may be empty."""

    @abstractmethod
    def check(self, task: Task) -> None:
        """Refuse a task this learner cannot be trained on.

        Raises:
            ConfigurationError: With what does not fit and what would.
        """

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """Refuse records before they are taken in, if no step could be trained on them; nothing unless overridden.

        Args:
            features: Feature name to array `[n, *shape]`, as the task declares them.
            target: `[n]` int64 class indices, or `[n, *shape]` float64.
            task: What is predicted.

        Raises:
            InputError: With which value of which row, counted from 0, and what to do.
        """
        del features, target, task

    @abstractmethod
    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits of a step over `records` records (all of slices 1..r).

        Depends on what is already there and on declared constants only, never on later slices.

        Args:
            records: Records in slices 1..r, at least 1.
            n_slices: R, the declared number of slices of a batch.

        Returns:
            At least 1.
        """

    def budget(self, new: int, records: int, n_slices: int) -> int:
        """Record-visits of a step, where it matters how many records are in its own slice; else those of `visits`.

        Args:
            new: Records in slice r, maybe 0.
            records: Records in slices 1..r, at least 1.
            n_slices: R, the declared number of slices of a batch.

        Returns:
            At least 1.
        """
        del new
        return self.visits(records, n_slices)

    @abstractmethod
    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step: a pure function of its arguments within one numeric environment, if it is `reproducible`.

        Args:
            parent: State after the previous step, or None for the first.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            The new state. The parent is not changed.
        """

    def prepare(self, features: Features, task: Task) -> Features:
        """The part of predicting that no state has a say in, done once for all shards; nothing unless overridden.

        Args:
            features: Features as they were given.
            task: What is predicted.

        Returns:
            What every `predictor` of this learner is to be called with.
        """
        del task
        return features

    @abstractmethod
    def predictor(self, state: State, task: Task) -> Predictor:
        """Make a state ready to predict what is prepared; leaves global random generators and settings as they were."""

    def join(self, members: Sequence[Predictor], task: Task) -> Joined | None:
        """Make several members ready to predict at once, where that is faster than one after the other.

        Args:
            members: What `predictor` gave for their states, at least one; none of them is changed or kept.
            task: What is predicted.

        Returns:
            What gives the same to rounding, in the order of the members and within bounded memory; None where member
            by member is as good.
        """
        del members, task
        return None

    def as_module(self, members: Sequence[Predictor], task: Task) -> torch.nn.Module | None:
        """Make several members one torch module, so that they can be used without this package.

        Args:
            members: What `predictor` gave for their states, at least one.
            task: What is predicted.

        Returns:
            Module in evaluation mode, from one tensor `[n, *shape]` a feature, in the order and the dtypes of the
            task, to what each member says to rounding: `[members, n, …]` float64. None if no torch module computes
            that.
        """
        del members, task
        return None

    def content_digest(self, state: State) -> str:
        """Canonical digest of a state, equal wherever the state is equal in meaning."""
        return digest_arrays(state)


def epoch_visits(epochs: Fraction, records: int, n_slices: int) -> int:
    """Record-visits of a step, so that slicing costs what unsliced training costs.

    Each of the r records so far is visited e = 2E/(R+1) times on average, which makes the total over the R
    slices of a first batch about E visits per record of the batch [Bourtoule et al. 2021, section IV-B].
    Rounded up, so never zero.

    Args:
        epochs: E, nominal passes over the data, positive.
        records: Records in slices 1..r.
        n_slices: R, declared number of slices of a batch.

    Returns:
        ceil(2 E records / (R + 1)).
    """
    return math.ceil(2 * epochs * records / (n_slices + 1))
