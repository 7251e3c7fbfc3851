"""Verify a receipt, alone or against the workspace it speaks of.

Steps 1 to 10 need nothing but the receipt and a public key (`unlearn.receipt.offline`). With the workspace:

11. it is the workspace the receipt is about;
12. its log begins with the log the receipt was issued from, and holds the receipt;
13. its log tells the very state its tables hold;
14. its record files hold exactly the records of the log, and none that the receipt says are gone;
15. its checkpoints are exactly those of the log, each the state that was committed to;
16. every receipt ever issued is there and unchanged;
17. with `replay`: trained again in fresh processes, every step gives the state that is stored; where training adds
    fresh secret noise there is nothing to compare, and the step says so.

The first step that fails raises `VerificationError`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards import slicefile
from shards.digest import Json, digest_json
from shards.environment import described_environment
from shards.executors.base import Executor
from shards.learners.base import Features
from shards.placement import keyed_tokens
from shards.store import CheckpointHeader
from shards.train import SliceFile, StepBuilt
from unlearn.building import chain_order, plan, replay_program
from unlearn.errors import DamageError, InputError, UnlearnError, VerificationError
from unlearn.facts import STAGE
from unlearn.issuing import Receipt, key_path, receipt_path
from unlearn.ledger import Ledger, merkle, radix, soundness
from unlearn.ledger.fold import Built, Derived, Edit, Made, Story, fold
from unlearn.ledger.rows import editor_digest
from unlearn.ledger.uncovered import UNCOVERED
from unlearn.lookup import places_of
from unlearn.receipt import strict
from unlearn.receipt.edit import read_edit
from unlearn.receipt.envelope import Trusted, check_signatures, parse_envelope
from unlearn.receipt.keys import follow, load_signer, public_key_from_pem
from unlearn.receipt.offline import Step, verify_offline
from unlearn.receipt.predicate import (
    RECOVERED_GUARANTEE,
    Approximation,
    Certificate,
    LogHead,
    Predicate,
    read_statement,
)
from unlearn.receipt.strict import ReceiptError
from unlearn.request import CERTIFIED, Request, RequestState
from unlearn.site import Site
from unlearn.workspace import Workspace

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

TITLES = {
    11: "the workspace",
    12: "its log",
    13: "what its log comes to",
    14: "its records",
    15: "its checkpoints",
    16: "its receipts",
    17: "trained again",
}
"""What each step looks at."""

_TIMES = ("submitted_at", "deadline", "withdrawn_at", "forgotten_at", "recovered_at", "escalate_by")
_SHOWING = frozenset({RequestState.FORGOTTEN, RequestState.RECOVERED})
"""States in which evidence is kept for a receipt that is still to come."""

TOLERANCE = 1e-3
"""How far predictions of a step trained again in another environment may be from those of the stored one."""

PROBES = 256
"""Records of a shard on which such predictions are compared, at most."""


NOT_COMPARABLE = (
    "Nothing was trained again: noise that privacy rests on is fresh and secret in every training, so stored states "
    "cannot be compared with others byte for byte. What they were trained on follows from the log and from steps 14 "
    "and 15 alone."
)
"""What step 17 finds where a learner is not `reproducible`."""


@dataclass(frozen=True)
class AsOf:
    """The moment a receipt speaks of, and what the log holds since.

    Attributes:
        event: How many events the log had, the last of which is the last that the receipt can speak of.
        at: When that was, UTC, by the clock of whoever wrote it; without the workspace, the last time it shows.
        since: Kind to number of the events after that; None without the workspace, which alone can tell.
    """

    event: int
    at: datetime
    since: Mapping[str, int] | None

    def __str__(self) -> str:
        """On a line."""
        return f"as of event {self.event:,} of the log ({self.at:%Y-%m-%d %H:%M:%S} UTC)"


@dataclass(frozen=True)
class Verification:
    """A receipt that stood up to every step.

    Attributes:
        predicate: What it says, its limits included (`not_proven`).
        as_of: Of when it says so.
        steps: The steps that were passed, in order, with what each found.
        receipt: SHA-256 of what was signed, hex.
        signers: Ids of the trusted keys that signed it.
        not_looked_at: What of the workspace no step looked at.
    """

    predicate: Predicate
    as_of: AsOf
    steps: tuple[Step, ...]
    receipt: str
    signers: tuple[str, ...] = field(default=())
    not_looked_at: tuple[str, ...] = field(default=())


def verify(
    receipt: Receipt | bytes | str | Path,
    public_key: str | bytes | Path | Sequence[str | bytes | Path],
    *,
    workspace: Workspace | str | Path | None = None,
    executor: str | Executor = "local",
    replay: bool = False,
    shards: Iterable[int] | None = None,
    tolerance: float = TOLERANCE,
    threshold: int = 1,
    request_id: str | None = None,
    opening: str | None = None,
    subjects: Iterable[str] = (),
    record_ids: Iterable[str] = (),
    forgotten: Receipt | bytes | str | Path | None = None,
) -> Verification:
    """Verify a receipt.

    Args:
        receipt: A receipt, its file, or its bytes.
        public_key: The key that is to have signed it, in PEM, or its file; or several.
        workspace: The workspace it speaks of, to be held against it; nothing is changed there. None: the receipt alone.
        executor: Where to train again, for a workspace given by its folder; one that is open has its own.
        replay: Also train every step again, in fresh processes, and compare: takes as long as the training did.
        shards: Only the steps of these shards; None: all.
        tolerance: How far predictions may be apart where a step was built in another environment than this one.
        threshold: How many of the keys must have signed.
        request_id: The request it is to be about; None: any.
        opening: The secret the submitter was given (`Request.opening`), hex, to check what the request named.
        subjects: With the opening: exactly the subjects it named.
        record_ids: With the opening: exactly the single records it named.
        forgotten: With a receipt of a recovery: the receipt of the forgetting before it.

    Returns:
        What it says and what was found.

    Raises:
        InputError: If the arguments make no sense; nothing was verified.
        VerificationError: If a step fails; says which, and what that means.
        LockedError: If another process is writing to the workspace.
    """
    if replay and workspace is None:
        raise InputError("to train again, the workspace is needed: give it")
    found = verify_offline(
        read_receipt(receipt),
        read_public_keys(public_key),
        threshold,
        opening=None if opening is None else unhex(opening),
        subjects=subjects,
        record_ids=record_ids,
        request_id=request_id,
        forgotten=None if forgotten is None else read_receipt(forgotten),
    )
    steps = list(found.steps)
    at, since = found.predicate.request.recovered_at or found.predicate.request.forgotten_at, None
    comparable = True
    if workspace is not None:
        opened = workspace if isinstance(workspace, Workspace) else opened_to_look(workspace, executor)
        try:
            with opened.unchanging() as site:
                steps += _check_workspace(site, found.predicate, found.payload)
                later = (entry.event for entry in site.ledger.entries(found.predicate.log.size - 1))
                at = next(later).at
                since = dict(sorted(Counter(event.kind for event in later).items()))
                comparable = site.learner.reproducible
                if replay:
                    steps.append(_replay(opened, site, shards, tolerance))
        finally:
            if opened is not workspace:
                opened.close()
    return Verification(
        found.predicate,
        AsOf(found.predicate.log.size, at, since),
        tuple(steps),
        found.payload,
        found.signers,
        not_looked_at=_not_looked_at(workspace is not None, replay and comparable, shards is not None),
    )


def _not_looked_at(workspace: bool, replay: bool, some: bool) -> tuple[str, ...]:
    """What no step looks at, by what was asked for."""
    if not workspace:
        return ("the workspace: whether it still is what the receipt says, only holding it against it shows",)
    again = () if replay and not some else ("whether training again gives the stored states, in any shard",)
    if replay and some:
        again = ("whether training again gives the stored states, but for the shards that were asked for",)
    return (*again, *(item.what for item in UNCOVERED))


def read_receipt(receipt: Receipt | bytes | str | Path) -> bytes:
    """The bytes of a receipt.

    Args:
        receipt: A receipt, its file, or its bytes.

    Returns:
        The envelope.

    Raises:
        InputError: If the file cannot be read.
    """
    if isinstance(receipt, bytes):
        return receipt
    if isinstance(receipt, Receipt):
        return receipt.data
    try:
        return Path(receipt).read_bytes()
    except (OSError, ValueError) as error:  # the latter for a zero byte in the path
        raise InputError(f"the receipt {receipt} cannot be read ({_reason(error)}): check the path") from error


def read_public_keys(given: str | bytes | Path | Sequence[str | bytes | Path]) -> list[SSlibKey]:
    """Public keys, of whatever they were given as.

    Args:
        given: A key in PEM, or its file; or several.

    Returns:
        The keys.

    Raises:
        InputError: If one is no public key, or its file cannot be read.
    """
    return [public_key_from_pem(_pem(key)) for key in ([given] if isinstance(given, str | bytes | Path) else given)]


def _pem(key: str | bytes | Path) -> bytes:
    if isinstance(key, bytes):
        return key
    if isinstance(key, str) and ("-----BEGIN" in key or "\n" in key):
        return key.encode()
    try:
        return Path(key).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"a public key is given in PEM or by its file, and this is no PEM and no file that can be read "
            f"({_reason(error)}): check the path"
        ) from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def opened_to_look(path: str | Path, executor: str | Executor) -> Workspace:
    """Open a workspace to look at it; damage that opening finds is a finding of the first step that looks.

    Args:
        path: Its folder.
        executor: Where to train again.

    Returns:
        The workspace.

    Raises:
        VerificationError: If it is damaged.
    """
    try:
        return Workspace.open(path, executor=executor)
    except DamageError as error:
        raise VerificationError(11, TITLES[11], str(error)) from error


def unhex(text: str) -> bytes:
    """An opening from its text.

    Args:
        text: Hex.

    Returns:
        The bytes.

    Raises:
        InputError: If it is none.
    """
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError("the opening is the hex text that `submit` or `forget` returned: check it") from error


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Give what goes wrong inside the number of a step.

    Args:
        number: Of the step.

    Yields:
        Nothing.

    Raises:
        VerificationError: If something goes wrong.
    """
    try:
        yield
    except VerificationError:
        raise
    except UnlearnError as error:
        raise VerificationError(number, TITLES[number], str(error)) from error


