"""Requests to edit a language model in the ledger's tables, each change with the event that says so.

Works within a transaction of `Ledger`, which is the only caller.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.engine import Row

from shards.digest import canonical_json
from unlearn.errors import DamageError, IdempotencyError
from unlearn.facts import NOT_MADE, EditRequest, EditState, Measured, check_move
from unlearn.ledger import chain
from unlearn.ledger import schema as s
from unlearn.ledger.rows import (
    SALT_BYTES,
    Edited,
    EditSubmission,
    edit_said_digest,
    editor_digest,
    sealed_digest,
    time_of,
    time_or_none,
)

Known = tuple[EditRequest, str]
"""A request with its fingerprint."""


def find(c: Connection, edit_id: str) -> EditRequest | None:
    """The request with an id, or None."""
    row = c.execute(select(s.edit).where(s.edit.c.id == edit_id)).first()
    return None if row is None else _request(row)


def by_id(c: Connection, edit_id: str) -> EditRequest:
    """The request with an id, which is there.

    Args:
        c: A connection.
        edit_id: The id.

    Returns:
        The request.

    Raises:
        DamageError: If it is not there.
    """
    found = find(c, edit_id)
    if found is None:
        raise DamageError(f"the ledger lacks the request {edit_id[:40]!r}: restore it from a copy")
    return found


def by_key(c: Connection, idempotency_key: str) -> Known | None:
    """The request submitted under a key, or None."""
    row = c.execute(select(s.edit).where(s.edit.c.idempotency_key == idempotency_key)).first()
    return None if row is None else (_request(row), row.fingerprint)


def holders(c: Connection, idempotency_keys: Sequence[str]) -> dict[str, str]:
    """Those of some keys that edits were submitted under, with the ids of these."""
    query = select(s.edit.c.idempotency_key, s.edit.c.id).where(s.edit.c.idempotency_key.in_(idempotency_keys))
    return {row.idempotency_key: row.id for row in c.execute(query)}


def every(c: Connection) -> list[EditRequest]:
    """All requests, oldest first."""
    return [_request(row) for row in c.execute(select(s.edit).order_by(s.edit.c.number))]


def pending(c: Connection) -> list[EditSubmission]:
    """Those that wait, oldest first."""
    both = s.edit.join(s.edit_pending, s.edit_pending.c.request == s.edit.c.id)
    columns = select(s.edit, s.edit_pending.c.epoch, s.edit_pending.c.sealed)
    query = columns.select_from(both).order_by(s.edit.c.number)
    return [EditSubmission(_request(row), row.fingerprint, row.epoch, bytes(row.sealed)) for row in c.execute(query)]


def said(c: Connection) -> dict[str, str]:
    """Digest of what each says beside its facts."""
    rows = c.execute(select(s.edit))
    return {row.id: edit_said_digest(bytes(row.salt), _request(row), row.fingerprint) for row in rows}


def repeated(known: Known, item: EditSubmission) -> EditRequest:
    """Tell the repetition of a request from another one under the same key.

    Args:
        known: The request that has the key.
        item: The present one.

    Returns:
        The known request.

    Raises:
        IdempotencyError: If it asks for something else, or says why in other words.
    """
    request, fingerprint = known
    if fingerprint != item.fingerprint or request.reason != item.request.reason:
        raise IdempotencyError(used_before(str(request.idempotency_key), request.id))
    return request


def used_before(key: str, name: str) -> str:
    """What is said when an idempotency key is taken by another request."""
    return (
        f"the idempotency key {key!r} was used for another request ({name}): choose another key, or repeat the first "
        "request as it was; nothing was changed"
    )


def add(c: Connection, item: EditSubmission) -> None:
    """Note a request as submitted."""
    request, salt = item.request, secrets.token_bytes(SALT_BYTES)
    last = c.execute(select(func.max(s.edit.c.number))).scalar()
    c.execute(
        insert(s.edit).values(
            number=0 if last is None else last + 1,
            id=request.id,
            idempotency_key=request.idempotency_key,
            fingerprint=item.fingerprint,
            salt=salt,
            reason=request.reason,
            state=EditState.SUBMITTED.value,
            facts=canonical_json(list(request.facts)).decode(),
            texts=request.texts,
            artefact=request.artefact,
            output=request.output,
            editor=request.editor,
            config=canonical_json(dict(request.config)).decode(),
            weights=request.weights,
            submitted_at=request.submitted_at.isoformat(),
            measured="",
            failure="",
        )
    )
    c.execute(insert(s.edit_pending).values(request=request.id, epoch=item.epoch, sealed=item.sealed))
    chain.append(
        c,
        "fact-submitted",
        request.submitted_at,
        request=request.id,
        facts=list(request.facts),
        texts=request.texts,
        artefact=request.artefact,
        weights=request.weights,
        editor=request.editor,
        config=editor_digest(request.editor, request.config),
        said=edit_said_digest(salt, request, item.fingerprint),
        sealed=sealed_digest(item.epoch, item.sealed),
    )


def finish(c: Connection, request: EditRequest, made: Edited) -> None:
    """Note an edit as made, once its artefact is registered."""
    at, measured = made.artefact.registered_at, made.measured.to_json()
    move(
        c,
        request.id,
        EditState.SUBMITTED,
        EditState.EDITED,
        edited_at=at.isoformat(),
        made=made.artefact.id,
        weights_after=made.weights,
        measured=canonical_json(measured).decode(),
    )
    _drop(c, request.id)
    chain.append(c, "edited", at, request=request.id, artefact=made.artefact.id, weights=made.weights, **measured)


def fail(c: Connection, request: EditRequest, code: str, at: datetime) -> None:
    """Note an edit as not made."""
    move(c, request.id, EditState.SUBMITTED, EditState.NOT_APPLIED, failure=NOT_MADE[code])
    _drop(c, request.id)
    chain.append(c, "not-edited", at, request=request.id, why=code)


def move(c: Connection, name: str, before: EditState, after: EditState, **values: str) -> None:
    """Move a request along the transition table."""
    check_move(before, after)
    here = (s.edit.c.id == name) & (s.edit.c.state == before.value)
    c.execute(update(s.edit).where(here).values(state=after.value, **values))


def _drop(c: Connection, name: str) -> None:
    c.execute(delete(s.edit_pending).where(s.edit_pending.c.request == name))


def _request(row: Row[Any]) -> EditRequest:
    return EditRequest(
        id=row.id,
        state=EditState(row.state),
        reason=row.reason,
        idempotency_key=row.idempotency_key,
        facts=tuple(json.loads(row.facts)),
        texts=row.texts,
        artefact=row.artefact,
        output=row.output,
        editor=row.editor,
        config=json.loads(row.config),
        weights=row.weights,
        submitted_at=time_of(row.submitted_at),
        edited_at=time_or_none(row.edited_at),
        made=row.made,
        weights_after=row.weights_after,
        measured=Measured.from_json(json.loads(row.measured)) if row.measured else None,
        failure=row.failure,
    )
