"""What a receipt says: its fields, its words, and how its parts are digested. Pure.

A receipt is an in-toto statement about one deletion request. Whoever issues one builds it with `statement`; whoever
verifies one reads it with `read_statement`, which takes exactly the form that versions 1 to 3 have and nothing else.
Version 2 is for requests whose records an approximate method made the model unlearn: it says which, and never that what
is served until the recovery is exact. Version 3 is for those that were removed with a certificate: it says besides what
is promised, and how much of that is spent. All other receipts are of version 1.

Source: in-toto attestation framework, Statement v1, https://github.com/in-toto/attestation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple

from shards.digest import Json, canonical_json, digest_json, digest_parts
from shards.environment import described_environment
from unlearn.errors import InputError
from unlearn.receipt import strict
from unlearn.receipt.keys import STATEMENT_TYPE
from unlearn.receipt.strict import ReceiptError

RECEIPT_TYPE = "urn:sisa-unlearn:receipt:v1"
APPROXIMATE_TYPE = "urn:sisa-unlearn:receipt:v2"
CERTIFIED_TYPE = "urn:sisa-unlearn:receipt:v3"
RECEIPT_TYPES = {RECEIPT_TYPE: 1, APPROXIMATE_TYPE: 2, CERTIFIED_TYPE: 3}
"""Predicate type to version."""

SOFTWARE = "sisa-unlearn"
OPENING_BYTES = 32

Stage = Literal["forgotten", "recovered"]
Kind = Literal["exact", "certified", "empirical"]

FORGOTTEN_GUARANTEE = (
    "Exact, for a reduced training set. No state of the served model has seen the forgotten records: every "
    "shard serves a state that was trained on a part of the data without them, or serves none. Until the "
    "model is recovered it may therefore have learned from fewer records than remain."
)
RECOVERED_GUARANTEE = (
    "Exact. Every state of the served model is byte for byte the one that training gives from the start on "
    "data that never held the forgotten records, with the same constants, order and seeds, in the numeric "
    "environment in which it was built."
)
RECOVERED_NOISY_GUARANTEE = (
    "Exact, as a distribution. Every state of the served model was trained from the start, with the same constants, on "
    "data that never held the forgotten records, or goes on from one that was. Training adds noise that is fresh and "
    "secret each time, so the states are not those of another training byte for byte: they have the same distribution."
)
EMPIRICAL_GUARANTEE = (
    "Empirical, and not exact. The forgotten records and every state that was trained on them are destroyed, but the "
    "served model is NOT one that never saw them: it was made from a state that had, by the approximate method named "
    "under approximation. How much of them it still knows can be tested and is not proven. Once the model is "
    "recovered, that is, retrained without the records, a receipt of stage recovered says so."
)
CERTIFIED_GUARANTEE = (
    "Certified, and not exact. The forgotten records and every state that was trained on them are destroyed. The "
    "served model was made from one that had seen them, by the removal named under approximation, and published with "
    "noise. All models that were published since the last training from nothing are together (epsilon, delta)-"
    "indistinguishable, with the numbers under approximation: certificate, from models that are retrained without the "
    "records at each request and published with such noise. Once the model is recovered, that is, retrained without "
    "the records, a receipt of stage recovered says so."
)
ASSUMPTIONS = (
    (
        "The software that trained the model followed its rules: a training step depends on nothing but the "
        "records, constants and seed that its key names, and a shard reads no other shard's records."
    ),
    (
        "Where a record is placed follows from its subject's id alone, and whatever was declared public (classes,"
        " shapes, numbers of shards and slices, hyper-parameters) was not fitted on the forgotten records."
    ),
    "Environments with equal digests compute equal floating-point bits.",
    (
        "SHA-256 is collision resistant, Ed25519 signatures cannot be forged, and nobody but the operator knew "
        "the signing key."
    ),
)
NOT_PROVEN = (
    (
        "That no backup, snapshot, export or other copy outside of the workspace still holds the records or a "
        "model that saw them."
    ),
    (
        "That nothing can be read from the storage medium any more: deleted blocks may survive on a disk, in a "
        "journal or in flash memory until they are overwritten."
    ),
    (
        "That the guarantee holds for adaptive requests: if requests are chosen by looking at released models, "
        "what is asked to be forgotten itself depends on the data (Gupta et al. 2021, Adaptive Machine "
        "Unlearning)."
    ),
    (
        "That declared constants and hyper-parameters owe nothing to the forgotten records: whoever chose them by"
        " looking at the data carried something of it over."
    ),
    (
        "That models, predictions and other results which were derived from the model before, and are kept "
        "elsewhere, are free of the records. Those that were registered are listed as artefacts."
    ),
    (
        "That the operator's machine ran this software on this data: a proof over digests does not bind weights "
        "to data (Zhang et al. 2024, arXiv:2408.00929). With the workspace at hand, steps can be rebuilt and "
        "compared."
    ),
    "That nobody learned something of the records from the model while it still knew them.",
    "That the same data did not come, or does not come again, under other ids.",
)
_ADAPTIVE = 2
"""Which of these is about requests that depend on the model."""

NOT_PROVEN_EMPIRICAL = (
    (
        "That an approximate method makes a model forget, or how much: what its card says of it is what its authors "
        "and tests say, and no theorem about this model."
    ),
    (
        "That methods applied one after the other do no worse than one: their errors may add up (how many there were "
        "stands under approximation: applications)."
    ),
)
NOT_PROVEN_CERTIFIED = (
    (
        "That the noise was drawn freshly and kept secret, and that whoever retrains uses the same program and "
        "constants: the certificate rests on both."
    ),
    (
        "That a model from before the last training from nothing is covered too: every training begins a new promise, "
        "and promises add up for whoever kept the models of several."
    ),
    (
        "That earlier models owe nothing to the records: what was published while they were there may have depended on "
        "them, and so may what was requested on its account, with retraining as with removal."
    ),
    "That floating-point numbers behave as the real ones of the proof do, beyond the rounding that is charged.",
    "That the time a removal takes, and that there was one, tell nothing of the records.",
    "That classes and shapes tell nothing: a class whose records were all forgotten keeps its place.",
)
ADAPTIVE_CERTIFIED = (
    "Covered, as far as requests depend on the served models: the certificate holds for requests that look at them. "
    "Requests that depend on anything else of the data are not covered."
)
ADAPTIVE_EXCLUDED = "Not covered: exactness is for requests that do not depend on what the model has said or shown."
ADAPTIVE_PRIVATE = (
    "Labels are published by noisy votes alone, and all of them together are differentially private in every subject, "
    "with the epsilon and delta stated here, also if requests depend on labels published before. Whoever sees states, "
    "or sees when requests come, is not covered."
)

_GUARANTEES: dict[str, str] = {"forgotten": FORGOTTEN_GUARANTEE, "recovered": RECOVERED_GUARANTEE}
_WORKSPACE = re.compile("[0-9a-f]{32}")
_MAX_REAL = 1e300
_TOP = (
    "stage", "workspace", "request", "guarantee", "withdrawal", "recovery", "environments", "artefacts", "log",
    "previous", "keys", "not_proven", "software",
)  # fmt: skip
_REQUEST = (
    "id", "digest", "n_subjects", "n_records", "submitted_at", "deadline", "withdrawn_at", "forgotten_at",
    "recovered_at",
)  # fmt: skip


class Privacy(NamedTuple):
    """Labels by noisy votes.

    Attributes:
        sigma: Standard deviation of the noise, in votes.
        max_epsilon: What all labels together may reach.
        delta: The delta it is stated for.
    """

    sigma: float
    max_epsilon: float
    delta: float


class State(NamedTuple):
    """A state that a shard serves.

    Attributes:
        shard: The shard.
        position: Position of the step in the shard's chain.
        key: Digest of everything that determined it.
        commitment: Salted digest of its content.
        records: Records it was trained on.
    """

    shard: int
    position: int
    key: str
    commitment: str
    records: int


class Destroyed(NamedTuple):
    """A step whose checkpoint was destroyed; as `State`."""

    shard: int
    position: int
    key: str


class Rebuilt(NamedTuple):
    """A step that was built again; as `State`, with the digest of the environment it was built in."""

    shard: int
    position: int
    key: str
    environment: str


@dataclass(frozen=True)
class RecordSet:
    """The tree over the commitments of all present records.

    Attributes:
        count: How many there are.
        root: Hash of the tree's root, hex.
    """

    count: int
    root: str


@dataclass(frozen=True)
class Withdrawal:
    """What taking the records out of service did.

    Attributes:
        removed: Commitments of the forgotten records, hex, ascending.
        shards: Shard to the earliest position whose step had seen one of them.
        before: All records before it.
        after: All records after it.
        presence: Pruned tree that shows the forgotten ones among those before.
        absence: Pruned tree that shows that none is among those after.
        states_before: What each shard served before, by shard.
        states_after: What each shard served after, by shard.
        destroyed: The steps that were destroyed, by shard and position.
        digest: Of all this, as the log holds it.
    """

    removed: tuple[str, ...]
    shards: dict[int, int]
    before: RecordSet
    after: RecordSet
    presence: Json = field(repr=False)
    absence: Json = field(repr=False)
    states_before: tuple[State, ...]
    states_after: tuple[State, ...]
    destroyed: tuple[Destroyed, ...]
    digest: str


@dataclass(frozen=True)
class Recovery:
    """What building again did.

    Attributes:
        records: All records at that time.
        absence: Pruned tree that shows that no forgotten record is among them.
        states: What each shard serves, by shard.
        rebuilt: The steps that were built again, by shard and position.
        digest: Of all this, as the log holds it.
    """

    records: RecordSet
    absence: Json = field(repr=False)
    states: tuple[State, ...]
    rebuilt: tuple[Rebuilt, ...]
    digest: str


class Certificate(NamedTuple):
    """What is promised of a state that was made by certified removal.

    Attributes:
        epsilon: Promised for all models published since the last training from nothing, together.
        delta: Its delta.
        heads: Columns of weights that carry noise.
        spent: Epsilon of the removals so far.
        left: Removals that the promise still suffices for.
    """

    epsilon: float
    delta: float
    heads: int
    spent: float
    left: int


@dataclass(frozen=True)
class Approximation:
    """The state that an approximate method made, to be served in place of what was withdrawn.

    Attributes:
        method: Name of the method.
        title: It, in words.
        citation: Who published it, and where.
        statement: What holds of it and what does not, as its card says.
        config: Its configuration, in full.
        applications: How many methods were applied one after the other since the last exact state, this one included.
        state: The state.
        made_from: Key of the state it was made from.
        environment: Digest of the environment it was made in.
        escalate_by: Until when the model is to be retrained, or None.
        certificate: What is promised and spent, of a receipt of version 3; None of version 2.
        digest: Of all this, as the log holds it.
    """

    method: str
    title: str
    citation: str
    statement: str
    config: dict[str, Json]
    applications: int
    state: State
    made_from: str
    environment: str
    escalate_by: datetime | None
    certificate: Certificate | None
    digest: str


@dataclass(frozen=True)
class LogEntry:
    """An event of the log and the proof that it is in there.

    Attributes:
        index: Its number in the log.
        body: Its exact text.
        proof: Hashes from its sibling up, hex.
    """

    index: int
    body: str
    proof: tuple[str, ...]


@dataclass(frozen=True)
class LogHead:
    """The log as it stood when the receipt was issued, and this request's events in it.

    Attributes:
        size: Number of events.
        root: Hash of the Merkle tree over them, hex.
        events: Those of this request, in order.
    """

    size: int
    root: str
    events: tuple[LogEntry, ...]


@dataclass(frozen=True)
class RequestFacts:
    """The request, without saying whose it is.

    Attributes:
        id: Its name.
        digest: Of its opening: a secret and the ids it named.
        n_subjects: Subjects it named.
        n_records: Records it removed.
        submitted_at: When it became durable.
        deadline: Until when it was to be carried out, or None.
        withdrawn_at: When its records were no longer served.
        forgotten_at: When they were destroyed, with all that saw them.
        recovered_at: When the model was rebuilt, or None.
    """

    id: str
    digest: str
    n_subjects: int
    n_records: int
    submitted_at: datetime
    deadline: datetime | None
    withdrawn_at: datetime
    forgotten_at: datetime
    recovered_at: datetime | None


@dataclass(frozen=True)
class Artefact:
    """Something derived from the model, kept elsewhere, that had seen the records.

    Attributes:
        name: Its name.
        kind: What it is.
        location: Where it is.
    """

    name: str
    kind: str
    location: str


@dataclass(frozen=True)
class Predicate:
    """What a receipt says.

    Attributes:
        stage: How far the request has come.
        workspace: Id of the workspace.
        description: Digest of the workspace's description.
        request: The request.
        kind: Of the guarantee: `"exact"`, `"certified"` or `"empirical"`.
        guarantee: What is guaranteed, in words.
        assumptions: What the guarantee rests on, in words.
        privacy: What holds for requests that depend on published labels; None: nothing.
        withdrawal: What taking the records out of service did.
        recovery: What building again did; None at stage forgotten.
        approximation: What an approximate method made and was served from the withdrawal on; None: there was none.
        environments: Digest to description of the environments that steps were rebuilt in, or that a method ran in.
        artefacts: What elsewhere is tainted.
        log: The log, and the request's events in it.
        previous: SHA-256 of the payload of the forgotten receipt; None at stage forgotten.
        keys: Key rotations, oldest first.
        not_proven: What this receipt does not show, in words.
        software_version: Version of the software that issued it.
    """

    stage: Stage
    workspace: str
    description: str
    request: RequestFacts
    kind: Kind
    guarantee: str
    assumptions: tuple[str, ...]
    privacy: Privacy | None
    withdrawal: Withdrawal
    recovery: Recovery | None
    approximation: Approximation | None
    environments: dict[str, Json]
    artefacts: tuple[Artefact, ...]
    log: LogHead
    previous: str | None
    keys: tuple[Json, ...] = field(repr=False)
    not_proven: tuple[str, ...]
    software_version: str


class Statement(NamedTuple):
    """An in-toto statement of a receipt.

    Attributes:
        subject_name: What it is about.
        subject_digest: SHA-256 of that, hex.
        predicate: What it says.
    """

    subject_name: str
    subject_digest: str
    predicate: Predicate


def request_digest(opening: bytes, subjects: Iterable[str], record_ids: Iterable[str]) -> str:
    """Digest of what a request asked to be forgotten; without the opening it says nothing.

    Args:
        opening: 32 random bytes, given to the submitter alone.
        subjects: Ids of subjects, in any order; one given twice counts once.
        record_ids: Ids of records, likewise.

    Returns:
        64 hex digits.

    Raises:
        InputError: If the opening has another length, or an id is no text.
    """
    if len(opening) != OPENING_BYTES:
        raise InputError(
            f"the opening of a request has {OPENING_BYTES} bytes, not {len(opening)}: check that it is complete"
        )
    named = {"subjects": set(subjects), "record_ids": set(record_ids)}
    for what, ids in named.items():
        if not all(isinstance(name, str) for name in ids):
            raise InputError(f"{what} must be texts: convert them as they were when the request was submitted")
    try:
        content = canonical_json({what: sorted(ids) for what, ids in named.items()})
    except UnicodeEncodeError as error:
        raise InputError(f"an id holds a lone surrogate ({error.reason}); correct the text") from error
    return digest_parts("request opening", [opening, content])


def withdrawal_digest(withdrawal: Json) -> str:
    """Digest of a withdrawal, as the log's event holds it, hex."""
    return digest_json("withdrawal", _as_read(withdrawal))


