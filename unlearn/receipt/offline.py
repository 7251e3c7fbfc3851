"""Verify a receipt with nothing but public keys: no workspace, no network, no clock.

The steps are numbered, each says what it found, and the first that fails raises `VerificationError`. What nobody can
see from a receipt stands in `Verified.predicate.not_proven`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from shards.digest import Json, canonical_json
from unlearn.errors import InputError, ProofError, VerificationError
from unlearn.receipt import strict
from unlearn.receipt.envelope import check_signatures, check_threshold, parse_envelope, pinned, short
from unlearn.receipt.keys import follow
from unlearn.receipt.predicate import (
    RECEIPT_TYPES,
    Approximation,
    LogHead,
    Predicate,
    RecordSet,
    State,
    Statement,
    Withdrawal,
    read_statement,
    request_digest,
    subject_of,
)
from unlearn.receipt.strict import ReceiptError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    from unlearn.ledger.radix import Node

TITLES = {
    1: "the file",
    2: "the signature",
    3: "the form",
    4: "what it is about",
    5: "the log",
    6: "the evidence",
    7: "the forgotten records",
    8: "the states of the model",
    9: "the people and records named",
    10: "the receipt before it",
}
"""What each step looks at."""

_KINDS = {
    "forgotten": ["submitted", "withdrawn", "forgotten"],
    "recovered": ["submitted", "withdrawn", "forgotten", "recovered"],
}
_EXTENDED = "extended"
"""Kind of the event that moves a deadline; may stand anywhere after the first."""


@dataclass(frozen=True)
class Step:
    """A step of the verification that was passed.

    Attributes:
        number: Its number.
        title: What it looked at.
        detail: What it found.
    """

    number: int
    title: str
    detail: str


@dataclass(frozen=True)
class Verified:
    """A receipt that stood up to every step.

    Attributes:
        predicate: What it says.
        steps: The steps, in order.
        payload: SHA-256 of the bytes that were signed, hex, by which a later receipt names it.
        signers: Ids of the trusted keys that signed it.
    """

    predicate: Predicate
    steps: list[Step] = field(repr=False)
    payload: str
    signers: tuple[str, ...]


class LoggedEvent(NamedTuple):
    """An event of the log, read."""

    kind: str
    at: str
    fields: dict[str, Json]


def verify_offline(
    receipt: bytes,
    public_keys: Sequence[SSlibKey],
    threshold: int = 1,
    *,
    opening: bytes | None = None,
    subjects: Iterable[str] = (),
    record_ids: Iterable[str] = (),
    request_id: str | None = None,
    workspace_id: str | None = None,
    forgotten: bytes | None = None,
) -> Verified:
    """Verify a receipt.

    Args:
        receipt: The envelope.
        public_keys: Keys of whoever is to have issued it, from `public_key_from_pem`.
        threshold: How many of these, or of the keys they were replaced by, must have signed.
        opening: The secret the submitter was given with the request, to check what the request named.
        subjects: With the opening: exactly the subjects the request named.
        record_ids: With the opening: exactly the records the request named.
        request_id: The request it is to be about; None: any.
        workspace_id: The workspace it is to be about; None: any.
        forgotten: With a receipt at stage recovered: the receipt of stage forgotten, which is verified as well.

    Returns:
        What it says, and what was checked.

    Raises:
        InputError: If keys, threshold or ids make no sense: nothing was verified.
        VerificationError: If a step fails.
    """
    subjects, record_ids = list(subjects), list(record_ids)
    if opening is None and (subjects or record_ids):
        raise InputError("ids can be compared only with the opening that the submitter was given: give that as well")
    trusted = pinned(public_keys)
    check_threshold(trusted, threshold)
    steps: list[Step] = []

    def passed(number: int, detail: str) -> None:
        steps.append(Step(number, TITLES[number], detail))

    with _step(1):
        envelope = parse_envelope(receipt)
        passed(1, f"A signed envelope, {len(receipt):,} bytes, {_many(len(envelope.signatures), 'signature')}.")
    payload = bytes(envelope.payload)
    with _step(2):
        signers, detail = check_signers(envelope, payload, public_keys, threshold)
        passed(2, detail)
    with _step(3):
        statement = read_statement(read_payload(payload))
        predicate = statement.predicate
        made = predicate.approximation
        version = 1 if made is None else 2 if made.certificate is None else 3
        passed(3, f"Complete and unambiguous, in the form and words of version {version}, stage {predicate.stage}.")
    with _step(4):
        passed(4, _check_subject(statement, request_id, workspace_id))
    with _step(5):
        events = _check_log(predicate)
        passed(
            5,
            f"All {len(events)} events of this request ({', '.join(event.kind for event in events)}) are in the signed "
            f"log of {_many(predicate.log.size, 'event')}, in order, and agree with the receipt.{_deadline(predicate)}",
        )
    with _step(6):
        passed(6, _check_evidence(predicate, events))
    with _step(7):
        passed(7, _check_records(predicate, events))
    with _step(8):
        passed(8, _check_states(predicate))
    if opening is not None:
        with _step(9):
            passed(9, _check_opening(predicate, opening, subjects, record_ids))
    if forgotten is not None:
        with _step(10):
            passed(10, _check_forgotten(predicate, forgotten, public_keys, threshold))
    return Verified(predicate, steps, hashlib.sha256(payload).hexdigest(), tuple(signers))


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give what goes wrong inside the number of a step."""
    try:
        yield
    except (ReceiptError, ProofError) as error:
        raise VerificationError(number, TITLES[number], str(error)) from error


