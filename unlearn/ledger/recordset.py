"""Sets that the log vouches for, as sorted Merkle trees (`radix`) kept up to date: present records, and tombstones.

Records are in theirs by their salted commitments. Tombstones are by their keyed tokens, and without a salt: a root over
them tells nothing to whoever lacks the key, and who has it may ask the table itself.

The database stores the nodes down to `CUT`; below it, a subtree is computed from its members, of which an index gives
those of any prefix. A change costs as much as the subtrees it touches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, insert, select
from sqlalchemy.engine import Row

from shards.digest import Json
from unlearn.errors import DamageError
from unlearn.ledger import radix
from unlearn.ledger import schema as s

CUT = 12
"""Depth of the deepest stored nodes: 4,096 subtrees, of 244 members each where there are a million."""

CHUNK = 500
"""Parameters of one statement."""

ROWS_A_QUERY = 64
"""Rows that are read in the time of one query."""

ROWS_A_FETCH = 10_000
"""Rows that are held at a time where all are read."""

TOKEN_BYTES = 16


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
        c.execute(delete(of.nodes).where(of.nodes.c.node.in_(part)))
    rows = [{"node": number, "count": node.count, "hash": node.hash} for number, node in changed.items() if node.count]
    if rows:
        c.execute(insert(of.nodes), rows)
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

    # Every commitment asked for opens one subtree, and shows a few lone leaves on its way.
    leaves = _reader(c, RECORDS, len(wanted), node(0, 0).count)
    return radix.prune(wanted, leaves=leaves, node=node, cut=CUT)


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


def _reader(c: Connection, of: Members, asked: int, count: int) -> Callable[[int, int], Sequence[bytes]]:
    """What gives the members that begin with some bits, ascending: by a query each, or by reading all at once."""
    key = of.columns[0]
    if asked * ROWS_A_QUERY < count:

        def query(depth: int, prefix: int) -> list[bytes]:
            first, last = (end[: of.width] for end in radix.span(depth, prefix))
            rows = c.execute(select(*of.columns).where(key.between(first, last)).order_by(key))
            return [of.read(row) for row in rows]

        return query

    everything = [of.read(row) for row in c.execute(select(*of.columns).order_by(key))]

    def part(depth: int, prefix: int) -> list[bytes]:
        low, high = radix.span(depth, prefix)
        return everything[bisect_left(everything, low) : bisect_right(everything, high)]

    return part


def _subtrees(c: Connection, of: Members, buckets: set[int], count: int) -> dict[int, radix.Node]:
    """The nodes at the cut, computed from their members."""
    if len(buckets) * ROWS_A_QUERY < count:
        leaves = _reader(c, of, len(buckets), count)
        return {bucket: radix.subtree(leaves(CUT, bucket - (1 << CUT)), CUT) for bucket in buckets}
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
        for number, count, hash_ in c.execute(select(of.nodes).where(of.nodes.c.node.in_(part))):
            found[number] = radix.Node(count, bytes(hash_))
    return found


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
