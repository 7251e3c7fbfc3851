"""Random numbers that a privacy guarantee rests on: fresh, secret, never derivable from a seed or a key.

Everything else random in training is derived from the recipe's root seed, so that it can be done again. What a privacy
proof calls noise must be just what that is not: nobody, the operator included, may be able to draw it again. So it is
taken from the operating system's secure source at the moment it is needed, used once and kept nowhere.

The proofs are about real numbers; these are float64 of 53 random bits each.
"""

from __future__ import annotations

import math
import secrets
from typing import Protocol

import numpy as np


class Source(Protocol):
    """Where random numbers come from; a test puts known ones in the place of `SYSTEM`."""

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent standard normal numbers, float64 of that shape."""

    def uniform(self, size: int) -> np.ndarray:
        """Independent numbers of `[0, 1)`, float64 `[size]`."""

    def seed(self) -> int:
        """A number of `[0, 2**63)` for a generator whose numbers must be secret, though not of this source."""


class SystemSource:
    """The operating system's secure source: no seed, no state, never repeatable."""

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent standard normal numbers, float64 of that shape; see `system_normal`."""
        return system_normal(shape)

    def uniform(self, size: int) -> np.ndarray:
        """Independent numbers of `[0, 1)`, float64 `[size]`: multiples of 2**-53."""
        return _bits(size).astype(np.float64) * 2.0**-53

    def seed(self) -> int:
        """A number of `[0, 2**63)`."""
        return secrets.randbits(63)


SYSTEM = SystemSource()
"""The source of everything but tests."""


def masked(values: np.ndarray, scale: float, source: Source = SYSTEM) -> np.ndarray:
    """Values with Gaussian noise, rounded to a grid; see `rounded`.

    Args:
        values: float64 of any shape.
        scale: Standard deviation of the noise, above 0.
        source: Where it comes from.

    Returns:
        float64 of that shape.
    """
    return rounded(values + scale * source.normal(values.shape), scale)


def rounded(noisy: np.ndarray, scale: float) -> np.ndarray:
    """Noisy values, rounded to a grid.

    The last bits of a floating-point sum tell of its parts (Mironov 2012). Rounding to multiples of the power of two at
    a quarter of the noise wipes them out, and looks at nothing but the sum.

    Args:
        noisy: float64 of any shape.
        scale: Standard deviation of the noise in it, above 0.

    Returns:
        float64 of that shape.
    """
    grid = 2.0 ** (math.floor(math.log2(scale)) - 2)
    found: np.ndarray = np.round(noisy / grid) * grid
    return found


def system_normal(shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers from the operating system's secure source.

    By Box and Muller, from 53 random bits for each uniform number, so none is above 8.7 in size.

    Args:
        shape: Shape of the result.

    Returns:
        float64.
    """
    size = math.prod(shape)
    radius, angle = (_bits(2 * size).reshape(2, size).astype(np.float64) + 0.5) * 2.0**-53
    normal: np.ndarray = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
    return normal.reshape(shape)


def _bits(size: int) -> np.ndarray:
    """Uniform whole numbers below 2**53, uint64 `[size]`."""
    return np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64) >> np.uint64(11)