def _check_workspace(site: Site, predicate: Predicate, payload: str) -> list[Step]:
    details = {}
    with numbered(11):
        details[11] = _check_identity(site, predicate)
    with numbered(12):
        issued = site.ledger.receipt_digests(predicate.request.id).get(predicate.stage)
        details[12] = check_log(site.ledger, predicate.log, issued, payload)
    with numbered(13):
        story, details[13] = check_story(site)
    with numbered(14):
        details[14] = _check_records(site, story, predicate)
    with numbered(15):
        details[15] = _check_states(site, story, predicate)
    with numbered(16):
        details[16] = check_receipts(site, story)
    return [Step(number, TITLES[number], detail) for number, detail in details.items()]


def _check_identity(site: Site, predicate: Predicate) -> str:
    if site.declaration.id != predicate.workspace:
        raise DamageError(
            f"the receipt is about workspace {predicate.workspace}, and {site.path} is {site.declaration.id}: it was "
            "another model that forgot"
        )
    if site.declaration.digest != predicate.description:
        raise DamageError(
            f"the description of {site.path} (workspace.json) is not the one the receipt was issued under: it was "
            "changed since"
        )
    if predicate.stage == "recovered" and (predicate.guarantee == RECOVERED_GUARANTEE) != site.learner.reproducible:
        raise DamageError(
            "the receipt speaks of states that are equal byte for byte where training adds fresh noise, or the other "
            f"way round: it was not issued by {site.path}"
        )
    made = predicate.approximation
    if made is not None and made.certificate is not None:
        _check_certificate(site, made, made.certificate)
    return f"{site.path} is the workspace of the receipt, and its description is unchanged."


