"""Train a shard's chain: the one path that fit, recover, replay and audit share.

Runs in a worker. Reads the records and the parent checkpoint of its own shard, checks their digests, trains
the steps in order, and stages a checkpoint after each. What it says about a step is small; bytes go through
the shard's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from shards import slicefile
from shards.code import OWN, resolve
from shards.digest import Json, digest_arrays, digest_json
from shards.errors import ConfigurationError, DamageError
from shards.learners.base import Learner, State, StepContext, StepData
from shards.location import open_shard
from shards.store import CheckpointHeader, ShardStore, new_salt
from shards.task import FieldSchema, Task


@dataclass(frozen=True)
class SliceFile:
    """One slice of a shard as it lies on disk.

    Attributes:
        name: Name of its file among the shard's records; None for an empty slice.
        records: How many records it holds.
        digest: Digest of their commitments, in order.
    """

    name: str | None
    records: int
    digest: str


@dataclass(frozen=True)
class StepOrder:
    """A step to build: `records` and `visits` as in the recipe."""

    position: int
    key: str
    records: int
    visits: int


@dataclass(frozen=True)
class ChainOrder:
    """What a worker is told: build these steps of one shard, one after another.

    Attributes:
        folder: Path or URL of the shard's store (`open_shard`).
        shard: Shard number.
        learner: The learner, described (`describe_learner`).
        task: The task, described (`describe_task`).
        root_seed: Declared seed of the recipe.
        environment: Digest of the environment the keys were computed for (`step_environment`).
        code: Digest of the user's own modules the keys were computed for.
        parent: Key of the checkpoint to start from; None to start from nothing.
        slices: The shard's slices from position 0 on, as many as the last step visits.
        steps: The steps, in order; each is the parent of the next.
        fence: Token that the worker needs to stage (`ShardStore.fence`); empty where a lock keeps others out.
    """

    folder: str
    shard: int
    learner: Json
    task: Json
    root_seed: int
    environment: str
    code: str
    parent: str | None
    slices: tuple[SliceFile, ...]
    steps: tuple[StepOrder, ...]
    fence: str = ""

    def to_json(self) -> Json:
        """The order as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> ChainOrder:
        """The order from its JSON."""
        slices = tuple(SliceFile(**item) for item in value["slices"])
        steps = tuple(StepOrder(**item) for item in value["steps"])
        return cls(**{**value, "slices": slices, "steps": steps})

    def after(self, done: int) -> ChainOrder:
        """The rest of the order once its first `done` steps are published."""
        parent = self.steps[done - 1].key if done else self.parent
        return ChainOrder(**{**self.__dict__, "parent": parent, "steps": self.steps[done:]})

    def first(self) -> ChainOrder:
        """The first step of the order alone."""
        slices = self.slices[: self.steps[0].position + 1]
        return ChainOrder(**{**self.__dict__, "slices": slices, "steps": self.steps[:1]})


@dataclass(frozen=True)
class StepBuilt:
    """What a worker says when a step is staged.

    Attributes:
        header: The checkpoint's header.
        staged: Name of the staged checkpoint (`ShardStore.stage`).
        visits: Record-visits made.
        seconds: Wall time of the training itself, in seconds.
    """

    header: CheckpointHeader
    staged: str
    visits: int
    seconds: float


def describe_learner(learner: Learner) -> Json:
    """A learner as JSON: its class reference and its parameters."""
    kind = type(learner)
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "params": learner.params()}


def code_of(learner: Learner) -> tuple[str, ...]:
    """References to all code outside this project that decides what a learner does: its own class, and what it runs."""
    kind = type(learner)
    own = () if kind.__module__.partition(".")[0] in OWN else (f"{kind.__module__}:{kind.__qualname__}",)
    return (*own, *learner.code())


def learner_from(description: Json) -> Learner:
    """Build a learner from its description.

    Args:
        description: What `describe_learner` returned.

    Returns:
        The learner.

    Raises:
        ConfigurationError: If the class is not a learner.
    """
    kind = resolve(description["class"])
    if not (isinstance(kind, type) and issubclass(kind, Learner)):
        raise ConfigurationError(f"{description['class']} is not a Learner: the workspace's description is wrong")
    return kind.from_params(description["params"])


