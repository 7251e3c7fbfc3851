"""Everything that reads what somebody else may have written, as functions of bytes.

A target returns, or raises an `UnlearnError`; anything else is a defect, as are a crash, a hang and a memory that
grows. `harness` lets a fuzzer look for such input by what it makes the code do, `test_fuzz` by chance.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shards import slicefile
from shards.digest import canonical_json, digest_arrays
from shards.slicefile import SliceRecords
from shards.store import CheckpointHeader, new_salt
from shards.store_local import ShardFolder
from tests import temporary
from unlearn import declaration, relay
from unlearn.cli.forget import read_ids
from unlearn.errors import UnlearnError
from unlearn.inbox import Inbox
from unlearn.ledger import Ledger, Submission, now, radix
from unlearn.ledger.chain import Entry
from unlearn.ledger.events import FIELDS, encode
from unlearn.ledger.fold import fold
from unlearn.receipt import strict, verify_offline
from unlearn.receipt.envelope import PAYLOAD_TYPE, to_bytes
from unlearn.receipt.keys import public_key_from_pem
from unlearn.request import Request, RequestState


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        read: Reads them.
        seeds: What is well-formed, to start from; made anew, so that no file has to be kept.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]

    def __call__(self, data: bytes) -> None:
        """Read some bytes, where an `UnlearnError` is as good as a result."""
        with suppress(UnlearnError):
            self.read(data)


@cache
def scratch() -> Path:
    """A folder for files that have to be read as files; in memory, where there is such a place.

    Within the tests' own root if there is one: a test that looks for what was left behind looks beside it.
    """
    places = [place for place in (temporary.ROOT, temporary.MEMORY) if place.is_dir()]
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=places[0] if places else None))


def at(name: str, data: bytes) -> Path:
    """A file that holds some bytes."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Receipts


@cache
def made() -> Any:
    """Receipts, and the key they are signed with."""
    from tests.unlearn.receipt.build import make

    return make()


def receipts() -> list[bytes]:
    return [made().receipt("forgotten"), made().receipt("recovered")]


def payloads() -> list[bytes]:
    return [base64.b64decode(json.loads(data)["payload"]) for data in receipts()]


def read_statement(data: bytes) -> object:
    """As a receipt that is signed with the right key, so that every step after the signature is reached."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(data, PAYLOAD_TYPE, {})
    envelope.sign(made().current)
    return verify_offline(to_bytes(envelope), [made().pinned, made().current.public_key])


def proofs() -> list[bytes]:
    sets = [hashlib.sha256(bytes([number])).digest() for number in range(40)]
    return [canonical_json(radix.prune_set(sets[:n], sets[3:5])) for n in (1, 8, 40)]


def read_proof(data: bytes) -> object:
    tree = radix.check(strict.parse(data, "the proof"))
    return tree.holds(hashlib.sha256(b"\x03").digest())


# Files of a workspace


@cache
def workspace() -> Path:
    """A workspace with a request, not trained."""
    from tests.unlearn.helpers import canaries, create, labels, names

    made = create(scratch() / "workspace")
    made.ingest(canaries(range(8)), labels(range(8)), record_ids=names(range(8)))
    made.forget(record_ids=names([3]))
    made.close()
    return made.path


def read_folder(name: str) -> Callable[[bytes], object]:
    """Read a workspace's constants, where one of its two files holds some bytes."""

    def read(data: bytes) -> object:
        folder = scratch() / f"constants-{name}"
        folder.mkdir(exist_ok=True)
        for other in ("workspace.json", "secrets.json"):
            (folder / other).write_bytes(data if other == name else (workspace() / other).read_bytes())
        return declaration.read(folder)

    return read


def slices() -> list[bytes]:
    texts = np.array(["ein", "zwei", "drei"])
    targets = [np.array([0, 1, 0]), np.array([0.5, 1.5, 2.5])]
    found = []
    for number, target in enumerate(targets):
        data = SliceRecords(
            record_ids=("a", "b", "c"),
            subjects=("x", "x", "y"),
            tokens=np.arange(48, dtype=np.uint8).reshape(3, 16),
            salts=np.ones((3, 32), dtype=np.uint8),
            features={"t": texts, "x": np.zeros((3, 2, 2), dtype=np.float32)},
            target=target,
        )
        path = scratch() / f"seed-{number}.arrow"
        path.unlink(missing_ok=True)
        slicefile.write(path, data)
        found.append(path.read_bytes())
    return found


def read_slice(data: bytes) -> object:
    return slicefile.commitments(slicefile.read(at("slice.arrow", data)))


KEY = "ab" * 32