def recovery_digest(recovery: Json) -> str:
    """Digest of a recovery, as the log's event holds it, hex."""
    return digest_json("recovery", _as_read(recovery))


def _as_read(value: Json) -> Json:
    """A value as a verifier will see it: tuples are lists there, keys are texts and sorted as such."""
    return strict.parse(canonical_json(value), "the statement")


def statement(
    *,
    stage: Stage,
    workspace: Mapping[str, Json],
    request: Mapping[str, Json],
    withdrawal: Json,
    recovery: Json,
    environments: Mapping[str, Json],
    artefacts: Sequence[Mapping[str, Json]],
    log: Mapping[str, Json],
    previous: str | None,
    keys: Sequence[Json],
    software_version: str,
    privacy: Mapping[str, float] | None = None,
    reproducible: bool = True,
    approximation: Json = None,
) -> Json:
    """Put a receipt's statement together; the words for guarantee and limits follow from the stage and the version.

    Args:
        stage: How far the request has come.
        workspace: `id` (32 hex digits) and `description` (64 hex digits).
        request: The fields of `RequestFacts`, times as `datetime.isoformat` writes them.
        withdrawal: The JSON whose digest the event `withdrawn` holds.
        recovery: The JSON whose digest the event `recovered` holds; None at stage forgotten.
        environments: Digest to description, of exactly the environments that `recovery` and `approximation` name.
        artefacts: `name`, `kind` and `location` of what is tainted elsewhere.
        log: `size`, `root` and `events`, each with `index`, `body` and `proof`.
        previous: SHA-256 of the payload of the forgotten receipt; None at stage forgotten.
        keys: Key rotations, oldest first.
        software_version: Version of the software that issues it.
        privacy: `sigma`, `max_epsilon` and `delta` where labels are published by noisy votes; None otherwise.
        reproducible: Whether training again gives the same states; otherwise it adds fresh noise.
        approximation: The JSON whose digest the event `withdrawn` holds, which makes it a receipt of version 2, or of
            version 3 with a `certificate` in it; None: of version 1.

    Returns:
        The statement, to be sealed.

    Raises:
        ReceiptError: If it would not be well-formed: a mistake of the caller, found before anything is signed.
    """
    version = 1 if approximation is None else 3 if "certificate" in approximation else 2
    made: dict[str, Json] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": _subject(str(request.get("id"))), "digest": {"sha256": request.get("digest")}}],
        "predicateType": next(name for name, number in RECEIPT_TYPES.items() if number == version),
        "predicate": {
            "stage": stage,
            "workspace": dict(workspace),
            "request": dict(request),
            "guarantee": {
                "kind": _kind(version, stage),
                "statement": _guarantee(version, stage, reproducible=reproducible),
                "assumptions": list(ASSUMPTIONS),
                "adaptive_requests": {
                    "statement": _adaptive(version, stage) if privacy is None else ADAPTIVE_PRIVATE,
                    "privacy": None if privacy is None else dict(privacy),
                },
            },
            "withdrawal": withdrawal,
            "recovery": recovery,
            "environments": dict(environments),
            "artefacts": [dict(artefact) for artefact in artefacts],
            "log": dict(log),
            "previous": previous,
            "keys": list(keys),
            "not_proven": list(_not_proven(version, stage)),
            "software": {"name": SOFTWARE, "version": software_version},
        },
    }
    if approximation is not None:
        made["predicate"]["approximation"] = approximation
    read = _as_read(made)
    read_statement(read)
    return read


