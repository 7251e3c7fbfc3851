"""MNIST's writers: people who have several records each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.forget_exact.run import mnist
from shards.records import Records, make_records


@dataclass(frozen=True, eq=False)
class Writers:
    """Images of writers.

    Attributes:
        x: `[n, 196]` float32, means of 2 x 2 pixels, from 0 to 1.
        y: `[n]` int64.
        writer: `[n]` int.
        known: Writers with enough images.
    """

    x: np.ndarray
    y: np.ndarray
    writer: np.ndarray
    known: np.ndarray

    def records(self, who: Sequence[int], images: int) -> Records:
        """The first images of some writers, under their names."""
        rows = np.concatenate([np.flatnonzero(self.writer == one)[:images] for one in who])
        names = [f"writer-{one}" for one in self.writer[rows].tolist()]
        return make_records(
            self.x[rows], self.y[rows], subjects=names, record_ids=[f"image-{row}" for row in rows.tolist()]
        )


def writers(images: int) -> Writers:
    """MNIST's training part, smaller.

    Args:
        images: That a writer needs.

    Returns:
        The images.
    """
    data = mnist()
    small = data.x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(data.x), -1) / 255
    who, counts = np.unique(data.writer, return_counts=True)
    return Writers(small.astype(np.float32), data.y.astype(np.int64), data.writer, who[counts >= images])