def _check_certificate(site: Site, made: Approximation, said: Certificate) -> None:
    """What a receipt says of a budget follows from the constants and from how many removals there were."""
    from unlearn.methods.certified_budget import Promise
    from unlearn.methods.certified_learner import heads, removal_config

    config = removal_config(site.learner, {"when_spent": made.config.get("when_spent")})
    promise = Promise(**{name: config[name] for name in config if name != "when_spent"})
    told = promise.certificate(heads(site.task()), made.applications)
    # Logarithms of normal tails may differ in their last digits between machines.
    same = all(math.isclose(getattr(said, name), value, rel_tol=1e-6) for name, value in told.items())
    if made.config != config or not same:
        raise DamageError(
            f"approximation: certificate: with the constants of {site.path} and {made.applications:,} removals it is "
            f"{told}, and the receipt says {said._asdict()}: it was not issued by this workspace"
        )


def check_log(ledger: Ledger, log: LogHead, issued: str | None, payload: str) -> str:
    """Every event is hashed again; the nodes that are stored are not believed.

    Args:
        ledger: The ledger.
        log: What the receipt says of it.
        issued: Digest of the receipt that the ledger says was issued at this stage of this request, or None.
        payload: Digest of the receipt.

    Returns:
        What was found.

    Raises:
        DamageError: If the log is not the one of the receipt, or the receipt is not the one of the log.
    """
    soundness.check_pages(ledger)
    leaves = [merkle.leaf_hash(entry.body) for entry in ledger.entries()]
    if len(leaves) < log.size:
        raise DamageError(
            f"its log holds {len(leaves):,} events, and the receipt was issued from one of {log.size:,}: the workspace "
            "is older than the receipt, as if restored from an old copy, and what was forgotten may be back; or its "
            "log was cut off"
        )
    if merkle.root(leaves[: log.size]).hex() != log.root:
        raise DamageError(
            f"its first {log.size:,} events are not those the receipt was issued from: history was rewritten, or this "
            "is another copy of the workspace that went its own way"
        )
    soundness.check_log(ledger)
    if issued != payload:
        raise DamageError(
            "the receipt is not the one the log says was issued for this request: it was signed with the right key, "
            "but not by this workspace"
        )
    return f"All {len(leaves):,} events hashed again; the first {log.size:,} are those the receipt was issued from."