def _kind(version: int, stage: str) -> Kind:
    """What kind of guarantee a receipt gives: what is served after an approximate method is exact once recovered."""
    if stage != "forgotten" or version == 1:
        return "exact"
    return "certified" if version == 3 else "empirical"


def _adaptive(version: int, stage: str) -> str:
    """What holds for requests that depend on the model, where labels are not published by noisy votes."""
    return ADAPTIVE_CERTIFIED if _kind(version, stage) == "certified" else ADAPTIVE_EXCLUDED


def _guarantee(version: int, stage: str, *, reproducible: bool) -> str:
    """The words of a stage's guarantee: other ones after a method, and once states are rebuilt with fresh noise."""
    kind = _kind(version, stage)
    if kind != "exact":
        return EMPIRICAL_GUARANTEE if kind == "empirical" else CERTIFIED_GUARANTEE
    if stage == "recovered" and not reproducible:
        return RECOVERED_NOISY_GUARANTEE
    return _GUARANTEES.get(stage, "")


def _not_proven(version: int, stage: str) -> tuple[str, ...]:
    kind = _kind(version, stage)
    if kind == "certified":
        # What it says of requests that look at the model is said under adaptive_requests.
        return (*NOT_PROVEN_CERTIFIED, *(words for words in NOT_PROVEN if words != NOT_PROVEN[_ADAPTIVE]))
    return (*NOT_PROVEN_EMPIRICAL, *NOT_PROVEN) if kind == "empirical" else NOT_PROVEN


