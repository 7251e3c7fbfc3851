"""Whether anybody changed the database is asked without a lock, by many threads, and is never missed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unlearn.ledger.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE number (value INTEGER)")
        made.execute("INSERT INTO number VALUES (0)")
    made = Database.sqlite(path)
    yield made
    made.close()


def change(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE number SET value = value + 1")


def test_another_value_after_every_change_and_only_then(database: Database, path: Path) -> None:
    for _ in range(3):
        before = database.version()
        assert before is not None
        assert database.version() == before
        change(path)
        assert database.version() != before


def test_no_change_is_missed_by_any_thread(database: Database, path: Path) -> None:
    """Each keeps what it read for as long as the version says that it may, as the ledger does."""
    done, wrong = 0, list[tuple[int, int]]()
    shared: tuple[Any, int] = (None, 0)

    def read() -> int:
        nonlocal shared
        version, (of, value) = database.version(), shared
        if version is None or version != of:
            with closing(sqlite3.connect(path)) as connection:
                value = connection.execute("SELECT value FROM number").fetchone()[0]
            shared = version, value
        return value

    def look() -> None:
        while done < 40:
            least = done
            found = read()
            if found < least:
                wrong.append((least, found))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        change(path)
        done += 1
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= len(database._watches) <= 5


def test_an_interruption_leaves_nothing_taken(database: Database) -> None:
    database.version()
    ((number, real),) = database._watches

    class Interrupted:
        def execute(self, _: str) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            real.close()

    database._watches[:] = [(number, Interrupted())]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        database.version()
    assert len(database._watches) == 1
    database._watches[:] = [(number, real)]
    assert database.version() is not None


def test_one_in_use_is_closed_when_it_no_longer_is(database: Database) -> None:
    database.version()
    ((number, real),) = database._watches

    class Slow:
        def execute(self, question: str) -> sqlite3.Cursor:
            database.close()  # as another thread does
            return real.execute(question)

        def close(self) -> None:
            real.close()

    database._watches[:] = [(number, Slow())]  # type: ignore[list-item]
    assert database.version() is not None
    with pytest.raises(sqlite3.ProgrammingError):
        real.execute("SELECT 1")
    assert database.version() is None
    assert database._watches == []


def test_a_database_that_cannot_be_opened_is_unknown(tmp_path: Path) -> None:
    assert Database.sqlite(tmp_path / "none" / "numbers.db").version() is None
