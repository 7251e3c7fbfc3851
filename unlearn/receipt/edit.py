"""Receipts of edits: what they say, and their verification with nothing but public keys.

A kind of its own, and no version of the receipt of deletion: whoever knows deletions alone must refuse it, and not read
a deletion out of it. Its guarantee is one sentence, always the same (decision 0034).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from shards.digest import Json, canonical_json, digest_json
from unlearn.errors import ProofError, VerificationError
from unlearn.facts import EDIT_ID, MEASURES, STAGE, Asked, Fact, Measured
from unlearn.receipt import strict
from unlearn.receipt.envelope import check_threshold, parse_envelope, pinned
from unlearn.receipt.keys import STATEMENT_TYPE
from unlearn.receipt.offline import LoggedEvent, Step, agree, check_signers, included_events, read_payload
from unlearn.receipt.predicate import SOFTWARE, Artefact, LogHead, read_artefacts, read_log, read_workspace
from unlearn.receipt.strict import ReceiptError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

EDIT_TYPE = "urn:sisa-unlearn:edit:v1"

GUARANTEE = (
    "The model says something else. No record was removed, the weights from before say what they said, and other "
    "prompts may still bring out the old answer."
)
NOT_PROVEN = (
    "That anything was forgotten: an edit changes what a model says after some prompts, and removes no data from it.",
    (
        "That the old answer cannot be had: from the model before, which is listed under artefacts until somebody "
        "destroys it, from copies of it, or by other prompts from the edited one."
    ),
    (
        "That the model says nothing else that is wrong: what was measured is how often it gave the new answers, and "
        "how often it said the same as before on a sample of texts."
    ),
    "That anybody uses the edited model in place of the one before.",
    (
        "That the operator's machine ran this software on this model: with the folders at hand, digests can be "
        "compared, and with the opening and the facts, the model can be asked."
    ),
)
TITLES = {
    1: "the file",
    2: "the signature",
    3: "the form",
    4: "what it is about",
    5: "the log",
    6: "what was measured",
    7: "the facts named",
}
"""What each step looks at."""

_KINDS = ["fact-submitted", STAGE]
_TOP = (
    "stage", "workspace", "request", "before", "after", "editor", "measured", "guarantee", "artefacts", "log", "keys",
    "not_proven", "software",
)  # fmt: skip


@dataclass(frozen=True)
class EditedModel:
    """A language model before or after an edit.

    Attributes:
        artefact: Its id in the workspace.
        weights: Salted digest of its weights, configuration and tokenizer; the salt lies in the edited folder.
    """

    artefact: str
    weights: str


@dataclass(frozen=True)
class EditPredicate:
    """What a receipt of an edit says.

    Attributes:
        workspace: Id of the workspace.
        description: Digest of the workspace's description.
        request: Id of the request.
        facts: Salted digest of each fact.
        texts: Salted digest of the texts the editor was given.
        submitted_at: When the request became durable.
        edited_at: When the edited model was registered.
        before: The model before.
        after: The model after.
        editor: Name of the editor.
        config: Its configuration.
        measured: What was measured of the edited model.
        artefacts: What still says the old answer.
        log: The log, and the request's events in it.
        keys: Key rotations, oldest first.
        software_version: Version of the software that issued it.
    """

    workspace: str
    description: str
    request: str
    facts: tuple[str, ...]
    texts: str
    submitted_at: datetime
    edited_at: datetime
    before: EditedModel
    after: EditedModel
    editor: str
    config: Mapping[str, Json]
    measured: Measured
    artefacts: tuple[Artefact, ...]
    log: LogHead
    keys: tuple[Json, ...] = field(repr=False)
    software_version: str

    @property
    def stage(self) -> str:
        """Always `"edited"`."""
        return STAGE

    @property
    def kind(self) -> str:
        """Of the guarantee: always `"empirical"`."""
        return "empirical"

    @property
    def guarantee(self) -> str:
        """What is guaranteed, in words."""
        return GUARANTEE

    @property
    def not_proven(self) -> tuple[str, ...]:
        """What this receipt does not show, in words."""
        return NOT_PROVEN


@dataclass(frozen=True)
class VerifiedEdit:
    """A receipt of an edit that stood up to every step.

    Attributes:
        predicate: What it says.
        steps: The steps, in order.
        payload: SHA-256 of the bytes that were signed, hex.
        signers: Ids of the trusted keys that signed it.
    """

    predicate: EditPredicate
    steps: list[Step] = field(repr=False)
    payload: str
    signers: tuple[str, ...]


def edit_statement(
    *,
    workspace: Mapping[str, Json],
    request: Mapping[str, Json],
    before: Mapping[str, Json],
    after: Mapping[str, Json],
    editor: Mapping[str, Json],
    measured: Mapping[str, Json],
    artefacts: Sequence[Mapping[str, Json]],
    log: Mapping[str, Json],
    keys: Sequence[Json],
    software_version: str,
) -> Json:
    """Put the statement of an edit's receipt together.

    Args:
        workspace: `id` and `description`.
        request: `id`, `facts`, `texts`, `submitted_at` and `edited_at`.
        before: `artefact` and `weights` of the model before.
        after: Of the model after.
        editor: `name` and `config`.
        measured: Each measure to how often the answer was given, and asked for.
        artefacts: `name`, `kind` and `location` of what still says the old answer.
        log: `size`, `root` and `events`.
        keys: Key rotations, oldest first.
        software_version: Version of the software that issues it.

    Returns:
        The statement, to be sealed.

    Raises:
        ReceiptError: If it would not be well-formed: a mistake of the caller, found before anything is signed.
    """
    made: dict[str, Json] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"edit/{request['id']}", "digest": {"sha256": _digest(request["facts"])}}],
        "predicateType": EDIT_TYPE,
        "predicate": {
            "stage": STAGE,
            "workspace": dict(workspace),
            "request": dict(request),
            "before": dict(before),
            "after": dict(after),
            "editor": dict(editor),
            "measured": dict(measured),
            "guarantee": {"kind": "empirical", "statement": GUARANTEE},
            "artefacts": [dict(item) for item in artefacts],
            "log": dict(log),
            "keys": list(keys),
            "not_proven": list(NOT_PROVEN),
            "software": {"name": SOFTWARE, "version": software_version},
        },
    }
    read: Json = strict.parse(canonical_json(made), "the statement")
    read_edit(read)
    return read


def is_edit(receipt: bytes) -> bool:
    """Whether a file looks like the receipt of an edit; nothing in it is believed by that.

    Args:
        receipt: The envelope.

    Returns:
        True if its payload says so.
    """
    try:
        statement = strict.parse(bytes(parse_envelope(receipt).payload), "the statement")
    except ReceiptError:
        return False
    return isinstance(statement, dict) and statement.get("predicateType") == EDIT_TYPE


def read_edit(value: Json) -> EditPredicate:
    """Read the statement of an edit's receipt, in its one form.

    Args:
        value: JSON, from `strict.parse`.

    Returns:
        What it says. What its parts say of each other is not compared yet, but for the subject.

    Raises:
        ReceiptError: If anything is missing, unknown, or not of its form.
    """
    found = strict.fields(value, "the statement", ("_type", "subject", "predicateType", "predicate"))
    strict.constant(found["_type"], "_type", STATEMENT_TYPE)
    strict.constant(found["predicateType"], "predicateType", EDIT_TYPE)
    predicate = _predicate(found["predicate"])
    (listed,) = strict.items(found["subject"], "subject", 1)
    subject = strict.fields(listed, "subject", ("name", "digest"))
    digests = strict.fields(subject["digest"], "subject: digest", ("sha256",))
    strict.constant(subject["name"], "subject: name", f"edit/{predicate.request}")
    strict.constant(digests["sha256"], "subject: digest: sha256", _digest(list(predicate.facts)))
    return predicate


def verify_edit_offline(
    receipt: bytes,
    public_keys: Sequence[SSlibKey],
    threshold: int = 1,
    *,
    opening: bytes | None = None,
    facts: Sequence[Fact] = (),
    request_id: str | None = None,
) -> VerifiedEdit:
    """Verify the receipt of an edit.

    Args:
        receipt: The envelope.
        public_keys: Keys of whoever is to have issued it, from `public_key_from_pem`.
        threshold: How many of these, or of the keys they were replaced by, must have signed.
        opening: The secret the submitter was given with the request, to check which facts it named.
        facts: With the opening: exactly the facts the request named, in order.
        request_id: The request it is to be about; None: any.

    Returns:
        What it says, and what was checked.

    Raises:
        InputError: If the keys or the threshold make no sense: nothing was verified.
        VerificationError: If a step fails.
    """
    check_threshold(pinned(public_keys), threshold)
    steps: list[Step] = []

    def passed(number: int, detail: str) -> None:
        steps.append(Step(number, TITLES[number], detail))

    with _step(1):
        envelope = parse_envelope(receipt)
        passed(1, f"A signed envelope, {len(receipt):,} bytes.")
    payload = bytes(envelope.payload)
    with _step(2):
        signers, detail = check_signers(envelope, payload, public_keys, threshold)
        passed(2, detail)
    with _step(3):
        predicate = read_edit(read_payload(payload))
        passed(3, "Complete and unambiguous: the receipt of an EDIT of a language model, and of no deletion.")
    with _step(4):
        passed(4, _check_subject(predicate, request_id))
    with _step(5):
        _check_log(predicate)
        passed(
            5, f"Both events of this request are in the signed log of {predicate.log.size:,} events, and say the same."
        )
    with _step(6):
        passed(6, _check_measured(predicate))
    if opening is not None:
        with _step(7):
            passed(7, _check_facts(predicate, opening, facts))
    return VerifiedEdit(predicate, steps, hashlib.sha256(payload).hexdigest(), tuple(signers))


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give what goes wrong inside the number of a step."""
    try:
        yield
    except (ReceiptError, ProofError) as error:
        raise VerificationError(number, TITLES[number], str(error)) from error


