"""The events are a frozen vocabulary: what was ever written stays readable, and what is not known is not guessed at.

`vocabulary.json` holds one event of each kind, with its fields and the hash of its bytes as they were first written.
It grows only: a kind or a field that is in it and not in the program, or reads or hashes otherwise, is a broken
promise to every log there is.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unlearn.ledger.test_ledger import AT, submission
from tests.unlearn.ledger.where import Where, database_of
from unlearn.errors import DamageError
from unlearn.ledger import chain, events, merkle
from unlearn.ledger.fold import fold

WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("vocabulary.json").read_text())
TIME = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TYPES = {
    "text": lambda value: type(value) is str,
    "digest": lambda value: type(value) is str and len(bytes.fromhex(value)) == 32,
    "number": lambda value: type(value) is int,
    "time or null": lambda value: value is None or datetime.fromisoformat(value).tzinfo is not None,
    "list of digests": lambda value: all(TYPES["digest"](item) for item in value),
    "list of numbers": lambda value: all(type(item) is int for item in value),
}


def test_every_kind_is_written_down() -> None:
    """A new kind of event, or a new field, is added to the file; nothing is taken away."""
    assert {kind: item["fields"] for kind, item in WRITTEN.items()} == events.FIELDS


@pytest.mark.parametrize("kind", WRITTEN)
def test_events_stay_what_they_are(kind: str) -> None:
    body, known = WRITTEN[kind]["body"].encode(), WRITTEN[kind]["fields"]
    assert merkle.leaf_hash(body).hex() == WRITTEN[kind]["hash"]
    event = events.decode(body)
    assert (event.kind, event.at) == (kind, TIME)
    assert event.fields.keys() == known.keys()
    assert all(TYPES[known[name]](value) for name, value in event.fields.items())
    assert event.request == event.fields.get("request")
    assert events.encode(kind, TIME, **event.fields) == body


def test_only_the_fields_of_a_kind_are_written() -> None:
    for kind, fields in (("forgotten", {}), ("forgotten", {"request": "r", "who": "x"}), ("no such kind", {"a": 1})):
        with pytest.raises(ValueError, match="has the fields"):
            events.encode(kind, TIME, **fields)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 10**5),
        b'{"kind":"forgotten","version":1,"request":"r"}',
        b'{"kind":"forgotten","version":1,"at":"yesterday","request":"r"}',
        b'{"kind":"forgotten","at":"2025-01-02T03:04:05+00:00","request":"r"}',
        b'{"kind":"forgotten","version":1,"at":"2025-01-02T03:04:05+00:00"}',
        b'{"kind":7,"version":1,"at":"2025-01-02T03:04:05+00:00"}',
    ],
)
def test_what_is_no_event_is_said_to_be_damaged(body: bytes) -> None:
    with pytest.raises(DamageError, match="an entry of the log"):
        events.decode(body)


def test_unknown_kinds_are_verified_and_not_interpreted(where: Where) -> None:
    """As a newer version may leave behind: hashes and proofs stand, and nobody says what the log comes to."""
    place = where.new()
    ledger = where.ledger(place)
    ledger.submit([submission(0)])
    body = b'{"at":"2031-01-02T03:04:05+00:00","kind":"moved to the moon","version":9,"request":"req-0","how":["fast"]}'
    with database_of(ledger).write() as c:
        chain.append_all(c, [chain.Draft(body, "req-0")])
    ledger.extend("req-0", AT)
    entries = list(ledger.entries())
    leaves = [merkle.leaf_hash(entry.body) for entry in entries]
    head = ledger.head()
    assert head.root == merkle.root(leaves)
    assert entries[-2].body == body
    event = entries[-2].event
    assert (event.kind, event.request, event.fields["how"]) == ("moved to the moon", "req-0", ["fast"])
    merkle.check_inclusion(leaves[-2], head.size - 2, head.size, ledger.inclusion(head.size - 2, head.size), head.root)
    assert fold(entries[:-2]).requests
    with pytest.raises(DamageError, match=r"is of the kind 'moved to the moon', which this version does not know"):
        fold(entries)
