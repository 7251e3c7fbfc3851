"""Records presented again, to be audited: matched to what was forgotten, used in memory, never stored.

The workspace no longer has forgotten records, nor their ids: keyed tombstones tell that a presented id was forgotten,
and by which request. What was in the records nothing here can tell; their commitments' salts were destroyed with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.learners.base import State, StepData
from shards.placement import place_subjects
from shards.records import Records, fit_records
from unlearn.audit.sisa_test import PERMUTATIONS, subject_scores
from unlearn.audit.workspace_audit import AuditResult, Facts, ShardScores, audit_shards, record_scores
from unlearn.errors import DamageError, InputError, UnknownIdError, some
from unlearn.issuing import receipts_of
from unlearn.ledger import BuiltStep, now
from unlearn.lookup import records_of
from unlearn.request import Request, RequestState
from unlearn.risk import check_risks, numbered
from unlearn.site import Site

MEMBERS = 100
"""Subjects of each shard that are looked at for comparison."""

STILL_HERE = "still in the workspace"
OTHER_REQUEST = "forgotten by another request"
SUBJECT_STAYS = "their subject still has other records in the workspace"
NOT_SERVING = "their shard serves no state"
"""Why a record that is presented is not tested."""


@dataclass(frozen=True, eq=False)
class Presented:
    """Forgotten records, whole subjects.

    Attributes:
        records: The records, as a learner sees them.
        requests: The requests that they were forgotten by, in the order of the ledger.
        by: Which of them each record was forgotten by.
        names: Their subjects, each once, sorted.
        shards: `[subjects]` int64, the shard that each of them was in.
        classes: `[subjects]` int64, number of each one's risk class; zeros where there are none.
        rows: `[n]` number of each record's subject among these.
        set_aside: How many were presented besides, by the reason why they cannot be tested.
    """

    records: Records
    requests: tuple[Request, ...]
    by: tuple[str, ...]
    names: tuple[str, ...]
    shards: np.ndarray
    classes: np.ndarray
    rows: np.ndarray
    set_aside: dict[str, int]


def match(site: Site, records: Records, request_id: str | None) -> Presented:
    """Find out which presented records were forgotten.

    A subject that still has records here is set aside: these tell its shard, which a state may well know.

    Args:
        site: The workspace.
        records: What is presented.
        request_id: The request whose records to test, or None: of all.

    Returns:
        The forgotten ones.

    Raises:
        UnknownIdError: If some were neither forgotten here nor are here, or none can be tested; says why.
        InputError: If they do not fit the declared task, or their subjects not the requests.
    """
    fitted = fit_records(records, site.task())
    record_tokens = site.tokens("record", records.record_ids)
    subject_tokens = site.tokens("subject", records.subjects)
    dead = site.ledger.forgotten_by([*{*record_tokens, *subject_tokens}])
    present = {item.token for item in site.ledger.locations(record_tokens)}
    by = [dead.get(r) or dead.get(s) for r, s in zip(record_tokens, subject_tokens, strict=True)]
    here = np.array([token in present for token in record_tokens], dtype=bool)
    unknown = [
        name
        for name, named, is_here in zip(records.record_ids, by, here.tolist(), strict=True)
        if not (named or is_here)
    ]
    if unknown:
        raise UnknownIdError(
            f"{len(unknown)} of the {len(records)} presented records match no deletion request of {site.path} "
            f"({some(unknown)}): neither such a record nor its subject was ever forgotten here. Present them under the "
            "record ids and subjects they were ingested with, and only those; nothing was tested"
        )
    staying = records_of(
        site, sorted({name for name, is_here in zip(records.subjects, here, strict=True) if not is_here})
    )
    reasons = []
    for is_here, named, name in zip(here.tolist(), by, records.subjects, strict=True):
        if is_here:
            reasons.append(STILL_HERE)
        elif request_id is not None and named != request_id:
            reasons.append(OTHER_REQUEST)
        else:
            reasons.append(SUBJECT_STAYS if name in staying else "")
    kept = np.flatnonzero([not reason for reason in reasons])
    aside = dict(Counter(reason for reason in reasons if reason))
    if not len(kept):
        why = "; ".join(f"{count}: {reason}" for reason, count in sorted(aside.items()))
        whose = "" if request_id is None else f" by {request_id}"
        raise UnknownIdError(
            f"none of the {len(records)} presented records can be tested ({why or 'there are none'}): present records "
            f"that were forgotten{whose}, with all records of their subjects"
        )
    chosen = fitted.take(kept)
    theirs = tuple(str(by[row]) for row in kept)
    requests = tuple(request for request in site.ledger.requests() if request.id in theirs)
    names = tuple(sorted(set(chosen.subjects)))
    number = {name: at for at, name in enumerate(names)}
    rows = np.array([number[name] for name in chosen.subjects], dtype=np.int64)
    shards, classes = places(site, chosen, names, rows)
    _check_places(chosen, shards[rows], theirs, {request.id: request for request in requests})
    return Presented(chosen, requests, theirs, names, shards, classes, rows, aside)


def audit_presented(
    site: Site,
    records: Records,
    request_id: str | None = None,
    *,
    state_digest: str,
    alpha: float = 0.05,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> AuditResult:
    """Audit the served states with forgotten records.

    Args:
        site: The workspace, which nobody changes meanwhile.
        records: What is presented.
        request_id: The request whose records to test, or None: of all.
        state_digest: Of the served states.
        alpha: Probability of refuting exact unlearning.
        permutations: Rearrangements to draw.
        seed: They are drawn from.

    Returns:
        The result.

    Raises:
        UnknownIdError: If records match no request, or none can be tested.
        InputError: If they do not fit, or nothing can be tested; says why, and what to do.
    """
    presented = match(site, records, request_id)
    _, steps = site.ledger.served()
    steps = sorted(steps, key=lambda step: step.shard)
    declared = site.declaration
    shards, strata = presented.shards, _strata(site, presented)
    column = {step.shard: at for at, step in enumerate(steps)}
    tested = np.flatnonzero([int(shard) in column for shard in shards])
    if len(steps) < 2 or not len(tested):
        raise InputError(
            f"{len(steps)} of the {declared.n_shards} shards of {site.path} serve a state, and of the "
            f"{len(presented.names)} subjects {len(tested)} were in one of these, so there is nothing to compare: run "
            "`unlearn recover`, then audit"
        )
    members = members_of(site, steps)
    forgotten_scores, member_scores = _scores(site, steps, presented.records, members.parts)
    by_subject = subject_scores(forgotten_scores, presented.rows)[tested]
    in_test = np.isin(presented.rows, tested)
    aside = dict(presented.set_aside)
    if not in_test.all():
        aside[NOT_SERVING] = int((~in_test).sum())
    scores = ShardScores(
        shards=tuple(column),
        forgotten=by_subject,
        labels=np.array([column[int(shard)] for shard in shards[tested]], dtype=np.int64),
        strata=None if strata is None else strata[tested],
        members=subject_scores(member_scores, members.rows) if len(members.rows) else member_scores,
        member_labels=members.labels,
    )
    facts = facts_of(site, presented, state_digest, int(in_test.sum()), aside)
    return audit_shards(scores, facts, site.task().kind, alpha=alpha, permutations=permutations, seed=seed)


def facts_of(site: Site, presented: Presented, state_digest: str, n_records: int, set_aside: dict[str, int]) -> Facts:
    """What an audit says of the workspace and of the records.

    Args:
        site: The workspace.
        presented: The forgotten records.
        state_digest: Of the served states.
        n_records: How many of them are tested.
        set_aside: How many are not, by reason.

    Returns:
        The facts, as of now.
    """
    receipts = {
        f"{request.id}/{receipt.stage}": receipt.digest
        for request in presented.requests
        for receipt in receipts_of(site, request.id)
    }
    return Facts(
        workspace=site.declaration.id,
        state_digest=state_digest,
        at=now().isoformat(),
        requests=tuple(request.id for request in presented.requests),
        receipts=receipts,
        n_records=n_records,
        set_aside=set_aside,
    )


def places(site: Site, records: Records, names: Sequence[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where subjects go, whether or not they have records here.

    Args:
        site: The workspace.
        records: Records of theirs, n of them.
        names: The subjects.
        rows: `[n]` number of each record's subject.

    Returns:
        The shard of each subject, and the number of its risk class.

    Raises:
        InputError: If risk classes are missing or contradict each other.
    """
    declared = site.declaration
    regions = check_risks(site, records.subjects, records.risks, "nothing was tested")
    classes = np.zeros(len(names), dtype=np.int64)
    if regions is not None:
        given = numbered(site, records.risks)
        classes[rows] = given
        both = sorted({records.subjects[row] for row in np.flatnonzero(classes[rows] != given).tolist()})
        if both:
            raise InputError(
                f"{len(both)} of the presented subjects ({some(both)}) are given two risk classes: give each the "
                "one it was ingested with; nothing was tested"
            )
        known = list((declared.regions or {}).values())
        regions = [known[number] for number in classes.tolist()]
    shards, _ = place_subjects(site.keys.placement, names, declared.n_shards, declared.n_slices, regions)
    return shards, classes