def check_story(site: Site) -> tuple[Story, str]:
    """Fold the log, and compare what it comes to with the tables.

    Args:
        site: The workspace.

    Returns:
        What the log comes to, and what was found.

    Raises:
        DamageError: If they tell different stories.
    """
    story = fold(site.ledger.entries())
    recorded = {
        place: Built(step.key, step.commitment, step.environment, step.records, step.visits)
        for place, step in site.ledger.steps().items()
    }
    requests = site.ledger.requests()
    states = {request.id: request.state for request in requests}
    facts = {request.id: _facts(request, story.facts.get(request.id, {})) for request in requests}
    receipts = site.ledger.receipts_issued()
    sources = site.ledger.artefact_sources()
    artefacts = {
        item.id: Derived(
            item.registered_at.isoformat(), sources.get(item.id, {}), _iso(item.retired_at), list(item.tainted_by)
        )
        for item in site.ledger.artefacts()
    }
    told_artefacts = {name: replace(item, tainted_by=sorted(item.tainted_by)) for name, item in story.artefacts.items()}
    root, count = site.ledger.record_root()
    graves, buried = site.ledger.tombstone_root()
    for what, told, held in (
        ("workspace", story.workspace, site.declaration.id),
        ("description", story.description, site.declaration.digest),
        ("signing keys", story.keys, [name for name, _ in site.ledger.signing_keys()]),
        ("batches", story.batches, site.ledger.batches()),
        ("built steps", story.steps, recorded),
        ("states made by approximate methods", story.approximations, _made(site.ledger)),
        ("certified removals since the last training", story.removals, site.ledger.removals()),
        ("migrations", story.migrations, site.ledger.migrations()),
        ("requests", list(story.requests.items()), list(states.items())),
        ("facts about requests", story.facts, facts),
        ("receipts", story.receipts, receipts),
        ("artefacts", told_artefacts, artefacts),
        ("edits of language models", list(story.edits.items()), list(_edits(site.ledger).items())),
        ("records", (story.root, story.count), (root.hex(), count)),
        ("tombstones", story.tombstones, (graves.hex(), buried)),
    ):
        if told != held:
            raise DamageError(
                f"the log tells of other {what} than the tables of the ledger hold: the database was changed by "
                "something else than this program; restore it from a copy"
            )
    _check_said(site, story)
    soundness.check_record_tree(site.ledger)
    removed = {name: told["n_records"] for name, told in story.facts.items() if "withdrawn_at" in told}
    soundness.check_tombstones(site.ledger, removed, story.lifted)
    soundness.check_tombstone_tree(site.ledger)
    _check_evidence(site, story)
    _check_environments(site, story)
    detail = (
        f"{len(story.requests):,} requests, {story.batches:,} batches, {story.count:,} records, {len(story.steps):,} "
        f"trained steps, {buried:,} tombstones of what must not return: as the tables say."
    )
    if story.edits:
        detail += f" Requests to edit language models, which removed no record: {len(story.edits):,}, likewise."
    older = len(story.requests.keys() - story.said.keys())
    if older:
        detail += (
            f" Of {older:,} requests, accepted by an older version of this program, the log does not hold the reason."
        )
    if story.buried_before and story.vouched is not None:
        detail += (
            f" The log does not say which tombstones there were before its event {story.vouched + 1:,}, when a newer "
            "version of this program took over: until then only their number was covered."
        )
    return story, detail


