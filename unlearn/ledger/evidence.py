"""What a receipt will show, gathered in the transaction in which it is true.

The trees before a deletion are gone after it, so what proves it is kept with the request until its receipts are
issued; the event that says it happened carries the digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from shards.digest import Json
from unlearn.facts import EditRequest
from unlearn.ledger import radix, recordset
from unlearn.ledger import schema as s
from unlearn.ledger.chain import Entry, Head
from unlearn.ledger.rows import Approximation, Artefact, BuiltStep
from unlearn.request import Request


@dataclass(frozen=True)
class Evidence:
    """All that goes into the receipts of a request.

    Attributes:
        request: The request.
        withdrawal: What was there before and after its records were withdrawn.
        recovery: What is there since they were recovered, or None.
        approximation: What an approximate method made in place of what was withdrawn, or None.
        head: What the log comes to.
        entries: The events about the request, each with the proof that it is in the log.
        previous: Digest of its first receipt, if that is issued.
        rotations: How signing keys were replaced, oldest first.
        artefacts: What was derived from the removed records and lives elsewhere.
    """

    request: Request
    withdrawal: Json
    recovery: Json | None
    approximation: Json | None
    head: Head
    entries: Sequence[tuple[Entry, list[bytes]]]
    previous: str | None
    rotations: Sequence[Json]
    artefacts: Sequence[Artefact]


@dataclass(frozen=True)
class EditEvidence:
    """All that goes into the receipt of an edit.

    Attributes:
        request: The request.
        head: What the log comes to.
        entries: The events about the request, each with the proof that it is in the log.
        rotations: How signing keys were replaced, oldest first.
        artefacts: The model before the edit.
    """

    request: EditRequest
    head: Head
    entries: Sequence[tuple[Entry, list[bytes]]]
    rotations: Sequence[Json]
    artefacts: Sequence[Artefact]


@dataclass(frozen=True)
class Before:
    """What is there before records are removed."""

    shards: Mapping[int, int]
    removed: Sequence[bytes]
    records: radix.Node
    presence: Json
    states: Sequence[BuiltStep]
    destroyed: Sequence[BuiltStep]

    def complete(self, c: Connection, records: radix.Node) -> Json:
        """Add what is there after they were.

        Args:
            c: A connection in the transaction that removed them.
            records: Root of the tree over the records that stay.

        Returns:
            The evidence of the withdrawal.
        """
        return {
            "removed": [commitment.hex() for commitment in self.removed],
            "shards": {str(shard): position for shard, position in self.shards.items()},
            "records": {"before": describe_root(self.records), "after": describe_root(records)},
            "presence": self.presence,
            "absence": recordset.prune(c, self.removed),
            "states": {
                "before": [step.state for step in self.states],
                "after": [step.state for step in served(c)],
            },
            "destroyed": [[step.shard, step.position, step.key] for step in self.destroyed],
        }


def gather_withdrawal(c: Connection, shards: Mapping[int, int], removed: Sequence[bytes]) -> Before:
    """Note what is there before records are removed.

    Args:
        c: A connection in the transaction that is about to remove them.
        shards: Shard to the earliest position that is hit.
        removed: Their commitments, ascending.

    Returns:
        What is there.
    """
    rows = c.execute(_STEPS).all() if shards else ()
    there = [*(BuiltStep(**row._mapping) for row in rows), *(item.served for item in approximations(c).values())]
    hit = [step for step in there if step.position >= shards.get(step.shard, step.position + 1)]
    hit.sort(key=lambda step: (step.shard, step.position))
    return Before(shards, removed, recordset.root(c), recordset.prune(c, removed), served(c), hit)


def gather_recovery(c: Connection, shards: Mapping[int, int], removed: Sequence[bytes]) -> Json:
    """Note what is there once everything is built again.

    Args:
        c: A connection.
        shards: Shard to the earliest position that was hit.
        removed: Commitments of the records that were removed, ascending.

    Returns:
        The evidence of the recovery.
    """
    rows = c.execute(_STEPS) if shards else ()
    rebuilt = [row for row in rows if row.position >= shards.get(row.shard, row.position + 1)]
    return {
        "records": describe_root(recordset.root(c)),
        "absence": recordset.prune(c, removed),
        "states": [step.state for step in served(c)],
        "rebuilt": [[row.shard, row.position, row.key, row.environment] for row in rebuilt],
    }


def describe_root(node: radix.Node) -> Json:
    """Count and root of a set of records, for people and proofs."""
    return {"count": node.count, "root": node.hash.hex()}


def approximations(c: Connection) -> dict[int, Approximation]:
    """The states that approximate methods made, by shard."""
    return {row.shard: _approximation(row) for row in c.execute(_APPROXIMATIONS)}


_APPROXIMATIONS = select(s.approximation).order_by(s.approximation.c.shard)


def _approximation(row: Row[Any]) -> Approximation:
    fields = {**row._mapping, "config": json.loads(row.config)}
    refuted_at = fields.pop("refuted_at")
    return Approximation(**fields, refuted_at=None if refuted_at is None else datetime.fromisoformat(refuted_at))


def served(c: Connection) -> list[BuiltStep]:
    """What each shard serves, by shard: what a method made, if it made something, else the last built step."""
    found = {row.shard: BuiltStep(**row._mapping) for row in c.execute(_SERVED)}
    found |= {shard: item.served for shard, item in approximations(c).items()}
    return [found[shard] for shard in sorted(found)]


_STEPS = select(s.step).order_by(s.step.c.shard, s.step.c.position)
_LAST = select(s.step.c.shard, func.max(s.step.c.position).label("position")).group_by(s.step.c.shard).subquery()
_SERVED = (
    select(s.step)
    .join(_LAST, (s.step.c.shard == _LAST.c.shard) & (s.step.c.position == _LAST.c.position))
    .order_by(s.step.c.shard)
)
