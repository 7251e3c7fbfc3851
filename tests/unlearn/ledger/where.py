"""Databases to try the ledger in, of both kinds, and looks into them that do not go through the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, select
from sqlalchemy import event as hooks

from tests.unlearn.ledger.server import Server
from unlearn.ledger import Database, Ledger
from unlearn.ledger import schema as s

WORKSPACE, DESCRIPTION = "0" * 32, "1" * 64


@dataclass
class Where:
    """A place for databases: a folder for SQLite, a server for PostgreSQL."""

    folder: Path
    server: Server | None
    _opened: list[Database] = field(default_factory=list)

    def new(self) -> tuple[str, str]:
        """Where a database could be that nobody uses: what `reach` takes."""
        if self.server is None:
            return str(self.folder / f"{secrets.token_hex(4)}.db"), ""
        return self.server.url, self.server.new_schema()

    def open(self, place: tuple[str, str]) -> Database:
        """The database in a place; closed at the end."""
        database = reach(*place)
        self._opened.append(database)
        return database

    def ledger(self, place: tuple[str, str] | None = None) -> Ledger:
        """A new ledger, without anything in it."""
        return Ledger.create(self.open(place or self.new()), WORKSPACE, DESCRIPTION)

    def close(self) -> None:
        """Close what was opened, and drop it, lest the server's disk fill."""
        for database in self._opened:
            if self.server is not None:
                # Some tests stop it.
                with suppress(psycopg.Error):
                    self.server.execute(f'DROP SCHEMA IF EXISTS "{database._schema}" CASCADE')
            database.close()


def reach(where: str, schema: str) -> Database:
    """The database in a file, or in a schema of the server with this URL: also for other processes."""
    return Database.postgresql(where, schema) if schema else Database.sqlite(Path(where))


def database_of(ledger: Ledger) -> Database:
    return ledger._database


def engine_of(ledger: Ledger) -> Engine:
    return ledger._database._engine


def tables(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return rows_of(ledger._database)


def rows_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as c:
        return {
            name: sorted((tuple(row) for row in c.execute(select(table))), key=repr)
            for name, table in s.metadata.tables.items()
        }


def events(ledger: Ledger) -> list[str]:
    """The kinds of all events, in order."""
    return [entry.event.kind for entry in ledger.entries()]


class Stop(BaseException):
    """Stands for a crash in the middle of a transaction."""


@contextmanager
def hooked(ledger: Ledger, moment: str, call: Callable[..., None]) -> Iterator[None]:
    """Have something called at a moment of the engine's."""
    hooks.listen(engine_of(ledger), moment, call)
    try:
        yield
    finally:
        hooks.remove(engine_of(ledger), moment, call)


@contextmanager
def stopping_at(ledger: Ledger, number: int) -> Iterator[list[str]]:
    """The numbered statement, from 1, is not executed any more; gives those that were tried."""
    seen: list[str] = []

    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if len(seen) == number:
            raise Stop

    with hooked(ledger, "before_cursor_execute", count):
        yield seen


@contextmanager
def stopping_before_commit(ledger: Ledger) -> Iterator[None]:
    """Everything is executed and nothing committed."""

    def stop(_: Any) -> None:
        raise Stop

    with hooked(ledger, "commit", stop):
        yield
