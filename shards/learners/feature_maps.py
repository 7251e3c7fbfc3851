"""Public feature maps: numbers in, whole numbers out, and nothing fitted on data.

A value is counted in a declared unit, so sums of values and of their products are exact. What lies outside of the
declared limit is an error: cut off in silence, it would change the model and nobody would know.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError

EXACT_FLOAT = 2**53
"""Up to here every whole number is a float64, so that sums of whole products are exact in whatever order."""

MOST = 2**20
"""Counts of a value at most, so that sums of many products stay exact."""


@dataclass(frozen=True)
class FeatureMap(ABC):
    """Abstract: one subclass a map.

    Attributes:
        libraries: Import names of libraries whose versions decide its bits, numpy aside.
        unit: What one count is worth.
        limit: Largest value in absolute terms, in units of the data.
    """

    kind: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def unit(self) -> float:
        """What one count is worth."""

    @property
    @abstractmethod
    def limit(self) -> float:
        """Largest value in absolute terms."""

    @property
    def takes(self) -> tuple[float, float] | None:
        """What one count of what goes in is worth, and its largest value in absolute terms; None: nothing is said."""
        return None

    @abstractmethod
    def width(self, given: int) -> int:
        """How many features it makes of so many."""

    @abstractmethod
    def values(self, X: np.ndarray) -> np.ndarray:
        """The features as real numbers.

        Args:
            X: `[n, given]` float64.

        Returns:
            `[n, width(given)]` float64.
        """

    @property
    def largest(self) -> int:
        """Largest count in absolute terms."""
        return largest_count(self.limit, self.unit)

    def counts(self, X: np.ndarray) -> np.ndarray:
        """The features in units, rounded to the nearest whole number, ties to even.

        Args:
            X: `[n, given]` float64.

        Returns:
            `[n, width(given)]` float64, whole numbers.

        Raises:
            ConfigurationError: If a value is not finite, or lies outside of the limit.
        """
        return count(self.values(X), self.unit, self.largest, "feature")

    def to_json(self) -> Json:
        """The map as JSON."""
        return {"map": self.kind, **asdict(self)}

    def code(self) -> tuple[str, ...]:
        """References `"package.module:name"` to the user's code that it runs; none as a rule."""
        return ()

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            ConfigurationError: Naming them.
        """
        for field in fields(self):
            if field.type not in {"int", "float"}:
                continue
            value, whole = getattr(self, field.name), field.type == "int"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not (0 if field.name == "seed" else 1e-300) <= value < 1e300:
                raise ConfigurationError(
                    f"{field.name} must be a {'whole' if whole else 'positive'} number, got {value!r}"
                )


def largest_count(limit: float, unit: float) -> int:
    """How many units a limit holds; a limit that is some units but for rounding, such as 0.3 of 0.1, holds them all."""
    return math.floor(limit / unit * (1 + 1e-12))


def count(values: np.ndarray, unit: float, largest: int, what: str) -> np.ndarray:
    """Values in units, whole.

    Args:
        values: Real numbers.
        unit: What one count is worth.
        largest: Largest count in absolute terms.
        what: What they are, for messages.

    Returns:
        Whole numbers, float64, of the same shape.

    Raises:
        ConfigurationError: If one is not finite or too large.
    """
    counts = np.rint(values / unit)
    if counts.size and not np.abs(counts).max() <= largest:  # also where one is not a number
        worst = values.flat[np.abs(np.nan_to_num(counts, nan=np.inf)).argmax()]
        raise ConfigurationError(
            f"a {what} is {worst:g}, and at most {largest * unit:g} in absolute value was declared: scale by public "
            "constants before ingest, or declare a larger limit"
        )
    return counts + 0.0  # no -0.0


@dataclass(frozen=True)
class Raw(FeatureMap):
    """The features as they are.

    Attributes:
        unit: What one count is worth.
        limit: Largest value in absolute terms.
    """

    kind: ClassVar[str] = "raw"

    unit: float = 2.0**-8
    limit: float = 8.0

    @property
    def takes(self) -> tuple[float, float]:
        """Unit and limit."""
        return self.unit, self.limit

    def width(self, given: int) -> int:
        """As many."""
        return given

    def values(self, X: np.ndarray) -> np.ndarray:
        """Themselves."""
        return X


@dataclass(frozen=True)
class Fourier(FeatureMap):
    """Random Fourier features of the Gaussian kernel exp(-gamma |x - y|^2) [Rahimi and Recht 2007].

    What goes in is counted, and so are the frequencies, so that projections are exact: a record has the same features
    wherever it stands, and whatever stands beside it.

    Attributes:
        features: How many.
        gamma: Of the kernel.
        seed: Of the frequencies and phases; public.
        input_unit: What one count of what goes in is worth.
        input_limit: Largest value of what goes in, in absolute terms.
    """

    kind: ClassVar[str] = "fourier"

    features: int = 1000
    gamma: float = 0.01
    seed: int = 0
    input_unit: float = 2.0**-8
    input_limit: float = 8.0

    @property
    def unit(self) -> float:
        """1/1024."""
        return 2.0**-10

    @property
    def limit(self) -> float:
        """Of sqrt(2) cos."""
        return 1.4143

    @property
    def takes(self) -> tuple[float, float]:
        """Unit and limit of what goes in."""
        return self.input_unit, self.input_limit

    def width(self, given: int) -> int:
        """As many as declared."""
        del given
        return self.features

    def values(self, X: np.ndarray) -> np.ndarray:
        """sqrt(2) cos(W x + b)."""
        frequencies, phases = _drawn(self, X.shape[1])
        largest = largest_count(self.input_limit, self.input_unit)
        projected = count(X, self.input_unit, largest, "feature") @ frequencies
        found: np.ndarray = np.sqrt(2.0) * np.cos(projected * (self.input_unit * FREQUENCY_UNIT) + phases)
        return found


FREQUENCY_UNIT = 2.0**-20
"""What one count of a frequency is worth."""


@lru_cache(maxsize=4)
def _drawn(of: Fourier, given: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies `[given, features]`, counted, and phases `[features]`."""
    generator = np.random.Generator(np.random.PCG64(of.seed))
    frequencies = generator.standard_normal((given, of.features)) * math.sqrt(2 * of.gamma)
    counts = np.rint(frequencies / FREQUENCY_UNIT)
    if np.abs(counts).sum(axis=0).max(initial=0.0) * (of.input_limit / of.input_unit) >= EXACT_FLOAT:
        raise ConfigurationError(
            f"gamma {of.gamma:g} is too large for exact projections of {given:,} features of up to "
            f"{of.input_limit:g} in units of {of.input_unit:g}: use a coarser input_unit"
        )
    return counts, generator.uniform(0, 2 * math.pi, of.features)


