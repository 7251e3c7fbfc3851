"""A claim against evidence: refuted, not refuted, or not what this evidence is about.

"Not refuted" is never "true". So each answer also says the largest epsilon that the evidence could have certified: a
claim above that could not have been refuted whatever the method had done.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from unlearn.audit.epsilon.bound import Basis, LowerBound, UpperBound, Verdict
from unlearn.audit.epsilon.gdp import gdp_epsilon
from unlearn.audit.epsilon.inputs import check_delta, check_k
from unlearn.errors import ConfigurationError, UnlearnError


class ContradictionError(UnlearnError):
    """A lower bound lies above an upper bound on the same thing: an error in one of them, or in what they assume."""


@dataclass(frozen=True)
class Claim:
    """A claim that a method is (epsilon, delta)-unlearning.

    Attributes:
        epsilon: At least 0.
        delta: In [0, 1).
        k: Records deleted together.
        gaussian: Whether the claim is that the method is *Gaussian* DP with this epsilon at this delta, which is more.
        independent: Whether the claim is also that canaries are treated independently of each other.
    """

    epsilon: float
    delta: float
    k: int = 1
    gaussian: bool = False
    independent: bool = False

    def __post_init__(self) -> None:
        check_delta(self.delta)
        check_k(self.k)
        if not self.epsilon >= 0:
            raise ConfigurationError(f"a claimed epsilon must be at least 0, got {self.epsilon!r}")

    def __str__(self) -> str:
        kind = "Gaussian DP with " if self.gaussian else ""
        return f"{kind}epsilon <= {self.epsilon:g} at delta {self.delta:g} for {self.k} deleted together"


@dataclass(frozen=True)
class Check:
    """What evidence says about a claim.

    Attributes:
        claim: The claim.
        verdict: Refuted, not refuted, or inapplicable.
        bound: The evidence's lower bound on epsilon.
        confidence: Of that bound.
        basis: What the confidence rests on.
        certifiable: The largest epsilon this evidence could have certified.
        could_refute: Whether any result at all could have refuted this claim.
        reason: In words.
        assumptions: Of the evidence.
    """

    claim: Claim
    verdict: Verdict
    bound: float
    confidence: float
    basis: Basis
    certifiable: float
    could_refute: bool
    reason: str
    assumptions: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Where epsilon lies at the stated confidence."""
        return self.bound, math.inf

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        claim = asdict(self.claim) | {"epsilon": "infinity" if math.isinf(self.claim.epsilon) else self.claim.epsilon}
        words = {"verdict": str(self.verdict), "basis": str(self.basis), "assumptions": list(self.assumptions)}
        return {"kind": "check", **asdict(self), "claim": claim, **words}


def check_bound(claim: Claim, evidence: LowerBound) -> Check:
    """Hold a claim against evidence.

    A bound at some delta also bounds epsilon at every smaller delta. The number of records deleted together must be the
    same: what a group's deletion shows is not about a single record, nor the reverse.

    Args:
        claim: The claim.
        evidence: A lower bound on epsilon.

    Returns:
        The verdict, and what could have been detected.
    """
    obstacle = _obstacle(claim, evidence)
    if obstacle:
        verdict, reason = Verdict.INAPPLICABLE, obstacle
    elif evidence.epsilon > claim.epsilon:
        verdict = Verdict.REFUTED
        reason = f"epsilon is above {evidence.epsilon:.3g} with confidence {evidence.confidence:g} ({evidence.basis})"
    else:
        verdict = Verdict.NOT_REFUTED
        reason = (
            f"epsilon was shown to be above {evidence.epsilon:.3g} only; the largest epsilon this audit could have "
            f"certified is {evidence.certifiable:.3g}"
        )
        if evidence.certifiable <= claim.epsilon:
            reason += ", so nothing could have refuted this claim"
    return Check(
        claim=claim,
        verdict=verdict,
        bound=evidence.epsilon,
        confidence=evidence.confidence,
        basis=evidence.basis,
        certifiable=evidence.certifiable,
        could_refute=not obstacle and evidence.certifiable > claim.epsilon,
        reason=reason,
        assumptions=evidence.assumptions,
    )


def compare(lower: LowerBound, upper: UpperBound) -> Check:
    """Hold a proof against evidence about the same thing.

    Args:
        lower: From evidence.
        upper: From a proof.

    Returns:
        The check of the proof's claim, when the two agree or are about different things.

    Raises:
        ContradictionError: If the lower bound is above the upper bound.
    """
    epsilon = upper.epsilon
    if upper.mu is not None and lower.delta > 0:
        epsilon = gdp_epsilon(upper.mu, lower.delta)  # the whole curve is known, so it is read where the evidence is
    delta = lower.delta if upper.mu is not None and lower.delta > 0 else upper.delta
    says = "proves" if upper.proven else "puts"
    checked = check_bound(Claim(epsilon, delta, upper.k, gaussian=upper.mu is not None), lower)
    if checked.verdict is Verdict.REFUTED:
        raise ContradictionError(
            f"{lower.method} puts epsilon above {lower.epsilon:.4g} with confidence {lower.confidence:g}, but "
            f"{upper.method} {says} it at most {epsilon:.4g}, at delta {lower.delta:g} and for {upper.k} deleted "
            f"together. By chance this happens with probability at most {1 - lower.confidence:.3g}; else one of them "
            f"is wrong, or an assumption fails: {'; '.join((*lower.assumptions, *upper.assumptions))}"
        )
    return checked


def _obstacle(claim: Claim, evidence: LowerBound) -> str | None:
    """Why the evidence says nothing about the claim; None if it does."""
    if evidence.k != claim.k:
        return f"the evidence is about {evidence.k} records deleted together, the claim about {claim.k}"
    if evidence.delta < claim.delta:
        return (
            f"the evidence is stated for delta {evidence.delta:g}, the claim for {claim.delta:g}, where epsilon may be "
            "smaller: compute the bound for the claimed delta"
        )
    if evidence.basis is Basis.CREDIBLE:
        return "a credible bound promises nothing about false alarms: it stands beside a refutation, never for one"
    if evidence.basis in {Basis.GDP, Basis.GDP_INDEPENDENT} and not claim.gaussian:
        return "the evidence assumes a Gaussian mechanism, which this claim does not say it is"
    if evidence.basis in {Basis.INDEPENDENT, Basis.GDP_INDEPENDENT} and not claim.independent:
        return "the evidence assumes that canaries are treated independently, which this claim does not say they are"
    if evidence.basis in {Basis.GDP, Basis.GDP_INDEPENDENT} and evidence.delta != claim.delta:
        return "GDP-conditional evidence is compared at the claimed delta only: compute it there"
    return None
