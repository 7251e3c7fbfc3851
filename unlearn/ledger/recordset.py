"""The set of present records, as the sorted Merkle tree over their commitments (`radix`), kept up to date.

The database stores the nodes down to `CUT`; below it, a subtree is computed from its commitments, of which an index
gives those of any prefix. A change costs as much as the subtrees it touches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from sqlalchemy import Connection, delete, func, insert, select

from shards.digest import Json
from unlearn.ledger import radix
from unlearn.ledger import schema as s

CUT = 12
"""Depth of the deepest stored nodes: 4,096 subtrees, of 244 records each where there are a million."""

CHUNK = 500
"""Parameters of one statement."""

ROWS_A_QUERY = 64
"""Rows that are read in the time of one query."""

ROWS_A_FETCH = 10_000
"""Rows that are held at a time where all are read."""


def root(c: Connection) -> radix.Node:
    """The whole tree's root, with the number of records."""
    return _nodes(c, [1]).get(1, radix.EMPTY)


def update(c: Connection, touched: Iterable[bytes]) -> radix.Node:
    """Compute anew what depends on some commitments, after their rows were added or deleted.

    Args:
        c: A connection in a writing transaction.
        touched: The commitments added or deleted; taken to the end before anything is computed.

    Returns:
        The root.
    """
    level = {_bucket(commitment) for commitment in touched}
    if not level:
        return root(c)
    new = _subtrees(c, level)
    changed = dict(new)
    while 1 not in level:
        siblings = _nodes(c, [node ^ 1 for node in level if node ^ 1 not in new])
        near = {**siblings, **new}
        level = {node >> 1 for node in level}
        new = {node: radix.join(near.get(2 * node, radix.EMPTY), near.get(2 * node + 1, radix.EMPTY)) for node in level}
        changed |= new
    for part in _chunks(list(changed)):
        c.execute(delete(s.bucket).where(s.bucket.c.node.in_(part)))
    rows = [{"node": number, "count": node.count, "hash": node.hash} for number, node in changed.items() if node.count]
    if rows:
        c.execute(insert(s.bucket), rows)
    return changed[1]


def prune(c: Connection, wanted: Sequence[bytes]) -> Json:
    """A proof of which of some commitments are in the set.

    Args:
        c: A connection.
        wanted: The commitments, ascending.

    Returns:
        The tree, pruned to them.
    """
    buckets = {_bucket(commitment) for commitment in wanted}
    needed = {1, 2, 3}
    for bucket in buckets:
        for shift in range(CUT):
            needed |= {bucket >> shift, (bucket >> shift) ^ 1}
    stored = _nodes(c, sorted(needed))

    def node(depth: int, prefix: int) -> radix.Node:
        return stored.get((1 << depth) + prefix, radix.EMPTY)

    # Every commitment asked for opens one subtree, and shows a few lone leaves on its way.
    leaves = _reader(c, len(wanted), node(0, 0).count)
    return radix.prune(wanted, leaves=leaves, node=node, cut=CUT)


def _bucket(commitment: bytes) -> int:
    """Number of the deepest stored node above a commitment."""
    return (1 << CUT) + (int.from_bytes(commitment[:4], "big") >> (32 - CUT))


def _reader(c: Connection, asked: int, count: int) -> Callable[[int, int], Sequence[bytes]]:
    """What gives the commitments that begin with some bits, ascending: by a query each, or by reading all at once."""
    column = s.record.c.commitment
    if asked * ROWS_A_QUERY < count:

        def query(depth: int, prefix: int) -> list[bytes]:
            rows = c.execute(select(column).where(column.between(*radix.span(depth, prefix))).order_by(column))
            return [bytes(row[0]) for row in rows]

        return query

    everything = [bytes(row[0]) for row in c.execute(select(column).order_by(column))]

    def part(depth: int, prefix: int) -> list[bytes]:
        low, high = radix.span(depth, prefix)
        return everything[bisect_left(everything, low) : bisect_right(everything, high)]

    return part


def _subtrees(c: Connection, buckets: set[int]) -> dict[int, radix.Node]:
    """The nodes at the cut, computed from their leaves."""
    count = c.execute(select(func.count()).select_from(s.record)).scalar_one()
    if len(buckets) * ROWS_A_QUERY < count:
        leaves = _reader(c, len(buckets), count)
        return {bucket: radix.subtree(leaves(CUT, bucket - (1 << CUT)), CUT) for bucket in buckets}
    # All in order, one subtree at a time: there may be more than fit in memory.
    column = s.record.c.commitment
    rows = c.execute(select(column).order_by(column).execution_options(yield_per=ROWS_A_FETCH))
    found = dict.fromkeys(buckets, radix.EMPTY)
    for bucket, leaves_of in groupby((bytes(row[0]) for row in rows), key=_bucket):
        if bucket in buckets:
            found[bucket] = radix.subtree(list(leaves_of), CUT)
    return found


def _nodes(c: Connection, numbers: Sequence[int]) -> dict[int, radix.Node]:
    found = {}
    for part in _chunks(numbers):
        for number, count, hash_ in c.execute(select(s.bucket).where(s.bucket.c.node.in_(part))):
            found[number] = radix.Node(count, bytes(hash_))
    return found


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
