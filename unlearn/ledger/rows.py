"""What goes into the ledger's tables and comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from shards.digest import Json, canonical_json, digest_parts
from unlearn.request import Request

SALT_BYTES = 32


@dataclass(frozen=True)
class NewSlice:
    """A slice as it lies on disk: file in the shard's `records` folder, count, digest of its commitments."""

    shard: int
    position: int
    file: str
    records: int
    digest: str


@dataclass(frozen=True)
class Location:
    """Where a present record is; its token is a keyed pseudonym of 16 bytes."""

    token: bytes
    shard: int
    position: int


@dataclass(frozen=True)
class NewRecord:
    """A record that comes in: where it is, and its salted commitment of 32 bytes."""

    token: bytes
    shard: int
    position: int
    commitment: bytes


@dataclass(frozen=True)
class BuiltStep:
    """A step whose checkpoint is published; `commitment` is salted, and the salt lies in the checkpoint."""

    shard: int
    position: int
    key: str
    environment: str
    commitment: str
    records: int
    visits: int
    seconds: float

    @property
    def state(self) -> list[Json]:
        """How receipts and proofs write the step down."""
        return [self.shard, self.position, self.key, self.commitment, self.records]


@dataclass(frozen=True)
class Erasure:
    """A slice to rewrite, with what is recorded of it now; file and digest are None if it was emptied already."""

    shard: int
    position: int
    file: str | None
    digest: str | None


@dataclass(frozen=True)
class Submission:
    """A request as it is accepted.

    Attributes:
        request: The request, in state submitted, with nothing found out yet.
        fingerprint: Keyed digest of what it names, for idempotency.
        epoch: Name of the key its ids are encrypted under.
        sealed: The encrypted ids.
        dated: Whether the submitter gave the deadline, which then is part of what the idempotency key stands for.
    """

    request: Request
    fingerprint: str
    epoch: str
    sealed: bytes
    dated: bool = False


class Known(NamedTuple):
    """A request that has an idempotency key, with its fingerprint and the deadline it was submitted with."""

    request: Request
    fingerprint: str
    deadline: datetime | None


@dataclass(frozen=True)
class Withdrawal:
    """What a request removes, found out before the transaction that removes it.

    Attributes:
        request: The request: id, counts and shards filled in.
        fingerprint: Keyed digest of what it names.
        gone: Where its records are.
        tombstones: Token to kind (`"subject"` or `"record"`) of what must not return.
    """

    request: Request
    fingerprint: str
    gone: tuple[Location, ...]
    tombstones: dict[bytes, str]


@dataclass(frozen=True)
class Artefact:
    """Something derived from the model or the records that lives elsewhere: a student, an export, kept predictions.

    Attributes:
        id: Name given by the workspace.
        name: Your own name for it.
        kind: What it is, such as `"distilled model"`.
        location: Where it lies, for whoever has to destroy it or make it anew.
        registered_at: When it was registered, UTC.
        retired_at: When it was reported gone or replaced, UTC, or None.
        tainted_by: Requests that removed records it depends on.
    """

    id: str
    name: str
    kind: str
    location: str
    registered_at: datetime
    retired_at: datetime | None = None
    tainted_by: tuple[str, ...] = ()


def said_digest(salt: bytes, request: Request, fingerprint: str) -> str:
    """Salted digest of what was said when a request was submitted, beside the ids.

    Args:
        salt: Random bytes, kept beside the request and not in the log.
        request: The request.
        fingerprint: Keyed digest of what it names.

    Returns:
        Hex.
    """
    said = {"reason": request.reason, "idempotency_key": request.idempotency_key, "fingerprint": fingerprint}
    return digest_parts("said", [salt, request.id.encode(), canonical_json(said)])


def sealed_digest(epoch: str, sealed: bytes) -> str:
    """Digest of the encrypted ids of a request that waits.

    Args:
        epoch: Name of the key.
        sealed: The ciphertext.

    Returns:
        Hex.
    """
    return digest_parts("sealed", [epoch.encode(), sealed])
