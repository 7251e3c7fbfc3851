"""The events of the log: what may be said, for good.

The law of compatibility. A kind of event is never removed and never changes its meaning; a field is never removed and
never changes its type. A field that a kind gets later stands in `OPTIONAL`: events written before lack it, and are read
as they are. What must mean something else gets a new kind. A reader that meets a kind it does not know can still verify
the log, since hashes are of the bytes as they were written, and refuses to say what the log comes to.
`tests/unlearn/ledger/vocabulary.json` holds one event of each kind with its hash, and grows only.

No event holds an id of a person, a digest that could be compared with a guess, or free text: requests are named by
random ids, records by roots of trees of salted commitments, reasons stand outside of the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shards.digest import Json, canonical_json
from unlearn.errors import DamageError

VERSION = 1
"""Of the encoding of events."""

FIELDS: dict[str, dict[str, str]] = {
    "created": {"workspace": "text", "description": "digest"},
    "migrated": {"name": "text"},
    "key-added": {"key": "text"},
    "ingested": {"batch": "number", "records": "digest", "count": "number", "lifted": "number"},
    "built": {
        "shard": "number",
        "position": "number",
        "key": "digest",
        "environment": "digest",
        "state": "digest",
        "records": "number",
        "visits": "number",
    },
    "dropped": {"shard": "number", "position": "number", "key": "digest"},
    "submitted": {"request": "text", "digest": "digest", "n_subjects": "number", "deadline": "time or null"},
    "extended": {"request": "text", "deadline": "time or null"},
    "failed": {"request": "text", "why": "text"},
    "resealed": {"request": "text", "sealed": "digest"},
    "withdrawn": {
        "request": "text",
        "n_records": "number",
        "evidence": "digest",
        "records": "list of digests",
        "counts": "list of numbers",
        "shards": "list of numbers",
    },
    "forgotten": {"request": "text"},
    "recovered": {"request": "text", "evidence": "digest", "records": "digest", "count": "number"},
    "receipted": {"request": "text", "stage": "text", "receipt": "digest"},
    "artefact-registered": {"artefact": "text", "sources": "list of numbers"},
    "artefact-tainted": {"artefact": "text", "request": "text"},
    "artefact-retired": {"artefact": "text"},
    "approximated": {
        "shard": "number",
        "position": "number",
        "key": "digest",
        "environment": "digest",
        "state": "digest",
        "records": "number",
        "made_from": "digest",
        "method": "text",
        "config": "digest",
        "applications": "number",
        "refuted": "time or null",
    },
    "approximation-dropped": {"shard": "number", "key": "digest"},
    "approximation-refuted": {"shard": "number", "key": "digest", "audit": "digest"},
    "fact-submitted": {
        "request": "text",
        "facts": "list of digests",
        "texts": "digest",
        "artefact": "text",
        "weights": "digest",
        "editor": "text",
        "config": "digest",
        "said": "digest",
        "sealed": "digest",
    },
    "edited": {
        "request": "text",
        "artefact": "text",
        "weights": "digest",
        "reliability": "list of numbers",
        "generalization": "list of numbers",
        "locality": "list of numbers",
    },
    "not-edited": {"request": "text", "why": "text"},
}
"""Kind to the fields that every event of it has, and what they are: those it had when it was first written.

- `created`: the workspace exists; its random id, the digest of its description.
- `migrated`: the database was brought to a newer form.
- `key-added`: receipts are signed with this key from here on.
- `ingested`: a batch came in; root and count of the tree over all present records after it.
- `built`: a step's checkpoint is served; `state` is its salted commitment.
- `dropped`: a step's checkpoint was missing or damaged and is not served any more.
- `submitted`: a deletion request was accepted and is durable.
- `extended`: its deadline was moved.
- `failed`: it cannot be carried out as it was submitted; `why` is one of `request.FAILURES`.
- `resealed`: it has to wait, and the ids it names were encrypted anew.
- `withdrawn`: its records are not served any more, by any process; roots and counts before and after; `shards`
  alternates the shards that are hit and the earliest position in each.
- `forgotten`: its records and every state that saw them are destroyed.
- `recovered`: what forgetting removed has been built again; root and count at that time.
- `receipted`: a receipt was issued; digest of its payload.
- `artefact-*`: something derived from the model and kept elsewhere was registered, is tainted by a request, or was
  reported gone. `sources` alternates shards and the latest position of each.