def maps() -> dict[str, type[FeatureMap]]:
    """All feature maps, by name."""
    from shards.learners.frozen import Frozen
    from shards.learners.gradients import Gradients

    return {kind.kind: kind for kind in (Raw, Fourier, Gradients, Frozen)}


def feature_map(given: Any) -> FeatureMap:
    """A map out of its name, its JSON, or itself.

    Args:
        given: A `FeatureMap`; the name of one (`maps`); or a mapping with that name under `"map"` and options.

    Returns:
        The map.

    Raises:
        ConfigurationError: If there is no such map, or an option makes no sense.
    """
    if isinstance(given, FeatureMap):
        made = given
    else:
        options = {"map": given} if isinstance(given, str) else dict(given)
        name, known = options.pop("map", None), maps()
        if name not in known:
            raise ConfigurationError(f"features must be one of {', '.join(known)}, got {name!r}")
        try:
            made = known[name](**options)
        except TypeError as error:
            raise ConfigurationError(f"the feature map {name!r} does not take these options: {error}") from error
    made.check()
    if not 1 <= made.largest <= MOST:
        raise ConfigurationError(
            f"between the unit {made.unit:g} and the limit {made.limit:g} there must be 1 to {MOST:,} counts, and "
            f"there are {made.largest:,}: give {_instead(made)}"
        )
    return made


def _instead(made: FeatureMap) -> str:
    """What to give in place of a unit and a limit that are too close together, or too far apart."""
    if made.largest < 1:
        return "a larger limit or a smaller unit"
    least = 2.0 ** math.ceil(math.log2(made.limit / MOST))
    return f"a unit of at least {least}, or scale the features by public constants to a smaller limit"
