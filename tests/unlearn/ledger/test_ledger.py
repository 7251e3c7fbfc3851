"""The ledger, in both databases: whole transactions, each with its event; a generation that tells of every change."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from tests.unlearn.helpers import ROOT
from tests.unlearn.ledger.where import (
    DESCRIPTION,
    WORKSPACE,
    Stop,
    Where,
    database_of,
    engine_of,
    events,
    rows_of,
    stopping_at,
    stopping_before_commit,
    tables,
)
from unlearn.errors import DamageError, IdempotencyError, StorageError, UnlearnError, WorkspaceError
from unlearn.facts import Asked, EditRequest, EditState, Measured
from unlearn.ledger import (
    Approximation,
    Artefact,
    BuiltStep,
    Database,
    Edited,
    EditSubmission,
    Ledger,
    Location,
    NewRecord,
    NewSlice,
    Submission,
    Unlearnt,
    Withdrawal,
    chain,
)
from unlearn.ledger import schema as s
from unlearn.ledger.migrations import MIGRATIONS, Migration, applied, migrate
from unlearn.request import TRANSITIONS, Request, RequestState, check_transition

AT = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)


def token(number: int) -> bytes:
    """Sixteen bytes that occur nowhere else."""
    return b"token-%010d" % number


def commitment(number: int) -> bytes:
    """Thirty-two bytes that occur nowhere else, spread over the tree."""
    return bytes([number * 37 % 256]) + b"commitment-%020d" % number


def step(shard: int, position: int, key: str = "") -> BuiltStep:
    """A built step; its key says where it is."""
    return BuiltStep(shard, position, key or f"key {shard} {position}", "env", "state", 5, 50, 0.25)


def request(number: int = 0, **changes: Any) -> Request:
    """A submitted request that touched shard 0 from position 1 on."""
    fields: dict[str, Any] = {
        "id": f"req-{number}",
        "state": RequestState.SUBMITTED,
        "reason": "because",
        "idempotency_key": None,
        "digest": f"digest {number}",
        "n_subjects": 1,
        "n_records": 1,
        "shards": {0: 1},
        "submitted_at": AT,
        "deadline": AT + timedelta(days=30),
    }
    return Request(**{**fields, **changes})


def submission(number: int = 0, epoch: str = "", fingerprint: str = "print", **changes: Any) -> Submission:
    """A request as it is accepted."""
    return Submission(request(number, shards={}, **changes), fingerprint, epoch, b"sealed %d" % number)


def withdrawal(number: int, rows: list[int], **changes: Any) -> Withdrawal:
    """What removes some of the records, and a subject."""
    gone = tuple(Location(token(row), row % 2, row // 2 % 2) for row in rows)
    shards = {shard: min(item.position for item in gone if item.shard == shard) for shard in {g.shard for g in gone}}
    found = request(number, **{"n_records": len(rows), "shards": shards, **changes})
    dead = {token(row): "record" for row in rows} | {token(1000 + number): "subject"}
    return Withdrawal(found, f"print {number}", gone, dead)


def unlearnt(shard: int = 0, position: int = 1, key: str = "made") -> Unlearnt:
    """A state that a method made."""
    made = Approximation(shard, position, key, "env", "state", 4, "key 0 1", "scrub", {"epochs": 5}, 1)
    return Unlearnt(made, "title", "citation", "statement")


def edit(number: int = 0, **changes: Any) -> EditSubmission:
    """A request to edit, as it is accepted."""
    fields: dict[str, Any] = {
        "id": f"edit-{number}",
        "state": EditState.SUBMITTED,
        "reason": "because",
        "idempotency_key": None,
        "facts": ("1" * 64, "2" * 64),
        "texts": "3" * 64,
        "artefact": "art-0",
        "output": "there",
        "editor": "rome",
        "config": {"layer": 1},
        "weights": "4" * 64,
        "submitted_at": AT,
        **changes,
    }
    return EditSubmission(EditRequest(**fields), "print", "epoch", b"sealed")


def edited() -> Edited:
    """What an edit made."""
    return Edited(_artefact(2), "5" * 64, Measured(Asked(2, 2), Asked(3, 4), Asked(7, 8)))


def records(count: int = 8) -> list[NewRecord]:
    """Records in two shards and two positions."""
    return [NewRecord(token(n), n % 2, n // 2 % 2, commitment(n)) for n in range(count)]


def located(count: int = 8) -> list[Location]:
    return [Location(item.token, item.shard, item.position) for item in records(count)]


def slices(shards: int = 2, positions: int = 2) -> list[NewSlice]:
    """One slice for each shard and position."""
    return [
        NewSlice(shard, position, f"p{position}-v0", 2, f"digest {shard} {position}")
        for shard, position in itertools.product(range(shards), range(positions))
    ]


@pytest.fixture
def ledger(where: Where) -> Ledger:
    """One batch of eight records, all four steps built, a key."""
    made = where.ledger()
    made.add_key("key 0", "")
    made.add_batch({"task": 1}, slices(), records(), [])
    for shard, position in itertools.product(range(2), range(2)):
        made.record_step(step(shard, position))
    return made


# Transactions


def _artefact(number: int) -> Artefact:
    return Artefact(f"art-{number}", "student", "distilled model", "s3://somewhere", AT)


def _become_writer(ledger: Ledger) -> None:
    with ledger.writing_as("me", 0):
        pass


WRITES: dict[str, tuple[Callable[[Ledger], object], list[str]]] = {
    "begin_operation": (lambda ledger: ledger.begin_operation("train"), []),
    "end_operation": (lambda ledger: ledger.end_operation(), []),
    "writing_as": (_become_writer, []),
    "add_batch": (
        lambda ledger: ledger.add_batch(
            {"task": 2}, [NewSlice(0, 2, "f", 1, "d")], [NewRecord(token(50), 0, 2, commitment(50))], [token(1)]
        ),
        ["ingested"],
    ),
    "record_step": (lambda ledger: ledger.record_step(step(0, 1, "another key")), ["built"]),
    "drop_steps": (lambda ledger: ledger.drop_steps([step(0, 1), step(0, 0)]), ["dropped", "dropped"]),
    "publish": (lambda ledger: ledger.publish(3, lambda published, asked: published + asked), []),
    "record_environment": (lambda ledger: ledger.record_environment("digest", {"a": 1}), []),
    "submit": (
        lambda ledger: ledger.submit([submission(20), submission(21, idempotency_key="new")]),
        ["submitted", "submitted"],
    ),
    "change_epoch": (lambda ledger: ledger.change_epoch("another"), []),
    "reseal": (lambda ledger: ledger.reseal({"req-8": ("epoch", b"other")}), ["resealed"]),
    "fail": (lambda ledger: ledger.fail("req-8", "unknown id"), ["failed"]),
    "extend": (lambda ledger: ledger.extend("req-8", AT + timedelta(days=90)), ["extended"]),
    "withdraw": (
        lambda ledger: ledger.withdraw([withdrawal(0, [2]), withdrawal(8, [4])]),
        ["submitted", "artefact-tainted", "withdrawn", "artefact-tainted", "withdrawn"],
    ),
    "drop_approximations": (lambda ledger: ledger.drop_approximations(["made"]), ["approximation-dropped"]),
    "refute_approximation": (lambda ledger: ledger.refute_approximation("made", "a" * 64), ["approximation-refuted"]),
    "replace_slices": (
        lambda ledger: ledger.replace_slices({(0, 0): NewSlice(0, 0, "p0-v1", 1, "new"), (1, 0): None}),
        [],
    ),
    "finish_forget": (lambda ledger: ledger.finish_forget(), ["forgotten"]),
    "finish_recover": (lambda ledger: ledger.finish_recover([0, 1]), ["recovered"]),
    "record_receipts": (
        lambda ledger: ledger.record_receipts([("req-7", "forgotten", "1" * 64), ("req-7", "recovered", "2" * 64)]),
        ["receipted", "receipted"],
    ),
    "submit_edit": (lambda ledger: ledger.submit_edit(edit(1, idempotency_key="new")), ["fact-submitted"]),
    "finish_edit": (
        lambda ledger: ledger.finish_edit("edit-0", edited()),
        ["artefact-registered", "artefact-tainted", "artefact-tainted", "edited"],
    ),
    "fail_edit": (lambda ledger: ledger.fail_edit("edit-0", "unreliable"), ["not-edited"]),
    "add_key": (lambda ledger: ledger.add_key("key 1", "{}"), ["key-added"]),
    "add_artefact": (lambda ledger: ledger.add_artefact(_artefact(1), {0: 1, 1: 1}), ["artefact-registered"]),
    "retire_artefact": (lambda ledger: ledger.retire_artefact("art-0"), ["artefact-retired"]),
}
"""Every method that writes, and the events that say what it changed. Those without one change nothing that is told:
what is under way and who is at it, names of files and keys, ciphertext, descriptions of digests."""

READS = {
    *(
        "open",
        "create",
        "close",
        "name",
        "at_one_moment",
        "generation",
        "operation",
        "task",
        "batches",
        "locations",
        "commitments_of",
        "present",
    ),
    *(
        "tombstones",
        "tombstones_under_way",
        "forgotten_by",
        "count",
        "record_root",
        "tombstone_root",
        "commitments",
        "slices",
        "steps",
        "served",
        "approximations",
        "hit_by_approximations",
        "removals",
        "shards_under_way",
        "named",
    ),
    *("edit", "edits", "edit_by_key", "edits_pending", "edit_evidence"),
    *("environments", "epoch", "accepted", "pending", "has_pending", "erasures", "is_forgetting", "request"),
    *(
        "request_by_key",
        "requests",
        "count_requests",
        "open_requests",
        "late_requests",
        "waiting",
        "receipts_due",
        "receipts_issued",
        "evidence",
    ),
    *(
        "receipt_digests",
        "check_writer",
        "signing_keys",
        "published",
        "hit_under_way",
        "artefacts",
        "artefact_sources",
        "migrations",
        "sealed_digests",
        "said_digests",
        "is_as_accepted",
        "head",
        "root_at",
        "consistency",
        "inclusion",
        "entries",
    ),
}


def prepare(ledger: Ledger, name: str) -> None:
    """Bring about what a write acts on."""
    ledger.add_artefact(_artefact(0), {0: 1, 1: 1})
    ledger.submit([submission(8)])
    ledger.submit_edit(edit())
    ledger.begin_operation("ingest")
    if name not in {"withdraw", "retire_artefact"}:
        ledger.withdraw([withdrawal(7, [1])])
    if name in {"drop_approximations", "refute_approximation"}:
        ledger.withdraw([], unlearnt())
    if name in {"finish_forget", "finish_recover", "record_receipts"}:
        ledger.replace_slices({(1, 0): None})
    if name in {"finish_recover", "record_receipts"}:
        ledger.finish_forget()
    if name == "record_receipts":
        ledger.finish_recover([0, 1])


@pytest.mark.parametrize("name", WRITES)
def test_a_write_happens_whole_or_not_at_all(ledger: Ledger, name: str) -> None:
    """Cut off before each of its statements in turn, and before its end, then let through."""
    prepare(ledger, name)
    before = tables(ledger)
    write, _ = WRITES[name]
    for number in range(1, 1000):
        with stopping_at(ledger, number) as seen:
            try:
                write(ledger)
            except Stop:
                assert tables(ledger) == before
                continue
        break
    assert len(seen) == number - 1
    assert number > 2, "it had nothing to be cut off at"
    assert tables(ledger) != before


@pytest.mark.parametrize("name", WRITES)
def test_every_change_comes_with_its_event(ledger: Ledger, name: str) -> None:
    prepare(ledger, name)
    before, said = tables(ledger), events(ledger)
    write, kinds = WRITES[name]
    with stopping_before_commit(ledger), pytest.raises(Stop):
        write(ledger)
    assert tables(ledger) == before
    write(ledger)
    after = tables(ledger)
    assert events(ledger) == said + kinds
    told = {"meta", "event", "tree"} if kinds else {"meta", "slice", "erasure", "environment"}
    changed = {table for table in after if after[table] != before[table]}
    assert changed
    assert bool(changed - told) == bool(kinds), changed


def approximately(ledger: Ledger) -> None:
    ledger.withdraw([withdrawal(1, [2], method="scrub", method_config={"epochs": 5}, escalate_by=AT)], unlearnt())


def test_what_a_method_made_is_served_whole_or_not_at_all(ledger: Ledger) -> None:
    """With the withdrawal of what it was made from, in one transaction; and it goes when an exact step comes."""
    ledger.begin_operation("unlearn")
    before = tables(ledger)
    for number in range(1, 1000):
        with stopping_at(ledger, number) as seen:
            try:
                approximately(ledger)
            except Stop:
                assert tables(ledger) == before
                continue
        break
    assert len(seen) == number - 1 > 10
    assert events(ledger)[-3:] == ["submitted", "withdrawn", "approximated"]
    assert ledger.operation() == ""
    found = ledger.request("req-1")
    assert found is not None
    assert (found.is_approximate, found.method_config, found.escalate_by) == (True, {"epochs": 5}, AT)
    assert [item.key for item in ledger.served()[1]] == ["made", "key 1 1"]
    assert ledger.named(0) == {"made", "key 0 0"}
    generation = ledger.generation()
    ledger.record_step(step(0, 0, "again 0 0"))
    assert [item.key for item in ledger.served()[1]] == ["made", "key 1 1"], "the chain is not complete yet"
    ledger.record_step(step(0, 1, "again 0 1"))
    assert [item.key for item in ledger.served()[1]] == ["again 0 1", "key 1 1"]
    assert events(ledger)[-2:] == ["approximation-dropped", "built"]
    assert ledger.generation() == generation + 2
    assert ledger.approximations() == {}


def test_whoever_hits_what_a_method_made_withdraws_it(ledger: Ledger) -> None:
    approximately(ledger)
    ledger.withdraw([withdrawal(2, [1])])
    assert list(ledger.approximations()) == [0], "that hits another shard"
    ledger.withdraw([withdrawal(3, [4], method="scrub", method_config={})], not_applied="failed")
    assert ledger.approximations() == {}
    found = ledger.request("req-3")
    assert found is not None
    assert not found.is_approximate
    assert "failed" in found.not_applied


def test_every_method_is_tried_or_only_reads() -> None:
    """A new method has to be added to one of the two."""
    public = {name for name in vars(Ledger) if not name.startswith("_")}
    assert public - READS == WRITES.keys()


def test_reads_change_nothing(ledger: Ledger) -> None:
    prepare(ledger, "record_receipts")
    before = tables(ledger)
    arguments: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("locations", "tombstones", "forgotten_by", "hit_under_way", "commitments_of"), ([token(1)],)),
        "hit_by_approximations": ([token(1)],),
        **dict.fromkeys(("request", "request_by_key", "receipt_digests"), ("req-7",)),
        "evidence": ("req-7",),
        "accepted": (["req-7"],),
        "named": (0,),
        "present": (0, 0),
        "root_at": (3,),
        "consistency": (1, 3),
        "inclusion": (1, 3),
        "is_as_accepted": (submission(8),),
        **dict.fromkeys(("edit", "edit_evidence"), ("edit-0",)),
        "edit_by_key": ("key",),
    }
    for name in READS - {"open", "create", "close", "name", "at_one_moment"}:
        found = getattr(ledger, name)(*arguments.get(name, ()))
        if name in {"commitments", "entries"}:
            assert list(found)
        assert tables(ledger) == before, name


# The log


def test_the_log_may_not_be_changed(where: Where, ledger: Ledger) -> None:
    """Against mistakes: statements that change or delete what was written are refused."""
    before = tables(ledger)
    column = {"event": "body", "tree": "hash"}
    statements = [f"UPDATE {table} SET {name} = {name}" for table, name in column.items()]
    statements += [f"DELETE FROM {table}" for table in column]
    if where.server is not None:
        statements += [f"TRUNCATE {table}" for table in column]
    for statement in statements:
        with (
            pytest.raises((DatabaseError, UnlearnError), match="is append-only"),
            database_of(ledger).write() as c,
        ):
            c.execute(text(statement))
    assert tables(ledger) == before


def test_a_missing_entry_is_noticed(where: Where, ledger: Ledger) -> None:
    drop = "DROP TRIGGER event_no_delete" if where.server is None else "ALTER TABLE event DISABLE TRIGGER USER"
    with database_of(ledger).write() as c:
        for statement in (drop, "DELETE FROM event WHERE number = 3"):
            c.exec_driver_sql(statement)
    with pytest.raises(DamageError, match="entry 3 is missing"):
        list(ledger.entries())
    assert len(list(ledger.entries(4))) == ledger.head().size - 4


def test_a_missing_node_is_noticed(where: Where, ledger: Ledger) -> None:
    drop = "DROP TRIGGER tree_no_delete" if where.server is None else "ALTER TABLE tree DISABLE TRIGGER USER"
    before = tables(ledger)
    with database_of(ledger).write() as c:
        for statement in (drop, "DELETE FROM tree WHERE level = 3"):
            c.exec_driver_sql(statement)
    for call in (ledger.head, lambda: ledger.add_key("key 1", "")):
        with pytest.raises(DamageError, match="a node of its tree is missing"):
            call()
    assert tables(ledger)["event"] == before["event"]


# Requests


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RequestState, RequestState)))
def test_the_transition_table(before: RequestState, after: RequestState) -> None:
    """Submitted, forgotten, recovered, receipted: each to the next only; or submitted, failed."""
    order = [RequestState.SUBMITTED, RequestState.FORGOTTEN, RequestState.RECOVERED, RequestState.RECEIPTED]
    assert {*order, RequestState.FAILED} == set(RequestState) == TRANSITIONS.keys()
    allowed = {*itertools.pairwise(order), (RequestState.SUBMITTED, RequestState.FAILED)}
    if (before, after) in allowed:
        check_transition(before, after)
    else:
        with pytest.raises(UnlearnError, match=f"cannot move from {before.value} to {after.value}"):
            check_transition(before, after)
    assert before.is_terminal == (before in {RequestState.RECEIPTED, RequestState.FAILED})


def test_requests_move_along_the_table_only(ledger: Ledger) -> None:
    ledger.withdraw([withdrawal(0, [2])])
    assert ledger.finish_recover([0, 1]) == []  # not forgotten yet
    ledger.finish_forget()  # its slice is not rewritten
    assert ledger.finish_recover([0, 1]) == []
    ledger.replace_slices({(0, 1): None})
    ledger.finish_forget()
    forgotten = ledger.request("req-0")
    assert forgotten is not None
    ledger.finish_forget()  # again, as after a crash
    assert ledger.request("req-0") == forgotten
    assert ledger.finish_recover([1]) == []  # its shard is not complete
    assert ledger.finish_recover([0]) == ["req-0"]
    recovered = ledger.request("req-0")
    assert recovered is not None
    assert ledger.finish_recover([0]) == []
    ledger.finish_forget()
    assert ledger.request("req-0") == recovered
    assert recovered == replace(forgotten, state=RequestState.RECOVERED, recovered_at=recovered.recovered_at)
    times = [recovered.withdrawn_at, recovered.forgotten_at, recovered.recovered_at]
    assert all(time is not None and time.utcoffset() == timedelta(0) for time in times)
    assert ledger.receipts_due() == [("req-0", "forgotten"), ("req-0", "recovered")]
    ledger.record_receipts([("req-0", "forgotten", "a" * 64)])
    assert ledger.receipts_due() == [("req-0", "recovered")]
    ledger.record_receipts([("req-0", "recovered", "b" * 64)])
    assert ledger.receipts_due() == []
    assert ledger.receipt_digests("req-0") == {"forgotten": "a" * 64, "recovered": "b" * 64}
    found = ledger.request("req-0")
    assert found is not None
    assert found.state is RequestState.RECEIPTED
    with pytest.raises(DamageError, match="lacks the evidence of req-0"):
        ledger.evidence("req-0")
    expected = ["submitted", "withdrawn", "forgotten", "recovered", "receipted", "receipted"]
    assert [entry.event.kind for entry in ledger.entries() if entry.event.request == "req-0"] == expected


def test_submitted_requests_wait_in_order(ledger: Ledger) -> None:
    ledger.change_epoch("one")
    assert not ledger.has_pending()
    first = [submission(n, "one", f"print {n}", idempotency_key=f"k{n}") for n in (5, 3, 4)]
    assert ledger.submit([]) == []
    assert ledger.submit(first) == [item.request for item in first]
    assert ledger.pending() == first
    assert ledger.accepted(["req-3", "req-9", "req-5"]) == {"req-3", "req-5"}
    ledger.change_epoch("two")
    said = ledger.submit(
        [
            submission(6, "one"),  # under a key that is over
            submission(7, "one", "print 3", idempotency_key="k3"),  # a repetition needs none
            submission(8, "two", "print 5", idempotency_key="k3"),  # the key, for something else
            submission(9, "two", "print 9", idempotency_key="k9"),
            submission(10, "two", "print 9", idempotency_key="k9"),  # both at once
            submission(11, "two", "print 11", idempotency_key="k9"),
            first[1],  # one that does not know that it was accepted
        ]
    )
    assert said[0] is None
    assert said[1] == first[1].request
    assert isinstance(said[2], IdempotencyError)
    assert said[3] == said[4] == submission(9, "two", idempotency_key="k9").request
    assert isinstance(said[5], IdempotencyError)
    assert said[6] == first[1].request
    assert [item.request.id for item in ledger.pending()] == ["req-5", "req-3", "req-4", "req-9"]
    ledger.reseal({"req-3": ("two", b"again")})
    assert [(item.epoch, item.sealed) for item in ledger.pending()][1] == ("two", b"again")
    ledger.fail("req-5", "unknown id")
    ledger.withdraw([withdrawal(4, [2])])
    assert [item.request.id for item in ledger.pending()] == ["req-3", "req-9"]
    failed = ledger.request("req-5")
    assert failed is not None
    assert (failed.state, failed.failure) == (RequestState.FAILED, "names a subject or record that is not here")
    assert [item.id for item in ledger.open_requests()] == ["req-5", "req-3", "req-4", "req-9"]
    assert events(ledger).count("submitted") == 4


def test_what_one_submitter_alone_may_know_is_not_told_to_another(ledger: Ledger) -> None:
    mine = submission(1, idempotency_key="k", opening="secret")
    same = submission(2, idempotency_key="k", opening="other")
    first, second = ledger.submit([mine, same])
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.id, first.opening) == ("req-1", "secret")
    assert (second.id, second.opening) == ("req-1", None)
    assert b"secret" not in repr(tables(ledger)).encode()


def test_requests_round_trip(ledger: Ledger) -> None:
    odd = "ünïcode\n'; DROP TABLE request; -- %s ?"
    items = [
        withdrawal(1, [], reason=odd, idempotency_key="k", shards={3: 0, 0: 7, 11: 2}),
        withdrawal(2, [], submitted_at=AT + timedelta(microseconds=1), reason="", n_subjects=0, deadline=None),
        withdrawal(3, [], submitted_at=AT.replace(microsecond=0) - timedelta(days=9), shards={0: 0}),
    ]
    ledger.withdraw(items)
    found = ledger.requests()
    assert [replace(item, withdrawn_at=None) for item in found] == [item.request for item in items]
    assert [ledger.request(item.id) for item in found] == found
    assert ledger.request("req-9") is None
    assert found[1].submitted_at.microsecond == 123457
    assert ledger.request_by_key("k") == (found[0], "print 1", items[0].request.deadline)
    assert ledger.request_by_key("K") is None
    counted = ledger.count_requests()
    assert counted == {**dict.fromkeys(RequestState, 0), RequestState.SUBMITTED: 3}


def test_idempotency_keys_are_unique(ledger: Ledger) -> None:
    ledger.withdraw([withdrawal(0, [2], idempotency_key="k")])
    before = tables(ledger)
    with pytest.raises(IntegrityError):
        ledger.withdraw([withdrawal(1, [0], idempotency_key="k")])
    assert tables(ledger) == before


def test_withdrawing_swaps_the_served_state(ledger: Ledger) -> None:
    generation = ledger.generation()
    ledger.withdraw([withdrawal(1, [2])])
    assert ledger.served() == (generation + 1, [step(0, 0), step(1, 1)])
    assert ledger.steps().keys() == {(0, 0), (1, 0), (1, 1)}
    assert ledger.locations([token(2)]) == []
    assert ledger.tombstones([token(2), token(3), token(1001)]) == {token(2), token(1001)}
    assert ledger.tombstones_under_way() == {token(2), token(1001)}
    assert [(item.shard, item.position, item.file) for item in ledger.erasures()] == [(0, 1, "p1-v0")]
    assert ledger.is_forgetting()
    ledger.replace_slices({(0, 1): NewSlice(0, 1, "p1-v1", 1, "new")})
    assert ledger.erasures() == []
    assert ledger.is_forgetting()
    ledger.finish_forget()
    assert not ledger.is_forgetting()
    assert ledger.tombstones_under_way() == set()
    assert ledger.tombstones([token(2)]) == {token(2)}
    assert ledger.slices(0)[0, 1] == NewSlice(0, 1, "p1-v1", 1, "new")
    assert ledger.slices().keys() == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert ledger.count() == ledger.record_root()[1] == 7


def test_a_record_that_only_the_files_know_is_noticed(ledger: Ledger) -> None:
    before = tables(ledger)
    with pytest.raises(DamageError, match="1 of the records of request req-1 are in the record files but not in the"):
        ledger.withdraw([withdrawal(1, [2, 99])])
    assert tables(ledger) == before


def test_a_slice_that_two_requests_touch_is_rewritten_once(ledger: Ledger) -> None:
    ledger.withdraw([withdrawal(0, [2])])
    ledger.withdraw([withdrawal(1, [6])])
    assert [(item.shard, item.position) for item in ledger.erasures()] == [(0, 1)]
    ledger.replace_slices({(0, 1): None})
    ledger.finish_forget()
    assert (0, 1) not in ledger.slices()
    assert {item.state for item in ledger.requests()} == {RequestState.FORGOTTEN}


def test_thousands_of_tokens(ledger: Ledger) -> None:
    """More than a statement takes parameters."""
    rows = range(10_000, 13_000)
    many = [NewRecord(token(n), n % 2, n // 2 % 2, commitment(n)) for n in rows]
    ledger.add_batch({"task": 1}, [NewSlice(0, 3, "f", len(many), "d")], many, [])
    found = {(item.token, item.shard, item.position) for item in ledger.locations([item.token for item in many])}
    assert found == {(item.token, item.shard, item.position) for item in many}
    ledger.withdraw([withdrawal(0, list(rows))])
    assert ledger.locations([item.token for item in many]) == []
    assert len(ledger.locations([item.token for item in records()])) == 8
    assert len(ledger.tombstones([item.token for item in many])) == len(many)
    ledger.add_batch({"task": 1}, [], [], [item.token for item in many])
    assert ledger.tombstones([item.token for item in many]) == set()


# Served state and generation


def test_the_last_position_is_served(where: Where) -> None:
    ledger = where.ledger()
    assert ledger.served() == (0, [])
    for shard, position in ((2, 0), (0, 1), (0, 10), (0, 2), (11, 3)):  # no order of their own
        ledger.record_step(step(shard, position))
    assert ledger.served()[1] == [step(0, 10), step(2, 0), step(11, 3)]
    ledger.drop_steps([step(0, 10), step(2, 0)])
    assert ledger.served()[1] == [step(0, 2), step(11, 3)]
    ledger.record_step(step(0, 2, "built again"))
    assert ledger.served()[1][0].key == "built again"


def test_the_generation_grows_exactly_when_the_served_state_may_have_changed(ledger: Ledger) -> None:
    changes: list[tuple[Callable[[], object], int]] = [
        (lambda: ledger.begin_operation("train"), 0),
        (lambda: ledger.record_environment("digest", {}), 0),
        (lambda: ledger.record_step(step(0, 2)), 1),
        (lambda: ledger.end_operation(), 0),
        (lambda: ledger.add_batch({"task": 1}, [], [], []), 0),
        (lambda: ledger.drop_steps([]), 0),
        (lambda: ledger.drop_steps([step(0, 2)]), 1),
        (lambda: ledger.submit([submission(0)]), 0),
        (lambda: ledger.extend("req-0", AT), 0),
        (lambda: ledger.withdraw([withdrawal(0, [2])]), 1),
        (lambda: ledger.replace_slices({(0, 1): None}), 0),
        (lambda: ledger.finish_forget(), 0),
        (lambda: ledger.finish_recover([0, 1]), 0),
        (lambda: ledger.add_key("key 1", ""), 0),
        (lambda: ledger.add_artefact(_artefact(3), {}), 0),
        (lambda: ledger.requests(), 0),
    ]
    for change, growth in changes:
        generation, served = ledger.served()
        assert generation == ledger.generation()
        change()
        assert ledger.generation() == generation + growth
        assert growth or ledger.served()[1] == served


def test_single_values(where: Where) -> None:
    ledger = where.ledger()
    nothing = (ledger.generation(), ledger.operation(), ledger.task(), ledger.batches(), ledger.count(), ledger.epoch())
    assert nothing == (0, "", None, 0, 0, "")
    ledger.begin_operation("ingest")
    assert ledger.operation() == "ingest"
    ledger.add_batch({"ü": [1, None, 0.5]}, slices(), records(), [])
    assert (ledger.operation(), ledger.task(), ledger.batches()) == ("", {"ü": [1, None, 0.5]}, 1)
    assert ledger.count() == 8
    ledger.record_environment("a", {"x": 1})
    ledger.record_environment("a", {"x": 2})  # a digest stands for one description
    assert ledger.environments() == {"a": {"x": 1}}
    ledger.change_epoch("e")
    assert ledger.epoch() == "e"
    ledger.add_key("first", "")
    ledger.add_key("second", "how")
    assert ledger.signing_keys() == [("first", ""), ("second", "how")]


def test_locations_are_found_once_and_in_order(ledger: Ledger) -> None:
    found = ledger.locations([token(5), token(0), token(5), token(99)])
    assert found == sorted(
        (item for item in located() if item.token in {token(0), token(5)}),
        key=lambda item: (item.shard, item.position, item.token),
    )
    assert ledger.present(0, 1) == {item.token for item in located() if (item.shard, item.position) == (0, 1)}
    held = [NewRecord(*item) for item in ledger.commitments()]
    assert held == sorted(records(), key=lambda item: item.commitment)


def test_a_record_is_in_one_place(ledger: Ledger) -> None:
    before = tables(ledger)
    with pytest.raises(IntegrityError):
        ledger.add_batch({"task": 1}, [], [NewRecord(token(2), 1, 1, commitment(99))], [])
    assert tables(ledger) == before


def test_artefacts(ledger: Ledger) -> None:
    ledger.add_artefact(_artefact(0), {0: 0, 1: 1})
    ledger.add_artefact(_artefact(1), {0: 1})
    ledger.add_artefact(_artefact(2), {0: 1})
    assert ledger.retire_artefact("art-2")
    assert not ledger.retire_artefact("art-2")
    assert not ledger.retire_artefact("art-9")
    ledger.withdraw([withdrawal(0, [2])])  # position 1 of shard 0
    found = {item.id: item.tainted_by for item in ledger.artefacts()}
    assert found == {"art-0": (), "art-1": ("req-0",), "art-2": ()}
    assert [item.id for item in ledger.evidence("req-0").artefacts] == ["art-1"]


# Migrations


def _second(c: Connection) -> None:
    c.exec_driver_sql("ALTER TABLE request ADD COLUMN note VARCHAR")
    c.exec_driver_sql("UPDATE request SET note = 'none: 100%'")


SECOND: tuple[Migration, ...] = (*MIGRATIONS, ("9999-second", _second))


def test_a_migration_is_committed_with_its_name_and_its_event(ledger: Ledger) -> None:
    database = database_of(ledger)
    ledger.submit([submission(0)])
    before, said = tables(ledger), events(ledger)
    assert said[0] == "migrated"
    assert applied(database) == [name for name, _ in MIGRATIONS]
    assert migrate(database, AT) == []
    for stop in (stopping_before_commit(ledger), *(stopping_at(ledger, number) for number in range(4, 12))):
        with stop, pytest.raises(Stop):
            migrate(database, AT, SECOND)
        assert (tables(ledger), events(ledger)) == (before, said)
    assert migrate(database, AT, SECOND) == ["9999-second"]
    assert migrate(database, AT, SECOND) == []
    assert applied(database) == [name for name, _ in SECOND]
    entry = list(ledger.entries())[-1]
    assert events(ledger) == [*said, "migrated"]
    assert entry.event.fields == {"name": "9999-second"}
    with database.read() as c:
        assert c.execute(text("SELECT note FROM request")).scalars().all() == ["none: 100%"]


_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from tests.unlearn.ledger.test_ledger import SECOND, _second
from tests.unlearn.ledger.where import reach
from unlearn.ledger.migrations import migrate
def half(c):
    _second(c)
    print("half", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
migrate(reach(*sys.argv[1:]), datetime.now(UTC), (*SECOND[:-1], ("9999-second", half)))
"""


