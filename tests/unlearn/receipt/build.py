"""A whole valid receipt of both stages, from a small made-up history and pure functions only.

`make` takes edits, so that tests can issue what a lying operator would: signed with the right key, with a log and
digests that agree with the lie. `mutations` changes a statement one place at a time.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey

from shards.digest import Json, canonical_json
from shards.environment import described_environment
from unlearn.ledger import merkle, radix
from unlearn.receipt import recovery_digest, request_digest, rotation, seal, statement, withdrawal_digest

START = datetime(2025, 5, 25, 8, 0, 0, 123456, UTC)
WORKSPACE = "0f" * 16
DESCRIPTION = hashlib.sha256(b"description").hexdigest()
REQUEST = "r-0001"
OPENING = hashlib.sha256(b"opening").digest()
SUBJECTS = ("Ada Example", "Ünïcode, 日本")
RECORD_IDS = ("row-7",)
DEADLINE = (START + timedelta(days=30)).isoformat()
ENVIRONMENT: Json = {
    "numeric": {"python": "3.11.9", "switches": {"OMP_NUM_THREADS": "1"}, "threads": [1, 1], "avx512": False},
    "kernel": "sgd 3",
    "distributions": {"scikit-learn": "1.6.1"},
}
ENVIRONMENT_DIGEST = described_environment(ENVIRONMENT)
ARTEFACTS = ({"name": "scores-2025", "kind": "predictions", "location": "s3://elsewhere/scores.parquet"},)

Edit = Callable[[Any], None]


def signer(name: str) -> CryptoSigner:
    """A key that is the same in every run."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"key {name}".encode()).digest()))


def public(name: str) -> SSlibKey:
    """Its public key."""
    return signer(name).public_key


def sha(*path: object) -> str:
    """A digest of nothing in particular."""
    return hashlib.sha256(repr(path).encode()).hexdigest()


@dataclass
class Log:
    """A log in memory: its events' texts, and the hashes of its complete subtrees."""

    bodies: list[str] = field(default_factory=list)
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def add(self, kind: str, edit: Edit | None = None, **fields: Json) -> str:
        """Append an event, a minute after the last; gives its time."""
        at = START + timedelta(minutes=len(self.bodies))
        event = {"kind": kind, "version": 1, "at": at.isoformat(), **fields}
        if edit is not None:
            edit(event)
        body = canonical_json(event)
        self.bodies.append(body.decode())
        appender = merkle.Appender(len(self.bodies) - 1, lambda *place: self.nodes[place])
        self.nodes.update({(level, index): value for level, index, value in appender.append(merkle.leaf_hash(body))})
        return at.isoformat()

    def head(self, indices: Sequence[int], size: int | None = None) -> Json:
        """What a receipt says of the log at some size, with proofs for some of its events."""
        size = len(self.bodies) if size is None else size
        return {
            "size": size,
            "root": merkle.root_at(size, lambda *place: self.nodes[place]).hex(),
            "events": [
                {
                    "index": index,
                    "body": self.bodies[index],
                    "proof": [h.hex() for h in merkle.inclusion_proof(index, size, lambda *place: self.nodes[place])],
                }
                for index in indices
            ],
        }


@dataclass(frozen=True)
class Made:
    """Receipts of both stages, and what is needed to check them."""

    forgotten: bytes
    recovered: bytes
    statements: dict[str, Json]
    pinned: SSlibKey
    current: CryptoSigner
    log: Log

    def receipt(self, stage: str) -> bytes:
        """The receipt of a stage."""
        return self.forgotten if stage == "forgotten" else self.recovered


def commitments(number: int) -> list[bytes]:
    """Commitments of records, the first ones of a fixed sequence."""
    return [hashlib.sha256(f"record {row}".encode()).digest() for row in range(number)]


