"""The global random generators that a user's code may draw from: seed them, and leave them as they were."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import numpy as np

from shards.interrupts import guarded

_alone = threading.RLock()
"""Held while the generators are borrowed: two threads at it would keep each other's state."""


@guarded
def generators_kept() -> Iterator[None]:
    """Leave the global generators of Python, numpy and torch (CPU, if loaded) as they were found, errors or not.

    Yields:
        Nothing.
    """
    torch = sys.modules.get("torch")
    with _alone:
        kept = random.getstate(), np.random.get_state(), torch and torch.default_generator.get_state()
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            if torch is not None:
                torch.default_generator.set_state(kept[2])


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (CPU, if loaded).

    `torch.manual_seed` gives the same stream on the CPU, but would also reseed accelerators, whose generators
    belong to the caller.

    Args:
        seed: In `[0, 2**63)`; numpy takes the lowest 32 bits of it.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(seed)