def check_signers(
    envelope: Envelope, payload: bytes, public_keys: Sequence[SSlibKey], threshold: int
) -> tuple[list[str], str]:
    """Who of the trusted signed; the rotations that extend trust prove themselves."""
    start = pinned(public_keys)
    rotations, workspace = _claimed_rotations(payload)
    trusted = follow(start, rotations, workspace)
    signers = check_signatures(envelope, trusted, threshold)
    names = " and ".join(
        f"{short(keyid)}…" + ("" if keyid in start else f" (which replaced {short(trusted[keyid].holder)}…)")
        for keyid in signers
    )
    return signers, f"Signed with the trusted {'key' if len(signers) == 1 else 'keys'} {names}, and unchanged since."


def _claimed_rotations(payload: bytes) -> tuple[list[Json], str]:
    """The rotations, and the workspace they must be of, in a payload whose signature is not checked yet.

    Args:
        payload: The bytes that were signed.

    Returns:
        None and no workspace if it is no receipt, which is for the step after the signature to say.

    Raises:
        ReceiptError: If it is a receipt, but cannot be read so far.
    """
    try:
        statement = strict.parse(payload, "the statement")
    except ReceiptError:
        return [], ""
    if not isinstance(statement, dict):
        return [], ""
    predicate = statement.get("predicate")
    if not isinstance(predicate, dict) or not {"keys", "workspace"} <= predicate.keys():
        if statement.get("predicateType") not in list(RECEIPT_TYPES):
            return [], ""
        raise ReceiptError(
            "it holds no predicate with the fields 'keys' and 'workspace', so nobody can say who may sign it"
        )
    workspace = strict.fields(predicate["workspace"], "workspace", ("id", "description"))
    return strict.items(predicate["keys"], "keys"), strict.text(workspace["id"], "workspace: id")


def read_payload(payload: bytes) -> Json:
    """The statement in a payload.

    Args:
        payload: The bytes that were signed.

    Returns:
        JSON.

    Raises:
        ReceiptError: If it is not written in its one form.
    """
    value = strict.parse(payload, "the statement")
    if canonical_json(value) != payload:
        raise ReceiptError("the statement is not written in canonical JSON, so two readers might read two receipts")
    return value


def _check_subject(statement: Statement, request_id: str | None, workspace_id: str | None) -> str:
    predicate = statement.predicate
    name, digest = subject_of(predicate)
    if statement.subject_name != name:
        raise ReceiptError(
            f"subject: name is {strict.shown(statement.subject_name)}, but the receipt is about {name!r}"
        )
    if statement.subject_digest != digest:
        raise ReceiptError("subject: digest is not the digest of the request (request: digest)")
    if request_id is not None and predicate.request.id != request_id:
        raise ReceiptError(
            f"it is about the request {strict.shown(predicate.request.id)}, not {request_id!r}: "
            "this is the receipt of somebody else's request"
        )
    if workspace_id is not None and predicate.workspace != workspace_id:
        raise ReceiptError(
            f"it is about the workspace {predicate.workspace}, not {workspace_id}: it was another model that forgot"
        )
    asked = [what for what, given in (("request", request_id), ("workspace", workspace_id)) if given is not None]
    note = f", the {' and '.join(asked)} asked for" if asked else ""
    return f"Request {strict.shown(predicate.request.id)} in workspace {predicate.workspace}{note}."