def test_a_migration_that_is_killed_has_not_happened(where: Where) -> None:
    place = where.new()
    ledger = where.ledger(place)
    ledger.submit([submission(0)])
    before = tables(ledger)
    done = subprocess.run([sys.executable, "-c", _KILLED, *place], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("half\n", -signal.SIGKILL)
    again = Ledger(where.open(place))
    assert tables(again) == before
    assert migrate(database_of(again), AT, SECOND) == ["9999-second"]


def test_a_newer_database_is_refused(where: Where) -> None:
    place = where.new()
    database = database_of(where.ledger(place))
    migrate(database, AT, SECOND)
    before = rows_of(database)
    with pytest.raises(WorkspaceError, match=r"written by a newer version.*9999-second.*upgrade to open it"):
        Ledger(where.open(place))
    assert rows_of(database) == before


# What lies on the disk, and what is not there


def test_the_database_is_set_up_to_last(where: Where, ledger: Ledger) -> None:
    with database_of(ledger).read() as c:
        if where.server is None:
            names = ("journal_mode", "synchronous", "secure_delete", "busy_timeout", "temp_store")
            found: list[Any] = [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
            assert found == ["wal", 2, 1, 30_000, 2]
        else:
            names = ("fsync", "synchronous_commit", "lock_timeout", "search_path")
            found = [c.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
            assert found == ["on", "on", "30s", database_of(ledger)._schema]


def test_a_database_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is text " * 100)
    with pytest.raises(DamageError, match="is damaged: file is not a database"):
        Ledger.open(path)


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="refused: unable to open database file"):
        Ledger.create(Database.sqlite(tmp_path / "no such folder" / "ledger.db"), WORKSPACE, DESCRIPTION)
    with pytest.raises(DamageError, match="is missing"):
        Ledger.open(tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()


def test_a_damaged_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(Ledger.create(Database.sqlite(path), WORKSPACE, DESCRIPTION)) as ledger:
        ledger.add_batch({"task": 1}, slices(), records(200), [])
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(DamageError, match=r"is damaged: .*malformed.*Restore it from a copy"):
        Ledger.open(path)


@pytest.mark.parametrize("spelled", ["lower(submitted_at)", "replace(submitted_at, 'T', ' ')", "'2024-03-01'"])
def test_a_time_is_read_as_it_is_written_here_and_in_no_other_spelling(ledger: Ledger, spelled: str) -> None:
    ledger.withdraw([withdrawal(1, [])])
    with database_of(ledger).write() as c:
        c.exec_driver_sql(f"UPDATE request SET submitted_at = {spelled}")
    with pytest.raises(DamageError, match="is not how a time is written here"):
        ledger.requests()


def test_a_database_without_tables(where: Where) -> None:
    place = where.new()
    if where.server is None:
        Path(place[0]).touch()
    with pytest.raises(
        DamageError, match=r"lacks the tables approximation, artefact.*restore it from a copy; nothing was changed"
    ):
        Ledger(where.open(place))
    if where.server is not None:
        assert where.server.execute(f"SELECT 1 FROM pg_namespace WHERE nspname = '{place[1]}'") == []


def test_a_database_that_lacks_a_table(where: Where) -> None:
    place = where.new()
    ledger = where.ledger(place)
    with database_of(ledger).write() as c:
        c.exec_driver_sql("DROP TABLE taint")
    ledger.close()
    with pytest.raises(DamageError, match="lacks the tables taint"):
        Ledger(where.open(place))


def handles_of(path: Path) -> list[str]:
    """What this process has open of a database, its log and its index included."""
    there = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            there.append(str(handle.readlink()))
    return [name for name in there if name.startswith(str(path))]


def test_what_is_refused_is_not_kept_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(Ledger.create(Database.sqlite(path), "0" * 32, "1" * 64)) as ledger:
        with database_of(ledger).write() as c:
            c.exec_driver_sql("DROP TABLE taint")
        assert handles_of(path)
    assert not handles_of(path)
    with pytest.raises(DamageError) as refusal:
        Ledger.open(path)
    # As long as somebody looks at the error, what it holds is not collected.
    assert not handles_of(path), refusal
    path.write_bytes(b"no database, but longer than the head of one" * 10)
    with pytest.raises(DamageError) as refusal:
        Ledger.open(path)
    assert not handles_of(path), refusal


def test_what_was_being_read_when_a_ledger_was_closed_is_closed_after_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.create(Database.sqlite(path), "0" * 32, "1" * 64)
    with database_of(ledger).read():
        pool = database_of(ledger)._engine.pool
        ledger.close()
        assert handles_of(path)
    assert not handles_of(path), pool


def test_events_nobody_reads_to_the_end_keep_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.create(Database.sqlite(path), "0" * 32, "1" * 64)
    entries = ledger.entries()
    next(entries)
    ledger.close()
    assert not handles_of(path), entries


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_events_are_read_page_by_page(where: Where, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("unlearn.ledger.chain.PAGE", page)
    ledger = where.ledger(where.new())
    for number in range(4):
        ledger.add_key(f"key {number}", "")
    size = ledger.head().size
    entries = ledger.entries(1)
    first = next(entries)
    ledger.add_key("later", "")
    # Those that were there when it began.
    assert [entry.number for entry in (first, *entries)] == list(range(1, size))
    assert [entry.number for entry in ledger.entries(size)] == [size]
    assert list(ledger.entries(size + 1)) == []


def test_what_is_read_at_one_moment_is_as_it_was_then(where: Where) -> None:
    place = where.new()
    here, there = where.ledger(place), Ledger(where.open(place))
    here.add_key("first", "")
    with here.at_one_moment():
        assert [name for name, _ in here.signing_keys()] == ["first"]
        assert here.operation() == ""
        there.add_key("second", "")
        there.begin_operation("train")
        assert [name for name, _ in here.signing_keys()] == ["first"]
        assert here.operation() == ""
        with pytest.raises(AssertionError):
            here.end_operation()
    # Nothing of that moment is remembered.
    assert [name for name, _ in here.signing_keys()] == ["first", "second"]
    assert here.operation() == "train"
    here.end_operation()
    assert there.operation() == ""


def test_a_moment_ends_with_an_error(ledger: Ledger) -> None:
    with pytest.raises(KeyError), ledger.at_one_moment():
        raise KeyError
    ledger.add_key("first", "")
    assert ledger.signing_keys()[-1] == ("first", "")


def test_a_transaction_that_waits_too_long_says_so(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearn.ledger.database.BUSY_SECONDS", 1)
    place = where.new()
    first, second = where.ledger(place), Ledger(where.open(place))
    before = tables(first)
    with database_of(first).write() as c:
        c.execute(insert(s.environment).values(digest="d", description="{}"))
        assert tables(second) == before  # readers go on
        with pytest.raises(
            StorageError, match=r"refused: (database is locked|canceling statement due to lock timeout)"
        ):
            second.add_key("key 1", "")
    second.add_key("key 1", "")
    assert first.environments() == {"d": {}}


# Several processes


_READER = """
import sys
from tests.unlearn.ledger.where import reach
from unlearn.ledger import Ledger
ledger = Ledger(reach(*sys.argv[1:3]))
print("ready", flush=True)
last, seen = -1, 0
while True:
    generation, steps = ledger.served()
    keys = {step.key for step in steps}
    # Each write below gives all three shards one key, which names the generation it brings about.
    if len(keys) != 1 or keys != {f"generation {generation}"} or generation < last:
        print("torn", generation, last, keys, flush=True)
        break
    seen += generation != last
    last = generation
    if generation >= int(sys.argv[3]):
        print("whole", seen, flush=True)
        break
"""


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other processes, which are ready when it returns, and ends them."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_two_processes_read_while_one_writes(where: Where, started: Callable[..., subprocess.Popen[str]]) -> None:
    """Every read meets one state of the three shards, and none goes back in time."""
    from unlearn.ledger.ledger import _next_generation

    place = where.new()
    last = 300
    ledger = where.ledger(place)
    for shard in range(3):
        ledger.record_step(step(shard, 0, "generation 3"))
    readers = [started(_READER, *place, str(last)) for _ in range(2)]
    for generation in range(4, last + 1):
        with database_of(ledger).write() as c:
            for shard in range(3):
                c.execute(update(s.step).where(s.step.c.shard == shard).values(key=f"generation {generation}"))
            _next_generation(c)
    for reader in readers:
        said, _ = reader.communicate(timeout=60)
        word, seen = said.split(maxsplit=1)
        assert word == "whole", said
        assert int(seen) > 1


_WRITER = """
import sys
from tests.unlearn.ledger.test_ledger import submission
from tests.unlearn.ledger.where import reach
from unlearn.ledger import Ledger
ledger = Ledger(reach(*sys.argv[1:3]))
print("ready", flush=True)
sys.stdin.readline()
first = int(sys.argv[3])
for number in range(first, first + 60):
    ledger.submit([submission(number)])
print("done", flush=True)
"""


def test_four_processes_write_at_once(where: Where, started: Callable[..., subprocess.Popen[str]]) -> None:
    """Every event has its own number, the log has its root, and nothing is lost, although one is killed."""
    from unlearn.ledger import merkle

    place = where.new()
    ledger = where.ledger(place)
    writers = [started(_WRITER, *place, str(1000 * k)) for k in range(4)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while ledger.head().size < 40:
        pass
    os.kill(writers[3].pid, signal.SIGKILL)
    assert [writer.communicate(timeout=120)[0] for writer in writers] == ["done\n"] * 3 + [""]
    ids = {f"req-{1000 * k + n}" for k in range(3) for n in range(60)}
    found = [item.id for item in ledger.requests()]
    assert len(found) == len(set(found))
    assert ids <= set(found)
    told = [entry.event.request for entry in ledger.entries() if entry.event.kind == "submitted"]
    assert told == found
    head = ledger.head()
    assert head.root == merkle.root([merkle.leaf_hash(entry.body) for entry in ledger.entries()])
    assert head.size == len(found) + 1 + len(MIGRATIONS)


def test_a_writer_that_is_killed_in_the_middle_leaves_nothing(
    where: Where, started: Callable[..., subprocess.Popen[str]]
) -> None:
    place = where.new()
    ledger = where.ledger(place)
    before = tables(ledger)
    code = """
import sys, time
from sqlalchemy import insert
from tests.unlearn.ledger.test_ledger import AT
from tests.unlearn.ledger.where import reach
from unlearn.ledger import chain, schema as s
with reach(*sys.argv[1:]).write() as c:
    chain.append(c, "key-added", AT, key="k")
    c.execute(insert(s.key).values(number=0, id="k", rotation=""))
    print("ready", flush=True)
    time.sleep(60)
"""
    writer = started(code, *place)
    assert tables(ledger) == before
    writer.kill()
    writer.wait()
    ledger.add_key("other", "")  # waits for nobody
    assert ledger.signing_keys() == [("other", "")]


def test_a_reader_that_is_killed_keeps_nobody_out(tmp_path: Path) -> None:
    """A connection of another program that reads for long does not hold writers up."""
    path = tmp_path / "ledger.db"
    with (
        closing(Ledger.create(Database.sqlite(path), WORKSPACE, DESCRIPTION)) as ledger,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchall()
        ledger.add_key("k", "")
        assert reader.execute("SELECT count(*) FROM key").fetchone() == (0,)
        assert ledger.signing_keys() == [("k", "")]


def test_the_hooks_of_these_tests_work(ledger: Ledger) -> None:
    """A stop that never stopped anything would let every test above pass."""
    with pytest.raises(Stop), stopping_at(ledger, 1):
        ledger.generation()
    assert engine_of(ledger) is database_of(ledger)._engine
    with database_of(ledger).read() as c:
        assert chain.size(c) == len(events(ledger))