def withdrawal(present: Sequence[bytes], removed: Sequence[bytes]) -> Json:
    """Three shards of two steps: the first falls back to nothing, the second to its first step, the third stays."""
    after = [item for item in present if item not in removed]
    before, left = radix.root(present), radix.root(after)
    return {
        "removed": sorted(item.hex() for item in removed),
        "shards": {"0": 0, "1": 1},
        "records": {
            "before": {"count": before.count, "root": before.hash.hex()},
            "after": {"count": left.count, "root": left.hash.hex()},
        },
        "presence": radix.prune_set(present, removed),
        "absence": radix.prune_set(after, removed),
        "states": {
            "before": [[shard, 1, sha("key", shard, 1), sha("state", shard, 1), 8] for shard in range(3)],
            "after": [
                [1, 0, sha("key", 1, 0), sha("state", 1, 0), 4],
                [2, 1, sha("key", 2, 1), sha("state", 2, 1), 8],
            ],
        },
        "destroyed": [[shard, position, sha("key", shard, position)] for shard, position in ((0, 0), (0, 1), (1, 1))],
    }


def recovery(present: Sequence[bytes], removed: Sequence[bytes]) -> Json:
    """The three destroyed steps are rebuilt."""
    now = radix.root(present)
    return {
        "records": {"count": now.count, "root": now.hash.hex()},
        "absence": radix.prune_set(present, removed),
        "states": [
            [0, 1, sha("new key", 0, 1), sha("new state", 0, 1), 6],
            [1, 1, sha("new key", 1, 1), sha("new state", 1, 1), 7],
            [2, 1, sha("key", 2, 1), sha("state", 2, 1), 8],
        ],
        "rebuilt": [
            [shard, position, sha("new key", shard, position), ENVIRONMENT_DIGEST]
            for shard, position in ((0, 0), (0, 1), (1, 1))
        ],
    }


def make(
    *,
    edit_withdrawal: Edit | None = None,
    edit_recovery: Edit | None = None,
    edit_events: dict[str, Edit] | None = None,
    edit_request: Edit | None = None,
    extra: Sequence[tuple[str, str, Json]] = (),
    later: int = 0,
    rotations: Sequence[Json] | None = None,
    previous: str | None = None,
) -> Made:
    """Receipts of both stages.

    Args:
        edit_withdrawal: Changes the withdrawal before it is digested and logged.
        edit_recovery: Changes the recovery before it is digested and logged.
        edit_events: By kind, changes the event's fields before it is logged.
        edit_request: Changes what the receipts say of the request.
        extra: Further events of the request: after which kind, kind, fields; they are shown in the receipts.
        later: Events that are in the log after the request's last one, when a receipt is issued.
        rotations: Key rotations; None: one, from the pinned key to the one that signs.
        previous: What the recovered receipt names as the one before it; None: the right one.

    Returns:
        The receipts.
    """
    old, current = signer("old"), signer("current")
    rotations = [rotation(old, current, WORKSPACE, START)] if rotations is None else rotations
    log, shown, times = Log(), [], {}
    edits = edit_events or {}

    def add(kind: str, **fields: Json) -> None:
        shown.append(len(log.bodies))
        times[kind] = log.add(kind, edits.get(kind), **fields)
        for after, what, more in extra:
            if after == kind:
                shown.append(len(log.bodies))
                log.add(what, **more)

    everyone = commitments(24)
    removed, newcomer = everyone[3:6], hashlib.sha256(b"newcomer").digest()
    left = everyone[:3] + everyone[6:]
    taken, given_back = withdrawal(everyone, removed), recovery([*left, newcomer], removed)
    for edit, value in ((edit_withdrawal, taken), (edit_recovery, given_back)):
        if edit is not None:
            edit(value)

    log.add("created", workspace=WORKSPACE, description=DESCRIPTION)
    log.add("key-added", key=old.public_key.keyid)
    log.add("ingested", batch=0, records=taken["records"]["before"]["root"], count=24, lifted=0)
    digest = request_digest(OPENING, SUBJECTS, RECORD_IDS)
    add("submitted", request=REQUEST, digest=digest, n_subjects=2, deadline=DEADLINE)
    log.add("key-added", key=current.public_key.keyid)
    add(
        "withdrawn",
        request=REQUEST,
        n_records=3,
        evidence=withdrawal_digest(taken),
        records=[taken["records"][when]["root"] for when in ("before", "after")],
        counts=[taken["records"][when]["count"] for when in ("before", "after")],
        shards=[number for shard, position in taken["shards"].items() for number in (int(shard), position)],
    )
    add("forgotten", request=REQUEST)
    request = {
        "id": REQUEST,
        "digest": digest,
        "n_subjects": 2,
        "n_records": 3,
        "submitted_at": times["submitted"],
        "deadline": DEADLINE,
        "withdrawn_at": times["withdrawn"],
        "forgotten_at": times["forgotten"],
        "recovered_at": None,
    }
    if edit_request is not None:
        edit_request(request)

    def issue(stage: Any, restored: Json, before: str | None) -> Json:
        for number in range(later):
            log.add("artefact-retired", artefact=f"{stage} {number}")
        return statement(
            stage=stage,
            workspace={"id": WORKSPACE, "description": DESCRIPTION},
            request=request,
            withdrawal=taken,
            recovery=restored,
            environments={} if restored is None else {ENVIRONMENT_DIGEST: ENVIRONMENT},
            artefacts=ARTEFACTS,
            log=log.head(shown),
            previous=before,
            keys=rotations,
            software_version="0.1.0",
        )

    first = issue("forgotten", None, None)
    payload = hashlib.sha256(canonical_json(first)).hexdigest()
    log.add("receipted", request=REQUEST, stage="forgotten", receipt=payload)
    log.add("ingested", batch=1, records=given_back["records"]["root"], count=1, lifted=0)
    now = given_back["records"]
    add("recovered", request=REQUEST, evidence=recovery_digest(given_back), records=now["root"], count=now["count"])
    request["recovered_at"] = times["recovered"]
    second = issue("recovered", given_back, previous or payload)
    return Made(
        forgotten=seal(first, [current]),
        recovered=seal(second, [current]),
        statements={"forgotten": first, "recovered": second},
        pinned=old.public_key,
        current=current,
        log=log,
    )


