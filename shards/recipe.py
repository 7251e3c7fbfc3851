"""The recipe: which steps a shard's chain consists of, and the key of each. Pure.

A step's key is the digest of everything that determines the bytes of its checkpoint: the learner with every
hyper-parameter, the user's code, the task, the root seed, shard and position, the parent's key, the records
visited (as salted commitments), the budget, and the environment: numeric libraries, CPU and kernel. Two steps
with equal keys have equal checkpoints; that is all that caching, crash recovery and verification need. Where a
learner is not `reproducible`, they are draws from one distribution, and verification cannot compare them.

Positions count the slices of all batches: slice r of batch b is position `b * n_slices + r`. A step over no
records at all is void: it has no checkpoint, and the next one starts from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shards.digest import Json, digest_json


@dataclass(frozen=True)
class Constants:
    """What is declared when a workspace is created and never changes.

    Attributes:
        learner: The learner's class reference and parameters, as JSON.
        code: Digest of the user's code the learner runs.
        task: Digest of the task.
        root_seed: Seed all randomness is derived from.
        n_slices: R, slices per batch.
    """

    learner: Json
    code: str
    task: str
    root_seed: int
    n_slices: int


@dataclass(frozen=True)
class SliceInput:
    """What a recipe knows of one slice: how many records, and the digest of their commitments."""

    records: int
    digest: str


@dataclass(frozen=True)
class Recorded:
    """A step that was built: its key, and the environment digest it was built in."""

    key: str
    environment: str


@dataclass(frozen=True)
class Step:
    """One step of a chain.

    Attributes:
        shard: Shard number.
        position: Position in the chain.
        key: Digest of everything that determines the checkpoint.
        parent: Key of the step before it, None for the first.
        records: Records in slices up to this one, at least 1.
        visits: Record-visits to make, at least 1.
        environment: Digest of the environment it was, or is to be, built in.
        built: Whether a recorded step with this very key exists.
    """

    shard: int
    position: int
    key: str
    parent: str | None
    records: int
    visits: int
    environment: str
    built: bool


def chain(
    constants: Constants,
    shard: int,
    slices: Sequence[SliceInput],
    recorded: Mapping[int, Recorded],
    environment: str,
    budget: Callable[[int, int, int], int],
) -> list[Step]:
    """Write down a shard's steps.

    A step that was built keeps the environment it was built in, as long as its key still is what its inputs
    demand; every other step is to be built in the given environment.

    Args:
        constants: The workspace's constants.
        shard: Shard number.
        slices: All slices of the shard, by position; empty ones included.
        recorded: Built steps by position.
        environment: Digest of the environment new steps are built in.
        budget: The learner's: `(records of the slice, records so far, n_slices)` to record-visits.

    Returns:
        The steps that are not void, in order.
    """
    steps: list[Step] = []
    parent: str | None = None
    records = 0
    visited = digest_json("slices", [])
    for position, piece in enumerate(slices):
        records += piece.records
        # Rolled up, so that a chain of many batches costs as many digests as it has slices.
        visited = digest_json("slices", [visited, piece.digest])
        if records == 0:
            continue
        visits = budget(piece.records, records, constants.n_slices)
        inputs = _inputs(constants, shard, position, parent, visited, visits)
        found = recorded.get(position)
        built = found is not None and found.key == _key(inputs, found.environment)
        used = found.environment if found is not None and built else environment
        key = _key(inputs, used)
        steps.append(Step(shard, position, key, parent, records, visits, used, built))
        parent = key
    return steps


def _inputs(constants: Constants, shard: int, position: int, parent: str | None, slices: str, visits: int) -> Json:
    return {
        "learner": constants.learner,
        "code": constants.code,
        "task": constants.task,
        "root_seed": constants.root_seed,
        "n_slices": constants.n_slices,
        "shard": shard,
        "position": position,
        "parent": parent,
        "slices": slices,
        "visits": visits,
    }


def _key(inputs: Json, environment: str) -> str:
    return digest_json("step", {**inputs, "environment": environment})
