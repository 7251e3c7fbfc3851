"""The ledger: whole transactions, a generation that tells of every change served, no old page left behind."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from tests.unlearn.helpers import ROOT, tables
from unlearn.errors import DamageError, StorageError, UnlearnError
from unlearn.ledger import BuiltStep, Ledger, Location, NewSlice
from unlearn.request import TRANSITIONS, Request, RequestState, check_transition

AT = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)


def token(number: int) -> bytes:
    """Sixteen bytes that occur nowhere else."""
    return b"token-%010d" % number


def step(shard: int, position: int, key: str = "") -> BuiltStep:
    """A built step; its key says where it is."""
    return BuiltStep(shard, position, key or f"key {shard} {position}", "env", "content", "payload", 5, 50, 0.25)


def request(number: int = 0, **changes: Any) -> Request:
    """A submitted request that touched shard 0 from position 1 on."""
    fields: dict[str, Any] = {
        "id": f"req-{number}",
        "state": RequestState.SUBMITTED,
        "reason": "because",
        "idempotency_key": None,
        "n_subjects": 1,
        "n_records": 2,
        "shards": {0: 1},
        "submitted_at": AT,
    }
    return Request(**{**fields, **changes})


def records(count: int = 8) -> list[Location]:
    """Records in two shards and two positions."""
    return [Location(token(n), n % 2, n // 2 % 2) for n in range(count)]


def slices(shards: int = 2, positions: int = 2) -> list[NewSlice]:
    """One slice for each shard and position."""
    return [
        NewSlice(shard, position, f"p{position}-v0", 2, f"digest {shard} {position}")
        for shard, position in itertools.product(range(shards), range(positions))
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One batch of eight records, all four steps built."""
    made = Ledger.create(tmp_path / "ledger.db")
    made.add_batch({"task": 1}, slices(), records(), [])
    for shard, position in itertools.product(range(2), range(2)):
        made.record_step(step(shard, position))
    yield made
    made.close()


def path_of(ledger: Ledger) -> Path:
    return ledger._path


def forget(ledger: Ledger, number: int = 0, **changes: Any) -> None:
    """Begin to forget record 2, of shard 0, position 1, and a subject."""
    gone = [item for item in records() if item.token == token(2)]
    ledger.begin_forget(request(number, **changes), "print", gone, {token(2): "record", token(1001): "subject"})


# Transactions


class _Stop(BaseException):
    """Stands for a crash in the middle of a transaction."""


@contextmanager
def stopping_at(ledger: Ledger, number: int) -> Iterator[list[str]]:
    """The numbered statement, from 1, is not executed any more; gives those that were."""
    seen: list[str] = []

    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if len(seen) == number:
            raise _Stop

    event.listen(ledger._engine, "before_cursor_execute", count)
    try:
        yield seen
    finally:
        event.remove(ledger._engine, "before_cursor_execute", count)


