"""One writer at a time: who takes over shuts out who was before, and a session of PostgreSQL keeps others waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unlearn.ledger.server import Server
from tests.unlearn.ledger.where import Where, events, hooked
from unlearn.errors import FencedError, LockedError
from unlearn.ledger import Ledger
from unlearn.ledger.ledger import _set


@pytest.fixture
def place(where: Where) -> tuple[str, str]:
    found = where.new()
    where.ledger(found)
    return found


@contextmanager
def elsewhere(ledger: Ledger, writer: str) -> Iterator[None]:
    """Another process, in effect: a thread that writes until the block ends."""
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        with ledger.writing_as(writer, 0):
            begun.set()
            over.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(60)
    yield
    over.set()
    thread.join()


def test_who_was_before_records_nothing_more(where: Where, place: tuple[str, str]) -> None:
    old, new = Ledger(where.open(place)), Ledger(where.open(place))
    with old.writing_as("old", 0):
        old.begin_operation("train")
        old.check_writer()
        with new._write() as c:  # as if the old one's session had been lost unnoticed
            _set(c, "writer", "new")
        said = events(old)
        for write in (lambda: old.begin_operation("ingest"), lambda: old.add_key("k", ""), old.check_writer):
            with pytest.raises(FencedError, match="took over"):
                write()
        assert events(old) == said
        assert old.operation() == "train"
    # Whoever comes anew is the writer again; and who does not write for the workspace is nobody's rival.
    new.end_operation()
    with old.writing_as("old", 0):
        old.begin_operation("train")


def test_a_writer_is_one_in_its_thread_alone(where: Where, place: tuple[str, str]) -> None:
    ledger = Ledger(where.open(place))
    with elsewhere(ledger, "one"):
        ledger.change_epoch("accepting goes on")
        ledger.check_writer()


def test_the_name_is_written_once(where: Where, place: tuple[str, str]) -> None:
    ledger = Ledger(where.open(place))
    with ledger.writing_as("one", 0):
        pass
    seen: list[str] = []
    with (
        hooked(ledger, "before_cursor_execute", lambda _c, _k, statement, *_: seen.append(statement)),
        ledger.writing_as("one", 0),
    ):
        pass
    assert not [statement for statement in seen if "INSERT" in statement or "UPDATE" in statement]


@pytest.mark.postgresql
def test_postgresql_keeps_others_waiting_until_the_session_ends(tmp_path: Path, server: Server) -> None:
    where = Where(tmp_path, server)
    place = where.new()
    where.ledger(place)
    one, other = Ledger(where.open(place)), Ledger(where.open(place))
    with elsewhere(one, "one"):
        with pytest.raises(LockedError, match="another process"), other.writing_as("other", 0.1):
            pass
        # The one's connections break, as when its machine is cut off.
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
        with other.writing_as("other", 5):
            other.begin_operation("ingest")
    assert other.operation() == "ingest"
    where.close()


def test_workspaces_in_one_database_do_not_wait_for_each_other(where: Where, place: tuple[str, str]) -> None:
    one, another = Ledger(where.open(place)), where.ledger()
    with elsewhere(one, "one"), another.writing_as("another", 0):
        another.begin_operation("train")
        assert another.operation() == "train"
