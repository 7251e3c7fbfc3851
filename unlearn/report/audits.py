"""Signed audits, as a report shows them.

An audit is what its statement says; nothing is computed anew here. One that no key of the workspace signed, or that is
of another workspace, is named and not believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearn.report.data import AuditFact, Claim, Finding, Power, Refused

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

CHANCE = 0.5
"""AUC of scores that say nothing."""


def read_audits(
    statements: Iterable[bytes], keys: Sequence[SSlibKey], workspace: str, state_digest: str | None
) -> tuple[tuple[AuditFact, ...], tuple[Refused, ...]]:
    """Read signed audits.

    Args:
        statements: Their envelopes.
        keys: All keys of the workspace.
        workspace: Its id.
        state_digest: Of what is served now, or None.

    Returns:
        Audits, the latest first, each once; and what does not stand up, by number from 1.
    """
    from unlearn.receipt import ReceiptError

    found: dict[str, AuditFact] = {}
    refused: list[Refused] = []
    for number, data in enumerate(statements, 1):
        try:
            audit = read_one(data, keys, workspace, state_digest)
        except ReceiptError as error:
            refused.append(Refused(f"audit {number}", str(error)))
        else:
            found[audit.digest] = audit
    return tuple(sorted(found.values(), key=lambda audit: audit.at, reverse=True)), tuple(refused)


def read_one(data: bytes, keys: Sequence[SSlibKey], workspace: str, state_digest: str | None) -> AuditFact:
    """Read a signed audit.

    Args:
        data: Its envelope.
        keys: All keys of the workspace.
        workspace: Its id.
        state_digest: Of what is served now, or None.

    Returns:
        What it says.

    Raises:
        ReceiptError: If no key of the workspace signed it, or it is no audit of that workspace.
    """
    from unlearn.audit.statement import read_audit
    from unlearn.receipt import ReceiptError
    from unlearn.receipt.envelope import parse_envelope

    said, envelope = read_audit(data, keys), parse_envelope(data)
    signer = next(name for name in envelope.signatures if name in {key.keyid for key in keys})
    try:
        if said["facts"]["workspace"] != workspace:
            raise ReceiptError("it is an audit of another workspace")
        return _fact(said, hashlib.sha256(envelope.payload).hexdigest(), signer, state_digest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReceiptError(f"it is signed, but lacks what an audit says ({error!r})") from error


def _fact(said: Mapping[str, Any], digest: str, signer: str, state_digest: str | None) -> AuditFact:
    facts = said["facts"]
    of_shards = "test" in said
    test = said["test"] if of_shards else said
    return AuditFact(
        digest=digest,
        signer=signer,
        kind="shard labels" if of_shards else "attacks",
        at=str(facts["at"]),
        current=facts["state_digest"] == state_digest,
        verdict=str(test["verdict"]) if of_shards else _verdict(said),
        p_value=_number(test["p_value"]),
        alpha=float(test["alpha"]),
        requests=len(facts["requests"]),
        records=int(facts["n_records"]),
        set_aside=sum(map(int, facts["set_aside"].values())),
        findings=_of_shards(said) if of_shards else _of_attacks(said),
        epsilon_lower=_number(test["epsilon_lower"]),
        epsilon_largest=_number(test["epsilon_largest"]) if of_shards else _largest(said),
        delta=float(test["delta"]) if of_shards else _delta(said),
        assumptions=tuple(map(str, said["assumptions"])),
        not_shown=tuple(map(str, said["not_shown"])),
    )


def _of_shards(said: Mapping[str, Any]) -> tuple[Finding, ...]:
    test, yardstick, least = said["test"], said["yardstick"], said["detectable"]
    powers = []
    if yardstick is not None:
        every = "every shard still knowing its forgotten people as well as its members"
        powers = [
            Power(every, float(yardstick["power_all_shards"])),
            Power("one shard alone still knowing them so", float(yardstick["power_one_shard"])),
        ]
    low, high = map(float, test["interval"])
    return (
        Finding(
            title="How much better forgotten people fit the shard they were in than the other shards",
            unit=str(said["score"]),
            value=float(test["advantage"]),
            low=low,
            high=high,
            confidence=1 - float(test["alpha"]),
            nothing=0.0,
            members=None if yardstick is None else float(yardstick["advantage"]),
            detectable=_number(least["everywhere"]),
            power=float(least["power"]),
            p_value=_number(test["p_value"]),
            verdict=str(test["verdict"]),
            powers=tuple(powers),
        ),
    )


def _of_attacks(said: Mapping[str, Any]) -> tuple[Finding, ...]:
    from unlearn.audit.attack_audit import POWER

    found = []
    for one in said["findings"]:
        compared = one["forgetting"] or one["exposure"]
        estimate, kept = compared["auc"], one["power_if_kept"]
        what = "forgotten people from people who never came" if one["forgetting"] else "members from everybody else"
        found.append(
            Finding(
                title=f"How well the attack “{one['title']}” tells {what}",
                unit="area under the ROC curve",
                value=CHANCE if estimate["value"] is None else float(estimate["value"]),
                low=float(estimate["low"]),
                high=float(estimate["high"]),
                confidence=float(estimate["confidence"]),
                nothing=CHANCE,
                members=_number(one["exposure"]["auc"]["value"]) if one["forgetting"] else None,
                detectable=_number(one["detectable"]),
                power=POWER,
                p_value=_number(one["p_value"] if one["adjusted"] is None else one["adjusted"]),
                verdict=str(one["verdict"]),
                powers=() if kept is None else (Power("forgotten people still looking as members do", float(kept)),),
            )
        )
    return tuple(found)


def _verdict(said: Mapping[str, Any]) -> str:
    """As `AttackAudit.verdict` says it, of what was written down."""
    found = {one["verdict"] for one in said["findings"]}
    return next((verdict for verdict in ("refuted", "not refuted") if verdict in found), "inapplicable")


def _largest(said: Mapping[str, Any]) -> float | None:
    return max((float(one["canaries"]["epsilon_largest"]) for one in said["findings"] if one["canaries"]), default=None)


def _delta(said: Mapping[str, Any]) -> float:
    return max((float(one["canaries"]["delta"]) for one in said["findings"] if one["canaries"]), default=0.0)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def tells_apart(audit: AuditFact, together: int) -> bool:
    """Whether an audit refutes, of so many of the same state that together err as seldom as it does alone.

    Args:
        audit: The audit.
        together: How many audits of that state there are, this one included.

    Returns:
        Whether its p is at most its level divided by their number (Bonferroni).
    """
    if audit.verdict != "refuted":
        return False
    return together == 1 or (audit.p_value is not None and audit.p_value <= audit.alpha / together)


def judge(what: str, basis: str, audits: Sequence[AuditFact], *, epsilon: float | None, delta: float = 0.0) -> Claim:
    """Hold what is claimed of forgetting against what audits of the present state found.

    Args:
        what: What is claimed something of.
        basis: What the claim rests on.
        audits: All audits.
        epsilon: The claim: 0 of what is exact; None: nothing is claimed.
        delta: Its delta. A bound for another delta says nothing of it.

    Returns:
        The claim with its verdict.
    """
    current = [audit for audit in audits if audit.current]
    bounds = [audit for audit in current if audit.epsilon_lower is not None and audit.delta == delta]
    found = max((audit.epsilon_lower or 0.0 for audit in bounds), default=None)
    largest = max((audit.epsilon_largest or 0.0 for audit in bounds), default=None)
    # Several audits of one state are several chances of a false alarm: they share the error (Bonferroni).
    confidence = max(0.0, 1 - sum(audit.alpha for audit in bounds)) if bounds else None
    # What is exact cannot be told apart at all, so every audit tries that claim; another, only those with a bound.
    trying = current if epsilon == 0 else bounds
    exceeding = [audit for audit in bounds if epsilon is not None and (audit.epsilon_lower or 0.0) > epsilon]
    apart = [audit for audit in current if epsilon == 0 and audit.verdict == "refuted"]
    alone = sum(audit in exceeding or audit in apart for audit in current)
    refuted = any(tells_apart(audit, len(trying)) for audit in apart) or (bool(exceeding) and len(trying) == 1)
    if refuted:
        verdict = "Refuted by an audit of the state that is served now"
    elif alone:
        verdict = (
            f"{alone} of {len(trying)} audits of the state that is served now refuted it at a level of their own, and "
            "of so many that may be chance: repeat what refuted it, alone"
        )
    elif largest is None:
        at = "" if delta == 0 else f" at this δ ({delta:g})"
        verdict = f"Not tested: no audit of the state that is served now bounds ε{at}"
    else:
        verdict = f"Not refuted; the largest ε that these audits could have certified: {largest:.2f}"
    return Claim(what, epsilon, delta, basis, found, largest, confidence, verdict, refuted)
