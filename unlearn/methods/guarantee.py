"""What may be claimed for a model that was made to forget: five claims, and which of them implies which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Guarantee(StrEnum):
    """What may be claimed: a partial order, see `keeps`."""

    EXACT = "exact"
    DP = "dp"
    """For so many deletions as it was accounted for."""
    CERTIFIED = "certified"
    EMPIRICAL = "empirical"
    SUPPRESSION = "suppression"


_ORDER: Mapping[Guarantee, frozenset[Guarantee]] = {
    Guarantee.EXACT: frozenset({Guarantee.EXACT, Guarantee.CERTIFIED, Guarantee.EMPIRICAL}),
    Guarantee.DP: frozenset({Guarantee.DP, Guarantee.CERTIFIED, Guarantee.EMPIRICAL}),
    Guarantee.CERTIFIED: frozenset({Guarantee.CERTIFIED, Guarantee.EMPIRICAL}),
    Guarantee.EMPIRICAL: frozenset({Guarantee.EMPIRICAL}),
    Guarantee.SUPPRESSION: frozenset({Guarantee.SUPPRESSION}),
}


def keeps(claim: Guarantee, wanted: Guarantee) -> bool:
    """Whether one claim implies another.

    Exact deletion implies a certificate with any ε and δ; so does differential privacy, for as many deletions as it was
    accounted for. Neither implies the other: exact deletion protects nobody who has not asked. No kind of removal
    implies suppression, since a model that never saw a record may still say what it holds; and suppression implies
    nothing else.

    Args:
        claim: What holds.
        wanted: What is asked for.

    Returns:
        Whether it holds.
    """
    return wanted in _ORDER[claim]