WRITES: dict[str, Callable[[Ledger], object]] = {
    "begin_operation": lambda ledger: ledger.begin_operation("train"),
    "add_batch": lambda ledger: ledger.add_batch(
        {"task": 2}, [NewSlice(0, 2, "f", 1, "d")], [Location(token(50), 0, 2)], [token(77)]
    ),
    "record_step": lambda ledger: ledger.record_step(step(0, 1, "another key")),
    "drop_steps": lambda ledger: ledger.drop_steps([(0, 1), (1, 0)]),
    "record_environment": lambda ledger: ledger.record_environment("digest", {"a": 1}),
    "begin_forget": forget,
    "replace_slices": lambda ledger: ledger.replace_slices({(0, 0): NewSlice(0, 0, "p0-v1", 1, "new"), (1, 0): None}),
    "finish_forget": lambda ledger: ledger.finish_forget(AT),
    "finish_recover": lambda ledger: ledger.finish_recover([0, 1], AT),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_happens_whole_or_not_at_all(ledger: Ledger, name: str) -> None:
    """Cut off before each of its statements in turn, then let through."""
    ledger.begin_forget(request(7, shards={1: 0}), "print", [records()[1]], {token(1): "record"})
    if name in {"finish_forget", "finish_recover"}:
        ledger.replace_slices({(1, 0): None})
    if name == "finish_recover":
        ledger.finish_forget(AT)
    before = tables(path_of(ledger))
    for number in range(1, 100):
        with stopping_at(ledger, number) as seen:
            try:
                WRITES[name](ledger)
            except _Stop:
                assert tables(path_of(ledger)) == before
                continue
        break
    assert len(seen) == number - 1
    assert number > 2, "it had nothing to be cut off at"
    assert tables(path_of(ledger)) != before


def test_every_write_is_tried() -> None:
    """A new method that writes has to be added above; these read only."""
    reads = {
        *("generation", "operation", "task", "batches", "locations", "tombstones", "tombstones_under_way", "present"),
        *("count", "slices", "steps", "served", "environments", "erasures", "request", "request_by_key", "requests"),
        *("is_forgetting", "count_requests", "waiting", "close", "scrub", "compact", "end_operation"),
    }
    public = {name for name, member in vars(Ledger).items() if callable(member) and not name.startswith("_")}
    assert public - reads == WRITES.keys()


def test_reads_change_nothing(ledger: Ledger) -> None:
    before = tables(path_of(ledger))
    ledger.locations([token(1)])
    ledger.tombstones([token(1)])
    ledger.tombstones_under_way()
    ledger.present(0, 0)
    ledger.served()
    ledger.erasures()
    ledger.request("no")
    ledger.request_by_key("no")
    ledger.requests()
    ledger.scrub()
    assert tables(path_of(ledger)) == before


# Requests


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RequestState, RequestState)))
def test_the_transition_table(before: RequestState, after: RequestState) -> None:
    """Submitted, forgotten, recovered: each to the next only."""
    order = [RequestState.SUBMITTED, RequestState.FORGOTTEN, RequestState.RECOVERED]
    assert set(order) == set(RequestState) == TRANSITIONS.keys()
    if order.index(after) == order.index(before) + 1:
        check_transition(before, after)
    else:
        with pytest.raises(UnlearnError, match=f"cannot move from {before.value} to {after.value}"):
            check_transition(before, after)
    assert before.is_terminal == (before is RequestState.RECOVERED)


def test_requests_move_along_the_table_only(ledger: Ledger) -> None:
    forget(ledger, 0, shards={0: 1})
    assert ledger.finish_recover([0, 1], AT) == []  # not forgotten yet
    later = AT + timedelta(seconds=1)
    ledger.finish_forget(AT)  # its slice is not rewritten
    assert ledger.finish_recover([0, 1], AT) == []
    ledger.replace_slices({(0, 1): None})
    ledger.finish_forget(later)
    ledger.finish_forget(later + timedelta(hours=1))  # again, as after a crash
    assert ledger.finish_recover([1], AT) == []  # its shard is not complete
    assert ledger.finish_recover([0], later + timedelta(seconds=1)) == ["req-0"]
    assert ledger.finish_recover([0], later + timedelta(hours=1)) == []
    found = ledger.request("req-0")
    assert found == request(state=RequestState.RECOVERED, forgotten_at=later, recovered_at=later + timedelta(seconds=1))


def test_requests_round_trip(ledger: Ledger) -> None:
    whole = request(1, reason="ünïcode\n'; DROP TABLE request; --", idempotency_key="k", shards={3: 0, 0: 7, 11: 2})
    second = request(2, submitted_at=AT + timedelta(microseconds=1), reason="", n_subjects=0)
    third = request(3, submitted_at=AT.replace(microsecond=0) + timedelta(seconds=1), n_records=0, shards={0: 0})
    for number, item in enumerate((third, whole, second)):
        ledger.begin_forget(item, f"print {item.id}", records()[:1], {token(60 + number): "record"})
    assert ledger.requests() == [whole, second, third]  # by time, not as they came
    for item in (whole, second, third):
        assert ledger.request(item.id) == item
    assert ledger.request("req-9") is None
    found = ledger.request("req-2")
    assert found is not None
    assert found.submitted_at.utcoffset() is not None
    assert found.submitted_at.microsecond == 123457
    assert ledger.request_by_key("k") == (whole, "print req-1")
    assert ledger.request_by_key("K") is None


def test_idempotency_keys_are_unique(ledger: Ledger) -> None:
    forget(ledger, 0, idempotency_key="k")
    before = tables(path_of(ledger))
    with pytest.raises(IntegrityError):
        ledger.begin_forget(request(1, idempotency_key="k"), "print", records()[:1], {token(0): "record"})
    assert tables(path_of(ledger)) == before