def read_statement(value: Json) -> Statement:
    """Read a statement of a receipt, in the form of version 1, 2 or 3 and no other.

    Args:
        value: JSON, from `strict.parse`.

    Returns:
        The statement. What its parts say of each other is not compared yet.

    Raises:
        ReceiptError: If anything is missing, unknown, or not of its form.
    """
    found = strict.fields(value, "the statement", ("_type", "subject", "predicateType", "predicate"))
    strict.constant(found["_type"], "_type", STATEMENT_TYPE)
    version = RECEIPT_TYPES.get(found["predicateType"]) if isinstance(found["predicateType"], str) else None
    if version is None:
        strict.constant(found["predicateType"], "predicateType", RECEIPT_TYPE)
    (listed,) = strict.items(found["subject"], "subject", 1)
    subject = strict.fields(listed, "subject", ("name", "digest"))
    digests = strict.fields(subject["digest"], "subject: digest", ("sha256",))
    return Statement(
        strict.text(subject["name"], "subject: name", 2 * strict.MAX_NAME),
        strict.digest(digests["sha256"], "subject: digest: sha256"),
        _predicate(found["predicate"], version or 1),
    )


def subject_of(predicate: Predicate) -> tuple[str, str]:
    """Name and digest that the statement's subject must have."""
    return _subject(predicate.request.id), predicate.request.digest