def _made(ledger: Ledger) -> dict[int, Made]:
    """What the tables hold of states that approximate methods made, as events tell of them."""
    return {
        shard: Made(
            item.position,
            item.key,
            item.environment,
            item.commitment,
            item.records,
            item.made_from,
            item.method,
            item.config_digest,
            item.applications,
            _iso(item.refuted_at),
        )
        for shard, item in ledger.approximations().items()
    }


def _edits(ledger: Ledger) -> dict[str, Edit]:
    """What the tables hold of requests to edit, as events tell of them."""
    return {
        item.id: Edit(
            facts=list(item.facts),
            texts=item.texts,
            artefact=item.artefact,
            weights=item.weights,
            editor=item.editor,
            config=editor_digest(item.editor, item.config),
            submitted_at=item.submitted_at.isoformat(),
            state=item.state,
            edited_at=_iso(item.edited_at),
            made=item.made,
            weights_after=item.weights_after,
            measured=None if item.measured is None else item.measured.to_json(),
            failure=item.failure,
        )
        for item in ledger.edits()
    }


def _check_said(site: Site, story: Story) -> None:
    """What requests say, and the encrypted ids of those that wait, are what was accepted."""
    said, sealed = site.ledger.said_digests(), site.ledger.sealed_digests()
    for name in sorted(story.said.keys() | said.keys()):
        if story.said.get(name) != said.get(name):
            raise DamageError(
                f"the reason of request {name}, its idempotency key or what it names by its fingerprint is not what it "
                "was accepted with: the register was changed by something else than this program; restore the database "
                "from a copy"
            )
    for name in sorted(story.waiting.keys() | sealed.keys()):
        told = story.waiting.get(name)
        if (name in story.waiting) != (name in sealed) or (told is not None and told != sealed[name]):
            raise DamageError(
                f"the encrypted ids of request {name}, which waits to be carried out, are not those that were accepted"
                ": the database was changed by something else than this program; restore it from a copy, or submit the "
                "request again"
            )


def _facts(request: Request, told: Mapping[str, Json]) -> dict[str, Json]:
    """What the tables hold of a request, as far as the log tells of it."""
    held = {name: getattr(request, name) for name in told}
    times = {name: at.isoformat() for name in _TIMES if (at := getattr(request, name)) is not None}
    return {**held, **times}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _check_evidence(site: Site, story: Story) -> None:
    """What receipts that are still to come will show is what the log committed to."""
    for name in sorted(name for name, state in story.requests.items() if state in _SHOWING):
        kept = site.ledger.evidence(name)
        parts = (("withdrawal", kept.withdrawal), ("recovery", kept.recovery), ("approximation", kept.approximation))
        for part, body in parts:
            told = story.evidence.get((name, part))
            if told != (None if body is None else digest_json(part, body)):
                raise DamageError(
                    f"the {part} of {name}, of which a receipt is still to tell, is not the one whose digest the log "
                    "holds: the database was changed by something else than this program; restore it from a copy"
                )
        soundness.check_removed(site.ledger, name, kept.withdrawal["removed"])


def _check_environments(site: Site, story: Story) -> None:
    described = site.ledger.environments()
    used = {step.environment for step in story.steps.values()}
    used |= {made.environment for made in story.approximations.values()}
    missing = used - described.keys()
    if missing:
        raise DamageError(f"the environment {min(missing)[:16]}… that steps were built in is not described any more")
    for digest, description in sorted(described.items()):
        try:
            found = described_environment(description)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamageError(f"the description of the environment {digest[:16]}… is damaged ({error!r})") from error
        if found != digest:
            raise DamageError(f"the description of the environment {digest[:16]}… is that of another one: exchanged")


