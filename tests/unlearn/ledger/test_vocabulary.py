"""The events are a frozen vocabulary: what was ever written stays readable, and what is not known is not guessed at.

`vocabulary.json` holds one event of each kind, with its fields and the hash of its bytes as they were first written,
and, of a kind that got fields later, one with all of them. It grows only: a kind or a field that is in it and not in
the program, or reads or hashes otherwise, is a broken promise to every log there is. So that nothing can be taken from
both at once, what is frozen stands here a second time, as digests.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shards.digest import digest_json
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


FROZEN = {
    "created": "d1e140bd0a6a8fd9a61bfd6e499cb2b3c2feed388c8e101138b4536c22f9b0ba",
    "migrated": "ee9462443b1ec5a3e0e5c594114909bd6cc5a378c0e800074fa3c28f63e99b55",
    "key-added": "604d797798a66dd7711768606f53c8fac9684e689b7368e7abb7684f16ab2396",
    "ingested": "66a0aee85035cb05d4c347db5d00ab76e311ec6aa3f9466e2ba8915dc66b7539",
    "built": "0b8e050a4285c84f1d5d277a3a27187a8732754c664bf85605fa726c0c8d3f97",
    "dropped": "c01d8f875db0635d435385b999ae37af05b10ed5eaf91180db59f447c8d3a1c8",
    "submitted": "9bd986fd038ae2eb4efee9d8e767bfd2de5b9197a6066c69c3f67c9b60d1b410",
    "extended": "e59986d4df30a9319efeec9228ff0267030ea5553fd01342934e96330f3e18ea",
    "failed": "a553b207ec45090ad95f66762b75714cb7ed05625953e1fd73de496eaec99c25",
    "withdrawn": "5996d80a497ce106ea394f54e30ea9ddac52c7ff8cd9748091a43d559b2ae435",
    "forgotten": "3e2c499c9fa38fe63ee15f53e1377a825c8e22831f599237dbbdd8d2e6a86338",
    "recovered": "74aa8b166c3468a40d2eeb7b1886edf31b563907bb867378927129c376239e7b",
    "receipted": "0e981c88e76d052387cb5d3478852230f90fb601422af2d93d1b30c473be48b7",
    "artefact-registered": "bdbc600db11cffbfa6902dbff6cff933124c9faa3c392db09ed0f50be7cdcce6",
    "artefact-tainted": "f82299359371cefe9d5bcbb04b92ec6dc8c281e55113c73b70e3c14a78d98ec6",
    "artefact-retired": "86a6ad32772f815df63d03ba3e426674ec3755dee6dab2e30f8284e605417a36",
    "resealed": "cd4dbcc57d6f08c55f009c0e70178827b4a9dfd22adddc52b3ece1927d394cc6",
    "approximated": "70a33b87c0fc39b63d6f66eafd8b5259908af4f9b1c6504dd355851814d8d498",
    "approximation-dropped": "0d13784573162db5d246d7e2f533feecf1402562d4a0430861dd90e59b2a63dd",
    "approximation-refuted": "76e8dc582e6be0c26965be73a857cbd8bc1b54dfc82c96a0d7632e27c3cad8ef",
    "fact-submitted": "2c80913f056a36ac8770847bd1416786cfa0e798ce862543b0b8f0b0b997c138",
    "edited": "824ec021f4425945f6de0d4876ae16a11c7549b35ab407ee0562a37fdab5ef7e",
    "not-edited": "769386caafd685267b63ef97135ff7bff2c310306ff7cb6cdfdc6ac30f17f63c",
}
"""Digest of each kind's fields, event and hash, as they were first written. Lines are added, and never changed."""

FROZEN_LATER = {
    "submitted.escalate_by": "time or null",
    "submitted.method": "text",
    "submitted.method_digest": "digest",
    "submitted.n_records": "number",
    "submitted.said": "digest",
    "submitted.sealed": "digest",
    "ingested.buried": "list of numbers",
    "ingested.tombstones": "list of digests",
    "migrated.buried": "list of numbers",
    "migrated.tombstones": "list of digests",
    "withdrawn.approximation": "digest",
    "withdrawn.not_applied": "text",
    "withdrawn.buried": "list of numbers",
    "withdrawn.tombstones": "list of digests",
}
"""Fields that kinds got later, and what they are. Likewise."""


def unkept(written: dict[str, Any]) -> list[str]:
    """What is frozen and is not, or not any more as it was, in a vocabulary."""
    first = {
        kind: digest_json("kind", {name: item[name] for name in ("fields", "body", "hash")})
        for kind, item in written.items()
    }
    later = {f"{kind}.{name}": what for kind, item in written.items() for name, what in item.get("later", {}).items()}
    frozen = FROZEN | FROZEN_LATER
    return sorted(name for name in frozen if (first | later).get(name) != frozen[name])


def test_what_is_frozen_is_there() -> None:
    assert unkept(WRITTEN) == []


@pytest.mark.parametrize("kind", FROZEN)
def test_a_kind_that_is_removed_or_changed_is_noticed(kind: str) -> None:
    """Also if it goes from the program and from the file at once."""
    assert kind in unkept({name: item for name, item in WRITTEN.items() if name != kind})
    fields = dict(list(WRITTEN[kind]["fields"].items())[1:])
    assert kind in unkept({**WRITTEN, kind: {**WRITTEN[kind], "fields": fields}})


def test_what_is_new_is_frozen_too() -> None:
    assert WRITTEN.keys() == FROZEN.keys()
    assert {f"{kind}.{name}" for kind, item in WRITTEN.items() for name in item.get("later", {})} == FROZEN_LATER.keys()


def test_every_kind_is_written_down() -> None:
    """A new kind of event, or a new field, is added to the file; nothing is taken away."""
    assert {kind: item["fields"] for kind, item in WRITTEN.items()} == events.FIELDS
    assert {kind: item["later"] for kind, item in WRITTEN.items() if "later" in item} == events.OPTIONAL


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


@pytest.mark.parametrize("kind", events.OPTIONAL)
def test_events_with_what_came_later_stay_what_they_are(kind: str) -> None:
    body, known = WRITTEN[kind]["with_later"].encode(), WRITTEN[kind]["fields"] | WRITTEN[kind]["later"]
    assert merkle.leaf_hash(body).hex() == WRITTEN[kind]["hash_with_later"]
    event = events.decode(body)
    assert event.fields.keys() == known.keys()
    assert all(TYPES[known[name]](value) for name, value in event.fields.items())
    assert events.encode(kind, TIME, **event.fields) == body


def test_a_field_that_came_later_may_be_missing_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(events.OPTIONAL, "forgotten", {"sealed": "text", "by": "number"})
    for fields in ({}, {"sealed": "x"}, {"by": 1}, {"sealed": "x", "by": 1}):
        body = events.encode("forgotten", TIME, request="r", **fields)
        assert events.decode(body).fields == {"request": "r", **fields}
    for wrong in ({"sealed": "x"}, {"request": "r", "who": "x"}):
        with pytest.raises(ValueError, match=r"has the fields \['request'\] and may have \['by', 'sealed'\], not"):
            events.encode("forgotten", TIME, **wrong)
    with pytest.raises(DamageError, match="lacks fields"):
        events.decode(b'{"kind":"forgotten","version":1,"at":"2025-01-02T03:04:05+00:00","sealed":"x"}')


def test_only_the_fields_of_a_kind_are_written() -> None:
    for kind, fields in (("forgotten", {}), ("forgotten", {"request": "r", "who": "x"}), ("no such kind", {})):
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