def _subject(request: str) -> str:
    return f"request/{request}"


def _predicate(value: Json, version: int) -> Predicate:
    found = strict.fields(value, "predicate", _TOP if version == 1 else (*_TOP, "approximation"))
    stage = _stage(found["stage"])
    workspace, description = read_workspace(found["workspace"])
    guarantee = strict.fields(
        found["guarantee"], "guarantee", ("kind", "statement", "assumptions", "adaptive_requests")
    )
    kind, limits = _kind(version, stage), _not_proven(version, stage)
    words = _guarantee(version, stage, reproducible=guarantee["statement"] != RECOVERED_NOISY_GUARANTEE)
    strict.constant(guarantee["kind"], "guarantee: kind", kind)
    _words(guarantee["statement"], "guarantee: statement", words, version)
    _all_words(guarantee["assumptions"], "guarantee: assumptions", ASSUMPTIONS, version)
    _all_words(found["not_proven"], "not_proven", limits, version)
    software = strict.fields(found["software"], "software", ("name", "version"))
    strict.constant(software["name"], "software: name", SOFTWARE)
    recovered = stage == "recovered"
    recovery = _recovery(found["recovery"]) if _given(found["recovery"], "recovery", recovered) else None
    approximation = None if version == 1 else _approximation(found["approximation"], certified=version == 3)
    previous = found["previous"]
    return Predicate(
        stage=stage,
        workspace=workspace,
        description=description,
        request=_request(found["request"], recovered),
        kind=kind,
        guarantee=words,
        assumptions=ASSUMPTIONS,
        privacy=_privacy(guarantee["adaptive_requests"], _adaptive(version, stage)),
        withdrawal=_withdrawal(found["withdrawal"]),
        recovery=recovery,
        approximation=approximation,
        environments=_environments(found["environments"], recovery, approximation),
        artefacts=read_artefacts(found["artefacts"]),
        log=read_log(found["log"]),
        previous=strict.digest(previous, "previous") if _given(previous, "previous", recovered) else None,
        keys=tuple(strict.items(found["keys"], "keys")),
        not_proven=limits,
        software_version=strict.text(software["version"], "software: version", strict.MAX_NAME),
    )


