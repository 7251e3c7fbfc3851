r"""Bounds on epsilon, and all that has to be said beside the number.

A mechanism is \((\varepsilon,\delta)\)-unlearning if for every event T both
\(\Pr[U \in T] \le e^\varepsilon \Pr[A \in T] + \delta\) and \(\Pr[A \in T] \le e^\varepsilon \Pr[U \in T] + \delta\),
where U is the model after unlearning and A one retrained without the forgotten records (arXiv 2406.09073).

A lower bound comes from evidence and can refute a claim. An upper bound comes from a proof about the mechanism. Neither
is ever turned into the other, and bounds of different *basis* are never merged into one number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from unlearn.errors import InputError

Number = int | float


class Verdict(StrEnum):
    """What evidence says about a claim. There is no "verified": an audit refutes, or fails to."""

    REFUTED = "refuted"
    NOT_REFUTED = "not refuted"
    INAPPLICABLE = "inapplicable"


class Basis(StrEnum):
    """What the stated confidence of a lower bound rests on."""

    COVERAGE = "coverage"
    """Too high with at most the stated probability, whatever the mechanism."""
    GDP = "GDP-conditional"
    """The same, if the mechanism is Gaussian differentially private."""
    INDEPENDENT = "independent-canaries-conditional"
    """The same, if the mechanism treats canaries independently of each other."""
    GDP_INDEPENDENT = "GDP- and independent-canaries-conditional"
    """The same, if both hold."""
    CREDIBLE = "credible"
    """Posterior probability under a stated prior; no promise about how often it is too high."""


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on epsilon, from evidence.

    Attributes:
        method: Name of the estimator.
        epsilon: The bound, at least 0.
        delta: The delta it is stated for.
        confidence: One minus the total probability of a false alarm (or the posterior probability, if credible).
        basis: What the confidence rests on.
        k: Records deleted together in one request; 1 for a bound about a single record.
        certifiable: The largest epsilon this much evidence could have certified: the bound had the attack been perfect.
        estimate: What the rates say without any allowance for chance; a score, never a claim. None: there is none.
        evidence: Counts and numbers that the bound was computed from.
        multiplicity: How many thresholds, attacks and looks there were, and how they were paid for.
        assumptions: What has to hold for the bound to mean what it says, in words.
    """

    method: str
    epsilon: float
    delta: float
    confidence: float
    basis: Basis
    k: int
    certifiable: float
    estimate: float | None
    evidence: Mapping[str, Number] = field(default_factory=dict)
    multiplicity: str = ""
    assumptions: tuple[str, ...] = ()

    @property
    def interval(self) -> tuple[float, float]:
        """Where epsilon lies at the stated confidence: from the bound up."""
        return self.epsilon, math.inf

    @property
    def verdict(self) -> Verdict:
        """About the claim that epsilon is 0 at this delta; what else is claimed is for `check_bound`."""
        return Verdict.REFUTED if self.epsilon > 0 else Verdict.NOT_REFUTED

    def to_json(self) -> dict[str, Any]:
        """As JSON: finite numbers, and the word "infinity" where one is not."""
        return {"kind": "lower bound", **_to_json(self), "verdict": str(self.verdict)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Args:
            document: The JSON object.

        Returns:
            An equal bound.

        Raises:
            InputError: If it is no lower bound, or an entry is missing.
        """
        values = _from_json(cls, "lower bound", document)
        return cls(**values | {"basis": Basis(values["basis"]), "assumptions": tuple(values["assumptions"])})


@dataclass(frozen=True)
class UpperBound:
    """An upper bound on epsilon, by an argument about a mechanism.

    Attributes:
        method: Name of the proof or accountant.
        epsilon: The bound; infinity where the method gives none.
        delta: The delta it is stated for.
        k: Records deleted together.
        mu: The mechanism is mu-GDP, where that is what was proven; None otherwise.
        evidence: Parameters it was computed from.
        assumptions: What has to hold, in words.
        proven: Whether there is a proof under the assumptions; False: one of them is known to fail, or to be open, and
            the number is a calculation.
    """

    method: str
    epsilon: float
    delta: float
    k: int
    mu: float | None = None
    evidence: Mapping[str, Number] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    proven: bool = True

    @property
    def interval(self) -> tuple[float, float]:
        """Where epsilon lies if the assumptions hold: from 0 up to the bound."""
        return 0.0, self.epsilon

    def to_json(self) -> dict[str, Any]:
        """As JSON: finite numbers, and the word "infinity" where one is not."""
        return {"kind": "upper bound", **_to_json(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Args:
            document: The JSON object.

        Returns:
            An equal bound.

        Raises:
            InputError: If it is no upper bound, or an entry is missing.
        """
        values = _from_json(cls, "upper bound", document)
        return cls(**values | {"assumptions": tuple(values["assumptions"])})


def _to_json(bound: LowerBound | UpperBound) -> dict[str, Any]:
    return {part.name: _value_to_json(getattr(bound, part.name)) for part in fields(bound)}


def _value_to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _value_to_json(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float) and math.isinf(value):
        return "infinity"
    return value


def _from_json(kind: type, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    if document.get("kind") != name:
        raise InputError(f"expected a {name} as JSON, got kind {document.get('kind')!r}: pass what to_json returned")
    wanted = [part.name for part in fields(kind)]
    missing = [part for part in wanted if part not in document]
    if missing:
        raise InputError(f"this {name} lacks {', '.join(missing)}: it was written by another version, or cut short")
    values = {part: document[part] for part in wanted}
    return {part: math.inf if value == "infinity" else value for part, value in values.items()}