def describe_task(task: Task) -> Json:
    """A task as JSON; features keep their order."""
    fields = asdict(task)
    fields["features"] = [[name, asdict(schema)] for name, schema in task.features.items()]
    fields["classes"] = list(task.classes)
    fields["columns"] = list(task.columns)
    return fields


def task_from(description: Any) -> Task:
    """Build a task from its description."""

    def schema(value: Any) -> FieldSchema:
        return FieldSchema(tuple(value["shape"]), value["dtype"])

    return Task(
        kind=description["kind"],
        features={name: schema(value) for name, value in description["features"]},
        target=schema(description["target"]),
        classes=tuple(description["classes"]),
        columns=tuple(description["columns"]),
    )


def task_digest(task: Task) -> str:
    """Digest of a task, for the keys of its steps."""
    return digest_json("task", describe_task(task))


def build_chain(order: ChainOrder, emit: Callable[[StepBuilt], None], progress: Callable[[int], None]) -> None:
    """Train the steps of an order.

    Args:
        order: What to build.
        emit: Called with each step once its file is staged and synced.
        progress: Called now and then with the record-visits made in the step under way.

    Raises:
        DamageError: If a record file or the parent checkpoint does not match its digest.
    """
    folder = open_shard(order.folder, order.fence)
    learner = learner_from(order.learner)
    task = task_from(order.task)
    state: State | None = folder.load(order.parent).state if order.parent is not None else None
    parent = order.parent
    records = ShardRecords(folder, order.slices, order.steps[-1].position)
    for step in order.steps:
        data = records.up_to(step.position)
        context = StepContext(task, order.root_seed, order.shard, step.position, step.visits, progress)
        started = perf_counter()
        state = learner.train_step(state, data, context)
        seconds = perf_counter() - started
        header = CheckpointHeader(
            key=step.key,
            parent=parent,
            shard=order.shard,
            position=step.position,
            records=len(data),
            environment=order.environment,
            content=learner.content_digest(state),
            payload=digest_arrays(state),
            salt=new_salt(),
        )
        emit(StepBuilt(header, folder.stage(header, state), step.visits, seconds))
        parent = step.key


class ShardRecords:
    """A shard's records in memory, slice after slice in one block, each file checked as it is read.

    Holds one copy of the shard: the block is allocated once for the last step, and a step sees a prefix.
    """

    def __init__(self, folder: ShardStore, slices: Sequence[SliceFile], last: int) -> None:
        self._folder = folder
        self._slices = slices
        self._total = sum(piece.records for piece in slices[: last + 1])
        self._next = 0
        self._filled = 0
        self._blocks: dict[str, np.ndarray] = {}

    def up_to(self, position: int) -> StepData:
        """The records of slices 0..position, in canonical order."""
        while self._next <= position:
            self._read(self._slices[self._next])
            self._next += 1
        seen = {name: block[: self._filled] for name, block in self._blocks.items()}
        features = {name[2:]: block for name, block in seen.items() if name.startswith("x/")}
        return StepData(features, seen["target"], seen["tokens"])

    def _read(self, piece: SliceFile) -> None:
        if piece.name is None:
            return
        path = self._folder.record_location(piece.name)
        if not self._folder.has_records(piece.name):
            raise DamageError(
                f"the record file {path} is missing: restore it from a copy, or forget the records it held"
            )
        data = self._folder.read_records(piece.name)
        if len(data.target) != piece.records or slicefile.slice_digest(slicefile.commitments(data)) != piece.digest:
            raise DamageError(
                f"the record file {path} does not match its digest and was not used: restore it from a copy"
            )
        arrays: Mapping[str, np.ndarray] = {
            **{f"x/{name}": array for name, array in data.features.items()},
            "target": data.target,
            "tokens": data.tokens,
        }
        for name, array in arrays.items():
            self._append(name, array)
        self._filled += piece.records

    def _append(self, name: str, array: np.ndarray) -> None:
        block = self._blocks.get(name)
        if block is None:
            block = np.empty((self._total, *array.shape[1:]), dtype=array.dtype)
        elif array.dtype.kind == "U" and array.dtype.itemsize > block.dtype.itemsize:
            block = block.astype(array.dtype)  # text is as wide as the longest value so far
        block[self._filled : self._filled + len(array)] = array
        self._blocks[name] = block