def read_workspace(value: Json) -> tuple[str, str]:
    """Id of a workspace and digest of its description, as a receipt states them.

    Args:
        value: What was read.

    Returns:
        Both.

    Raises:
        ReceiptError: If they are not of their form.
    """
    found = strict.fields(value, "workspace", ("id", "description"))
    if not isinstance(found["id"], str) or _WORKSPACE.fullmatch(found["id"]) is None:
        raise ReceiptError(f"workspace: id must be 32 hex digits in lower case, not {strict.shown(found['id'])}")
    return found["id"], strict.digest(found["description"], "workspace: description")


def _privacy(value: Json, otherwise: str) -> Privacy | None:
    """What is promised about requests that depend on what was published."""
    where = "guarantee: adaptive_requests"
    found = strict.fields(value, where, ("statement", "privacy"))
    if found["privacy"] is None:
        _words(found["statement"], f"{where}: statement", otherwise)
        return None
    _words(found["statement"], f"{where}: statement", ADAPTIVE_PRIVATE)
    names = ("sigma", "max_epsilon", "delta")
    numbers = strict.fields(found["privacy"], f"{where}: privacy", names)
    for name in names:
        number = numbers[name]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _MAX_REAL:
            raise ReceiptError(
                f"{where}: privacy: {name} must be a number from above 0 to 1e300, not {strict.shown(number)}"
            )
    return Privacy(*(float(numbers[name]) for name in names))


def _stage(value: Json) -> Stage:
    if value == "forgotten":
        return "forgotten"
    if value == "recovered":
        return "recovered"
    raise ReceiptError(f"stage must be 'forgotten' or 'recovered', not {strict.shown(value)}")


def _given(value: Json, where: str, recovered: bool) -> bool:
    """Whether a field that belongs to stage recovered is there; refuse it at the other stage."""
    if recovered and value is None:
        raise ReceiptError(f"{where} is missing, which a receipt at stage recovered must have")
    if not recovered and value is not None:
        raise ReceiptError(f"{where} must be null in a receipt at stage forgotten, not {strict.shown(value)}")
    return recovered


def _words(value: Json, where: str, expected: str, version: int = 1) -> None:
    """Refuse wording of one's own: a version says one thing in one way."""
    if value != expected:
        raise ReceiptError(
            f"{where} is not worded as version {version} of receipts words it, but {strict.shown(value)}"
        )


def _all_words(value: Json, where: str, expected: Sequence[str], version: int) -> None:
    for number, (item, words) in enumerate(zip(strict.items(value, where, len(expected)), expected, strict=True), 1):
        _words(item, f"{where}: entry {number}", words, version)


def _request(value: Json, recovered: bool) -> RequestFacts:
    found = strict.fields(value, "request", _REQUEST)
    recovered_at = found["recovered_at"]
    return RequestFacts(
        id=strict.text(found["id"], "request: id", strict.MAX_NAME),
        digest=strict.digest(found["digest"], "request: digest"),
        n_subjects=strict.number(found["n_subjects"], "request: n_subjects"),
        n_records=strict.number(found["n_records"], "request: n_records"),
        submitted_at=strict.time(found["submitted_at"], "request: submitted_at"),
        deadline=strict.time_or_null(found["deadline"], "request: deadline"),
        withdrawn_at=strict.time(found["withdrawn_at"], "request: withdrawn_at"),
        forgotten_at=strict.time(found["forgotten_at"], "request: forgotten_at"),
        recovered_at=(
            strict.time(recovered_at, "request: recovered_at")
            if _given(recovered_at, "request: recovered_at", recovered)
            else None
        ),
    )