def _check_log(predicate: Predicate) -> list[LoggedEvent]:
    """Every event is in the log, they are this request's, complete, in order, and the request says the same."""
    request = predicate.request
    events = included_events(predicate.log)
    found, needed = [event.kind for event in events if event.kind != _EXTENDED], _KINDS[predicate.stage]
    if found != needed or events[0].kind != needed[0]:
        raise ReceiptError(
            f"log: events are of the kinds {', '.join(strict.shown(event.kind) for event in events) or '(none)'}; "
            f"a receipt at stage {predicate.stage} needs {', '.join(needed)}"
        )
    for event in events:
        if event.fields.get("request") != request.id:
            raise ReceiptError(f"log: the event {event.kind} is about another request than request: id")
    by_kind = {event.kind: event for event in events}
    submitted = by_kind["submitted"]
    agree(submitted, "digest", request.digest, "request: digest")
    agree(submitted, "n_subjects", request.n_subjects, "request: n_subjects")
    last = [event for event in events if event.kind in ("submitted", _EXTENDED)][-1]
    agree(last, "deadline", iso(request.deadline), "request: deadline")
    agree(by_kind["withdrawn"], "n_records", request.n_records, "request: n_records")
    times = (request.submitted_at, request.withdrawn_at, request.forgotten_at, request.recovered_at)
    for kind, at in zip(needed, times, strict=False):
        if by_kind[kind].at != iso(at):
            raise ReceiptError(f"request: {kind}_at is not the time of the event {kind} in the log")
    return events


def included_events(log: LogHead) -> list[LoggedEvent]:
    """The events a receipt shows, each proven to be in the log it states.

    Args:
        log: What the receipt says of the log.

    Returns:
        The events, in order.

    Raises:
        ReceiptError: If one is not in the log, or they are not in order.
    """
    from unlearn.ledger import merkle

    root = bytes.fromhex(log.root)
    events = []
    for number, entry in enumerate(log.events, 1):
        where = f"log: event {number}"
        if number > 1 and entry.index <= log.events[number - 2].index:
            raise ReceiptError(f"{where}: its index is not after that of the event before it")
        leaf = merkle.leaf_hash(entry.body.encode())
        try:
            merkle.check_inclusion(leaf, entry.index, log.size, [bytes.fromhex(item) for item in entry.proof], root)
        except ProofError as error:
            raise ReceiptError(
                f"{where} is not in the log that the receipt states (log: size, root): {error}"
            ) from error
        events.append(read_event(entry.body, where))
    return events


def read_event(body: str, where: str) -> LoggedEvent:
    """An event, from its exact text. It may have fields that later versions added; their meaning cannot harm ours."""
    value = strict.parse(body.encode(), where)
    if not isinstance(value, dict) or canonical_json(value) != body.encode():
        raise ReceiptError(f"{where}: its body is no object in canonical JSON")
    for name in ("kind", "version", "at"):
        if name not in value:
            raise ReceiptError(f"{where}: the field {name!r} is missing")
    strict.constant(value["version"], f"{where}: version", 1)
    strict.time(value["at"], f"{where}: at")
    return LoggedEvent(strict.text(value["kind"], f"{where}: kind"), value["at"], value)


def agree(event: LoggedEvent, name: str, stated: Json, where: str) -> None:
    """Refuse a statement that the log contradicts; a field that is not there is not null."""
    if name not in event.fields or type(event.fields[name]) is not type(stated) or event.fields[name] != stated:
        raise ReceiptError(f"{where} is not what the event {event.kind} in the log says ({name})")


