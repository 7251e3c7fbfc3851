"""Append-only Merkle tree over a log: roots, inclusion and consistency proofs (RFC 6962, section 2.1).

A tree of n leaves is a complete binary tree over its first k leaves, k the largest power of two below n, joined with
the tree of the rest. Complete subtrees never change once full; so a log keeps their hashes, addressed by
`(level, index)`, and every root and every proof of every past size is read from O(log n) of them.

Source: B. Laurie, A. Langley, E. Kasper, Certificate Transparency, RFC 6962 (2013); verification after RFC 9162.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from unlearn.errors import ProofError

HASH_BYTES = 32
EMPTY_ROOT: bytes = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

Subtree = Callable[[int, int], bytes]
"""`(level, index)` to the hash of the complete subtree of `2**level` leaves that starts at leaf `index * 2**level`."""

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(_NODE + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes that are all in memory.

    Args:
        leaf_hashes: Hashes of the leaves, in order.

    Returns:
        The root, 32 bytes; `EMPTY_ROOT` without leaves.

    Raises:
        ValueError: If a leaf hash is not 32 bytes.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    if set(map(len, leaf_hashes)) != {HASH_BYTES}:
        raise ValueError(f"every leaf hash must have {HASH_BYTES} bytes; hash the data with leaf_hash first")
    sha256 = hashlib.sha256
    level = list(leaf_hashes)
    while len(level) > 1:
        above = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            above.append(level[-1])  # a right edge without sibling stands for itself one level up
        level = above
    return level[0]


class Appender:
    """Adds leaves to a log that may hold some already.

    Reads the O(log n) complete subtrees that cover the present leaves once; after that reads nothing.

    Args:
        size: Number of leaves the log holds.
        subtree: Hashes of the log's complete subtrees.

    Raises:
        ValueError: If `size` is negative.
    """

    def __init__(self, size: int, subtree: Subtree) -> None:
        if size < 0:
            raise ValueError(f"a log cannot have {size} leaves")
        self._size = size
        self._peaks = _peaks(0, size, subtree)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf.

        Args:
            leaf: Its hash, from `leaf_hash`.

        Returns:
            The complete subtrees this leaf brings about, as (level, index, hash): the leaf itself first, then upwards.
            Two an append on average. All are to be stored; none of them will change.

        Raises:
            ValueError: If the hash is not 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf hash must have {HASH_BYTES} bytes, not {len(leaf)}; use leaf_hash")
        level, index, value = 0, self._size, leaf
        new = [(0, index, leaf)]
        while index & 1:
            value = node_hash(self._peaks.pop(), value)
            level += 1
            index >>= 1
            new.append((level, index, value))
        self._peaks.append(value)
        self._size += 1
        return new

    def root(self) -> bytes:
        """Root over all leaves so far."""
        return _fold(self._peaks)


def root_at(size: int, subtree: Subtree) -> bytes:
    """Root of the first leaves of a log.

    Args:
        size: How many leaves.
        subtree: Hashes of the log's complete subtrees; O(log size) are read.

    Returns:
        The root, 32 bytes.

    Raises:
        ValueError: If `size` is negative.
    """
    if size < 0:
        raise ValueError(f"a log cannot have {size} leaves")
    return _fold(_peaks(0, size, subtree))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """What shows that a leaf is in a tree: PATH(index, D[size]).

    Args:
        index: Position of the leaf.
        size: Number of leaves of the tree.
        subtree: Hashes of the log's complete subtrees; O(log size) are read.

    Returns:
        Hashes from the leaf's sibling up to the root's child.

    Raises:
        ValueError: If the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, length = 0, size
    while length > 1:
        half = _half(length)
        if index < start + half:
            path.append(_range_root(start + half, length - half, subtree))
            length = half
        else:
            path.append(_range_root(start, half, subtree))
            start, length = start + half, length - half
    return path[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """What shows that a tree continues an older one: PROOF(old, D[size]).

    Args:
        old: Number of leaves of the older tree; 0 and `size` need nothing shown and give an empty proof.
        size: Number of leaves of the newer tree.
        subtree: Hashes of the log's complete subtrees; O(log size) are read.

    Returns:
        Hashes, in the order `check_consistency` takes them.

    Raises:
        ValueError: If `old` is not between 0 and `size`.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} leaves does not continue one of {old}")
    if old == 0:
        return []
    path: list[bytes] = []
    start, length = 0, size
    while start + length != old:
        half = _half(length)
        if old <= start + half:
            path.append(_range_root(start + half, length - half, subtree))
            length = half
        else:
            path.append(_range_root(start, half, subtree))
            start, length = start + half, length - half
    if start:  # otherwise what is left is the older tree itself, whose root the verifier has
        path.append(_range_root(start, length, subtree))
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is in a tree.

    The root of a tree does not tell its size: trees of different sizes can share the shape of a path. Take `size` and
    `root` from the same trusted (signed) head, never from whoever made the proof.

    Args:
        leaf: Hash of the leaf, from `leaf_hash`.
        index: Its position.
        size: Number of leaves of the tree.
        proof: From `inclusion_proof`.
        root: Root of the tree.

    Raises:
        ProofError: If the proof does not show it, or anything is malformed.
    """
    _require_size(size, "tree size")
    _require_size(index, "leaf index")
    _require_hash(leaf, "leaf")
    _require_hash(root, "root")
    if index >= size:
        raise ProofError(f"inclusion proof: a tree of {size} leaves has no leaf {index}")
    # Below the level where the leaf's path meets the right edge every level has a sibling; along the edge only those
    # levels have one at which the path turns left.
    inner = (index ^ (size - 1)).bit_length()
    _require_proof(proof, inner + (index >> inner).bit_count(), "inclusion")
    value = leaf
    for level, sibling in enumerate(proof):
        on_right = level >= inner or (index >> level) & 1
        value = node_hash(sibling, value) if on_right else node_hash(value, sibling)
    if value != root:
        raise ProofError(f"inclusion proof: leaf {index} is not in the tree of {size} leaves with this root")


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that a tree continues an older one: that its first leaves are the older tree's, unchanged and in order.

    As for `check_inclusion`, sizes and roots must come from trusted heads.

    Args:
        old: Number of leaves of the older tree.
        old_root: Its root.
        size: Number of leaves of the newer tree.
        root: Its root.
        proof: From `consistency_proof`.

    Raises:
        ProofError: If the proof does not show it, or anything is malformed.
    """
    _require_size(old, "older tree size")
    _require_size(size, "tree size")
    _require_hash(old_root, "older root")
    _require_hash(root, "root")
    if old > size:
        raise ProofError(f"consistency proof: a tree of {size} leaves cannot continue one of {old}")
    for leaves, value in ((old, old_root), (size, root)):
        if leaves == 0 and value != EMPTY_ROOT:
            raise ProofError("consistency proof: the root given for the tree without leaves is not its root")
    if old in (0, size):
        _require_proof(proof, 0, "consistency")
        if old == size and old_root != root:
            raise ProofError(f"consistency proof: two different roots of {size} leaves: the log was rewritten")
        return
    # Climb from the last complete subtree of the older tree: `position` is its place, `edge` that of the right edge.
    whole = (old & -old).bit_length() - 1
    position, edge = (old - 1) >> whole, (size - 1) >> whole
    inner = (position ^ edge).bit_length()
    starts_at_root = position == 0  # the older tree is one complete subtree, whose hash the verifier has
    _require_proof(proof, inner + (position >> inner).bit_count() + (not starts_at_root), "consistency")
    siblings = list(proof)
    older = newer = old_root if starts_at_root else siblings.pop(0)
    for level, sibling in enumerate(siblings):
        if level >= inner or (position >> level) & 1:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
        else:
            newer = node_hash(newer, sibling)
    if older != old_root:
        raise ProofError(f"consistency proof: it does not start from the tree of {old} leaves with the older root")
    if newer != root:
        raise ProofError(f"consistency proof: the tree of {size} leaves does not continue the one of {old} leaves")


def _half(length: int) -> int:
    """The largest power of two below a length of at least 2."""
    return 1 << ((length - 1).bit_length() - 1)


def _peaks(start: int, length: int, subtree: Subtree) -> list[bytes]:
    """Hashes of the complete subtrees that cover leaves `start` to `start + length`, from left to right."""
    peaks: list[bytes] = []
    while length:
        level = length.bit_length() - 1
        peaks.append(subtree(level, start >> level))
        start, length = start + (1 << level), length - (1 << level)
    return peaks


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Root over complete subtrees of falling size."""
    if not peaks:
        return EMPTY_ROOT
    value = peaks[-1]
    for peak in reversed(peaks[:-1]):
        value = node_hash(peak, value)
    return value


def _range_root(start: int, length: int, subtree: Subtree) -> bytes:
    return _fold(_peaks(start, length, subtree))


def _require_size(value: int, name: str) -> None:
    if type(value) is not int or value < 0:  # True is an int to Python, never a size
        raise ProofError(f"{name}: must be an integer of at least 0")


def _require_hash(value: bytes, name: str) -> None:
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise ProofError(f"{name}: must be {HASH_BYTES} bytes")


def _require_proof(proof: Sequence[bytes], length: int, kind: str) -> None:
    if not isinstance(proof, (list, tuple)):
        raise ProofError(f"{kind} proof: must be a list of hashes")
    if len(proof) != length:
        raise ProofError(f"{kind} proof: must have {length} hashes for trees of these sizes, not {len(proof)}")
    for value in proof:
        _require_hash(value, f"{kind} proof")
