"""Sets that the log vouches for, as sorted Merkle trees (`radix`) kept up to date: present records, and tombstones.

Records are in theirs by their salted commitments. Tombstones are by their keyed tokens, and without a salt: a root over
them tells nothing to whoever lacks the key, and who has it may ask the table itself.

The database stores the nodes down to `CUT`; below it, a subtree is computed from its members, of which an index gives
those of any prefix. A change costs as much as the subtrees it touches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, Table, select
from sqlalchemy.engine import Row

from shards.digest import Json
from unlearn.errors import DamageError
from unlearn.ledger import radix
from unlearn.ledger import schema as s
from unlearn.ledger.database import insert_plain

CUT = 12
"""Depth of the deepest stored nodes: 4,096 subtrees, of 244 members each where there are a million."""

CHUNK = 500
"""Parameters of one statement."""

ROWS_A_SPAN = 4
"""Rows that are read one after the other in the time in which the first of a span is found."""

ROWS_A_FETCH = 10_000
"""Rows that are held at a time where all are read."""

TOKEN_BYTES = 16

Place = tuple[int, int]
"""Of a subtree: its depth, and the bits that its members share, as a number."""


@dataclass(frozen=True)
class Members:
    """A table whose rows are the members of a set.

    Attributes:
        columns: What of a row its member is made of; the first one, which has an index, is what the member begins with.
        member: 32 bytes of a row with these columns.
        nodes: Where the set's tree is stored.
        width: Bytes of the first column.
    """

    columns: tuple[Column[Any], ...]
    member: Callable[[Row[Any]], bytes]
    nodes: Table
    width: int

    def read(self, row: Row[Any]) -> bytes:
        """The member that a row is.

        Args:
            row: The row, with these columns.

        Returns:
            32 bytes.

        Raises:
            DamageError: If this program cannot have written the row.
        """
        if not isinstance(row[0], bytes | memoryview) or len(row[0]) != self.width:
            raise DamageError(
                f"the ledger's table {self.columns[0].table} holds something that does not belong there: the database "
                "was changed by something else than this program, or its disk is failing; restore it from a copy"
            )
        return self.member(row)


def tombstone_member(token: bytes, kind: str, request: str) -> bytes:
    """What the set of tombstones holds of one: its token, then the first half of a digest of all else.

    Args:
        token: The keyed token, 16 bytes.
        kind: `"subject"` or `"record"`.
        request: The request that left it.

    Returns:
        32 bytes. They are hashed again before anything of them enters the log.
    """
    return token + sha256(f"tombstone/{kind}/{request}".encode()).digest()[: radix.HASH_BYTES - TOKEN_BYTES]


RECORDS = Members((s.record.c.commitment,), lambda row: bytes(row[0]), s.bucket, radix.HASH_BYTES)
"""The present records."""

TOMBSTONES = Members(
    (s.tombstone.c.token, s.tombstone.c.kind, s.tombstone.c.request),
    lambda row: tombstone_member(bytes(row.token), row.kind, row.request),
    s.tombstone_bucket,
    TOKEN_BYTES,
)
"""What must not return."""


def root(c: Connection, of: Members = RECORDS) -> radix.Node:
    """The whole tree's root, with the number of members, as it is stored."""
    return _nodes(c, of, [1]).get(1, radix.EMPTY)


def recomputed(c: Connection, touched: Iterable[bytes], of: Members) -> radix.Node:
    """The root as it is now, with the subtrees of some members computed anew; stores nothing.

    Before a change, it is what is stored, or somebody else changed the table where the change is to be.

    Args:
        c: A connection.
        touched: What the members begin with.
        of: The set.

    Returns:
        The root.
    """
    changed = _changed(c, touched, of)
    return changed[1] if changed else root(c, of)