def _check_records(site: Site, story: Story, predicate: Predicate) -> str:
    slices = site.ledger.slices()
    found: list[bytes] = []
    listed: set[tuple[bytes, int, int, bytes]] = set()
    subjects: set[bytes] = set()
    homes: dict[bytes, int] = {}
    for (shard, position), item in sorted(slices.items()):
        data = site.folder(shard).read_records(item.file)
        commitments = slicefile.commitments(data)
        if slicefile.slice_digest(commitments) != item.digest or len(commitments) != item.records:
            raise DamageError(
                f"the record file {item.file} of shard {shard} is not the one that was recorded: a record in it was "
                "changed, added or taken out"
            )
        owners = site.tokens("subject", data.subjects)
        for owner, classes in zip(owners, _check_placement(site, data, shard, position, item.file), strict=True):
            homes[owner] = classes & homes.get(owner, classes)
            if not homes[owner]:
                raise DamageError(
                    f"records of one subject lie where two risk classes would put them, one in the record file "
                    f"{item.file} of shard {shard}: somebody moved them"
                )
        rows = [row.tobytes() for row in commitments]
        listed |= {
            (token, shard, position, row)
            for token, row in zip(site.tokens("record", data.record_ids), rows, strict=True)
        }
        found += rows
        subjects |= set(owners)
    named: dict[int, set[str]] = {shard: set() for shard in range(site.declaration.n_shards)}
    for (shard, _), item in slices.items():
        named[shard].add(item.file)
    foreign = site.store.strays(named)
    if foreign:
        raise DamageError(
            f"{foreign[0]} is a file the ledger does not know: it may hold records that were forgotten; move it away"
        )
    known = set(site.ledger.commitments())
    if known != listed:
        wrong = min(known ^ listed, key=lambda row: row[1:3])
        raise DamageError(
            f"the record files hold other records than the ledger says, in shard {wrong[1]}, position {wrong[2]}; or "
            f"{site.path / 'secrets.json'} holds another key of pseudonyms than they were taken in with"
        )
    tree = radix.root(found)
    if (tree.hash.hex(), tree.count) != (story.root, story.count):
        raise DamageError(
            "the records in the files are not those whose tree the log holds: some were changed or exchanged"
        )
    if site.ledger.tombstones([row[0] for row in sorted(listed)]) or site.ledger.tombstones(sorted(subjects)):
        raise DamageError(
            "a record is there that was forgotten, or whose subject was, and of whose re-consent the ledger knows "
            "nothing: it was slipped back in"
        )
    back = sorted(set(predicate.withdrawal.removed) & {item.hex() for item in found})
    if back:
        raise DamageError(f"a record that the receipt says is forgotten is there: {back[0][:16]}…")
    return (
        f"All {len(found):,} records digested again; they are those of the log, and none of the "
        f"{len(predicate.withdrawal.removed):,} forgotten ones is among them."
    )


def _check_placement(site: Site, data: slicefile.SliceRecords, shard: int, position: int, file: str) -> list[int]:
    """Every record lies where the key of this workspace places it, so that its subject's records stay together.

    Returns:
        For each record, the risk classes that put it there, one bit each; 1 where there are no classes.

    Raises:
        DamageError: If one does not lie where it belongs.
    """
    classes = np.zeros(len(data), dtype=object)
    for number, (shards, slices) in enumerate(places_of(site, data.subjects)):
        there = (shards == shard) & (slices == position % site.declaration.n_slices)
        classes += there.astype(object) * (1 << number)
    tokens = keyed_tokens(site.keys.placement, "order", data.record_ids)
    if not (classes.astype(bool).all() and np.array_equal(tokens, data.tokens)):
        raise DamageError(
            f"the record file {file} of shard {shard} holds records that do not belong there: the placement key in "
            f"{site.path / 'secrets.json'} is not the one they were taken in with, or somebody moved them"
        )
    return [int(bits) for bits in classes]