Path = tuple[str | int, ...]


def get(value: Json, path: Path) -> Json:
    """What is at a path."""
    for step in path:
        value = value[step]
    return value


def changed(value: Json, path: Path, new: Json) -> Json:
    """A copy with something else at a path."""
    made = copy.deepcopy(value)
    if not path:
        return new
    get(made, path[:-1])[path[-1]] = new
    return made


def places(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Every place in a JSON value, containers as well."""
    yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*path, number))


def other(value: Json) -> Json:
    """A different value that looks just as right: another digest, time, count or text."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value is None:
        return "h:" + 64 * "a" + ":2"
    if value.startswith("2025-"):
        return "2026-" + value[5:]
    if value.startswith("{"):  # an event's text
        return value.replace("2025-", "2026-", 1)
    if len(value) < 2:
        return value + "1"
    # Not the first character: entries that have to be in order stay in order.
    return value[:-2] + ("1" if value[-2] != "1" else "2") + value[-1]


def mutations(value: Json) -> Iterator[tuple[str, Path, Json]]:
    """Copies of a value with one thing changed: (what was done, where, the copy).

    Every leaf gets another value that looks right, and one of another type; every key and list entry is removed once;
    every object gets a key more, every list an entry more.
    """
    for path, item in places(value):
        if isinstance(item, dict):
            yield "added", path, changed(value, path, {**item, "unknown": 1})
        elif isinstance(item, list):
            yield "added", path, changed(value, path, [*item, item[-1] if item else {}])
        else:
            yield "changed", path, changed(value, path, other(item))
        if path:
            yield "retyped", path, changed(value, path, [item] if isinstance(item, dict) else {"value": item})
            made = copy.deepcopy(value)
            del get(made, path[:-1])[path[-1]]
            yield "removed", path, made