def update(c: Connection, touched: Iterable[bytes], of: Members = RECORDS) -> radix.Node:
    """Compute anew what depends on some members, after their rows were added or deleted.

    Args:
        c: A connection in a writing transaction.
        touched: What the members added or deleted begin with; taken to the end before anything is computed.
        of: The set.

    Returns:
        The root.
    """
    changed = _changed(c, touched, of)
    if not changed:
        return root(c, of)
    for part in _chunks(list(changed)):
        c.exec_driver_sql(f'DELETE FROM "{of.nodes.name}" WHERE {_among(c, "node", part)}', tuple(part))  # noqa: S608  # nosec B608
    insert_plain(c, of.nodes, [(number, node.count, node.hash) for number, node in changed.items() if node.count])
    return changed[1]


def whole(members: Sequence[bytes]) -> dict[int, radix.Node]:
    """Every node that is to be stored for a set.

    Args:
        members: All of it, ascending.

    Returns:
        Number to node.
    """
    groups: dict[int, list[bytes]] = {}
    for item in members:
        groups.setdefault(_bucket(item), []).append(item)
    new = {number: radix.subtree(items, CUT) for number, items in groups.items()}
    return _upwards(new, {})


def stored(c: Connection, of: Members) -> dict[int, radix.Node]:
    """Every stored node of a set, by number."""
    return {row.node: radix.Node(row[1], bytes(row.hash)) for row in c.execute(select(of.nodes))}


def members(c: Connection, of: Members) -> list[bytes]:
    """All members of a set, ascending, read from the table itself and by no index."""
    return sorted(of.read(row) for row in c.execute(select(*of.columns).order_by(*of.columns[0].table.primary_key)))


def prune(c: Connection, wanted: Sequence[bytes]) -> Json:
    """A proof of which of some commitments are of present records.

    Args:
        c: A connection.
        wanted: The commitments, ascending.

    Returns:
        The tree, pruned to them.
    """
    buckets = {_bucket(commitment) for commitment in wanted}
    near = _nodes(c, RECORDS, sorted({1, 2, 3} | _path(buckets)))

    def node(depth: int, prefix: int) -> radix.Node:
        return near.get((1 << depth) + prefix, radix.EMPTY)

    leaves = _reader(c, RECORDS, _opened(near, buckets), node(0, 0).count)
    return radix.prune(wanted, leaves=leaves, node=node, cut=CUT)


def _opened(near: Mapping[int, radix.Node], buckets: set[int]) -> list[Place]:
    """Where a proof shows members, ascending: subtrees of one, and those at the cut in which some are asked for."""
    lone = {number for number, node in near.items() if node.count == 1}
    numbers = {number for number in lone if number >> 1 not in lone}
    numbers |= {bucket for bucket in buckets if not any(bucket >> up in lone for up in range(CUT + 1))}
    places = [(number.bit_length() - 1, number - (1 << number.bit_length() - 1)) for number in numbers]
    return sorted(places, key=lambda place: place[1] << (CUT - place[0]))


def _changed(c: Connection, touched: Iterable[bytes], of: Members) -> dict[int, radix.Node]:
    """The nodes above some members, computed anew."""
    buckets = {_bucket(item) for item in touched}
    if not buckets:
        return {}
    near = _nodes(c, of, sorted({1} | _path(buckets)))
    # How many there were is as good a guess as how many there are.
    return _upwards(_subtrees(c, of, buckets, near.get(1, radix.EMPTY).count), near)


def _upwards(new: dict[int, radix.Node], near: dict[int, radix.Node]) -> dict[int, radix.Node]:
    """Nodes at the cut and all above them, given their stored neighbours."""
    changed, level = dict(new), set(new)
    for _ in range(CUT if level else 0):
        level = {number >> 1 for number in level}
        for number in level:
            left, right = (changed.get(below) or near.get(below, radix.EMPTY) for below in (2 * number, 2 * number + 1))
            changed[number] = radix.join(left, right)
    return changed


def _bucket(member: bytes) -> int:
    """Number of the deepest stored node above a member."""
    return (1 << CUT) + (int.from_bytes(member[:4], "big") >> (32 - CUT))


def _path(buckets: Iterable[int]) -> set[int]:
    """The nodes from the cut up to the root, and their neighbours."""
    return {node for bucket in buckets for shift in range(CUT) for node in (bucket >> shift, (bucket >> shift) ^ 1)}


