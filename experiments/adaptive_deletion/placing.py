"""Fresh placements, by the function that workspaces use."""

from __future__ import annotations

import numpy as np

from shards.placement import KEY_BYTES, place_subjects


def fresh_placement(rng: np.random.Generator, subjects: list[str], n_shards: int) -> np.ndarray:
    """Shard of every subject under a new key, `[n]` int64."""
    return place_subjects(rng.bytes(KEY_BYTES), subjects, n_shards, 1)[0]


def names(n: int) -> list[str]:
    """So many subjects."""
    return [f"s{i}" for i in range(n)]