def _check_log(predicate: EditPredicate) -> None:
    """Both events are in the log, are this request's, and say what the receipt says."""
    from unlearn.ledger.rows import editor_digest

    events = included_events(predicate.log)
    if [event.kind for event in events] != _KINDS:
        raise ReceiptError(
            f"log: events are of the kinds {', '.join(strict.shown(event.kind) for event in events) or '(none)'}; a "
            f"receipt of an edit needs {', '.join(_KINDS)}"
        )
    submitted, edited = events
    told: tuple[tuple[LoggedEvent, str, Json, str], ...] = (
        (submitted, "request", predicate.request, "request: id"),
        (submitted, "facts", list(predicate.facts), "request: facts"),
        (submitted, "texts", predicate.texts, "request: texts"),
        (submitted, "artefact", predicate.before.artefact, "before: artefact"),
        (submitted, "weights", predicate.before.weights, "before: weights"),
        (submitted, "editor", predicate.editor, "editor: name"),
        (submitted, "config", editor_digest(predicate.editor, predicate.config), "editor: config"),
        (edited, "request", predicate.request, "request: id"),
        (edited, "artefact", predicate.after.artefact, "after: artefact"),
        (edited, "weights", predicate.after.weights, "after: weights"),
        *((edited, name, pair, f"measured: {name}") for name, pair in predicate.measured.to_json().items()),
    )
    for event, name, stated, where in told:
        agree(event, name, stated, where)
    for event, at, where in ((submitted, predicate.submitted_at, "submitted"), (edited, predicate.edited_at, STAGE)):
        if event.at != at.isoformat():
            raise ReceiptError(f"request: {where}_at is not the time of the event {event.kind} in the log")