def _withdrawal(value: Json) -> Withdrawal:
    found = strict.fields(
        value, "withdrawal", ("removed", "shards", "records", "presence", "absence", "states", "destroyed")
    )
    removed = tuple(
        strict.digest(item, f"withdrawal: removed: entry {number}")
        for number, item in enumerate(strict.items(found["removed"], "withdrawal: removed"), 1)
    )
    _ascending(removed, "withdrawal: removed")
    records = strict.fields(found["records"], "withdrawal: records", ("before", "after"))
    states = strict.fields(found["states"], "withdrawal: states", ("before", "after"))
    destroyed = tuple(
        Destroyed(*_step(item, place, 3)) for place, item in _numbered(found["destroyed"], "withdrawal: destroyed")
    )
    _ascending([item[:2] for item in destroyed], "withdrawal: destroyed")
    return Withdrawal(
        removed=removed,
        shards=_hit(found["shards"]),
        before=_record_set(records["before"], "withdrawal: records: before"),
        after=_record_set(records["after"], "withdrawal: records: after"),
        presence=found["presence"],
        absence=found["absence"],
        states_before=_states(states["before"], "withdrawal: states: before"),
        states_after=_states(states["after"], "withdrawal: states: after"),
        destroyed=destroyed,
        digest=digest_json("withdrawal", value),
    )


def _recovery(value: Json) -> Recovery:
    found = strict.fields(value, "recovery", ("records", "absence", "states", "rebuilt"))
    rebuilt = tuple(
        Rebuilt(*_step(item, place, 4), strict.digest(item[3], f"{place}: environment"))
        for place, item in _numbered(found["rebuilt"], "recovery: rebuilt")
    )
    _ascending([item[:2] for item in rebuilt], "recovery: rebuilt")
    return Recovery(
        records=_record_set(found["records"], "recovery: records"),
        absence=found["absence"],
        states=_states(found["states"], "recovery: states"),
        rebuilt=rebuilt,
        digest=digest_json("recovery", value),
    )


def _certificate(value: Json, config: Mapping[str, Json]) -> Certificate:
    where = "approximation: certificate"
    found = strict.fields(value, where, ("epsilon", "delta", "heads", "spent", "left"))
    for name in ("epsilon", "delta", "spent"):
        number = found[name]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= _MAX_REAL:
            raise ReceiptError(f"{where}: {name} must be a number from 0 to 1e300, not {strict.shown(number)}")
    for name in ("epsilon", "delta"):
        if not found[name] > 0 or found[name] != config.get(name):
            raise ReceiptError(f"{where}: {name} must be above 0, and that of the method's configuration")
    if not found["delta"] < 1:
        raise ReceiptError(f"{where}: delta must be below 1, not {strict.shown(found['delta'])}")
    if not found["spent"] <= found["epsilon"]:
        raise ReceiptError(f"{where}: more of epsilon is spent ({found['spent']}) than is promised")
    return Certificate(
        float(found["epsilon"]),
        float(found["delta"]),
        strict.number(found["heads"], f"{where}: heads"),
        float(found["spent"]),
        strict.number(found["left"], f"{where}: left"),
    )


def _approximation(value: Json, *, certified: bool) -> Approximation:
    where = "approximation"
    words = ("method", "title", "citation", "statement")
    more = ("certificate",) if certified else ()
    found = strict.fields(
        value, where, (*words, *more, "config", "applications", "state", "made_from", "environment", "escalate_by")
    )
    if not isinstance(found["config"], dict):
        raise ReceiptError(f"{where}: config must be an object, not {strict.shown(found['config'])}")
    applications = strict.number(found["applications"], f"{where}: applications")
    if applications < 1:
        raise ReceiptError(f"{where}: applications must be at least 1, not {applications}")
    (state,) = _states([found["state"]], f"{where}: state")
    method, title, citation, said = (strict.text(found[name], f"{where}: {name}", strict.MAX_NAME) for name in words)
    return Approximation(
        method=method,
        title=title,
        citation=citation,
        statement=said,
        config=found["config"],
        applications=applications,
        state=state,
        made_from=strict.digest(found["made_from"], f"{where}: made_from"),
        environment=strict.digest(found["environment"], f"{where}: environment"),
        escalate_by=strict.time_or_null(found["escalate_by"], f"{where}: escalate_by"),
        certificate=_certificate(found["certificate"], found["config"]) if certified else None,
        digest=digest_json("approximation", value),
    )


