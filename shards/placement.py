"""Where a record goes: keyed functions of its subject and its id, never of its position or its neighbours.

Because each record's place depends on that record alone, removing others moves nothing that stays; because
the functions are keyed, nobody without the key can aim records at a shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.errors import ConfigurationError

KEY_BYTES = 32
TOKEN_BYTES = 16


@dataclass(frozen=True)
class Placement:
    """Shard and slice of every record of a batch, and the canonical order within a slice.

    Attributes:
        shards: `[n]` int64, in `[0, n_shards)`.
        slices: `[n]` int64, in `[0, n_slices)`: the slice within the batch.
        tokens: `[n, 16]` uint8: keyed digests of the record ids; a slice is ordered by them.
    """

    shards: np.ndarray
    slices: np.ndarray
    tokens: np.ndarray


def keyed_tokens(key: bytes, purpose: str, ids: Sequence[str]) -> np.ndarray:
    """Keyed BLAKE2b of each id.

    Args:
        key: Secret of 32 bytes.
        purpose: At most 16 ASCII characters; tokens for different purposes are unrelated.
        ids: The ids, n of them.

    Returns:
        `[n, 16]` uint8.
    """
    person = purpose.encode("ascii")
    keyed = hashlib.blake2b(key=key, person=person, digest_size=TOKEN_BYTES)
    out = bytearray()
    for item in ids:
        state = keyed.copy()
        state.update(item.encode())
        out += state.digest()
    return np.frombuffer(bytes(out), dtype=np.uint8).reshape(len(ids), TOKEN_BYTES)


def place(key: bytes, subjects: Sequence[str], record_ids: Sequence[str], n_shards: int, n_slices: int) -> Placement:
    """Place records by their subject; all records of a subject share a shard and a slice number.

    The two numbers are read from the two halves of a keyed 128-bit digest of the subject; the modulo bias is
    below `n_shards / 2**64`.

    Args:
        key: The workspace's placement key, 32 bytes.
        subjects: Subject of each record.
        record_ids: Id of each record.
        n_shards: S, at least 1.
        n_slices: R, at least 1.

    Returns:
        The placement.

    Raises:
        ConfigurationError: If S or R is below 1 or the key has the wrong length.
    """
    if n_shards < 1 or n_slices < 1:
        raise ConfigurationError(f"n_shards and n_slices must be at least 1, got {n_shards} and {n_slices}")
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"the placement key must have {KEY_BYTES} bytes, got {len(key)}")
    shards, slices = place_subjects(key, subjects, n_shards, n_slices)
    return Placement(shards, slices, tokens=keyed_tokens(key, "order", record_ids))


def place_subjects(key: bytes, subjects: Sequence[str], n_shards: int, n_slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Shard and slice of subjects, whether or not they have records.

    Args:
        key: The workspace's placement key, 32 bytes.
        subjects: The subjects, n of them.
        n_shards: S.
        n_slices: R.

    Returns:
        Shards and slices, each `[n]` int64.
    """
    halves = keyed_tokens(key, "placement", subjects).view("<u8").reshape(len(subjects), 2)
    shards = (halves[:, 0] % np.uint64(n_shards)).astype(np.int64)
    return shards, (halves[:, 1] % np.uint64(n_slices)).astype(np.int64)


def grouped(placement: Placement, n_slices: int) -> list[tuple[int, int, np.ndarray]]:
    """Rows of each non-empty (shard, slice), in canonical order.

    Args:
        placement: Where the records go.
        n_slices: R.

    Returns:
        `(shard, slice, rows)` sorted by shard and slice; `rows` are int64 positions sorted by token.
    """
    if not len(placement.shards):
        return []
    words = np.ascontiguousarray(placement.tokens).view(">u8").reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0], placement.slices, placement.shards))
    group = placement.shards[order] * n_slices + placement.slices[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(order))
    return [
        (int(group[a]) // n_slices, int(group[a]) % n_slices, order[a:b])
        for a, b in zip(starts, ends, strict=True)
        if b > a
    ]