def _check_states(site: Site, story: Story, predicate: Predicate) -> str:
    destroyed = {step.key for step in predicate.withdrawal.destroyed}
    count = 0
    for shard in range(site.declaration.n_shards):
        steps: dict[int, Built | Made] = {place[1]: step for place, step in story.steps.items() if place[0] == shard}
        if shard in story.approximations:
            steps[story.approximations[shard].position] = story.approximations[shard]
        there = site.folder(shard).keys()
        extra = there - {step.key for step in steps.values()}
        if extra & destroyed:
            raise DamageError(
                f"a checkpoint of shard {shard} that the receipt says is destroyed is on the disk: {min(extra)[:16]}…"
            )
        if extra:
            raise DamageError(f"shard {shard} has a checkpoint the log does not know: {min(extra)[:16]}…; move it away")
        for position, step in sorted(steps.items()):
            header = _load(site, shard, step.key)
            # What a state has seen weighs its vote, and stands in the file beside what the commitment is of.
            said = (header.commitment, header.environment, header.records, header.shard, header.position)
            if said != (step.commitment, step.environment, step.records, shard, position):
                raise DamageError(
                    f"the checkpoint of shard {shard}, position {position} is not the one that was recorded: it was "
                    "exchanged; run `unlearn recover` to build it again"
                )
            count += 1
    for shard, item in plan(site, range(site.declaration.n_shards), "").items():
        wrong = [step.position for step in item.steps if (shard, step.position) in story.steps and not step.built]
        if wrong:
            raise DamageError(
                f"the checkpoint of shard {shard}, position {wrong[0]} was not built from the records and constants "
                "that are there now"
            )
    detail = f"All {count:,} checkpoints digested again; each is the one the log committed to, and there are no others."
    return detail + "".join(
        f" What shard {shard} serves was made by the {'' if made.method == CERTIFIED else 'approximate '}method "
        f"{made.method} and is NOT that of training: its guarantee is "
        f"{'certified' if made.method == CERTIFIED else 'empirical'} (methods applied since the last exact state: "
        f"{made.applications:,})."
        for shard, made in sorted(story.approximations.items())
    )


def _load(site: Site, shard: int, key: str) -> CheckpointHeader:
    """A checkpoint's header, after its arrays and its state were digested again."""
    try:
        checkpoint = site.folder(shard).load(key)
    except FileNotFoundError as error:
        raise DamageError(
            f"a checkpoint of shard {shard} is missing ({key[:16]}…): run `unlearn recover`, which builds it again"
        ) from error
    if site.learner.content_digest(checkpoint.state) != checkpoint.header.content:
        raise DamageError(f"the state in a checkpoint of shard {shard} is not the one its header names ({key[:16]}…)")
    return checkpoint.header


def check_receipts(site: Site, story: Story) -> str:
    """Read every receipt ever issued.

    Args:
        site: The workspace.
        story: What its log comes to.

    Returns:
        What was found.

    Raises:
        DamageError: If one is missing, exchanged or damaged, or the log is not the one it was issued from.
    """
    trusted = _keys(site, story)
    heads = _Heads(site.ledger)
    for (name, stage), digest in sorted(story.receipts.items()):
        path = receipt_path(site, name, stage)
        if not path.is_file():
            raise DamageError(f"the receipt {path} was issued and is missing: restore it from a copy")
        try:
            envelope = parse_envelope(path.read_bytes())
            if hashlib.sha256(envelope.payload).hexdigest() != digest:
                raise DamageError(f"the receipt {path} is not the one that was issued: it was exchanged")
            check_signatures(envelope, trusted, 1)
            statement = strict.parse(bytes(envelope.payload), "the statement")
            log = read_edit(statement).log if stage == STAGE else read_statement(statement).predicate.log
        except ReceiptError as error:
            raise DamageError(f"the receipt {path} is damaged: {error}; restore it from a copy") from error
        if heads.root_at(log.size).hex() != log.root:
            raise DamageError(
                f"the first {log.size:,} events of the log are not those that the receipt {path} was issued from: "
                "history was rewritten"
            )
    return f"All {len(story.receipts):,} receipts ever issued are there and unchanged, and the log agrees with each."


class _Heads:
    """Roots of the log at every size, from the events themselves."""

    def __init__(self, ledger: Ledger) -> None:
        self._nodes: dict[tuple[int, int], bytes] = {}
        appender = merkle.Appender(0, self._subtree)
        for entry in ledger.entries():
            added = appender.append(merkle.leaf_hash(entry.body))
            self._nodes |= {(level, index): value for level, index, value in added}
        self._size = appender.size

    def root_at(self, size: int) -> bytes:
        return merkle.root_at(size, self._subtree) if size <= self._size else b""

    def _subtree(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]