def checkpoints() -> list[bytes]:
    folder = ShardFolder(scratch() / "shard")
    for part in (folder.records, folder.checkpoints, folder.staging):
        part.mkdir(parents=True, exist_ok=True)
    found = []
    for state in ({"w": np.zeros((2, 3), dtype=np.float32)}, {"a": np.arange(3), "b": np.array([True])}):
        header = CheckpointHeader(KEY, None, 0, 0, 5, "cd" * 32, "ef" * 32, digest_arrays(state), new_salt())
        found.append((folder.staging / folder.stage(header, state)).read_bytes())
    return found


def read_checkpoint(data: bytes) -> object:
    folder = ShardFolder(scratch() / "shard")
    path = folder.checkpoint(KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    folder.header(KEY)
    return folder.load(KEY)


def ledgers() -> list[bytes]:
    return [(workspace() / "ledger.db").read_bytes()]


def read_ledger(data: bytes) -> object:
    """Ask a database whatever is ever asked of one."""
    for old in scratch().glob("ledger.db-*"):
        old.unlink()
    path = at("ledger.db", data)
    ledger = Ledger.open(path)
    try:
        fold(ledger.entries())
        for request in ledger.requests():
            ledger.receipt_digests(request.id)
            ledger.evidence(request.id)
        return [
            *(ledger.head(), ledger.task(), ledger.batches(), ledger.count(), ledger.slices(), ledger.steps()),
            *(ledger.environments(), ledger.artefacts(), ledger.signing_keys(), ledger.receipts_due()),
            *(ledger.erasures(), ledger.pending(), ledger.waiting(), ledger.count_requests(), ledger.generation()),
            *(ledger.record_root(), list(ledger.commitments()), ledger.operation(), ledger.published()),
        ]
    finally:
        ledger.close()


VALUES: dict[str, Any] = {
    "text": "a",
    "digest": "ab" * 32,
    "number": 0,
    "time or null": None,
    "list of digests": ["ab" * 32] * 2,
    "list of numbers": [0, 0],
}


def logs() -> list[bytes]:
    """One event of each kind, in an order that they can have; a request does not fail and go on."""
    last = "approximation-dropped"
    kinds = {
        kind: FIELDS[kind] for kind in (*(kind for kind in FIELDS if kind not in ("failed", "not-edited", last)), last)
    }
    lines = [encode(kind, now(), **{k: VALUES[what] for k, what in fields.items()}) for kind, fields in kinds.items()]
    return [b"\n".join(lines)]


def read_log(data: bytes) -> object:
    """Every line an event."""
    return fold(Entry(number, line) for number, line in enumerate(data.split(b"\n")))


# What comes from other processes and from users


def submissions() -> list[bytes]:
    from tests.unlearn.helpers import names

    request = Request("req-1", RequestState.SUBMITTED, "", None, "ab" * 32, 0, 1, {}, now(), now())
    return [relay._encode([Submission(request, "f", "e", names([1])[0].encode())])[32:]]


def read_submissions(data: bytes) -> object:
    """What another process left, whose digest is right."""
    return relay._decode(hashlib.sha256(data).digest() + data)


def read_sealed(data: bytes) -> object:
    inbox = Inbox(scratch() / "inbox")
    epoch = next((scratch() / "inbox").glob("*.key"), None)
    return inbox.open(inbox.begin_epoch() if epoch is None else epoch.stem, "req-1", data)


def sealed() -> list[bytes]:
    inbox = Inbox(scratch() / "inbox")
    epoch = next((scratch() / "inbox").glob("*.key"), None)
    return [inbox.seal(inbox.begin_epoch() if epoch is None else epoch.stem, "req-1", ["a"], ["b"])]


TARGETS: dict[str, Target] = {
    "envelope": Target(lambda data: verify_offline(data, [made().pinned]), receipts),
    "statement": Target(read_statement, payloads),
    "proof": Target(read_proof, proofs),
    "public-key": Target(public_key_from_pem, lambda: [next((workspace() / "keys").glob("*.pub.pem")).read_bytes()]),
    "description": Target(read_folder("workspace.json"), lambda: [(workspace() / "workspace.json").read_bytes()]),
    "secrets": Target(read_folder("secrets.json"), lambda: [(workspace() / "secrets.json").read_bytes()]),
    "slice": Target(read_slice, slices),
    "checkpoint": Target(read_checkpoint, checkpoints),
    "ledger": Target(read_ledger, ledgers),
    "log": Target(read_log, logs),
    "submissions": Target(read_submissions, submissions),
    "sealed-ids": Target(read_sealed, sealed),
    "id-file": Target(
        lambda data: read_ids(at("ids.txt", data)), lambda: ["w17\n  w18 \r\n\ufeffü\u2028x\0\n".encode()]
    ),
}
"""Name to target."""


def clean() -> None:
    """Remove what the targets wrote."""
    shutil.rmtree(scratch(), ignore_errors=True)
