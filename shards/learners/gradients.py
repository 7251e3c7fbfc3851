"""Oriented gradients of images, pooled over cells: a feature map that is public, and exact up to one square root.

At each pixel the gradient is projected on K directions around the circle; what points backwards counts as 0; each
direction's values are averaged over overlapping square cells, and the square root is taken. These are histograms of
oriented gradients [Dalal and Triggs 2005] without normalisation between cells, or one layer of fixed convolutions,
rectified and pooled [Jarrett, Kavukcuoglu, Ranzato and LeCun 2009]. Pixels, directions and cells are counted in whole
numbers, so that a record has the same features wherever it stands, and whatever stands beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.feature_maps import EXACT_FLOAT, FeatureMap, count, largest_count

DIRECTION_UNIT = 2.0**-4
"""What one count of a direction's cosine and sine is worth."""

EXACT_SINGLE = 2**24
"""Up to here every whole number is a float32, which is twice as fast to add up."""

BATCH = 64
"""So many images at once stay in the processor's cache."""


@dataclass(frozen=True)
class Gradients(FeatureMap):
    """Square roots of mean oriented gradients over square cells of an image, of each channel by itself.

    Attributes:
        height: Rows of an image.
        columns: Columns of an image.
        orientations: K, even.
        size: Rows and columns of a cell.
        stride: From one cell to the next.
        unit: What one count of a feature is worth.
        input_unit: What one count of a pixel is worth.
        input_limit: Largest pixel in absolute terms.
        channels: Colours of an image, which come one after another: `[channels, height, columns]`.
    """

    kind: ClassVar[str] = "gradients"

    height: int
    columns: int
    orientations: int = 8
    size: int = 7
    stride: int = 3
    unit: float = 2.0**-8
    input_unit: float = 2.0**-8
    input_limit: float = 1.0
    channels: int = 1

    @property
    def limit(self) -> float:
        """Of a cell whose pixels are as different as can be."""
        return math.sqrt(self._bound() * self._worth()) * (1 + 1e-12)

    @property
    def takes(self) -> tuple[float, float]:
        """Unit and limit of a pixel."""
        return self.input_unit, self.input_limit

    def width(self, given: int) -> int:
        """One a channel, direction and cell.

        Args:
            given: Pixels of an image.

        Returns:
            How many features there are.

        Raises:
            ConfigurationError: If an image has another size, or no cell fits into it.
        """
        if given != self.channels * self.height * self.columns:
            colours = f" in {self.channels} channels" if self.channels > 1 else ""
            raise ConfigurationError(
                f"gradients were declared of images of {self.height} rows and {self.columns} columns{colours}, and a "
                f"record has {given:,} numbers: declare height, columns and channels as they are"
            )
        cells = len(self._starts(self.height)) * len(self._starts(self.columns))
        return self.channels * self.orientations * cells

    def values(self, X: np.ndarray) -> np.ndarray:
        """sqrt(mean over a cell of max(0, direction . gradient)).

        Args:
            X: `[n, channels * height * columns]` float64.

        Returns:
            `[n, width(channels * height * columns)]` float64.
        """
        counts = count(X, self.input_unit, largest_count(self.input_limit, self.input_unit), "pixel")
        dtype = np.float32 if self._bound() < EXACT_SINGLE else np.float64
        images = counts.astype(dtype).reshape(-1, self.height, self.columns)
        down, across = (self._cells(length).astype(dtype) for length in (self.height, self.columns))
        found = [self._pooled(images[at : at + BATCH], down, across) for at in range(0, len(images), BATCH)]
        pooled = np.concatenate(found) if found else np.zeros((0, 0))
        values: np.ndarray = np.sqrt(pooled.astype(np.float64) * self._worth())
        return values.reshape(len(X), self.width(X.shape[1]))

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            ConfigurationError: Naming them.
        """
        super().check()
        if self.orientations % 2:
            raise ConfigurationError(f"orientations must be even, got {self.orientations}")
        if self.size > min(self.height, self.columns):
            raise ConfigurationError(
                f"size must be at most {min(self.height, self.columns)}, the shorter side of an image, got {self.size}"
            )
        if self._bound() >= EXACT_FLOAT:
            raise ConfigurationError(
                f"cells of {self.size} pixels of up to {self.input_limit:g} in units of {self.input_unit:g} cannot be "
                "added up exactly: use a coarser input_unit"
            )

    def _pooled(self, images: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Whole numbers `[n, width of a channel]`: sums over cells, all below `_bound`, so exact in any order."""
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        up = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        found = np.empty((len(images), self.orientations, self.height, self.columns), dtype=images.dtype)
        for at, (cosine, sine) in enumerate(self._directions()):
            along = right * images.dtype.type(cosine)
            along += up * images.dtype.type(sine)
            np.maximum(along, 0, out=found[:, 2 * at])
            # The opposite direction's values are the same with the other sign.
            np.maximum(np.negative(along, out=along), 0, out=found[:, 2 * at + 1])
        # [n, K, rows, columns] -> [n, K, cells down, cells across]
        pooled: np.ndarray = down @ (found @ across.T)
        return pooled.reshape(len(images), -1)

    def _directions(self) -> list[tuple[float, float]]:
        angles = [2 * math.pi * k / self.orientations for k in range(self.orientations // 2)]
        return [(round(math.cos(a) / DIRECTION_UNIT), round(math.sin(a) / DIRECTION_UNIT)) for a in angles]

    def _starts(self, length: int) -> range:
        return range(0, length - self.size + 1, self.stride)

    def _cells(self, length: int) -> np.ndarray:
        """`[cells, length]`: 1 where a row or column belongs to a cell."""
        at = np.arange(length)
        return np.array([(start <= at) & (at < start + self.size) for start in self._starts(length)])

    def _bound(self) -> int:
        """Largest sum over a cell, in counts."""
        steepest = max(abs(c) + abs(s) for c, s in self._directions())
        return int(steepest) * 2 * largest_count(self.input_limit, self.input_unit) * self.size**2

    def _worth(self) -> float:
        """What one count of a sum over a cell adds to its mean."""
        return self.input_unit * DIRECTION_UNIT / self.size**2