def _reader(c: Connection, of: Members, places: Sequence[Place], count: int) -> Callable[[int, int], Sequence[bytes]]:
    """What gives the members below each of some places, if it is asked in their order: a few queries for all of them.

    Args:
        c: A connection.
        of: The set.
        places: Where, ascending.
        count: How many members there are, as far as is known.

    Returns:
        Depth and prefix to members, ascending.
    """
    # Some places at a time: there may be more members than fit in memory.
    step = max(1, min(CHUNK // 2, ROWS_A_FETCH // ((count >> CUT) + 1)))
    number = {place: at for at, place in enumerate(places)}
    held: dict[Place, list[bytes]] = {}

    def below(depth: int, prefix: int) -> list[bytes]:
        place = depth, prefix
        if place not in held:
            held.clear()
            at = number[place]
            held.update(_leaves(c, of, places[at : at + step]))
        return held[place]

    return below


def _leaves(c: Connection, of: Members, places: Sequence[Place]) -> dict[Place, list[bytes]]:
    """The members below some places, ascending, by one query."""
    spans = {place: radix.span(*place) for place in places}
    ends = [(low[: of.width], high[: of.width]) for low, high in spans.values()]
    found = sorted(of.read(row) for row in _between(c, of, ends))
    return {place: found[bisect_left(found, low) : bisect_right(found, high)] for place, (low, high) in spans.items()}


def _between(c: Connection, of: Members, ends: Sequence[tuple[bytes, bytes]]) -> Iterable[Row[Any]]:
    """Rows of the members between some pairs of ends, in no order."""
    mark = "?" if c.dialect.name == "sqlite" else "%s"
    pairs = ", ".join([f"({mark}, {mark})"] * len(ends))
    key, *_ = names = [f'"{column.name}"' for column in of.columns]
    # Our own names alone; values are bound. SQLite keeps to the order of a CROSS JOIN, so each pair is looked up.
    query = (
        f"WITH span (low, high) AS (VALUES {pairs}) SELECT {', '.join(names)} "  # noqa: S608  # nosec B608
        f'FROM span CROSS JOIN "{of.columns[0].table.name}" WHERE {key} BETWEEN span.low AND span.high'
    )
    return c.exec_driver_sql(query, tuple(end for pair in ends for end in pair)).all()


def _subtrees(c: Connection, of: Members, buckets: set[int], count: int) -> dict[int, radix.Node]:
    """The nodes at the cut, computed from their members."""
    if len(buckets) * ROWS_A_SPAN < count:
        places = [(CUT, bucket - (1 << CUT)) for bucket in sorted(buckets)]
        leaves = _reader(c, of, places, count)
        return {(1 << CUT) + place[1]: radix.subtree(leaves(*place), CUT) for place in places}
    # All in order, one subtree at a time: there may be more than fit in memory.
    rows = c.execute(select(*of.columns).order_by(of.columns[0]).execution_options(yield_per=ROWS_A_FETCH))
    found = dict.fromkeys(buckets, radix.EMPTY)
    for bucket, there in groupby((of.read(row) for row in rows), key=_bucket):
        if bucket in buckets:
            found[bucket] = radix.subtree(list(there), CUT)
    return found


def _nodes(c: Connection, of: Members, numbers: Sequence[int]) -> dict[int, radix.Node]:
    found = {}
    for part in _chunks(numbers):
        query = f'SELECT "node", "count", "hash" FROM "{of.nodes.name}" WHERE {_among(c, "node", part)}'  # noqa: S608  # nosec B608
        for number, count, hash_ in c.exec_driver_sql(query, tuple(part)).all():
            found[number] = radix.Node(count, bytes(hash_))
    return found


def _among(c: Connection, column: str, values: Sequence[object]) -> str:
    """That a column is one of some values, which are bound: plain text, since building it costs more than asking."""
    marks = ", ".join(["?" if c.dialect.name == "sqlite" else "%s"] * len(values))
    return f'"{column}" IN ({marks})'


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
