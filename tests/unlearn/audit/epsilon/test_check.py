"""Claims against evidence: what is refuted, what is not, and what is not about the same thing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from unlearn.audit.epsilon.bayesian import bayesian
from unlearn.audit.epsilon.bound import Basis, LowerBound, Verdict
from unlearn.audit.epsilon.check import Claim, ContradictionError, check_bound, compare
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson
from unlearn.audit.epsilon.gdp import gdp
from unlearn.audit.epsilon.upper import exact, gaussian
from unlearn.errors import ConfigurationError, UnlearnError

DELTA = 1e-5


def evidence(errors: int = 5) -> LowerBound:
    return clopper_pearson(errors, 100, errors, 100, delta=DELTA)


def test_a_claim_below_the_bound_is_refuted() -> None:
    checked = check_bound(Claim(0.5, DELTA), evidence())
    assert checked.verdict is Verdict.REFUTED
    assert checked.could_refute
    assert checked.bound > 0.5


def test_a_claim_above_it_is_not_and_says_what_could_have_been_certified() -> None:
    checked = check_bound(Claim(3.0, DELTA), evidence())
    assert checked.verdict is Verdict.NOT_REFUTED
    assert checked.could_refute
    assert f"could have certified is {evidence().certifiable:.3g}" in checked.reason
    assert checked.certifiable == pytest.approx(3.28, abs=0.005)


def test_a_claim_that_nothing_could_have_refuted_says_so() -> None:
    checked = check_bound(Claim(8.0, DELTA), evidence())
    assert checked.verdict is Verdict.NOT_REFUTED
    assert not checked.could_refute
    assert "nothing could have refuted this claim" in checked.reason


def test_evidence_about_something_else_is_inapplicable() -> None:
    assert check_bound(Claim(0.5, DELTA, k=3), evidence()).verdict is Verdict.INAPPLICABLE
    assert check_bound(Claim(0.5, 1e-3), evidence()).verdict is Verdict.INAPPLICABLE
    credible = bayesian(5, 100, 5, 100, delta=DELTA)
    assert check_bound(Claim(0.0, DELTA), credible).verdict is Verdict.INAPPLICABLE
    conditional = gdp(5, 100, 5, 100, delta=DELTA)
    assert check_bound(Claim(0.5, DELTA), conditional).verdict is Verdict.INAPPLICABLE
    assert check_bound(Claim(0.5, DELTA, gaussian=True), conditional).verdict is Verdict.REFUTED
    assert check_bound(Claim(0.5, DELTA / 2, gaussian=True), conditional).verdict is Verdict.INAPPLICABLE
    independent = replace(evidence(), basis=Basis.INDEPENDENT)
    assert check_bound(Claim(0.5, DELTA), independent).verdict is Verdict.INAPPLICABLE
    assert check_bound(Claim(0.5, DELTA, independent=True), independent).verdict is Verdict.REFUTED
    both = replace(evidence(), basis=Basis.GDP_INDEPENDENT)
    assert check_bound(Claim(0.5, DELTA, gaussian=True), both).verdict is Verdict.INAPPLICABLE
    assert check_bound(Claim(0.5, DELTA, gaussian=True, independent=True), both).verdict is Verdict.REFUTED


def test_a_bound_at_a_larger_delta_holds_at_a_smaller_one() -> None:
    assert check_bound(Claim(0.5, 0.0), evidence()).verdict is Verdict.REFUTED


def test_a_lower_bound_above_an_upper_bound_is_loud() -> None:
    with pytest.raises(ContradictionError, match=r"GDP puts epsilon above .* Gaussian DP proves it at most"):
        compare(gdp(5, 1000, 5, 1000, delta=DELTA), gaussian(0.5, delta=DELTA))
    # The whole curve of a Gaussian proof is known: it is read at the evidence's delta.
    with pytest.raises(ContradictionError):
        compare(gdp(5, 1000, 5, 1000, delta=DELTA), gaussian(0.5, delta=1e-9))
    with pytest.raises(ContradictionError):
        compare(evidence(), exact(assumptions=("requests do not look",)))
    assert issubclass(ContradictionError, UnlearnError)


def test_bounds_that_agree_pass() -> None:
    assert compare(evidence(), gaussian(3.0, delta=DELTA)).verdict is Verdict.NOT_REFUTED
    assert compare(evidence(), gaussian(0.1, delta=DELTA, k=5)).verdict is Verdict.INAPPLICABLE
    assert compare(evidence(50), exact(assumptions=("requests do not look",))).verdict is Verdict.NOT_REFUTED


def test_checks_are_json() -> None:
    document = json.loads(json.dumps(check_bound(Claim(math.inf, DELTA), evidence()).to_json(), allow_nan=False))
    assert document["claim"]["epsilon"] == "infinity"
    assert document["verdict"] == "not refuted"


def test_bad_claims_are_refused() -> None:
    for epsilon in (-1.0, math.nan):
        with pytest.raises(ConfigurationError, match="claimed epsilon"):
            Claim(epsilon, DELTA)
    with pytest.raises(ConfigurationError, match="delta"):
        Claim(1.0, 1.0)
    with pytest.raises(ConfigurationError, match="k, the number"):
        Claim(1.0, DELTA, k=0)
    assert str(Claim(1.0, DELTA, gaussian=True)).startswith("Gaussian DP with epsilon <= 1")