def _check_places(records: Records, shards: np.ndarray, named: Sequence[str], requests: dict[str, Request]) -> None:
    """Refuse subjects that the requests cannot have been about: then labels would be made up."""
    wrong = sorted(
        {
            subject
            for subject, shard, name in zip(records.subjects, shards.tolist(), named, strict=True)
            if shard not in requests[name].shards
        }
    )
    if wrong:
        raise InputError(
            f"{len(wrong)} of the presented subjects ({some(wrong)}) cannot be whose records were forgotten: no "
            "record of their shard was. Name the columns of the subjects, and of their risk classes if there are some, "
            "as they were when the records were ingested"
        )


def _strata(site: Site, presented: Presented) -> np.ndarray | None:
    """Groups of subjects inside which labels are exchangeable; None: all are.

    A risk class has its own shards. Until a request is recovered, what a shard serves tells the first slice it lost.
    Slices are random, so that is the same for all of a class whom such requests forgot, but not for others; and batches
    are not random.

    Returns:
        `[subjects]`, or None.

    Raises:
        InputError: If the groups cannot be told any more.
    """
    waiting = {request.id for request in presented.requests if request.state is RequestState.FORGOTTEN}
    if not waiting:
        return presented.classes if site.declaration.regions else None
    if site.ledger.batches() > 1:
        raise InputError(
            f"{len(waiting)} of the requests are not recovered ({some(sorted(waiting))}), and what a shard serves "
            "until then tells in which batch its forgotten records were: run `unlearn recover`, then audit"
        )
    strata = 2 * presented.classes
    late = np.unique(presented.rows[[name in waiting for name in presented.by]])
    strata[late] += 1
    return strata