def _hit(value: Json) -> dict[int, int]:
    """Shard to earliest position."""
    if not isinstance(value, dict):
        raise ReceiptError(f"withdrawal: shards must be an object, not {strict.shown(value)}")
    found: dict[int, int] = {}
    for name, position in value.items():
        if re.fullmatch("0|[1-9][0-9]{0,17}", name) is None:
            raise ReceiptError(f"withdrawal: shards: {strict.shown(name)} is no number of a shard")
        found[int(name)] = strict.number(position, f"withdrawal: shards: {name}")
    return found


def _record_set(value: Json, where: str) -> RecordSet:
    found = strict.fields(value, where, ("count", "root"))
    return RecordSet(strict.number(found["count"], f"{where}: count"), strict.digest(found["root"], f"{where}: root"))


def _states(value: Json, where: str) -> tuple[State, ...]:
    found = tuple(
        State(
            *_step(item, place, 5),
            strict.digest(item[3], f"{place}: commitment"),
            strict.number(item[4], f"{place}: records"),
        )
        for place, item in _numbered(value, where)
    )
    _ascending([state.shard for state in found], where)
    return found


def _step(value: Json, where: str, length: int) -> tuple[int, int, str]:
    """Shard, position and key, with which every entry about a step begins."""
    strict.items(value, where, length)
    return (
        strict.number(value[0], f"{where}: shard"),
        strict.number(value[1], f"{where}: position"),
        strict.digest(value[2], f"{where}: key"),
    )


def _numbered(value: Json, where: str) -> list[tuple[str, Json]]:
    return [(f"{where}: entry {number}", item) for number, item in enumerate(strict.items(value, where), 1)]


def _ascending(values: Sequence[object], where: str) -> None:
    """Refuse entries that are not in order, or there twice."""
    if any(not later > earlier for earlier, later in pairwise(values)):  # type: ignore[operator]
        raise ReceiptError(f"{where}: the entries must be in ascending order, none of them twice")


def _environments(value: Json, recovery: Recovery | None, approximation: Approximation | None) -> dict[str, Json]:
    """The environments that rebuilt steps and method name, no more and no fewer, each under its own digest."""
    if not isinstance(value, dict):
        raise ReceiptError(f"environments must be an object, not {strict.shown(value)}")
    named = {step.environment for step in recovery.rebuilt} if recovery else set()
    named |= {approximation.environment} if approximation else set()
    for digest, description in value.items():
        if digest not in named:
            raise ReceiptError(f"environments: no rebuilt step names {strict.shown(digest)}")
        if _environment_digest(description, f"environments: {digest[:16]}…") != digest:
            raise ReceiptError(f"environments: {digest} is not the digest of what is described under it")
    missing = sorted(named - value.keys())
    if missing:
        raise ReceiptError(f"environments: {missing[0]}, in which a step was rebuilt, is not described")
    return value


def _environment_digest(description: Json, where: str) -> str:
    """Digest of a described environment, all of whose fields are part of it."""
    found = strict.fields(description, where, ("numeric", "kernel", "distributions"))
    for name in ("numeric", "distributions"):
        if not isinstance(found[name], dict):
            raise ReceiptError(f"{where}: {name} must be an object, not {strict.shown(found[name])}")
    strict.text(found["kernel"], f"{where}: kernel")
    return described_environment(found)


def read_artefacts(value: Json) -> tuple[Artefact, ...]:
    """Artefacts as a receipt lists them, none twice."""
    names = ("name", "kind", "location")
    found: dict[Artefact, None] = {}
    for place, item in _numbered(value, "artefacts"):
        entry = strict.fields(item, place, names)
        artefact = Artefact(*(strict.text(entry[name], f"{place}: {name}", strict.MAX_NAME) for name in names))
        if artefact in found:
            raise ReceiptError(f"{place}: the artefact {strict.shown(artefact.name)} is there twice")
        found[artefact] = None
    return tuple(found)


def read_log(value: Json) -> LogHead:
    """The log as a receipt states it."""
    found = strict.fields(value, "log", ("size", "root", "events"))
    events = []
    for place, item in _numbered(found["events"], "log: events"):
        entry = strict.fields(item, place, ("index", "body", "proof"))
        proof = strict.items(entry["proof"], f"{place}: proof")
        events.append(
            LogEntry(
                strict.number(entry["index"], f"{place}: index"),
                strict.text(entry["body"], f"{place}: body"),
                tuple(strict.digest(digest, f"{place}: proof: hash {step}") for step, digest in enumerate(proof, 1)),
            )
        )
    return LogHead(strict.number(found["size"], "log: size"), strict.digest(found["root"], "log: root"), tuple(events))
