"""Whether anybody changed the database is asked without a lock, by many threads, and is never missed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unlearn.errors import StorageError
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


# --- what was seen is durable -------------------------------------------------------------------------------------


def change_unsynced(path: Path) -> None:
    """As somebody leaves it who is killed before the disk has it."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA synchronous=OFF")
        other.execute("UPDATE number SET value = value + 1")


def look(database: Database) -> int:
    with database.read() as c:
        return int(c.exec_driver_sql("SELECT value FROM number").scalar_one())


@pytest.fixture
def synced(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is synced from here on."""
    names = list[str]()
    look(database)
    monkeypatch.setattr("unlearn.ledger.database.sync_path", lambda path: names.append(path.name))
    return names


def test_the_log_is_synced_by_whoever_saw_that_it_changed_and_by_nobody_else(
    database: Database, path: Path, synced: list[str]
) -> None:
    for value in (1, 2):
        look(database)
        assert synced == []
        change_unsynced(path)
        assert look(database) == value
        assert synced == ["numbers.db-wal"]
        synced.clear()
    with database.write():
        assert "numbers.db-wal" not in synced
    change_unsynced(path)
    with database.write():
        assert "numbers.db-wal" in synced


def test_what_is_committed_while_the_log_is_synced_is_synced_by_the_next(
    database: Database, path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(where: Path) -> None:
        synced.append(where.name)
        if len(synced) == 1:
            change_unsynced(path)

    monkeypatch.setattr("unlearn.ledger.database.sync_path", meanwhile)
    change_unsynced(path)
    look(database)
    look(database)
    assert synced == ["numbers.db-wal"] * 2
    look(database)
    assert len(synced) == 2


def test_a_sync_that_failed_is_made_again(
    database: Database, path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(where: Path) -> None:
        raise OSError(5, "Input/output error", str(where))

    change_unsynced(path)
    with monkeypatch.context() as broken:
        broken.setattr("unlearn.ledger.database.sync_path", refuse)
        for _ in range(2):
            with pytest.raises(StorageError, match="refused: Input/output error"):
                look(database)
    look(database)
    assert synced == ["numbers.db-wal"]