def _check_evidence(predicate: Predicate, events: Sequence[LoggedEvent]) -> str:
    by_kind = {event.kind: event for event in events}
    agree(by_kind["withdrawn"], "evidence", predicate.withdrawal.digest, "the evidence of the withdrawal (withdrawal)")
    if "shards" in by_kind["withdrawn"].fields:
        hit = [number for pair in sorted(predicate.withdrawal.shards.items()) for number in pair]
        agree(by_kind["withdrawn"], "shards", hit, "withdrawal: shards")
    made = _check_approximation(predicate, by_kind["withdrawn"])
    if predicate.recovery is None:
        return f"The account of the withdrawal is the one whose digest the log holds.{made}"
    agree(by_kind["recovered"], "evidence", predicate.recovery.digest, "the evidence of the recovery (recovery)")
    return f"The accounts of the withdrawal and of the recovery are those whose digests the log holds.{made}"


def _check_approximation(predicate: Predicate, withdrawn: LoggedEvent) -> str:
    """A receipt says that an approximate method was applied exactly where the log does, and what was made by it."""
    said = predicate.approximation
    if said is None:
        if "approximation" in withdrawn.fields:
            raise ReceiptError(
                "the event withdrawn in the log says that a state made by an approximate method was served from then "
                "on, and the receipt does not: it claims more than was done"
            )
        return ""
    agree(withdrawn, "approximation", said.digest, "the account of the approximate method (approximation)")
    return " So is that of the approximate method."


def _check_records(predicate: Predicate, events: Sequence[LoggedEvent]) -> str:
    """The forgotten records were there, all of them, and nothing but them is missing; and they stayed away."""
    by_kind = {event.kind: event for event in events}
    withdrawal, recovery = predicate.withdrawal, predicate.recovery
    before, after = withdrawal.before, withdrawal.after
    removed = [bytes.fromhex(item) for item in withdrawal.removed]
    agree(by_kind["withdrawn"], "records", [before.root, after.root], "withdrawal: records: roots")
    agree(by_kind["withdrawn"], "counts", [before.count, after.count], "withdrawal: records: counts")
    if len(removed) != predicate.request.n_records:
        raise ReceiptError(
            f"withdrawal: removed lists {_many(len(removed), 'record')}, request: n_records says "
            f"{predicate.request.n_records:,}"
        )
    if before.count - after.count != len(removed):
        raise ReceiptError(
            f"withdrawal: records: there were {before.count:,} before and {after.count:,} after, "
            f"which is not {len(removed):,} fewer"
        )
    _check_held(withdrawal.presence, before, removed, present=True, where="withdrawal: presence")
    _check_held(withdrawal.absence, after, removed, present=False, where="withdrawal: absence")
    if _without(withdrawal.presence, frozenset(withdrawal.removed)).hash.hex() != after.root:
        raise ReceiptError(
            "withdrawal: records: the records after are not those before without the forgotten ones: "
            "others were removed or exchanged with them"
        )
    detail = (
        f"{_many(len(removed), 'record')} of {before.count:,} forgotten: shown to be there before, shown to be gone "
        f"after, and no other of the {after.count:,} that stay was touched."
    )
    if recovery is None:
        return detail
    agree(by_kind["recovered"], "records", recovery.records.root, "recovery: records: root")
    agree(by_kind["recovered"], "count", recovery.records.count, "recovery: records: count")
    _check_held(recovery.absence, recovery.records, removed, present=False, where="recovery: absence")
    return f"{detail} When the model was rebuilt, none of them was among its {recovery.records.count:,} records."


def _check_held(proof: Json, expected: RecordSet, removed: Sequence[bytes], *, present: bool, where: str) -> None:
    """A pruned tree is of the stated set, and shows every forgotten record to be in it, or every one not to be."""
    from unlearn.ledger import radix

    try:
        tree = radix.check(proof)
        held = [tree.holds(commitment) for commitment in removed]
    except ProofError as error:
        raise ReceiptError(f"{where}: {error}") from error
    if RecordSet(tree.count, tree.root.hex()) != expected:
        raise ReceiptError(f"{where} is a proof over another set of records than the one stated")
    wrong = [commitment for commitment, found in zip(removed, held, strict=True) if found is not present]
    if wrong:
        raise ReceiptError(
            f"{where}: the record {wrong[0].hex()[:16]}… was not there, so it cannot have been forgotten"
            if present
            else f"{where}: the record {wrong[0].hex()[:16]}… is still there"
        )