def _check_measured(predicate: EditPredicate) -> str:
    """An edit that does not give every new answer gets no receipt."""
    measured = predicate.measured
    reliable = measured.reliability
    if reliable.asked != len(predicate.facts) or reliable.given != reliable.asked:
        raise ReceiptError(
            f"measured: reliability is {reliable.given:,} of {reliable.asked:,}, and an edit of "
            f"{len(predicate.facts):,} facts must give every new answer"
        )
    for name, item in vars(measured).items():
        if item.given > item.asked:
            raise ReceiptError(f"measured: {name} is {item.given:,} of {item.asked:,}, which cannot be")
    return (
        f"By {strict.shown(predicate.editor)}, the model was found to give all {reliable.asked:,} new answers, "
        f"{measured.generalization.given:,} of {measured.generalization.asked:,} after other wordings, and to go on as "
        f"before in {measured.locality.given:,} of {measured.locality.asked:,} texts: as whoever issued it says."
    )


def _check_subject(predicate: EditPredicate, request_id: str | None) -> str:
    if request_id is not None and predicate.request != request_id:
        raise ReceiptError(
            f"it is about the request {predicate.request}, not {request_id!r}: this is the receipt of somebody else's "
            "request"
        )
    return f"Request {predicate.request} in workspace {predicate.workspace}."