- `approximated`: a state that an approximate method made takes the place of what was withdrawn just before, in the same
  transaction; `state` is its salted commitment, `made_from` the key of the state it was made of, `applications` how
  many methods were applied since the last exact state, `refuted` when an audit refuted one that it was made of.
- `approximation-dropped`: such a state is not served any more.
- `approximation-refuted`: an audit, of this digest, found that such a state still knows forgotten records.
- `fact-submitted`: a request to edit a language model, the artefact, was accepted and is durable; salted digests of
  each fact, of the texts and of the weights as they are, `said` as of a deletion request and of the output folder,
  `sealed` of the encrypted facts.
- `edited`: the edited model is registered as this artefact; salted digest of its weights, and of each measure how often
  the answer was given and how often it was asked for.
- `not-edited`: the edit was not made; `why` is one of `facts.NOT_MADE`.
"""


_TOMBSTONES = {"tombstones": "list of digests", "buried": "list of numbers"}

OPTIONAL: dict[str, dict[str, str]] = {
    "migrated": _TOMBSTONES,
    "ingested": _TOMBSTONES,
    "submitted": {
        "said": "digest",
        "sealed": "digest",
        "n_records": "number",
        "method": "text",
        "method_digest": "digest",
        "escalate_by": "time or null",
    },
    "withdrawn": {**_TOMBSTONES, "approximation": "digest", "not_applied": "text"},
}
"""Kind to the fields that it got later, and what they are; whoever reads an event must do without them.

- `tombstones`, `buried`: roots of the tree over what must not return (`recordset`) and how much that is, before and
  after; only after, in the migration from which on the log vouches for it.
- `said`: salted digest of the reason, the submitter's own key and the fingerprint of what is named (`rows`).
- `sealed`, `n_records`: of a request that waits: digest of the encrypted ids, and how many single records they are.
- `method`, `method_digest`, `escalate_by`: the approximate method it asks for, digest of its configuration, and until
  when the model is to be retrained after it.
- `approximation`: digest of what the receipt says of the state that a method made in place of what was withdrawn.
- `not_applied`: why no method was applied though one was asked for; one of `request.NOT_APPLIED`.
"""


@dataclass(frozen=True)
class Event:
    """One entry of the log.

    Attributes:
        kind: What happened.
        at: When, by the clock of whoever wrote it; the order of the log is its numbers', not the clock's.
        fields: Whatever the kind says.
    """

    kind: str
    at: datetime
    fields: dict[str, Any]

    @property
    def request(self) -> str | None:
        """The request it is about, or None."""
        name = self.fields.get("request")
        return name if isinstance(name, str) else None


def encode(kind: str, at: datetime, **fields: Json) -> bytes:
    """Write an event down; these bytes are what is hashed, stored and shown in receipts.

    Args:
        kind: One of `FIELDS`.
        at: The time, UTC.
        fields: All that the kind must have, of those it may have any, and no others.

    Returns:
        Canonical JSON.

    Raises:
        ValueError: If the fields are not those of the kind: a mistake in this program.
    """
    needed, allowed = FIELDS.get(kind, {}), FIELDS.get(kind, {}) | OPTIONAL.get(kind, {})
    if kind not in FIELDS or not needed.keys() <= fields.keys() <= allowed.keys():
        raise ValueError(
            f"an event {kind!r} has the fields {sorted(needed)} and may have {sorted(allowed.keys() - needed.keys())}, "
            f"not {sorted(fields)}"
        )
    return canonical_json({"kind": kind, "version": VERSION, "at": at.isoformat(), **fields})


def decode(body: bytes) -> Event:
    """Read an event.

    Args:
        body: Its bytes.

    Returns:
        The event; of a kind this version does not know, the fields as they are.

    Raises:
        DamageError: If these are not an event's bytes.
    """
    try:
        fields = json.loads(body)
        kind, at = fields.pop("kind"), datetime.fromisoformat(fields.pop("at"))
        fields.pop("version")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamageError(f"an entry of the log is damaged ({error!r}): restore the ledger from a copy") from error
    if not isinstance(kind, str) or not FIELDS.get(kind, {}).keys() <= fields.keys():
        raise DamageError(
            f"an entry of the log, of kind {str(kind)[:40]!r}, lacks fields: restore the ledger from a copy"
        )
    return Event(kind, at, fields)
