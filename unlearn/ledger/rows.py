"""What goes into the ledger's tables and comes out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from shards.digest import Json, canonical_json, digest_json, digest_parts
from unlearn.facts import EditRequest, Measured
from unlearn.request import Request

SALT_BYTES = 32

APPLYING = "unlearn"
"""The operation during which an approximate method makes a state that nobody serves yet."""

EDITING = "edit"
"""The operation during which an edited language model is made that nobody has noted yet."""


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
class Approximation:
    """A state that an approximate method made of one that saw forgotten records; served until exact steps replace it.

    Attributes:
        shard: Shard number.
        position: Of the last slice whose records it owes something to.
        key: Name of its checkpoint; of another kind than those of steps.
        environment: Digest of the environment the method ran in.
        commitment: Salted, as of a step.
        records: Records that stayed when it was made.
        made_from: Key of the state it was made from, which is destroyed.
        method: Name of the method.
        config: Its configuration, in full.
        applications: How many methods were applied one after the other since the last exact state, this one included.
            Of certified removal: since the last training, those included whose state is served no more.
        refuted_at: When an audit first refuted that it, or one it was made from, had forgotten, UTC; None: none did.
    """

    shard: int
    position: int
    key: str
    environment: str
    commitment: str
    records: int
    made_from: str
    method: str
    config: Mapping[str, Json]
    applications: int
    refuted_at: datetime | None = None

    @property
    def served(self) -> BuiltStep:
        """As it is served: like a step that nobody can build again."""
        return BuiltStep(
            self.shard, self.position, self.key, self.environment, self.commitment, self.records, visits=0, seconds=0.0
        )

    def had_seen(self, hit: Mapping[int, int]) -> bool:
        """Whether it owes something to what a request hits.

        Args:
            hit: Shard to the earliest position that is hit.

        Returns:
            True if so.
        """
        return self.position >= hit.get(self.shard, self.position + 1)

    @property
    def config_digest(self) -> str:
        """Digest of the configuration, as events hold it."""
        return digest_json("method", [self.method, dict(self.config)])


@dataclass(frozen=True)
class Unlearnt:
    """What an approximate method made, and what its card says.

    Attributes:
        approximation: The state.
        title: The method in words.
        citation: Who published it, and where.
        statement: What holds of it and what does not.
        certificate: What is promised of it, and how much of that is spent; None of methods that promise nothing.
    """

    approximation: Approximation
    title: str
    citation: str
    statement: str
    certificate: Mapping[str, Json] | None = None

    def to_json(self, escalate_by: datetime | None) -> Json:
        """What a receipt says of it.

        Args:
            escalate_by: Until when the model is to be retrained, or None.

        Returns:
            JSON.
        """
        made = self.approximation
        promised: dict[str, Json] = {} if self.certificate is None else {"certificate": dict(self.certificate)}
        return {
            **promised,
            "method": made.method,
            "title": self.title,
            "citation": self.citation,
            "statement": self.statement,
            "config": dict(made.config),
            "applications": made.applications,
            "state": made.served.state,
            "made_from": made.made_from,
            "environment": made.environment,
            "escalate_by": None if escalate_by is None else escalate_by.isoformat(),
        }


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
        escalated: Likewise, whether the submitter said until when the model is to be retrained.
    """

    request: Request
    fingerprint: str
    epoch: str
    sealed: bytes
    dated: bool = False
    escalated: bool = False


class Given(NamedTuple):
    """What of a request its submitter gave, so that the idempotency key stands for it."""

    deadline: bool = False
    escalate_by: bool = False


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


@dataclass(frozen=True)
class EditSubmission:
    """A request to edit as it is accepted.

    Attributes:
        request: The request, in state submitted.
        fingerprint: Keyed digest of all that it asks for, for idempotency.
        epoch: Name of the key its facts and texts are encrypted under.
        sealed: The encrypted facts and texts.
    """

    request: EditRequest
    fingerprint: str
    epoch: str
    sealed: bytes


@dataclass(frozen=True)
class Edited:
    """A language model that an edit made.

    Attributes:
        artefact: It, as it is registered.
        weights: Salted digest of it, hex.
        measured: What it was found to say.
    """

    artefact: Artefact
    weights: str
    measured: Measured


def time_of(text: str) -> datetime:
    """A time as this program wrote it.

    Args:
        text: ISO 8601.

    Returns:
        The time.

    Raises:
        ValueError: If it is written otherwise.
    """
    found = datetime.fromisoformat(text)
    if found.isoformat() != text:
        # It may say the same, but nobody here wrote it.
        raise ValueError(f"{text[:40]!r} is not how a time is written here")
    return found


def time_or_none(text: str | None) -> datetime | None:
    """A time as `time_of` reads it, or None."""
    return None if text is None else time_of(text)


def approximation_digest(body: Json) -> str:
    """Digest of what a receipt says of a state that a method made, as events hold it.

    Args:
        body: `Unlearnt.to_json`, or what was read from a receipt.

    Returns:
        Hex.
    """
    return digest_json("approximation", body)


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


def edit_said_digest(salt: bytes, request: EditRequest, fingerprint: str) -> str:
    """Salted digest of what was said when an edit was asked for, beside the facts.

    Args:
        salt: Random bytes, kept beside the request and not in the log.
        request: The request.
        fingerprint: Keyed digest of what it asks for.

    Returns:
        Hex.
    """
    said = {"reason": request.reason, "idempotency_key": request.idempotency_key, "output": request.output}
    body = canonical_json({**said, "fingerprint": fingerprint})
    return digest_parts("edit said", [salt, request.id.encode(), body])


def editor_digest(editor: str, config: Mapping[str, Json]) -> str:
    """Digest of an editor and its configuration, as events hold it."""
    return digest_json("editor", [editor, dict(config)])


def sealed_digest(epoch: str, sealed: bytes) -> str:
    """Digest of the encrypted ids of a request that waits.

    Args:
        epoch: Name of the key.
        sealed: The ciphertext.

    Returns:
        Hex.
    """
    return digest_parts("sealed", [epoch.encode(), sealed])