@dataclass(frozen=True, eq=False)
class Members:
    """Records of some subjects of every shard that serves a state.

    Attributes:
        parts: The records, some at a time; m in all.
        rows: `[m]` int64, number of each record's subject.
        labels: `[M]` int64, column of each subject's shard.
    """

    parts: list[StepData]
    rows: np.ndarray
    labels: np.ndarray


def members_of(site: Site, steps: Sequence[BuiltStep], most: int = MEMBERS) -> Members:
    """Read some subjects that states were trained on.

    Args:
        site: The workspace.
        steps: What the shards serve; a column each.
        most: Subjects of each shard, at most.

    Returns:
        Their records.
    """
    parts: list[StepData] = []
    rows: list[int] = []
    labels: list[int] = []
    for column, step in enumerate(steps):
        number: dict[str, int] = {}
        for (_, position), piece in sorted(site.ledger.slices(step.shard).items()):
            if position > step.position:
                break
            data = site.folder(step.shard).read_records(piece.file)
            for name in data.subjects:
                if len(number) < most:
                    number.setdefault(name, len(labels) + len(number))
            taken = np.flatnonzero([name in number for name in data.subjects])
            features = {name: array[taken] for name, array in data.features.items()}
            parts.append(StepData(features, data.target[taken], data.tokens[taken]))
            rows += [number[data.subjects[row]] for row in taken]
        labels += [column] * len(number)
    return Members(parts, np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64))


def served_state(site: Site, step: BuiltStep) -> State:
    """Read a state that is served.

    Args:
        site: The workspace.
        step: Whose state.

    Returns:
        It.

    Raises:
        DamageError: If it is missing, or is not the one that was recorded.
    """
    try:
        checkpoint = site.folder(step.shard).load(step.key)
    except FileNotFoundError as error:
        raise DamageError(
            f"the checkpoint of shard {step.shard} of {site.path} is missing: run `unlearn recover`"
        ) from error
    if checkpoint.header.commitment != step.commitment:
        raise DamageError(
            f"the checkpoint of shard {step.shard} is not the one that was recorded: run `unlearn recover`"
        )
    return checkpoint.state


def _scores(
    site: Site, steps: Sequence[BuiltStep], records: Records, members: Sequence[StepData]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the forgotten records `[n, S]` and of members `[m, S]`, one state in memory at a time."""
    task, learner = site.task(), site.learner
    asked = learner.prepare(records.features, task)
    known = [(learner.prepare(part.features, task), part.target) for part in members]
    forgotten, compared = [], []
    for step in steps:
        predict = learner.predictor(served_state(site, step), task)
        forgotten.append(record_scores(predict(asked), records.target, task.kind))
        parts = [record_scores(predict(features), target, task.kind) for features, target in known]
        compared.append(np.concatenate([np.empty(0), *parts]))
    return np.stack(forgotten, axis=1), np.stack(compared, axis=1)
