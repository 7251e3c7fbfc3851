"""The global random generators that a user's code may draw from: seed them, and leave them as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the global generators of torch (CPU), numpy and Python as they were found, errors or not.

    Yields:
        Nothing.
    """
    import torch

    kept = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU), numpy and Python.

    `torch.manual_seed` gives the same stream on the CPU, but would also reseed accelerators, whose generators
    belong to the caller.

    Args:
        seed: In `[0, 2**63)`; numpy takes the lowest 32 bits of it.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
