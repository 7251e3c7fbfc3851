"""The set of present records, as the sorted Merkle tree over their commitments (`radix`), kept up to date.

The database stores the nodes down to `CUT`; below it, a subtree is computed from its commitments, of which an index
gives those of any prefix. A change costs as much as the subtrees it touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, insert, select

from shards.digest import Json
from unlearn.ledger import radix
from unlearn.ledger import schema as s

CUT = 12
"""Depth of the deepest stored nodes: 4,096 subtrees, of 244 records each where there are a million."""

CHUNK = 500
"""Parameters of one statement."""


def root(c: Connection) -> radix.Node:
    """The whole tree's root, with the number of records."""
    return _nodes(c, [1]).get(1, radix.EMPTY)


def update(c: Connection, touched: Iterable[bytes]) -> radix.Node:
    """Compute anew what depends on some commitments, after their rows were added or deleted.

    Args:
        c: A connection in a writing transaction.
        touched: The commitments added or deleted.

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

    def leaves(depth: int, prefix: int) -> list[bytes]:
        return _leaves(c, depth, prefix)

    return radix.prune(wanted, leaves=leaves, node=node, cut=CUT)


def _bucket(commitment: bytes) -> int:
    """Number of the deepest stored node above a commitment."""
    return (1 << CUT) + (int.from_bytes(commitment[:4], "big") >> (32 - CUT))


def _leaves(c: Connection, depth: int, prefix: int) -> list[bytes]:
    """The commitments that begin with some bits, ascending."""
    column = s.record.c.commitment
    low, high = (prefix << (256 - depth)).to_bytes(32, "big"), (((prefix + 1) << (256 - depth)) - 1).to_bytes(32, "big")
    return [bytes(row[0]) for row in c.execute(select(column).where(column.between(low, high)).order_by(column))]


def _subtrees(c: Connection, buckets: set[int]) -> dict[int, radix.Node]:
    """The nodes at the cut, computed from their leaves."""
    first = 1 << CUT
    if len(buckets) < first // 8:
        return {bucket: radix.subtree(_leaves(c, CUT, bucket - first), CUT) for bucket in buckets}
    # Reading everything once is less than asking for so many.
    found: dict[int, list[bytes]] = {bucket: [] for bucket in buckets}
    for row in c.execute(select(s.record.c.commitment).order_by(s.record.c.commitment)):
        bucket = _bucket(row[0])
        if bucket in found:
            found[bucket].append(bytes(row[0]))
    return {bucket: radix.subtree(leaves, CUT) for bucket, leaves in found.items()}


def _nodes(c: Connection, numbers: Sequence[int]) -> dict[int, radix.Node]:
    found = {}
    for part in _chunks(numbers):
        for number, count, hash_ in c.execute(select(s.bucket).where(s.bucket.c.node.in_(part))):
            found[number] = radix.Node(count, bytes(hash_))
    return found


def _chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
