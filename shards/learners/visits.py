"""Which records a minibatch holds: passes of permutations, cut into windows that flow across passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def count_windows(visits: int, batch_size: int) -> int:
    """Number of minibatches that `windows` yields.

    Args:
        visits: Record-visits to make, at least 1.
        batch_size: Records a minibatch, at least 1.

    Returns:
        At least 1.
    """
    full, rest = divmod(visits, batch_size)
    return max(1, full + (rest > (1 if batch_size > 1 else 0)))


def windows(n: int, visits: int, batch_size: int, seed: Callable[[int], int] | None) -> Iterator[np.ndarray]:
    """Yield the record indices of each minibatch of a step.

    The visit sequence is pass 0, pass 1, … of all records, concatenated and truncated to `visits`, so visit v
    belongs to pass v // n and no record is visited more than once more than another. Windows of `batch_size`
    flow across the end of a pass. A lone record left at the end joins the window before it, since batch
    normalisation cannot train on one; a batch size of one is left as it is.

    Args:
        n: Number of records, at least 1.
        visits: Record-visits to make, at least 1.
        batch_size: Records a minibatch, at least 1.
        seed: Pass number to the seed of its permutation; None visits in canonical order.

    Yields:
        `[batch_size]` int64 indices below n; the last window holds 1 to `batch_size` + 1 of them.
    """
    count = count_windows(visits, batch_size)
    order = np.empty(0, dtype=np.int64)
    number = at = 0
    for k in range(count):
        missing = batch_size if k < count - 1 else visits - batch_size * (count - 1)
        pieces = []
        while missing:
            if at == len(order):
                order = _one_pass(n, seed, number)
                number, at = number + 1, 0
            piece = order[at : at + missing]
            pieces.append(piece)
            missing -= len(piece)
            at += len(piece)
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _one_pass(n: int, seed: Callable[[int], int] | None, number: int) -> np.ndarray:
    """Indices of all records in the order of one pass, int64."""
    if seed is None:
        return np.arange(n, dtype=np.int64)
    return np.random.Generator(np.random.PCG64(seed(number))).permutation(n).astype(np.int64, copy=False)
