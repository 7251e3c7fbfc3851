"""Which claim implies which."""

from __future__ import annotations

from unlearn.methods.guarantee import Guarantee, keeps


def test_claims_are_partially_ordered() -> None:
    for claim in Guarantee:
        assert keeps(claim, claim)
        for other in Guarantee:
            assert claim is other or not (keeps(claim, other) and keeps(other, claim))
            for third in Guarantee:
                assert keeps(claim, third) or not (keeps(claim, other) and keeps(other, third))
    assert not keeps(Guarantee.EXACT, Guarantee.DP)
    assert not keeps(Guarantee.DP, Guarantee.EXACT)
    for claim in set(Guarantee) - {Guarantee.SUPPRESSION}:
        assert not keeps(claim, Guarantee.SUPPRESSION)
        assert not keeps(Guarantee.SUPPRESSION, claim)
    assert keeps(Guarantee.DP, Guarantee.CERTIFIED)
    assert keeps(Guarantee.EXACT, Guarantee.CERTIFIED)
    assert not keeps(Guarantee.EMPIRICAL, Guarantee.CERTIFIED)
