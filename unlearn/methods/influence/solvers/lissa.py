"""LiSSA (Agarwal, Bullins and Hazan 2017): the Neumann series Σ_t (I - H/c)^t v / c, with a batch's curvature a step.

    h ← v + h - (H_B h)/c,     x = h / c,     H_B = (n/|B|) Σ_{i in B} H_i + Λ I

It converges where c exceeds the largest eigenvalues of the batches' curvature, and then slowly: I - H/c shrinks the
directions of least curvature by 1 - μ/c a step. c is what users get wrong, so it is found here by power iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Curvature, as_block
from unlearn.methods.influence.solvers.base import DivergedError, Inverse, Solution, Solver, residual

Product: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""V `[p, r]` → H V."""

LOOK = 50
"""Steps between two looks at whether the series runs away."""


@dataclass(frozen=True)
class LiSSA(Solver):
    """Neumann series on batches.

    Attributes:
        depth: Steps.
        batch_size: Examples a step; at least as many as there are: all of them, and no chance remains.
        repeats: Independent runs whose mean is taken.
        probes: Batches whose largest eigenvalue is looked at for the scale, beside that of all data.
        margin: The scale is so many times the largest eigenvalue found: power iteration comes from below.
        seed: Of the batches.
    """

    depth: int = 5_000
    batch_size: int = 32
    repeats: int = 1
    probes: int = 8
    margin: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.depth, self.batch_size, self.repeats) < 1 or self.probes < 0 or not self.margin > 1 / 2:
            raise ConfigurationError(
                "LiSSA: depth, batch_size and repeats must be at least 1, probes at least 0, margin above 1/2"
            )

    def fit(self, curvature: Curvature) -> LiSSAInverse:
        """Choose the scale.

        Args:
            curvature: H.

        Returns:
            What solves.
        """
        generator = torch.Generator().manual_seed(self.seed)
        largest = largest_eigenvalue(curvature.matvec, curvature.size, generator)
        drawn = _batches(curvature, self.batch_size, generator)
        for _ in range(self.probes):
            largest = max(largest, largest_eigenvalue(next(drawn), curvature.size, generator))
        return LiSSAInverse(curvature, self, self.margin * largest)


@dataclass(frozen=True, eq=False)
class LiSSAInverse(Inverse):
    """Solves by the series.

    Attributes:
        curvature: H.
        specification: Depth, batches.
        scale: c.
    """

    curvature: Curvature
    specification: LiSSA
    scale: float

    def solve(self, vectors: torch.Tensor) -> Solution:
        """Run the series.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x with its residual, measured on all data.
        """
        v = as_block(vectors, self.curvature.size)
        generator = torch.Generator().manual_seed(self.specification.seed)
        total = torch.zeros_like(v)
        for _ in range(self.specification.repeats):
            drawn = _batches(self.curvature, self.specification.batch_size, generator)
            h = v.clone()
            for step in range(self.specification.depth):
                h = v + h - next(drawn)(h) / self.scale
                if step % LOOK == 0 or step == self.specification.depth - 1:
                    self._look(h)
            total += h
        x = total / (self.scale * self.specification.repeats)
        return Solution(x.reshape(vectors.shape), residual(self.curvature, x, v), self.specification.depth)

    def _look(self, h: torch.Tensor) -> None:
        # |h| may grow for long and still converge; beyond this bound products would soon overflow to NaN.
        if not bool(h.norm() < 1e100):
            raise DivergedError(
                f"LiSSA ran away with scale {self.scale:.3g}: take larger batches, or a larger margin than "
                f"{self.specification.margin:g}"
            )


def largest_eigenvalue(product: Product, size: int, generator: torch.Generator, *, iterations: int = 30) -> float:
    """The largest absolute eigenvalue of a symmetric matrix, from below, by power iteration.

    Args:
        product: v `[p, 1]` → H v.
        size: p.
        generator: Of the first vector.
        iterations: So many products.

    Returns:
        |H v| of the last unit vector v.
    """
    v = torch.randn(size, 1, dtype=torch.float64, generator=generator)
    norm = float(v.norm())
    for _ in range(iterations):
        v = product(v / norm)
        norm = float(v.norm())
        if norm == 0:
            break
    return norm


def _batches(curvature: Curvature, size: int, generator: torch.Generator) -> Iterator[Product]:
    """Products with H_B of one batch after another, pass after pass."""
    n = len(curvature.examples)
    while True:
        order = torch.randperm(n, generator=generator) if size < n else torch.arange(n)
        for start in range(0, n, size):
            yield _of_batch(curvature, curvature.examples.take(order[start : start + size]))


def _of_batch(curvature: Curvature, batch: Examples) -> Product:
    data, weight = curvature.on(batch), len(curvature.examples) / len(batch)
    return lambda v: weight * data.data_matvec(v) + curvature.shift * v