def _without(proof: Json, removed: frozenset[str]) -> Node:
    """Root of the tree that a checked pruned tree becomes when some of the leaves it shows are taken out."""
    # It shows enough for that: a lone leaf, which alone can move up, is never left out.
    from unlearn.ledger import radix

    if proof is None:
        return radix.EMPTY
    if isinstance(proof, list):
        return radix.join(_without(proof[0], removed), _without(proof[1], removed))
    kind, digits, *count = proof.split(":")
    if kind == "l":
        return radix.EMPTY if digits in removed else radix.leaf(bytes.fromhex(digits))
    return radix.Node(int(count[0]), bytes.fromhex(digits))


def _check_states(predicate: Predicate) -> str:
    """No state that saw the records is served: not after the withdrawal, and not after the recovery."""
    withdrawal, recovery = predicate.withdrawal, predicate.recovery
    before = {state.shard: state for state in withdrawal.states_before}
    after = {state.shard: state for state in withdrawal.states_after}
    for shard in sorted(before.keys() | after.keys()):
        if shard not in withdrawal.shards:
            if before.get(shard) != after.get(shard):
                raise ReceiptError(
                    f"withdrawal: states: shard {shard} held no forgotten record, and yet its state changed"
                )
        else:
            _check_fall_back(shard, withdrawal.shards[shard], before.get(shard), after.get(shard))
    _check_destroyed(withdrawal, before)
    gone = {step.key for step in withdrawal.destroyed}
    _check_gone(withdrawal.states_after, gone, withdrawal.after, "withdrawal: states: after")
    _check_fit(withdrawal.states_before, withdrawal.before, "withdrawal: states: before")
    made = "" if predicate.approximation is None else _check_made(predicate.approximation, predicate, gone)
    hit = len(withdrawal.shards)
    detail = (
        f"Shards that had learned from the records: {hit:,}. States trained on them and destroyed, none of which is "
        f"served any more: {len(gone):,}. Shards that went on serving, untouched or with an earlier state: "
        f"{len(after):,}.{made}"
    )
    if recovery is None:
        return detail
    _check_gone(recovery.states, gone, recovery.records, "recovery: states")
    for step in recovery.rebuilt:
        if step.key in gone:
            raise ReceiptError(
                f"recovery: rebuilt: the state of shard {step.shard}, position {step.position} is a destroyed one"
            )
    return (
        f"{detail} States rebuilt without the records, all different from those destroyed: {len(recovery.rebuilt):,}. "
        f"Shards that serve since: {len(recovery.states):,}."
    )


def _check_made(made: Approximation, predicate: Predicate, gone: set[str]) -> str:
    """What a method made stands where a state that saw the records was withdrawn, and is gone after the recovery."""
    where, state = "approximation", made.state
    hit = predicate.withdrawal.shards.get(state.shard)
    if hit is None or state.position < hit:
        raise ReceiptError(
            f"{where}: state: no forgotten record was in shard {state.shard} up to position {state.position}, so there "
            "was nothing to unlearn"
        )
    if state.key in gone:
        raise ReceiptError(f"{where}: state: it is said to be destroyed")
    _check_fit([state], predicate.withdrawal.after, where)
    recovery = predicate.recovery
    served = "" if recovery is None else " until the recovery"
    after = (
        () if recovery is None else ({item.key for item in recovery.states}, {item.key for item in recovery.rebuilt})
    )
    if any(state.key in keys for keys in after):
        raise ReceiptError(f"recovery: states: shard {state.shard} still serves what an approximate method made")
    said = f" In its place, shard {state.shard} served{served} a state made by "
    if made.certificate is not None:
        promised = made.certificate
        return (
            f"{said}{strict.shown(made.method)}, promised to be ({promised.epsilon:g}, {promised.delta:g})-"
            f"indistinguishable from that of retraining: epsilon {promised.spent:.3g} is spent, {promised.left:,} "
            "removals are left."
        )
    return f"{said}the approximate method {strict.shown(made.method)}, which is NOT that of retraining."


