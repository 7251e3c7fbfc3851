"""What a report says in sentences: where things stand, what is to be done, what is not proven. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn.receipt.predicate import (
    ADAPTIVE_CERTIFIED,
    ADAPTIVE_EXCLUDED,
    ADAPTIVE_PRIVATE,
    ASSUMPTIONS,
    CERTIFIED_GUARANTEE,
    EMPIRICAL_GUARANTEE,
    FORGOTTEN_GUARANTEE,
    NOT_PROVEN,
    NOT_PROVEN_CERTIFIED,
    NOT_PROVEN_EMPIRICAL,
    RECOVERED_GUARANTEE,
    RECOVERED_NOISY_GUARANTEE,
)
from unlearn.report.audits import tells_apart
from unlearn.report.data import AuditFact, Forgotten, Kind, Level, Limits, Model, Receipts, Refused, Requests, Status

OF_PAGE = (
    (
        "This page is not signed, and whoever has it can change it. What is signed are the receipts and the audits; "
        "check them with a public key that reached you by another way."
    ),
    (
        "It shows the workspace as it was when the page was made, and does not change with it. Nothing that was asked "
        "for or found later is on it."
    ),
    (
        "Receipts named as verified were verified alone, without holding every record and checkpoint against them. The "
        "commands beside them do that, and train again."
    ),
    (
        "Forgetting many at once is not cheap: requests scattered over the shards hit most of them once there are "
        "about as many as shards. Forgetting still takes effect at once then, and rebuilding costs a full training."
    ),
)
WITHHELD = (
    "names of people and of records",
    "reasons and case numbers given with requests",
    "names and places of results that were derived from the model",
    "labels of classes, and any data",
    "paths and addresses of the computer",
)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 record`, `2,000 records`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _are(number: int, noun: str) -> str:
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"


def sum_up(
    model: Model,
    requests: Requests,
    forgotten: Forgotten,
    audits: Sequence[AuditFact],
    refused: Sequence[Refused],
    receipts: Receipts,
    *,
    kind: Kind,
    due: int,
    untrained: int = 0,
    unissued: int = 0,
) -> Status:
    """The report in one sentence, the worst first.

    Args:
        model: What is served.
        requests: Deletion requests.
        forgotten: What is gone.
        audits: What audits found.
        refused: Audits that do not stand up.
        receipts: What can be checked.
        kind: Of the guarantee that holds of what is served.
        due: Requests after whose approximate method the model is to be retrained by now.
        untrained: Slices of records that what a method made has not learned from.
        unissued: Receipts that are still to be issued.

    Returns:
        The sentence, whether somebody has to act, and on what.
    """
    broken = len(receipts.shown) - receipts.verified
    act = []
    if requests.overdue:
        act.append(f"{_are(requests.overdue, 'request')} past the deadline: run `unlearn process`.")
    if broken:
        act.append(f"{counted(broken, 'receipt')} did not stand up to verification: restore the workspace from a copy.")
    act += _denied([audit for audit in audits if audit.current])
    if requests.failed:
        act.append(
            f"{counted(requests.failed, 'request')} failed and changed nothing: submit again what should have been "
            "named."
        )
    if forgotten.tainted:
        act.append(
            f"{_are(forgotten.tainted, 'derived result')} kept elsewhere and saw forgotten records: destroy or make "
            "anew what `unlearn artefacts` lists, then `unlearn retire` it."
        )
    if due:
        act.append(f"The model is due to be retrained after {counted(due, 'request')}: run `unlearn recover`.")
    if refused:
        act.append(f"{counted(len(refused), 'audit')} could not be believed, and {_was(len(refused))} left out.")
    wait = _waiting(model, requests, kind, due, untrained, unissued)
    level: Level = "act" if act else "wait" if wait else "done"
    return Status(level, _sentence(model, requests, forgotten, receipts, kind, untrained, bool(broken)), (*act, *wait))


def _denied(audits: Sequence[AuditFact]) -> list[str]:
    """What audits of what is served refuted, with how many tried."""
    denied = [audit for audit in audits if audit.verdict == "refuted"]
    if not denied:
        return []
    if any(tells_apart(audit, len(audits)) for audit in denied):
        number = counted(len(denied), "audit")
        return [f"{number} refuted that what is served has forgotten: find out why before it is used."]
    number = f"{len(denied):,} of {counted(len(audits), 'audit')}"
    chance = "which may be chance among so many: repeat what refuted it, alone."
    return [f"{number} refuted that what is served has forgotten, {chance}"]


def _waiting(model: Model, requests: Requests, kind: Kind, due: int, untrained: int, unissued: int) -> list[str]:
    """What is still to come, and needs nobody's hurry."""
    open_ones = requests.total - requests.forgotten - requests.failed - requests.overdue
    missing = model.steps_missing if kind == "exact" else 0
    lines = (
        (
            kind == "empirical" and not due,
            "An approximate method made what is served: `unlearn recover` retrains it exactly.",
        ),
        (open_ones > 0, f"{counted(open_ones, 'request')} waiting to be carried out: `unlearn process` does it."),
        (missing, f"{_are(missing, 'training step')} still to be done: `unlearn recover` does it."),
        (untrained, f"{counted(untrained, 'slice')} of new records still to be learned from: `unlearn train` does it."),
        (unissued, f"{_are(unissued, 'receipt')} still to be issued: `unlearn recover` does it."),
    )
    return [line for holds, line in lines if holds]


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _sentence(
    model: Model, requests: Requests, forgotten: Forgotten, receipts: Receipts, kind: Kind, untrained: int, broken: bool
) -> str:
    present = f"{counted(model.records, 'record')} {'is' if model.records == 1 else 'are'} in the data"
    if not requests.total:
        serving = f"{model.serving:,} of {counted(model.n_shards, 'shard')} serve a model of them"
        return f"Nobody has asked to be forgotten yet; {present}, and {serving}."
    if not requests.forgotten:
        return f"No request was carried out yet, of {requests.total:,}; {present}."
    done = f"{requests.forgotten:,} of {counted(requests.total, 'request')}"
    if requests.forgotten == requests.total:
        done = {1: "The one request", 2: "Both requests"}.get(requests.total, f"All {requests.total:,} requests")
    verb = "has" if requests.forgotten == 1 else "have"
    gone = f"{done} {verb} been carried out: {counted(forgotten.records, 'record')} forgotten"
    if requests.late:
        gone += f" ({counted(requests.late, 'request')} after the deadline)"
    them = "it" if forgotten.records == 1 else "them"
    if kind == "empirical":
        rest = f"the model that is served was made by an approximate method, and is not yet retrained without {them}"
    elif kind == "certified":
        rest = f"the model that is served was made by certified removal, and is not retrained without {them}"
    elif model.steps_missing:
        rest = f"what is served never saw {them}, and the model is still to be rebuilt in full"
    else:
        rest = f"the model is rebuilt without {them}"
    if untrained:
        rest += ", nor trained on the new records"
    if broken:
        proof = "not every receipt stands up to verification"
    elif receipts.issued == len(receipts.shown):
        proof = f"{_all(receipts.issued)} verified"
    else:
        proof = f"the {receipts.verified:,} of {receipts.issued:,} receipts that were looked at were verified"
    return f"{gone}, {rest}, and {proof}."


