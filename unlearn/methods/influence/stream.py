"""Successive removals from a generalised linear model with a cached inverse, within a stated distance of retraining.

The inverse is taken at some w_c and follows each removal by a rank-m change, O(d² m), while w moves on and the cache
goes stale. How stale is known, since |φ'''| ≤ c φ'': between w_c and w every φ''ᵢ changes by a factor of at most e^τ,
τ = c max|x| |w - w_c| (Bach 2010). Hence, with no pass over the data,

    after a step s = H_c⁻¹ Δ:      |∇L(w + s)| ≤ |∇L(w)| + (e^τ - 1) √λ_max √(s·Δ)
    distance to the optimum:       t ≤ -ln(1 - R |∇L| / μ) / R,    R = c max|x|,    μ = e^-τ Π(1 - h) λ_min,

λ the extreme eigenvalues of the matrix that was inverted, h the joint leverages of what has left since. (The second
line: (∇L(w) - ∇L(w*))·(w - w*) ≥ μ t² (1 - e^-Rt)/(Rt) for t = |w - w*|.) While the bound stays below the stated
distance, nothing else is done. When it does not, the gradient is measured and corrected with the cache as it is, until
half the distance is kept; once a correction does not halve the gradient, the inverse is rebuilt at the optimum. All in
float64, whose rounding is not in the bound.

The bound concerns distance and is no certificate: what was released before a removal is not taken back, and weights at
a distance tell something of who left (`unlearn.methods.certified` adds the noise for that).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.linear_models import ScalarModel
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import check_positions
from unlearn.methods.influence.solvers.woodbury import CachedInverse, Woodbury


class Work(StrEnum):
    """What a removal took."""

    UPDATED = "updated"
    """A rank-m change, O(d² m)."""

    CORRECTED = "corrected"
    """And corrections by the measured gradient, O(n d) each."""

    REFRESHED = "refreshed"
    """The inverse was rebuilt at the optimum, O(n d² + d³)."""


@dataclass(frozen=True, eq=False)
class Removal:
    """The state after a removal.

    Attributes:
        w: `[d]`.
        distance: Bound on |w - w*|, w* the optimum on what remains.
        work: What it took.
    """

    w: torch.Tensor
    distance: float
    work: Work


@dataclass(frozen=True, eq=False)
class _Anchor:
    """An inverse, and what bounds need to know of it.

    Attributes:
        cache: The inverse, without what has left since.
        centre: w_c, where its curvature was taken.
        least: Lower bound on the least eigenvalue of what is inverted now.
        largest: Upper bound on the largest.
        reach: R = c max|x|.
    """

    cache: CachedInverse
    centre: torch.Tensor
    least: float
    largest: float
    reach: float

    def staleness(self, w: torch.Tensor) -> float:
        """The exponent τ at w."""
        return self.reach * float((w - self.centre).norm())

    def distance(self, w: torch.Tensor, gradient: float) -> float:
        """Bound on the distance of w, whose gradient has at most this norm, to the optimum."""
        least = self.least * math.exp(-self.staleness(w))
        if not self.reach:
            return gradient / least
        scaled = self.reach * gradient / least
        return -math.log1p(-scaled) / self.reach if scaled < 1 else math.inf


class RemovalStream:
    """A model, its remaining data, and a cached inverse; one writer at a time.

    What was removed is dropped from memory at the next correction or refresh, not before.
    """

    def __init__(self, objective: ScalarModel, w: torch.Tensor, examples: Examples, *, distance: float) -> None:
        """Start at, or near, the optimum.

        Args:
            objective: L, with a penalty of fixed total strength.
            w: `[d]`, float64: where the search for the optimum starts.
            examples: D.
            distance: Bound on |w - w*| that is kept at all times.

        Raises:
            ConfigurationError: If the distance is not above 0.
        """
        if not 0 < distance < float("inf"):
            raise ConfigurationError(f"distance must be a finite number above 0, got {distance}")
        self._objective, self._allowed = objective, distance
        self._data, self._ids = examples, torch.arange(len(examples))
        self._gone = torch.zeros(len(examples), dtype=torch.bool)
        self._w, self._gradient, self._anchor = self._rebuilt(w)

    @property
    def w(self) -> torch.Tensor:
        """The weights now."""
        return self._w

    @property
    def remaining(self) -> torch.Tensor:
        """Positions in D of what remains, int64."""
        return self._ids[~self._gone[self._ids]]

    def remove(self, forget: torch.Tensor) -> Removal:
        """Remove examples.

        Args:
            forget: Their positions in D `[m]`, int64.

        Returns:
            The state afterwards.
        """
        removed = self._data.take(self._rows_of(forget))
        self._gone[forget] = True
        anchor = self._anchor
        leverage = float(anchor.cache.leverages(removed).sum())
        if (
            leverage >= 1 / 2
        ):  # Nearly alone in a direction: the rank-m change would lose digits, and the bound be void.
            return self._refresh()
        delta = self._objective.removal(self._w, removed)
        self._anchor = anchor = replace(
            anchor, cache=anchor.cache.without(removed), least=(1 - leverage) * anchor.least
        )
        step = anchor.cache.solve(delta).x
        stale = max(anchor.staleness(self._w), anchor.staleness(self._w + step))
        self._w = self._w + step
        self._gradient += math.expm1(stale) * math.sqrt(anchor.largest * max(float(step @ delta), 0.0))
        distance = anchor.distance(self._w, self._gradient)
        if distance <= self._allowed:
            return Removal(self._w, distance, Work.UPDATED)
        return self._correct() if stale <= 1 / 2 else self._refresh()

    def _correct(self) -> Removal:
        """Corrections by the measured gradient, for as long as each at least halves it."""
        self._drop()
        gradient = self._objective.gradient(self._w, self._data)
        before = math.inf
        while (norm := float(gradient.norm())) <= before / 2:
            distance = self._anchor.distance(self._w, norm)
            if distance <= self._allowed / 2:
                self._gradient = norm
                return Removal(self._w, distance, Work.CORRECTED)
            self._w = self._w - self._anchor.cache.solve(gradient).x
            before, gradient = norm, self._objective.gradient(self._w, self._data)
        return self._refresh()

    def _refresh(self) -> Removal:
        self._drop()
        self._w, self._gradient, self._anchor = self._rebuilt(self._w)
        return Removal(self._w, self._anchor.distance(self._w, self._gradient), Work.REFRESHED)

    def _rebuilt(self, start: torch.Tensor) -> tuple[torch.Tensor, float, _Anchor]:
        """The optimum, the norm of its gradient, and an inverse taken there."""
        optimum = minimise(self._objective, self._data, start, tolerance=1e-14)
        cache = Woodbury().fit(Hessian(self._objective, optimum.w, self._data))
        eigenvalues = torch.linalg.eigvalsh(cache.inverse)
        reach = self._objective.bend_log_slope * float(self._data.inputs.norm(dim=1).max())
        anchor = _Anchor(cache, optimum.w, 1 / float(eigenvalues[-1]), 1 / float(eigenvalues[0]), reach)
        distance = anchor.distance(optimum.w, optimum.gradient_norm)
        if not distance <= self._allowed / 2:
            raise ConfigurationError(
                f"a distance of {self._allowed:.2g} is below what float64 can tell here ({2 * distance:.2g}): allow "
                "more, or strengthen the penalty"
            )
        return optimum.w, optimum.gradient_norm, anchor

    def _drop(self) -> None:
        stays = ~self._gone[self._ids]
        self._data, self._ids = self._data.take(stays), self._ids[stays]

    def _rows_of(self, forget: torch.Tensor) -> torch.Tensor:
        """Where in the data that are held the positions lie."""
        check_positions(forget, len(self._gone))
        gone = forget[self._gone[forget]]
        if len(gone):
            raise InputError(f"position {int(gone[0])} was removed before")
        return torch.searchsorted(self._ids, forget)