def _check_facts(predicate: EditPredicate, opening: bytes, facts: Sequence[Fact]) -> str:
    if [fact.commitment(opening) for fact in facts] != list(predicate.facts):
        raise ReceiptError(
            "the request did not name exactly these facts in this order (request: facts): one is missing, too much or "
            "spelt differently, or the opening belongs to another request"
        )
    return f"The request named exactly the facts given, {len(facts):,} in number."


def _digest(facts: Json) -> str:
    return digest_json("facts", facts)


def _predicate(value: Json) -> EditPredicate:
    found = strict.fields(value, "predicate", _TOP)
    strict.constant(found["stage"], "stage", STAGE)
    workspace, description = read_workspace(found["workspace"])
    request = strict.fields(found["request"], "request", ("id", "facts", "texts", "submitted_at", "edited_at"))
    name = strict.text(request["id"], "request: id", strict.MAX_NAME)
    if EDIT_ID.fullmatch(name) is None:
        raise ReceiptError(f"request: id must be edit- and 16 hex digits, not {strict.shown(name)}")
    facts = strict.items(request["facts"], "request: facts")
    if not facts:
        raise ReceiptError("request: facts names none")
    editor = strict.fields(found["editor"], "editor", ("name", "config"))
    if not isinstance(editor["config"], dict):
        raise ReceiptError(f"editor: config must be an object, not {strict.shown(editor['config'])}")
    guarantee = strict.fields(found["guarantee"], "guarantee", ("kind", "statement"))
    strict.constant(guarantee["kind"], "guarantee: kind", "empirical")
    strict.constant(guarantee["statement"], "guarantee: statement", GUARANTEE)
    limits = strict.items(found["not_proven"], "not_proven", len(NOT_PROVEN))
    for number, (item, words) in enumerate(zip(limits, NOT_PROVEN, strict=True), 1):
        strict.constant(item, f"not_proven: entry {number}", words)
    software = strict.fields(found["software"], "software", ("name", "version"))
    strict.constant(software["name"], "software: name", SOFTWARE)
    return EditPredicate(
        workspace=workspace,
        description=description,
        request=name,
        facts=tuple(strict.digest(item, f"request: facts: entry {at}") for at, item in enumerate(facts, 1)),
        texts=strict.digest(request["texts"], "request: texts"),
        submitted_at=strict.time(request["submitted_at"], "request: submitted_at"),
        edited_at=strict.time(request["edited_at"], "request: edited_at"),
        before=_model(found["before"], "before"),
        after=_model(found["after"], "after"),
        editor=strict.text(editor["name"], "editor: name", strict.MAX_NAME),
        config=editor["config"],
        measured=_measured(found["measured"]),
        artefacts=read_artefacts(found["artefacts"]),
        log=read_log(found["log"]),
        keys=tuple(strict.items(found["keys"], "keys")),
        software_version=strict.text(software["version"], "software: version", strict.MAX_NAME),
    )


def _model(value: Json, where: str) -> EditedModel:
    found = strict.fields(value, where, ("artefact", "weights"))
    return EditedModel(
        strict.text(found["artefact"], f"{where}: artefact", strict.MAX_NAME),
        strict.digest(found["weights"], f"{where}: weights"),
    )


def _measured(value: Json) -> Measured:
    found = strict.fields(value, "measured", MEASURES)
    pairs = {name: strict.items(found[name], f"measured: {name}", 2) for name in MEASURES}
    return Measured(
        **{name: Asked(*(strict.number(item, f"measured: {name}") for item in pair)) for name, pair in pairs.items()}
    )