def _all(number: int) -> str:
    some = {0: "no receipt was", 1: "its receipt was", 2: "both receipts were"}
    return some.get(number, f"all {number:,} receipts were")


def limits(
    *,
    asked: bool,
    kind: Kind,
    behind: bool,
    reproducible: bool,
    private: bool,
    not_looked_at: Sequence[str],
) -> Limits:
    """What holds of what is served now, and what does not follow from it.

    Args:
        asked: Whether anything was forgotten.
        kind: Of the guarantee.
        behind: Whether something of the model is still to be trained.
        reproducible: Whether training again gives the same bytes.
        private: Whether labels are published by noisy votes.
        not_looked_at: What verification against the workspace does not look at.

    Returns:
        All of it, in the words of the receipts.
    """
    exact = FORGOTTEN_GUARANTEE if behind else RECOVERED_GUARANTEE if reproducible else RECOVERED_NOISY_GUARANTEE
    guarantee = {"exact": exact, "certified": CERTIFIED_GUARANTEE, "empirical": EMPIRICAL_GUARANTEE}[kind]
    adaptive = ADAPTIVE_CERTIFIED if kind == "certified" else ADAPTIVE_EXCLUDED
    beside = {"exact": (), "certified": NOT_PROVEN_CERTIFIED, "empirical": NOT_PROVEN_EMPIRICAL}[kind]
    # What certified removal says of requests that look at the model stands apart, as in its receipts.
    rest = tuple(words for words in NOT_PROVEN if kind != "certified" or "adaptive requests" not in words)
    return Limits(
        kind=kind,
        guarantee=guarantee if asked else "",
        assumptions=ASSUMPTIONS,
        adaptive=ADAPTIVE_PRIVATE if private else adaptive,
        not_proven=(*beside, *rest),
        not_looked_at=tuple(not_looked_at),
        of_page=OF_PAGE,
        withheld=WITHHELD,
    )