def test_beginning_to_forget_swaps_the_served_state(ledger: Ledger) -> None:
    generation = ledger.generation()
    forget(ledger)
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
    ledger.finish_forget(AT)
    assert not ledger.is_forgetting()
    assert ledger.tombstones_under_way() == set()
    assert ledger.tombstones([token(2)]) == {token(2)}
    assert ledger.slices(0)[0, 1] == NewSlice(0, 1, "p1-v1", 1, "new")
    assert ledger.slices().keys() == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert ledger.count() == 7


def test_a_slice_that_two_requests_touch_is_rewritten_once(ledger: Ledger) -> None:
    forget(ledger, 0)
    ledger.begin_forget(request(1), "print", [records()[6]], {token(6): "record"})
    assert [(item.shard, item.position) for item in ledger.erasures()] == [(0, 1)]
    ledger.replace_slices({(0, 1): None})
    ledger.finish_forget(AT)
    assert (0, 1) not in ledger.slices()
    assert {item.state for item in ledger.requests()} == {RequestState.FORGOTTEN}


def test_thousands_of_tokens(ledger: Ledger) -> None:
    """More than a statement takes parameters."""
    many = [Location(token(n), 0, 3) for n in range(10_000, 13_000)]
    ledger.add_batch({"task": 1}, [NewSlice(0, 3, "f", len(many), "d")], many, [])
    assert ledger.locations([item.token for item in many]) == many
    assert ledger.present(0, 3) == {item.token for item in many}
    ledger.begin_forget(request(), "print", many, {item.token: "record" for item in many})
    assert ledger.present(0, 3) == set()
    assert len(ledger.locations([item.token for item in records()])) == 8
    assert len(ledger.tombstones([item.token for item in many])) == len(many)
    ledger.add_batch({"task": 1}, [], [], [item.token for item in many])
    assert ledger.tombstones([item.token for item in many]) == set()


# Served state and generation


def test_the_last_position_is_served(tmp_path: Path) -> None:
    with closing(Ledger.create(tmp_path / "ledger.db")) as ledger:
        assert ledger.served() == (0, [])
        for shard, position in ((2, 0), (0, 1), (0, 10), (0, 2), (11, 3)):  # no order of their own
            ledger.record_step(step(shard, position))
        assert ledger.served()[1] == [step(0, 10), step(2, 0), step(11, 3)]
        ledger.drop_steps([(0, 10), (2, 0)])
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
        (lambda: ledger.drop_steps([(0, 2)]), 1),
        (lambda: forget(ledger), 1),
        (lambda: ledger.replace_slices({(0, 1): None}), 0),
        (lambda: ledger.finish_forget(AT), 0),
        (lambda: ledger.compact(), 0),
        (lambda: ledger.scrub(), 0),
        (lambda: ledger.finish_recover([0, 1], AT), 0),
        (lambda: ledger.requests(), 0),
    ]
    for change, growth in changes:
        generation, served = ledger.served()
        assert generation == ledger.generation()
        change()
        assert ledger.generation() == generation + growth
        assert growth or ledger.served()[1] == served


def test_single_values(tmp_path: Path) -> None:
    with closing(Ledger.create(tmp_path / "ledger.db")) as ledger:
        assert (ledger.generation(), ledger.operation(), ledger.task(), ledger.batches(), ledger.count()) == (
            *(0, "", None),
            *(0, 0),
        )
        ledger.begin_operation("ingest")
        assert ledger.operation() == "ingest"
        ledger.add_batch({"ü": [1, None, 0.5]}, slices(), records(), [])
        assert (ledger.operation(), ledger.task(), ledger.batches()) == ("", {"ü": [1, None, 0.5]}, 1)
        assert ledger.count() == 8
        ledger.record_environment("a", {"x": 1})
        ledger.record_environment("a", {"x": 2})  # a digest stands for one description
        assert ledger.environments() == {"a": {"x": 1}}


def test_locations_are_found_once_and_in_order(ledger: Ledger) -> None:
    found = ledger.locations([token(5), token(0), token(5), token(99)])
    assert found == sorted(
        (item for item in records() if item.token in {token(0), token(5)}),
        key=lambda item: (item.shard, item.position, item.token),
    )


def test_a_record_is_in_one_place(ledger: Ledger) -> None:
    before = tables(path_of(ledger))
    with pytest.raises(IntegrityError):
        ledger.add_batch({"task": 1}, [], [Location(token(2), 1, 1)], [])
    assert tables(path_of(ledger)) == before


# What lies on the disk


def raw(ledger: Ledger) -> bytes:
    path = path_of(ledger)
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob(f"{path.name}*")))


