"""Spread rows of Parquet files over the shards, in two rounds of independent work, without bringing them together.

`spread_piece` reads one piece and leaves, for every (shard, slice), its rows in canonical order, as a slice file
staged in the shard's own place: a part. `join_slice` merges the parts of one slice into one file, still staged. What
is said between driver and workers is paths, names and numbers; whatever comes of a row lies in the store's staging
places, which one call (`ShardStore.clear_staging`) destroys.
"""

from __future__ import annotations

import json
import resource
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from shards import parquet, slicefile
from shards.digest import Json, canonical_json
from shards.errors import InputError, StorageError
from shards.interrupts import guarded
from shards.location import open_shard
from shards.parquet import Piece
from shards.placement import Placement, grouped
from shards.records import Records, fit_records
from shards.sources import Roles
from shards.store import ShardStore
from shards.task import Task
from shards.train import describe_task, learner_from, task_from

_OTHER_FILES = 256
"""Open files a worker needs besides one for each shard."""


@dataclass(frozen=True)
class Plan:
    """What all pieces of a batch have in common.

    Attributes:
        roles: What the columns are.
        columns: The columns to read.
        task: The declared task.
        learner: Who is to be trained on the rows, as `describe_learner` describes it.
        batch: Number of the batch.
        n_slices: R.
        shards: Location and fence of every shard (`open_shard`).
    """

    roles: Roles
    columns: tuple[str, ...]
    task: Task
    learner: Json
    batch: int
    n_slices: int
    shards: tuple[tuple[str, str], ...]

    def to_bytes(self) -> bytes:
        """The plan, to be staged."""
        return canonical_json(
            {
                "roles": asdict(self.roles),
                "columns": list(self.columns),
                "task": describe_task(self.task),
                "learner": self.learner,
                "batch": self.batch,
                "n_slices": self.n_slices,
                "shards": [list(shard) for shard in self.shards],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """A plan that was staged."""
        fields = json.loads(data)
        features = fields["roles"]["features"]
        return cls(
            roles=Roles(**{**fields["roles"], "features": None if features is None else tuple(features)}),
            columns=tuple(fields["columns"]),
            task=task_from(fields["task"]),
            learner=fields["learner"],
            batch=fields["batch"],
            n_slices=fields["n_slices"],
            shards=tuple((location, fence) for location, fence in fields["shards"]),
        )


def placement_to_bytes(placement: Placement) -> bytes:
    """Where the rows of a piece go, to be staged."""
    from safetensors.numpy import save

    arrays = {
        "shards": placement.shards.astype(np.uint32),
        "slices": placement.slices.astype(np.uint32),
        "tokens": np.ascontiguousarray(placement.tokens),
    }
    data: bytes = save(arrays)
    return data


def placement_from_bytes(data: bytes) -> Placement:
    """Where the rows of a piece go, from what was staged."""
    from safetensors.numpy import load

    arrays = load(data)
    return Placement(arrays["shards"].astype(np.int64), arrays["slices"].astype(np.int64), arrays["tokens"])


def spread_piece(order: Any) -> Json:
    """Read one piece and stage its rows by shard and slice; to be called in a worker.

    Args:
        order: `home`, location and fence of the place where `plan` and `placement` are staged; `piece`.

    Returns:
        `{"parts": [[shard, slice, name, rows], …]}`; or `{"refused": why}`.

    Raises:
        StorageError: If the store or the disk refuses, or this worker was shut out.
    """
    home = open_shard(*order["home"])
    plan = Plan.from_bytes(home.staged_bytes(order["plan"]))
    placement = placement_from_bytes(home.staged_bytes(order["placement"]))
    piece = Piece.from_json(order["piece"])
    shards = [open_shard(*shard) for shard in plan.shards]
    parts: list[Json] = []
    try:
        with _writing(shards):
            for records, where in _placed(plan, piece, placement):
                parts += _stage(shards, plan.n_slices, records, where)
    except InputError as error:
        return {"refused": str(error)}
    finally:
        pa.default_memory_pool().release_unused()
    return {"parts": parts}


def _placed(plan: Plan, piece: Piece, placement: Placement) -> Iterator[tuple[Records, Placement]]:
    """Records of a piece as the task declares them, with where they go, some at a time."""
    learner = learner_from(plan.learner)
    for first, batch in parquet.read(piece, plan.columns):
        offset = first - piece.first
        try:
            records = fit_records(plan.roles.records(batch, plan.batch, first), plan.task)
            learner.check_values(records.features, records.target, plan.task)
        except InputError as error:
            row = piece.offset + offset
            raise InputError(f"{piece.file}, rows counted from its row {row}: {error}") from error
        here = slice(offset, offset + len(records))
        yield records, Placement(placement.shards[here], placement.slices[here], placement.tokens[here])


def _stage(shards: Sequence[ShardStore], n_slices: int, records: Records, where: Placement) -> Iterator[Json]:
    """Stage records by shard and slice; say what is where."""
    for shard, position, chosen in grouped(where, n_slices):
        part = records.take(chosen)
        n = len(part)
        data = slicefile.SliceRecords(
            record_ids=part.record_ids,
            subjects=part.subjects,
            tokens=where.tokens[chosen],
            salts=np.frombuffer(secrets.token_bytes(slicefile.SALT_BYTES * n), dtype=np.uint8).reshape(n, -1),
            features=part.features,
            target=part.target,
        )
        yield [shard, position, shards[shard].stage_bytes(slicefile.to_bytes("a part of a slice", data)), n]


def join_slice(order: Any) -> Json:
    """Merge the parts of a slice and stage the whole; to be called in a worker, which must have room for a slice.

    Args:
        order: `shard`, its location and fence; `parts`, their names; `rows`; `name`, of the slice, for messages.

    Returns:
        `{"staged": name, "commitments": name, "digest": of the slice}`; or `{"refused": why}`.

    Raises:
        StorageError: If the store or the disk refuses, or this worker was shut out.
    """
    shard = open_shard(*order["shard"])
    try:
        with _writing([shard]):
            data = slicefile.merge([partial(shard.staged_records, name) for name in order["parts"]])
            commitments = slicefile.commitments(data)
            return {
                "staged": shard.stage_records(data),
                "commitments": shard.stage_bytes(commitments.tobytes()),
                "digest": slicefile.slice_digest(commitments),
            }
    except MemoryError:
        return {
            "refused": f"{order['name']} has {order['rows']} records, which do not fit into a worker's memory: use "
            "fewer workers at a time, or a workspace of more shards or slices; nothing was ingested"
        }
    finally:
        pa.default_memory_pool().release_unused()


@guarded
def _writing(shards: Sequence[ShardStore]) -> Iterator[None]:
    """Hold shards as one who writes there; what the disk refuses meanwhile is a `StorageError`."""
    # Held from the first byte to the last: whoever clears up after a dead driver waits for the locks, once.
    _make_room(len(shards) + _OTHER_FILES)
    try:
        with ExitStack() as held:
            for shard in shards:
                held.enter_context(shard.writing())
            yield
    except OSError as error:
        raise StorageError(
            f"the disk refused a write ({error.strerror}): make room or access, then repeat the command; nothing was "
            "ingested"
        ) from error


def _make_room(files: int) -> None:
    """Let this process have so many files open, as far as it may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= files:
        return
    wanted = files if most == resource.RLIM_INFINITY else min(files, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def refusal(answers: Sequence[Mapping[str, Any]]) -> str | None:
    """Why some work was refused, if it was: the first reason.

    Args:
        answers: What `spread_piece` or `join_slice` returned.

    Returns:
        The reason, or None.
    """
    return next((str(answer["refused"]) for answer in answers if "refused" in answer), None)
