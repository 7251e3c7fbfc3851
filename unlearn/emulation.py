r"""Dataset emulation: records of nobody, drawn from private sums of real ones, to train on in their place.

Of each class the number of records, the sum of their features and that of the features' products are published with
Gaussian noise, once; synthetic records are drawn from normal distributions with these moments. What is published is
\((\varepsilon,\delta)\)-differentially private for a whole subject, and so is all that is made of it: any number of
synthetic records, any model trained on them. If the real records are then destroyed, a subject's deletion has been
served before it was asked for, up to \(\varepsilon\): there is nothing left to retrain (the family of dataset emulation
in Achille et al. 2023, arXiv 2307.03470 (re-check)).

**Guarantee.** Bring a record's features to u with \(\|u\| \le 1\) by public constants. Its class's part of the sums is
\((1, u, uu^\top)\), whose norm is \(\sqrt{1 + \|u\|^2 + \|u\|^4} \le \sqrt 3\) (the Frobenius norm of \(uu^\top\) is
\(\|u\|^2\); what is published of the symmetric matrix is each entry once, those outside of the diagonal times
\(\sqrt 2\), which has the same norm). A subject with at most m records moves all sums together by at most
\(S = m\sqrt 3\). With noise of standard deviation \(S/\mu\) on every number the sums are \(\mu\)-GDP (Dong, Roth and Su
2022), and \(k\mu\)-GDP for k subjects together; \(\mu\) is the largest that implies \((\varepsilon,\delta)\) (Balle and
Wang 2018).

A normal distribution keeps means and correlations of a class, and nothing finer: measure what a model trained on the
emulation loses (`python -m experiments.emulation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.noise import SYSTEM, Source, masked
from shards.records import Records, encode_target, make_records, to_array, to_ids
from unlearn.audit.epsilon import upper
from unlearn.audit.epsilon.bound import UpperBound
from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.errors import ConfigurationError, InputError

_ROUNDING = 1e-9
"""Sums in float64 are off by less, relative to the sensitivity."""

ASSUMED = (
    "bounds, classes and the number of synthetic records are public, and were not chosen by looking at the data",
    "the noise is fresh and secret; numbers are real",
    "no other emulation, model or statistic of the same records was published: each costs a budget of its own",
)
"""What the guarantee rests on."""


@dataclass(frozen=True, eq=False)
class Emulation:
    """Synthetic records, and what is guaranteed of whoever was in the real ones.

    Attributes:
        x: `[n, *shape]` float32, within the bounds.
        y: `[n]` class labels.
        mu: The sums are mu-GDP for a subject.
        delta: That epsilon is stated for.
        per_subject: Real records that were used of each subject, at most.
        noise: Standard deviation of the noise on each number, in units of one record's.
        counts: Class to how many real records it has according to the noisy sums, never below 0.
    """

    x: np.ndarray
    y: np.ndarray
    mu: float
    delta: float
    per_subject: int
    noise: float
    counts: Mapping[Any, float] = field(repr=False)

    def guarantee(self, *, k: int = 1, delta: float | None = None) -> UpperBound:
        """How far what is made of the emulation may be from what had been made without some subjects.

        Args:
            k: Subjects deleted, over all requests together.
            delta: That epsilon is stated for; None: the emulation's own.

        Returns:
            The bound, with what it rests on.

        Raises:
            ConfigurationError: If k or delta cannot be.
        """
        bound = upper.gaussian(self.mu, delta=self.delta if delta is None else delta, k=k)
        return UpperBound(
            "dataset emulation by Gaussian sums", bound.epsilon, bound.delta, k, bound.mu, bound.evidence, ASSUMED
        )

    def capacity(self, epsilon: float, *, delta: float | None = None) -> int:
        """For how many deleted subjects together an epsilon still holds.

        Args:
            epsilon: At least 0.
            delta: That it is stated for; None: the emulation's own.

        Returns:
            The largest k; 0 if not even one.
        """
        return math.floor(gdp_mu(epsilon, self.delta if delta is None else delta) / self.mu * (1 + _ROUNDING))

    def records(self, *, batch: int = 0) -> Records:
        """The synthetic records, for `Workspace.ingest`: each is a subject of its own, which nobody is.

        Args:
            batch: Number of the batch, from 0.

        Returns:
            Records named `synthetic-BATCH-0`, `synthetic-BATCH-1`, ….
        """
        return make_records(self.x, self.y, record_ids=[f"synthetic-{batch}-{row}" for row in range(len(self.x))])


def emulate(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    classes: Sequence[Any],
    bounds: tuple[npt.ArrayLike, npt.ArrayLike],
    epsilon: float,
    delta: float,
    n: int,
    subjects: Sequence[Any] | None = None,
    per_subject: int = 1,
    random_state: int = 0,
    source: Source = SYSTEM,
) -> Emulation:
    """Draw synthetic records from private sums of real ones; see the module for what is guaranteed.

    Args:
        x: `[records, *shape]` numbers.
        y: `[records]` class labels.
        classes: All labels there may be; public.
        bounds: Least and largest value of the features, scalars or `[*shape]`; public, features beyond are clipped.
        epsilon: For a subject, above 0.
        delta: For a subject. Far below one by the number of subjects, or it says little; that is not checked, since a
            refusal would tell how many there are.
        n: Synthetic records to draw; public.
        subjects: `[records]` whose each record is; None: each its own.
        per_subject: So many records of a subject are used, the first ones; more of them cost more noise.
        random_state: Of the draw, which needs no secrecy: all it looks at is published.
        source: Where the noise comes from.

    Returns:
        The emulation.

    Raises:
        InputError: If arrays do not fit each other, a label is not declared, or a number is not finite.
        ConfigurationError: If a parameter is out of its range.
    """
    features, labels = to_array(x, "x"), to_array(y, "y")
    if features.ndim < 2 or features.dtype.kind not in "biuf":
        raise InputError(f"x must be numbers [records, …], got {features.dtype} {list(features.shape)}")
    if len(features) != len(labels) or not len(features):
        raise InputError(f"x has {len(features):,} records and y {len(labels):,}: give one label a record, and some")
    target = encode_target(labels, "classification", list(classes))
    _check(epsilon, delta, n, per_subject)
    low, width = _bounds(bounds, features.shape[1:])
    known = None if subjects is None else to_ids(subjects, "subjects")
    if known is not None and len(known) != len(features):
        raise InputError(f"there are {len(features):,} records and {len(known):,} subjects: give one a record")
    rows = np.arange(len(features)) if known is None else _first(known, per_subject)
    used = 1 if known is None else per_subject
    flat = features[rows].reshape(len(rows), -1).astype(np.float64)
    scaled = _to_ball(flat, low, width)
    mu = gdp_mu(epsilon, delta)
    noise = used * math.sqrt(3) * (1 + _ROUNDING) / mu
    sums = [masked(_sums(scaled[target[rows] == one]), noise, source) for one in range(len(classes))]
    drawn, of = _draw(sums, n, random_state)
    values = np.clip(drawn * math.sqrt(len(low)) / 2 + 0.5, 0, 1) * width + low
    counts = {label: max(0.0, float(part[0])) for label, part in zip(classes, sums, strict=True)}
    found = values.astype(np.float32).reshape(n, *features.shape[1:])
    return Emulation(found, np.asarray(list(classes))[of], mu, delta, used, noise, counts)


def _check(epsilon: float, delta: float, n: int, per_subject: int) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0 and 0 < delta < 1):
        raise ConfigurationError(f"epsilon must be above 0 and delta between 0 and 1, got {epsilon!r} and {delta!r}")
    if n < 1 or per_subject < 1 or n % 1 or per_subject % 1:
        raise ConfigurationError(
            f"n and per_subject must be at least 1, and whole numbers, got {n!r} and {per_subject!r}"
        )


def _bounds(bounds: tuple[npt.ArrayLike, npt.ArrayLike], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Least values and widths, `[d]` float64."""
    try:
        low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), shape).reshape(-1) for bound in bounds)
    except ValueError as error:
        raise ConfigurationError(f"bounds must be two numbers, or two arrays {list(shape)}: {error}") from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ConfigurationError("bounds must be finite, each least value below the largest")
    return low, high - low