def test_scrubbing_empties_the_log_and_deleted_rows_are_overwritten(tmp_path: Path) -> None:
    with closing(Ledger.create(tmp_path / "ledger.db")) as ledger:
        many = [Location(token(n), n % 3, n % 5) for n in range(40)]
        ledger.add_batch({"task": 1}, [], many, [])
        ledger.scrub()
        wal = tmp_path / "ledger.db-wal"
        assert wal.stat().st_size == 0
        assert all(item.token in raw(ledger) for item in many)
        gone = [item for n, item in enumerate(many) if n % 7]
        ledger.begin_forget(request(reason="a reason"), "print", gone, {token(10**9): "record"})
        assert wal.stat().st_size > 0
        assert all(item.token in raw(ledger) for item in gone)  # the old pages, below the log
        ledger.scrub()
        assert wal.stat().st_size == 0
        data = raw(ledger)
        assert [item for item in gone if item.token in data] == []
        assert all(item.token in data for item in many[::7])


def test_compacting_leaves_no_copy_of_a_deleted_row(tmp_path: Path) -> None:
    """Where SQLite moves cells between pages it leaves copies, which overwriting deleted cells does not reach."""
    with closing(Ledger.create(tmp_path / "ledger.db")) as ledger:
        many = [Location(token(n), n % 3, n % 5) for n in range(4000)]
        ledger.add_batch({"task": 1}, [], many, [])
        gone = [item for n, item in enumerate(many) if n % 7]
        ledger.begin_forget(request(), "print", gone, {token(10**9): "record"})
        ledger.compact()
        ledger.scrub()
        data = raw(ledger)
        assert [item for item in gone if item.token in data] == []
        assert all(item.token in data for item in many[::7])


def test_lifted_tombstones_leave_nothing(ledger: Ledger) -> None:
    forget(ledger)
    ledger.replace_slices({(0, 1): None})
    ledger.finish_forget(AT)
    ledger.scrub()
    assert token(2) in raw(ledger)
    ledger.add_batch({"task": 1}, [], [], [token(2)])
    ledger.scrub()
    assert token(2) not in raw(ledger)


def test_the_database_is_set_up_to_last(ledger: Ledger) -> None:
    with ledger._begin() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout", "temp_store")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "busy_timeout": 10_000,
        "temp_store": 2,
    }


def test_scrubbing_says_who_is_in_the_way(ledger: Ledger) -> None:
    ledger.scrub()
    with closing(sqlite3.connect(path_of(ledger), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record").fetchall()
        forget(ledger)

        def hurry(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA busy_timeout=50")

        ledger._engine.dispose()
        event.listen(ledger._engine, "connect", hurry)
        with pytest.raises(StorageError, match="could not be emptied: another program keeps the database open"):
            ledger.scrub()
    ledger.scrub()
    assert (path_of(ledger).with_name("ledger.db-wal")).stat().st_size == 0


def test_a_database_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is text " * 100)
    with pytest.raises(DamageError, match="is damaged: file is not a database"):
        Ledger(path)


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="refused: unable to open database file"):
        Ledger.create(tmp_path / "no such folder" / "ledger.db")
    with pytest.raises(DamageError, match="is missing"):
        Ledger(tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(DamageError, match="lacks the tables"):
        Ledger(tmp_path / "ledger.db")


# Several processes


_READER = """
import sys, time
from pathlib import Path
from unlearn.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
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
    if generation >= int(sys.argv[2]):
        print("whole", seen, flush=True)
        break
"""


def test_two_processes_read_while_one_writes(tmp_path: Path) -> None:
    """Every read meets one state of the three shards, and none goes back in time."""
    from sqlalchemy import update

    from unlearn.ledger import schema as s
    from unlearn.ledger.ledger import _next_generation

    path = tmp_path / "ledger.db"
    last = 400
    with closing(Ledger.create(path)) as ledger:
        for shard in range(3):
            ledger.record_step(step(shard, 0, "generation 3"))
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", _READER, str(path), str(last)], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            for _ in range(2)
        ]
        try:
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "ready\n"
            for generation in range(4, last + 1):
                with ledger._begin() as connection:
                    for shard in range(3):
                        connection.execute(
                            update(s.step).where(s.step.c.shard == shard).values(key=f"generation {generation}")
                        )
                    _next_generation(connection)
                if generation % 50 == 0:
                    ledger.scrub()
            for reader in readers:
                said, _ = reader.communicate(timeout=60)
                word, seen = said.split(maxsplit=1)
                assert word == "whole", said
                assert int(seen) > 1
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()