def _check_fall_back(shard: int, hit: int, before: State | None, after: State | None) -> None:
    """A shard that saw the records serves something older, which it had before it saw them, or nothing."""
    where = f"withdrawal: states: shard {shard}"
    if after is not None and after.position >= hit:
        raise ReceiptError(
            f"{where} still serves position {after.position}, though everything from position {hit} on had seen the "
            "forgotten records"
        )
    if before is None:
        if after is not None:
            raise ReceiptError(f"{where} served nothing before, and yet something after: a withdrawal builds nothing")
    elif before.position < hit and before != after:
        raise ReceiptError(f"{where} served a state that had not seen the forgotten records, and yet it changed")


def _check_destroyed(withdrawal: Withdrawal, before: Mapping[int, State]) -> None:
    """What was destroyed are steps that saw the records, among them every one that was served."""
    keys = {(step.shard, step.position): step.key for step in withdrawal.destroyed}
    for shard, position in keys:
        if shard not in withdrawal.shards or position < withdrawal.shards[shard]:
            raise ReceiptError(
                f"withdrawal: destroyed: the state of shard {shard}, position {position} had not seen the records"
            )
    for shard, hit in withdrawal.shards.items():
        state = before.get(shard)
        if state is not None and state.position >= hit and keys.get((shard, state.position)) != state.key:
            raise ReceiptError(
                f"withdrawal: destroyed: the state that shard {shard} served had seen the forgotten records, "
                "but is not among those destroyed"
            )


def _check_gone(states: Sequence[State], gone: set[str], records: RecordSet, where: str) -> None:
    for state in states:
        if state.key in gone:
            raise ReceiptError(f"{where}: shard {state.shard} serves a state that is said to be destroyed")
    _check_fit(states, records, where)


def _check_fit(states: Sequence[State], records: RecordSet, where: str) -> None:
    """Shards share no records, so their states cannot have learned from more than there are."""
    learned = sum(state.records for state in states)
    if learned > records.count:
        raise ReceiptError(f"{where}: they learned from {learned:,} records together, but there are {records.count:,}")


def _check_opening(predicate: Predicate, opening: bytes, subjects: Sequence[str], record_ids: Sequence[str]) -> str:
    if request_digest(opening, subjects, record_ids) != predicate.request.digest:
        raise ReceiptError(
            "the request did not name exactly these subjects and records (request: digest): an id is missing, too much "
            "or spelt differently, or the opening belongs to another request"
        )
    return (
        f"The request named exactly the {_many(len(set(subjects)), 'subject')} and "
        f"{_many(len(set(record_ids)), 'single record')} given."
    )


def _check_forgotten(predicate: Predicate, forgotten: bytes, public_keys: Sequence[SSlibKey], threshold: int) -> str:
    """The receipt of stage forgotten is genuine, and is the one this receipt continues."""
    if predicate.stage != "recovered":
        raise ReceiptError("this receipt is itself of stage forgotten, and continues no other")
    try:
        earlier = verify_offline(forgotten, public_keys, threshold)
    except VerificationError as error:
        raise ReceiptError(f"the receipt of stage forgotten does not stand up: {error}") from error
    if earlier.payload != predicate.previous:
        raise ReceiptError("previous is not the digest of the receipt of stage forgotten that was given")
    then = earlier.predicate
    for what, same in (
        ("workspace: id", then.workspace == predicate.workspace),
        ("workspace: description", then.description == predicate.description),
        ("request: id", then.request.id == predicate.request.id),
        ("withdrawal", then.withdrawal.digest == predicate.withdrawal.digest),
        ("log: size, which never falls", then.log.size <= predicate.log.size),
        ("log: root", then.log.size != predicate.log.size or then.log.root == predicate.log.root),
    ):
        if not same:
            raise ReceiptError(f"the receipt of stage forgotten says something else of this ({what})")
    return "It continues the receipt of stage forgotten that was given, which is genuine and says the same."


def _deadline(predicate: Predicate) -> str:
    request = predicate.request
    if request.deadline is None:
        return ""
    late = request.forgotten_at > request.deadline
    return f" The records were destroyed {'AFTER' if late else 'before'} the deadline of {iso(request.deadline)}."


def iso(at: datetime | None) -> str | None:
    """A time as receipts write it, or None."""
    return None if at is None else at.isoformat()


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