def _first(subjects: Sequence[str], most: int) -> np.ndarray:
    """Rows of each subject's first records: which they are, no other subject has a say in."""
    seen: dict[str, int] = {}
    rows = []
    for row, name in enumerate(subjects):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= most:
            rows.append(row)
    return np.array(rows)


def _to_ball(values: np.ndarray, low: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Features `[n, d]`, clipped to their bounds, as a point of the unit ball, which the bounds' corners touch."""
    scaled: np.ndarray = (np.clip((values - low) / width, 0, 1) * 2 - 1) / math.sqrt(values.shape[1])
    return scaled


def _sums(u: np.ndarray) -> np.ndarray:
    """Number, sum and products of features `[n, d]`: `[1 + d + d (d + 1) / 2]`, the norm of one record's at most √3."""
    products = u.T @ u
    rows, columns = np.triu_indices(u.shape[1])
    weight = np.where(rows == columns, 1.0, math.sqrt(2))
    return np.concatenate([[len(u)], u.sum(0), products[rows, columns] * weight])


def _moments(sums: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean `[d]` and a root `[d, d]` of the covariance that noisy sums tell of; both within the unit ball."""
    count = max(1.0, sums[0])
    mean = sums[1 : 1 + d] / count
    mean = mean / max(1.0, float(np.linalg.norm(mean)))
    rows, columns = np.triu_indices(d)
    second = np.zeros((d, d))
    second[rows, columns] = sums[1 + d :] / np.where(rows == columns, 1.0, math.sqrt(2)) / count
    second = np.triu(second) + np.triu(second, 1).T
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    # Noise makes eigenvalues that no covariance has.
    return mean, vectors * np.sqrt(np.clip(values, 0, 1))


def _draw(sums: Sequence[np.ndarray], n: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic features `[n, d]` in the unit ball, and their classes `[n]`, from noisy sums alone."""
    rng = np.random.default_rng(random_state)
    d = (math.isqrt(8 * len(sums[0]) + 1) - 3) // 2
    counts = np.maximum(0.0, [part[0] for part in sums])
    shares = counts / counts.sum() if counts.sum() > 0 else np.full(len(sums), 1 / len(sums))
    of = np.sort(rng.choice(len(sums), size=n, p=shares))
    found = np.empty((n, d))
    for one, part in enumerate(sums):
        mean, root = _moments(part, d)
        mine = of == one
        found[mine] = mean + rng.standard_normal((int(mine.sum()), d)) @ root.T
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    order = rng.permutation(n)
    return (found / np.maximum(norm, 1.0))[order], of[order]
