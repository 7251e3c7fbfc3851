"""Where a record goes: keyed functions of its subject and its id, never of its position or its neighbours.

Because each record's place depends on that record alone, removing others moves nothing that stays; because
the functions are keyed, nobody without the key can aim records at a shard. Where risk classes are declared, a subject's
class says among which shards and slices the key chooses (`Region`), and nothing else changes.
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
class Region:
    """Where subjects of a risk class may go: shards that follow each other, and slices of a batch that do.

    Attributes:
        shards: Numbers of the shards, from 0; None: all.
        slices: Numbers of the slices within a batch, from 0; None: all. The last ones are the cheapest to build again.
    """

    shards: range | None = None
    slices: range | None = None

    def within(self, n_shards: int, n_slices: int) -> Region:
        """The same with its numbers spelled out.

        Args:
            n_shards: S.
            n_slices: R.

        Returns:
            A region that names its shards and slices.

        Raises:
            ConfigurationError: If it names none, or others than there are.
        """
        found = {}
        for name, chosen, count in (("shards", self.shards, n_shards), ("slices", self.slices, n_slices)):
            numbers = range(count) if chosen is None else chosen
            if not isinstance(numbers, range) or numbers.step != 1 or not numbers or not 0 <= numbers[0] <= numbers[-1]:
                raise ConfigurationError(
                    f"a region is made of {name} that follow each other, such as range(2, 5) or None for all, got "
                    f"{chosen!r}"
                )
            if numbers[-1] >= count:
                raise ConfigurationError(
                    f"a region names the {name} {numbers[0]} to {numbers[-1]}, but they are 0 to {count - 1}"
                )
            found[name] = numbers
        return Region(**found)


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


def place(
    key: bytes,
    subjects: Sequence[str],
    record_ids: Sequence[str],
    n_shards: int,
    n_slices: int,
    regions: Sequence[Region] | None = None,
) -> Placement:
    """Place records by their subject; all records of a subject in one region share a shard and a slice number.

    The two numbers are read from the two halves of a keyed 128-bit digest of the subject; the modulo bias is
    below `n_shards / 2**64`.

    Args:
        key: The workspace's placement key, 32 bytes.
        subjects: Subject of each record.
        record_ids: Id of each record.
        n_shards: S, at least 1.
        n_slices: R, at least 1.
        regions: Where each record's subject may go; None: anywhere.

    Returns:
        The placement.

    Raises:
        ConfigurationError: If S or R is below 1, the key has the wrong length, or a region is not among them.
    """
    if n_shards < 1 or n_slices < 1:
        raise ConfigurationError(f"n_shards and n_slices must be at least 1, got {n_shards} and {n_slices}")
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"the placement key must have {KEY_BYTES} bytes, got {len(key)}")
    shards, slices = place_subjects(key, subjects, n_shards, n_slices, regions)
    return Placement(shards, slices, tokens=keyed_tokens(key, "order", record_ids))


def place_subjects(
    key: bytes, subjects: Sequence[str], n_shards: int, n_slices: int, regions: Sequence[Region] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Shard and slice of subjects, whether or not they have records.

    Args:
        key: The workspace's placement key, 32 bytes.
        subjects: The subjects, n of them.
        n_shards: S.
        n_slices: R.
        regions: Where each of them may go; None: anywhere.

    Returns:
        Shards and slices, each `[n]` int64.

    Raises:
        ConfigurationError: If a region is not among the shards and slices.
    """
    halves = keyed_tokens(key, "placement", subjects).view("<u8").reshape(len(subjects), 2)
    bounds = _bounds([Region()] if regions is None else regions, n_shards, n_slices)
    firsts, counts = bounds[:, 0], bounds[:, 1].astype(np.uint64)
    chosen = firsts + (halves % counts).astype(np.int64)
    return chosen[:, 0], chosen[:, 1]


def _bounds(regions: Sequence[Region], n_shards: int, n_slices: int) -> np.ndarray:
    """`[n, 2, 2]` int64: of each region the first shard and slice, and how many of either."""
    kinds = {region: number for number, region in enumerate(dict.fromkeys(regions))}
    whole = [region.within(n_shards, n_slices) for region in kinds]
    pairs = [(region.shards or range(0), region.slices or range(0)) for region in whole]
    of_kinds = np.array([[[part.start for part in pair], [len(part) for part in pair]] for pair in pairs])
    return of_kinds.reshape(-1, 2, 2)[[kinds[region] for region in regions]]


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
