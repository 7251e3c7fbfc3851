"""The log as a Merkle tree in the database (RFC 6962): append, prove, verify.

Functions take a connection whose transaction the caller holds; `append` needs one that nobody writes beside.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, bindparam, select

from shards.digest import Json
from unlearn.errors import DamageError
from unlearn.ledger import events, merkle
from unlearn.ledger import schema as s
from unlearn.ledger.database import insert_plain

T = TypeVar("T")

LOG = logging.getLogger("unlearn.ledger")
"""Told of every event: of numbers and of names that requests have here, never of digests or of anybody's ids."""

_SHORT = 36
"""Text of an event that is longer is a digest or a sealed value, and is left out."""

PAGE = 10_000
"""Events read at once."""

_OF_REQUEST = (
    select(s.event.c.number, s.event.c.body).where(s.event.c.request == bindparam("this")).order_by(s.event.c.number)
)


@dataclass(frozen=True)
class Entry:
    """An event with its place in the log.

    Attributes:
        number: From 0.
        body: Its bytes, as they were hashed.
    """

    number: int
    body: bytes

    @property
    def event(self) -> events.Event:
        """What it says."""
        return events.decode(self.body)


@dataclass(frozen=True)
class Draft:
    """An event that is to be added.

    Attributes:
        body: Its bytes.
        request: The request it is about, or None.
    """

    body: bytes
    request: str | None


@dataclass(frozen=True)
class Head:
    """What the log comes to: how many events, and the root of the tree over them."""

    size: int
    root: bytes


def append(c: Connection, kind: str, at: datetime, **fields: Json) -> None:
    """Add an event.

    Args:
        c: A connection in a transaction that is the only one to write.
        kind: What happened; see `events.FIELDS`.
        at: The time, UTC.
        fields: Those of the kind.
    """
    append_all(c, [draft(kind, at, **fields)])


def draft(kind: str, at: datetime, **fields: Json) -> Draft:
    """Write an event down that is to be added.

    Args:
        kind: What happened; see `events.FIELDS`.
        at: The time, UTC.
        fields: Those of the kind.

    Returns:
        The event.
    """
    request = fields.get("request")
    return Draft(events.encode(kind, at, **fields), request if isinstance(request, str) else None)


def append_all(c: Connection, drafts: Sequence[Draft]) -> None:
    """Add events, in their order.

    Args:
        c: A connection in a transaction that is the only one to write.
        drafts: The events.
    """
    start = size(c)
    appender = _over_stored(c, lambda subtree: merkle.Appender(start, subtree))
    nodes = [node for item in drafts for node in appender.append(merkle.leaf_hash(item.body))]
    insert_plain(c, s.event, [(number, item.body, item.request) for number, item in enumerate(drafts, start)])
    insert_plain(c, s.tree, nodes)
    if LOG.isEnabledFor(logging.INFO):
        for number, item in enumerate(drafts, start):
            LOG.info("event %d: %s", number, _said(item.body))


def _said(body: bytes) -> str:
    """An event in a line: what happened, and those of its fields that say something to people."""
    fields = json.loads(body)
    kind = fields.pop("kind")
    fields.pop("at", None)
    said = [
        f"{name} {value}"
        for name, value in fields.items()
        if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and len(value) < _SHORT)
    ]
    return " ".join([kind, ", ".join(said)]).rstrip()


def size(c: Connection) -> int:
    """How many events there are."""
    last = c.exec_driver_sql("SELECT max(number) FROM event").scalar()
    return 0 if last is None else int(last) + 1


def subtrees(c: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The stored hashes of complete subtrees.

    Args:
        c: A connection.
        places: Level (the logarithm of its number of leaves) and number among those of its level, of each.

    Returns:
        Place to hash.

    Raises:
        DamageError: If one is missing.
    """
    wanted = sorted(set(places))
    found: dict[tuple[int, int], bytes] = {}
    if wanted:
        # Not `(level, position) IN (VALUES ...)`, for which SQLite reads the whole table.
        mark = "?" if c.dialect.name == "sqlite" else "%s"
        where = " OR ".join([f"level = {mark} AND position = {mark}"] * len(wanted))
        query = f"SELECT level, position, hash FROM tree WHERE {where}"  # noqa: S608  # nosec B608
        rows = c.exec_driver_sql(query, tuple(number for place in wanted for number in place))
        found = {(level, position): bytes(hash_) for level, position, hash_ in rows}
    if len(found) != len(wanted):
        raise DamageError("the ledger's log is damaged (a node of its tree is missing): restore it from a copy")
    return found


def _over_stored(c: Connection, compute: Callable[[merkle.Subtree], T]) -> T:
    """Compute something from stored subtrees, with one query for all of them."""
    # Which ones it takes depends on numbers alone, never on hashes: so it is asked once before there are any.
    places: list[tuple[int, int]] = []

    def note(level: int, position: int) -> bytes:
        places.append((level, position))
        return bytes(merkle.HASH_BYTES)

    compute(note)
    stored = subtrees(c, places)
    return compute(lambda level, position: stored[level, position])


def head(c: Connection) -> Head:
    """Size and root of the log."""
    count = size(c)
    return Head(count, root_at(c, count))


def root_at(c: Connection, count: int) -> bytes:
    """Root of the first `count` events."""
    return _over_stored(c, lambda subtree: merkle.root_at(count, subtree))


def of_request(c: Connection, request_id: str) -> list[Entry]:
    """The events about a request, in order."""
    return [Entry(row.number, bytes(row.body)) for row in c.execute(_OF_REQUEST, {"this": request_id})]


def inclusion(c: Connection, number: int, count: int) -> list[bytes]:
    """Proof that an event is among the first `count`."""
    return _over_stored(c, lambda subtree: merkle.inclusion_proof(number, count, subtree))


def proven(c: Connection, numbers: Sequence[int]) -> tuple[Head, list[list[bytes]]]:
    """Size and root of the log, and for each of some events the proof that it is in it.

    Args:
        c: A connection.
        numbers: Of the events.

    Returns:
        What the log comes to, and the proofs.
    """
    count = size(c)

    def compute(subtree: merkle.Subtree) -> tuple[bytes, list[list[bytes]]]:
        proofs = [merkle.inclusion_proof(number, count, subtree) for number in numbers]
        return merkle.root_at(count, subtree), proofs

    root, proofs = _over_stored(c, compute)
    return Head(count, root), proofs


def consistency(c: Connection, old: int, count: int) -> list[bytes]:
    """Proof that the log of `count` events only added to that of `old`."""
    return _over_stored(c, lambda subtree: merkle.consistency_proof(old, count, subtree))


def page(c: Connection, start: int, stop: int) -> list[Entry]:
    """The next events from a number on, `PAGE` of them at most.

    Args:
        c: A connection.
        start: The first to read.
        stop: The one before which to stop.

    Returns:
        The events, in order; at least one if `start < stop`.

    Raises:
        DamageError: If a number is missing.
    """
    last = min(start + PAGE, stop)
    query = select(s.event.c.number, s.event.c.body).where(s.event.c.number >= start, s.event.c.number < last)
    rows = c.execute(query.order_by(s.event.c.number)).all()
    found, wanted = [row.number for row in rows], list(range(start, last))
    if found != wanted:
        missing = next((number for number in wanted if number not in set(found)), last)
        raise DamageError(f"the ledger's log is damaged: entry {missing} is missing; restore it from a copy")
    return [Entry(row.number, bytes(row.body)) for row in rows]
