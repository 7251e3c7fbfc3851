"""Merkle tree over a set of 32-byte commitments, sorted, so that presence and absence both have proofs.

A binary radix tree: a node at depth d covers the commitments that share their first d bits (most significant first)
and splits them by the next bit. Its value is `Node(count, hash)`:

- no commitment: count 0, hash 32 zero bytes;
- one: count 1, hash SHA-256(0x00 || commitment), at any depth: a lone leaf stands where its prefix became unique;
- more: SHA-256(0x01 || left.count || left.hash || right.count || right.hash), counts as 8 bytes, big end first.

So the root is a function of the set alone, whatever the order of insertions and removals, and binds every count below
it: who shows a pruned tree can lie neither about what it holds nor about how much it hides.

A pruned tree is JSON: `null` is an empty subtree, `"l:<64 hex>"` a leaf with its commitment, `"h:<64 hex>:<count>"` a
subtree left out (of two leaves or more, never the whole tree), `[left, right]` an inner node. The place of a commitment
is fixed by its bits; so whoever walks there finds it (present), finds nothing or another leaf (absent), or runs into
what was left out (not shown).
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from shards.digest import Json
from unlearn.errors import ProofError

HASH_BYTES = 32
DEPTH = 256
"""Bits of a commitment, and so the greatest depth of a leaf."""
MAX_COUNT = 2**63 - 1
"""The most commitments a set may hold."""
MAX_PROOF_NODES = 2**23
"""The most nodes a pruned tree may have to be looked at."""

_LEAF = b"\x00"
_NODE = b"\x01"
_COUNT_BYTES = 8
_ONE = (1).to_bytes(_COUNT_BYTES, "big")
_NOTHING = bytes(_COUNT_BYTES + HASH_BYTES)
_LEAF_TEXT = re.compile(r"l:([0-9a-f]{64})")
_JOIN = object()
_HIDDEN_TEXT = re.compile(r"h:([0-9a-f]{64}):([1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Node:
    """Value of a subtree.

    Args:
        count: Number of commitments under it.
        hash: What it commits to, 32 bytes.
    """

    count: int
    hash: bytes


EMPTY = Node(0, bytes(HASH_BYTES))
"""The subtree without commitments."""


@dataclass(frozen=True, slots=True)
class PrunedTree:
    """What a pruned tree shows. Made by `check` alone.

    Args:
        root: Hash of the root, recomputed.
        count: Number of commitments in the whole set; as good as `root`, which binds it.
        leaves: The commitments it shows to be present.
        hidden: First and last commitment that could lie under each subtree left out, ascending.
    """

    root: bytes
    count: int
    leaves: frozenset[bytes]
    hidden: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def holds(self, commitment: bytes) -> bool:
        """Whether a commitment is in the set.

        Args:
            commitment: 32 bytes.

        Returns:
            True if it is shown to be present, False if it is shown to be absent.

        Raises:
            ProofError: If its place was left out, so that neither is shown; or if it is no commitment.
        """
        if not isinstance(commitment, bytes) or len(commitment) != HASH_BYTES:
            raise ProofError(f"commitment: must be {HASH_BYTES} bytes")
        if commitment in self.leaves:
            return True
        after = bisect_right(self.hidden, commitment, key=lambda span: span[0])
        if after and commitment <= self.hidden[after - 1][1]:
            raise ProofError(f"pruned tree: it shows neither presence nor absence of commitment {commitment.hex()}")
        return False


def leaf(commitment: bytes) -> Node:
    """Value of a subtree that holds one commitment.

    Args:
        commitment: 32 bytes.

    Returns:
        The node.

    Raises:
        ValueError: If it is not 32 bytes.
    """
    if len(commitment) != HASH_BYTES:
        raise ValueError(f"a commitment must have {HASH_BYTES} bytes, not {len(commitment)}")
    return Node(1, hashlib.sha256(_LEAF + commitment).digest())


def join(left: Node, right: Node) -> Node:
    """Value of a subtree from its two sides.

    Args:
        left: The side whose next bit is 0.
        right: The side whose next bit is 1.

    Returns:
        The node; with at most one commitment in both sides together, that side's own value.
    """
    count = left.count + right.count
    if count < 2:
        return left if left.count else right
    entries = left.count.to_bytes(_COUNT_BYTES) + left.hash + right.count.to_bytes(_COUNT_BYTES) + right.hash
    return Node(count, hashlib.sha256(_NODE + entries).digest())


def subtree(commitments: Sequence[bytes], depth: int) -> Node:
    """Value of the subtree of all given commitments.

    Args:
        commitments: Ascending, no two equal, all sharing their first `depth` bits.
        depth: Depth of the subtree, 0 (the root) to 256.

    Returns:
        The node.

    Raises:
        ValueError: If the commitments are not so.
    """
    if not 0 <= depth <= DEPTH:
        raise ValueError(f"a subtree lies at a depth of 0 to {DEPTH}, not {depth}")
    if not commitments:
        return EMPTY
    if set(map(len, commitments)) != {HASH_BYTES}:
        raise ValueError(f"every commitment must have {HASH_BYTES} bytes")
    sha256 = hashlib.sha256
    values = [int.from_bytes(commitment, "big") for commitment in commitments]
    if (values[0] ^ values[-1]) >> (DEPTH - depth):
        raise ValueError(f"the commitments do not share their first {depth} bits")
    # Neighbours part at the depth of their first differing bit. From left to right, `pending` keeps the left sides that
    # still wait for their right one, deepest last: (depth at which it parts, the side's value there, its count).
    pending: list[tuple[int, bytes, int]] = [(-1, b"", 0)]
    last = len(values) - 1
    for position, value in enumerate(values):
        if position < last:
            parts = DEPTH - (value ^ values[position + 1]).bit_length()
            if value >= values[position + 1]:
                raise ValueError("the commitments must be ascending, no two of them equal")
        else:
            parts = depth - 1
        entry, count, at = _ONE + sha256(_LEAF + commitments[position]).digest(), 1, DEPTH
        while True:
            above, left, left_count = pending[-1]
            target = above if above > parts else parts
            if count > 1:
                while at > target + 1:  # a subtree of two or more has a node at every depth on the way up
                    at -= 1
                    sides = _NOTHING + entry if value >> (DEPTH - 1 - at) & 1 else entry + _NOTHING
                    entry = count.to_bytes(_COUNT_BYTES, "big") + sha256(_NODE + sides).digest()
            if above <= parts:
                break
            pending.pop()
            count += left_count
            at = above
            entry = count.to_bytes(_COUNT_BYTES, "big") + sha256(_NODE + left + entry).digest()
        pending.append((parts, entry, count))
    _, entry, count = pending[-1]
    return Node(count, entry[_COUNT_BYTES:])


def root(commitments: Iterable[bytes]) -> Node:
    """Value of the whole tree over a set.

    Args:
        commitments: In any order; one given twice counts once.

    Returns:
        The node at depth 0.

    Raises:
        ValueError: If a commitment is not 32 bytes.
    """
    return subtree(sorted(set(commitments)), 0)


def span(depth: int, prefix: int) -> tuple[bytes, bytes]:
    """The first and the last commitment, both inclusive, that could lie in a subtree.

    Args:
        depth: Depth of the subtree, 0 to 256.
        prefix: The `depth` bits its commitments share, as a number.

    Returns:
        Two byte strings of 32 bytes, fit for a range query.
    """
    free = DEPTH - depth
    first = prefix << free
    return first.to_bytes(HASH_BYTES, "big"), (first + (1 << free) - 1).to_bytes(HASH_BYTES, "big")


def prune(
    wanted: Iterable[bytes],
    *,
    cut: int,
    node: Callable[[int, int], Node],
    leaves: Callable[[int, int], Sequence[bytes]],
) -> Json:
    """Pruned tree that shows presence or absence of every wanted commitment, from nodes kept in a store.

    Args:
        wanted: Commitments, in any order.
        cut: Depth, 0 to 256, down to which the store keeps nodes.
        node: `(depth, prefix)` to the node there (`EMPTY` where there is none), for depths up to `cut`.
        leaves: `(depth, prefix)` to the ascending commitments of that subtree (see `span`). Asked at depth `cut` where
            wanted ones lie, and above it only for subtrees of one commitment, since a lone leaf is always shown.

    Returns:
        JSON, as `check` takes it.

    Raises:
        ProofError: If the nodes and the commitments of the store do not belong together.
        ValueError: If `cut` is out of range or a commitment is not 32 bytes.
    """
    if not 0 <= cut <= DEPTH:
        raise ValueError(f"nodes are kept down to a depth of 0 to {DEPTH}, not {cut}")

    def visit(depth: int, prefix: int, asked: Sequence[bytes]) -> tuple[Json, Node]:
        stored = node(depth, prefix)
        if stored.count == 0:
            return None, stored
        if stored.count > 1 and depth > 0 and not asked:
            return _hidden_text(stored), stored
        if stored.count == 1 or depth == cut:
            shown, found = _open(leaves(depth, prefix), asked, depth)
        else:
            middle = _middle(asked, depth, prefix) if asked else 0
            left, left_node = visit(depth + 1, prefix << 1, asked[:middle])
            right, right_node = visit(depth + 1, prefix << 1 | 1, asked[middle:])
            shown, found = [left, right], join(left_node, right_node)
        if found != stored:
            raise ProofError(
                f"sorted tree: the node stored at depth {depth}, prefix {prefix:#x} is not that of what lies under it; "
                "the store was changed from outside or an update was lost"
            )
        return shown, found

    return visit(0, 0, _ascending(wanted))[0]


def prune_set(commitments: Iterable[bytes], wanted: Iterable[bytes]) -> Json:
    """Pruned tree that shows presence or absence of every wanted commitment, from a set in memory.

    Args:
        commitments: The set, in any order.
        wanted: Commitments, in any order.

    Returns:
        JSON, as `check` takes it; equal to what `prune` gives for the same set.

    Raises:
        ValueError: If a commitment is not 32 bytes.
    """
    return _open(_ascending(commitments), _ascending(wanted), 0)[0]


def check(proof: Json) -> PrunedTree:
    """Read a pruned tree from anywhere and recompute its root.

    A set has one tree, and only parts of that tree are accepted: a leaf lies under its prefix, an inner node has two
    commitments or more, a subtree left out too. Whether the root is the expected one is for the caller to compare.

    Args:
        proof: JSON as `json.loads` gives it.

    Returns:
        What it shows.

    Raises:
        ProofError: If it is not a pruned tree.
    """
    leaves: list[bytes] = []
    hidden: list[tuple[bytes, bytes]] = []
    done: list[Node] = []  # finished subtrees that wait for their other side
    # A stack of our own: what is nested as deep as an attacker likes must not exhaust Python's.
    ahead: list[tuple[Json, int, int]] = [(proof, 0, 0)]
    nodes = 0
    while ahead:
        item, depth, prefix = ahead.pop()
        if item is _JOIN:
            right = done.pop()
            done.append(_joined(done.pop(), right, depth))
            continue
        nodes += 1
        if nodes > MAX_PROOF_NODES:
            raise ProofError(f"pruned tree: it has more than {MAX_PROOF_NODES} nodes")
        if type(item) is list:
            if len(item) != 2 or depth == DEPTH:
                raise ProofError(_at(depth, "an inner node has two sides and lies above the last bit of a commitment"))
            ahead += ((_JOIN, depth, prefix), (item[1], depth + 1, prefix << 1 | 1), (item[0], depth + 1, prefix << 1))
        elif item is None:
            done.append(EMPTY)
        elif type(item) is not str:
            raise ProofError(_at(depth, f"a node is null, text or a pair, not {type(item).__name__}"))
        elif item.startswith("l:"):
            commitment = _read_leaf(item, depth, prefix)
            leaves.append(commitment)
            done.append(leaf(commitment))
        else:
            done.append(_read_hidden(item, depth))
            hidden.append(span(depth, prefix))
    return PrunedTree(done[0].hash, done[0].count, frozenset(leaves), tuple(hidden))


def _at(depth: int, what: str) -> str:
    return f"pruned tree, depth {depth}: {what}"


def _joined(left: Node, right: Node, depth: int) -> Node:
    count = left.count + right.count
    if count < 2:
        raise ProofError(_at(depth, "an inner node needs two commitments or more below it"))
    if count > MAX_COUNT:
        raise ProofError(_at(depth, "more commitments than a set may hold"))
    return join(left, right)


def _read_leaf(text: str, depth: int, prefix: int) -> bytes:
    match = _LEAF_TEXT.fullmatch(text)
    if match is None:
        raise ProofError(_at(depth, "a leaf is 'l:' and 64 hex digits, lower case"))
    commitment = bytes.fromhex(match[1])
    if int.from_bytes(commitment, "big") >> (DEPTH - depth) != prefix:
        raise ProofError(_at(depth, "a leaf that does not belong there"))
    return commitment


def _read_hidden(text: str, depth: int) -> Node:
    match = _HIDDEN_TEXT.fullmatch(text)
    if match is None:
        raise ProofError(_at(depth, "a subtree left out is 'h:', 64 hex digits, lower case, ':' and its count"))
    if depth == 0:
        raise ProofError(_at(depth, "the whole tree is left out, so that nothing is shown"))
    count = int(match[2])
    if not 2 <= count <= min(MAX_COUNT, 1 << (DEPTH - depth)):
        raise ProofError(_at(depth, "a subtree left out cannot have this many commitments"))
    return Node(count, bytes.fromhex(match[1]))


def _hidden_text(node: Node) -> str:
    return f"h:{node.hash.hex()}:{node.count}"


def _ascending(commitments: Iterable[bytes]) -> list[bytes]:
    ascending = sorted(set(commitments))
    if not set(map(len, ascending)) <= {HASH_BYTES}:
        raise ValueError(f"every commitment must have {HASH_BYTES} bytes")
    return ascending


def _middle(commitments: Sequence[bytes], depth: int, prefix: int) -> int:
    """Where ascending commitments of a subtree go over from its left side to its right one."""
    return bisect_left(commitments, ((prefix << 1 | 1) << (DEPTH - 1 - depth)).to_bytes(HASH_BYTES))


def _open(commitments: Sequence[bytes], asked: Sequence[bytes], depth: int) -> tuple[Json, Node]:
    """Pruned tree and value of a subtree in memory; the root is never left out, since its count would be unbound."""
    if not commitments:
        return None, EMPTY
    if len(commitments) == 1:
        return f"l:{commitments[0].hex()}", leaf(commitments[0])
    if depth > 0 and not asked:
        value = subtree(commitments, depth)
        return _hidden_text(value), value
    prefix = int.from_bytes(commitments[0], "big") >> (DEPTH - depth)
    middle, asked_middle = _middle(commitments, depth, prefix), _middle(asked, depth, prefix) if asked else 0
    left, left_node = _open(commitments[:middle], asked[:asked_middle], depth + 1)
    right, right_node = _open(commitments[middle:], asked[asked_middle:], depth + 1)
    return [left, right], join(left_node, right_node)