def _keys(site: Site, story: Story) -> dict[str, Trusted]:
    """The public keys of the workspace, each the one its id stands for, and no private key beside it another's."""
    found = {}
    for name in story.keys:
        path = key_path(site, name).with_suffix(".pub.pem")
        try:
            key = public_key_from_pem(path.read_bytes())
        except (OSError, InputError) as error:
            raise DamageError(f"the public key {path} cannot be read ({error}): restore it from a copy") from error
        private = key_path(site, name)
        # Whoever only verifies may have been given a copy without private keys.
        holder = load_signer(private).public_key.keyid if private.exists() else name
        for file, held in ((path, key.keyid), (private, holder)):
            if held != name:
                raise DamageError(
                    f"the key in {file} is not the one its name says: it was exchanged; restore it from a copy, or "
                    "whoever put it there signs the next receipts"
                )
        found[name] = Trusted(key, name)
    rotations = [strict.parse(text.encode(), "a key rotation") for _, text in site.ledger.signing_keys()[1:]]
    followed = follow(dict(list(found.items())[:1]), rotations, site.declaration.id)
    if set(followed) != set(found):
        raise DamageError("not every signing key was introduced by the one before it: a rotation was exchanged")
    return found


@dataclass
class _Comparison:
    """Counts of what was trained again."""

    same: int = 0
    near: int = 0
    largest: float = 0.0


def _replay(workspace: Workspace, site: Site, shards: Iterable[int] | None, tolerance: float) -> Step:
    known = range(site.declaration.n_shards)
    wanted = sorted(set(known if shards is None else shards))
    if not set(wanted) <= set(known):
        raise InputError(f"there is no shard {max(set(wanted) - set(known))}: they are 0 to {known[-1]}")
    with numbered(17):
        return Step(17, TITLES[17], _train_again(workspace, site, wanted, tolerance))


def _train_again(workspace: Workspace, site: Site, shards: Sequence[int], tolerance: float) -> str:
    if not site.learner.reproducible:
        return NOT_COMPARABLE
    executor = workspace.executor
    program, environment = replay_program(site, executor)
    steps = site.ledger.steps()
    orders = []
    for shard, item in plan(site, shards, environment).items():
        built = [step for step in item.steps if (shard, step.position) in steps]
        if built:
            orders.append(chain_order(site, shard, item.files, built, environment))
    done = _Comparison()

    def compare(step: StepBuilt) -> None:
        header = step.header
        recorded = steps[header.shard, header.position]
        stored = site.folder(header.shard).header(recorded.key)
        try:
            if header.content == stored.content:
                done.same += 1
            elif recorded.environment == environment:
                raise DamageError(
                    f"shard {header.shard}, position {header.position}: trained again from its records, it gives "
                    "another state than the stored one: the stored one was not trained on these records alone"
                )
            else:
                done.near += 1
                done.largest = max(done.largest, _deviation(site, step, recorded.key))
                if not done.largest <= tolerance:
                    raise DamageError(
                        f"shard {header.shard}, position {header.position}: it was built in another environment, and "
                        f"trained again in this one its predictions differ by up to {done.largest:.2g}, which is more "
                        f"than the tolerance of {tolerance:g}"
                    )
        finally:
            site.folder(header.shard).discard_staged(step.staged)

    site.ledger.begin_operation("replay")
    try:
        executor.run(program, orders, compare, lambda _shard, _position, _visits: None)
    finally:
        for order in orders:
            site.clear_staging(order.shard)
        site.ledger.end_operation()
    detail = f"{done.same:,} steps of {len(orders):,} shards trained again in fresh processes, equal byte for byte."
    detail += "".join(
        f" Shard {shard} serves a state made by {made.method} from a state and records that are destroyed: nobody can "
        "make it again, and it was not compared with anything; `unlearn recover` replaces it by what training gives."
        for shard, made in site.ledger.approximations().items()
        if shard in shards
    )
    if done.near:
        detail += (
            f" {done.near:,} were built in another environment, where equal bytes are not to be expected; their "
            f"predictions differ by {done.largest:.2g} at most (tolerance {tolerance:g})."
        )
    return detail


def _deviation(site: Site, step: StepBuilt, key: str) -> float:
    """Largest difference of predictions between a state trained again and the stored one, on the shard's records."""
    folder, task = site.folder(step.header.shard), site.task()
    files: list[SliceFile] = site.slice_files(step.header.shard, site.ledger.slices(step.header.shard))
    name = next(item.name for item in files if item.name is not None)
    data = folder.read_records(name)
    given: Features = {field: array[:PROBES] for field, array in data.features.items()}
    probes = site.learner.prepare(given, task)
    again = site.learner.predictor(folder.load_staged(step.staged, step.header.key).state, task)(probes)
    stored = site.learner.predictor(folder.load(key).state, task)(probes)
    return float(np.max(np.abs(again - stored), initial=0.0))
