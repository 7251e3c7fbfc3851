"""One database, SQLite or PostgreSQL: connections, transactions, and errors in the project's words.

A `write` transaction is the only one at its time, so that whoever adds to the log sees the end of it; a `read` sees
one moment. What either wrote or saw is on disk when it ends well: who wrote it may have been killed before it was.
Ctrl-C waits for the end of both: the library that makes them does not expect it, and would keep the database locked.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from shards import interrupts
from shards.files import sync_path
from unlearn.errors import ConfigurationError, DamageError, InputError, LockedError, StorageError
from unlearn.ledger.clock import BUSY_SECONDS

HELD_POLL_SECONDS = 0.02

_NOT_ALLOWED, _NOT_THERE = {"42501"}, {"42P01", "3F000"}
"""What PostgreSQL says of a missing right, and of a missing table or schema; else a statement is wrong."""

_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,62}")

_UNDONE = "Nothing of this step was recorded"


class Database:
    """Where a ledger lies.

    Attributes:
        name: How to call it in messages; holds no password.
    """

    def __init__(self, engine: Engine, name: str, schema: str = "", file: Path | None = None) -> None:
        self.name = name
        self._engine = engine
        self._schema = schema
        self._file = file
        self._is_closed = False
        self._watches = list[tuple[int, sqlite3.Connection]]()
        self._number = itertools.count()
        self._kept: tuple[int, int] | None = None
        event.listen(engine, "checkin", self._checked_in)

    @classmethod
    def sqlite(cls, path: Path) -> Database:
        """The database in a file; the file is made if there is none.

        Args:
            path: The file, on a disk of this machine: its write-ahead log does not work across a network.

        Returns:
            The database.
        """
        engine = create_engine(f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            # Transactions are begun explicitly: the driver's own guess would leave reads outside of them.
            connection.isolation_level = None
            try:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "temp_store=MEMORY"):
                    connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                # Nobody else would: until it is collected, it may keep a damaged file locked.
                connection.close()
                raise

        return cls(engine, str(path), file=path)

    @classmethod
    def postgresql(cls, url: str, schema: str) -> Database:
        """A schema of its own in a PostgreSQL database.

        Args:
            url: `postgresql://[user@]host[:port]/database`; the password comes from PGPASSWORD or ~/.pgpass.
            schema: Its name, lower-case.

        Returns:
            The database.

        Raises:
            ConfigurationError: If the URL is none, holds a password, or the driver is not installed.
        """
        check_url(url)
        if not _SCHEMA.fullmatch(schema):
            raise ConfigurationError(f"{schema[:80]!r} is no name of a schema: use lower-case letters, digits and _")
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        try:
            engine = create_engine(
                parsed, hide_parameters=True, pool_pre_ping=True, connect_args={"connect_timeout": 10}
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                'a ledger in PostgreSQL needs psycopg: pip install "sisa-unlearn[postgresql]"'
            ) from error

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f'SET search_path TO "{schema}"')
                cursor.execute(f"SET lock_timeout TO '{BUSY_SECONDS}s'")
                # An acknowledged request is on the disk, whatever the server's default.
                cursor.execute("SET synchronous_commit TO on")
            connection.commit()

        return cls(engine, f"{url} (schema {schema})", schema)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, else it is PostgreSQL."""
        return self._engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close every connection; one that is in use, when it no longer is."""
        self._is_closed = True
        self._engine.dispose()
        self._close_watches_if_closed()

    def version(self) -> tuple[int, int] | None:
        """What is another value after anybody, in whatever process, has changed something; some microseconds.

        Returns:
            Which connection was asked, and its number; or None where the database has none: then nothing is known.
        """
        if self._file is None or self._is_closed:
            return None
        if not self._watches:
            self._begin_watch(self._file)
        # No lock, and so none that Ctrl-C could leave taken: a connection is nobody else's while it is not in the list.
        try:
            number, watch = self._watches.pop()
        except IndexError:
            return None
        try:
            return number, int(watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None  # whoever reads now is told of it
        finally:
            self._watches.append((number, watch))
            self._close_watches_if_closed()

    def _close_watches_if_closed(self) -> None:
        with suppress(IndexError):  # there is none left, perhaps because another thread took it
            while self._is_closed:
                self._watches.pop()[1].close()

    def _begin_watch(self, file: Path) -> None:
        with interrupts.held(), suppress(sqlite3.Error):  # whoever reads now is told of the error
            # Never used for anything else: what it changed itself, a connection would not be told of.
            watch = sqlite3.connect(file, timeout=BUSY_SECONDS, check_same_thread=False)
            self._watches.append((next(self._number), watch))

    def _checked_in(self, _: Any, entry: ConnectionPoolEntry) -> None:
        # The pool that it returns to is nobody's any more: until that is collected, it would keep a file locked.
        if self._is_closed:
            entry.close()

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except OSError as error:
            # The library notes when it connected, and a clock may fail.
            raise StorageError(
                f"the database {self.name} could not be opened: {error.strerror}. {_UNDONE}; try again"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and changes nothing.

        Yields:
            The connection.
        """
        with interrupts.held(), translating(self.name), self._connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection
            connection.rollback()
            # Last: what was seen is in the log by now, and may be all that an acknowledgement rests on.
            self._keep_log("What was recorded before stands")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only transaction at its time that changes something; undone if the block raises.

        Yields:
            The connection.
        """
        with interrupts.held(), translating(self.name), self._connect() as connection, connection.begin():
            self._take_turn(connection)
            yield connection

    @interrupts.guarded
    def held(self, timeout: float) -> Iterator[None]:
        """Keep others, on other machines too, from doing the same; PostgreSQL gives it up with the connection.

        SQLite is on one machine, where a lock on a file does this.

        Args:
            timeout: How long to wait for another, in seconds.

        Yields:
            Nothing.

        Raises:
            LockedError: If another has it for longer.
        """
        if self.is_sqlite:
            yield
            return
        with translating(self.name):
            connection = self._connect().execution_options(isolation_level="AUTOCOMMIT")
            # Not for the pool any more: closing it gives the lock up, whatever has become of it.
            connection.detach()
        with closing(connection):
            deadline = time.monotonic() + timeout
            while not self._got_hold(connection):
                if time.monotonic() >= deadline:
                    raise LockedError(
                        f"{self.name} is being written to by another process: wait until it has finished, or stop it; "
                        "nothing was changed"
                    )
                time.sleep(HELD_POLL_SECONDS)
                interrupts.check()
            yield

    def _got_hold(self, connection: Connection) -> bool:
        with translating(self.name):
            asked = "SELECT pg_try_advisory_lock(hashtext(%s), 1)"
            return bool(connection.exec_driver_sql(asked, (self._schema,)).scalar_one())

    @contextmanager
    def bare(self) -> Iterator[Connection]:
        """The same before there are tables: makes a place for them.

        Yields:
            The connection.
        """
        with interrupts.held(), translating(self.name), self._connect() as connection, connection.begin():
            self._take_turn(connection)
            if not self.is_sqlite:
                there = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
                # Asked first: where it is there, nobody needs the right to make one.
                if connection.exec_driver_sql(there, (self._schema,)).first() is None:
                    connection.exec_driver_sql(f'CREATE SCHEMA "{self._schema}"')
            # What migrations say is meant literally: a % is no place for a parameter where there are none.
            yield connection.execution_options(no_parameters=True)

    def _take_turn(self, connection: Connection) -> None:
        if self.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._keep_name(connection)
            # A transaction that finds its work done writes nothing, and SQLite then syncs nothing.
            self._keep_log(_UNDONE)
        else:
            # Released with the transaction; readers are not held up.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._schema,))

    def _keep_name(self, connection: Connection) -> None:
        """Make the name of SQLite's write-ahead log durable, once for each connection.

        SQLite tries as well, and does not look whether it could.

        Args:
            connection: A connection that has the log open.

        Raises:
            StorageError: If the disk refuses.
        """
        if self._file is not None and not connection.info.get("name is kept"):
            with self._syncing(_UNDONE):
                sync_path(self._file.parent)
            connection.info["name is kept"] = True

    def _keep_log(self, otherwise: str) -> None:
        """Make durable what SQLite's write-ahead log holds: SQLite reads what a killed process wrote as it lies.

        Once for each state of it: what this process saw when nobody had written since is durable already.

        Args:
            otherwise: What is true if the disk refuses, for the message.

        Raises:
            StorageError: If the disk refuses.
        """
        if self._file is None:
            return
        # Asked before: whatever is committed after it gives another number, and is made durable by whoever sees it.
        version = self.version()
        if version is not None and version == self._kept:
            return
        with self._syncing(otherwise), suppress(FileNotFoundError):  # removed with the last connection, or in memory
            sync_path(self._file.with_name(self._file.name + "-wal"))
        self._kept = version

    @contextmanager
    def _syncing(self, otherwise: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the database {self.name} refused: {error.strerror}. {otherwise}; make room or access, then try again"
            ) from error


def check_url(url: str) -> None:
    """Refuse what is no URL of a PostgreSQL database, and passwords where others can read them.

    Args:
        url: The URL.

    Raises:
        ConfigurationError: Saying what is wrong.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigurationError(
            "the ledger's URL cannot be read: give postgresql://user@host:port/database"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"a ledger is kept in SQLite, inside the workspace, or in PostgreSQL, not in {parsed.get_backend_name()!r}"
            ": give postgresql://user@host:port/database, or no URL"
        )
    if parsed.password is not None or "password" in parsed.query:
        raise ConfigurationError(
            "the ledger's URL holds a password, which would be written into the workspace's description: leave it out "
            "and set PGPASSWORD, or put it into ~/.pgpass"
        )


def upsert(dialect: str, table: Table) -> Any:
    """An INSERT that can say `ON CONFLICT`, in a dialect: `"sqlite"`, or else PostgreSQL's."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def insert_plain(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert plain tuples: there may be millions, and they need none of the statement builder's conversions.

    Args:
        connection: A connection in a writing transaction.
        table: The table.
        rows: One value for every column of the table, in their order.
    """
    if rows:
        connection.exec_driver_sql(_insertion(table, connection.dialect.name), list(rows))


@cache
def _insertion(table: Table, dialect: str) -> str:
    marks = ", ".join(["?" if dialect == "sqlite" else "%s"] * len(table.c))
    columns = ", ".join(f'"{column.name}"' for column in table.c)
    # Our own names alone; values are bound.
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608  # nosec


@contextmanager
def translating(name: str) -> Iterator[None]:
    """Say in the project's words what the database refused.

    Args:
        name: The database, for the message.

    Yields:
        Nothing.

    Raises:
        InputError: If it cannot hold a value.
        StorageError: If it cannot take more, or cannot be reached.
        DamageError: If it is no database any more.
        IntegrityError: If a rule of the tables is broken: a mistake of this program's, not of the disk's.
        ProgrammingError: If a statement is wrong: likewise.
    """
    try:
        yield
    except (IntegrityError, ProgrammingError) as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _NOT_ALLOWED:
            raise StorageError(
                f"the database {name} refused: {_said(error)}. Nothing of this step was recorded; ask for the right, "
                "then try again"
            ) from error
        if state in _NOT_THERE:
            raise DamageError(f"the database {name} is damaged: {_said(error)}. Restore it from a copy") from error
        raise
    except DataError as error:
        raise InputError(
            f"the database {name} cannot hold this value: {_said(error)}. Nothing of this step was recorded"
        ) from error
    except OperationalError as error:
        if "Could not decode to UTF-8" in str(error.orig):
            # The driver repeats the text itself, which may be anybody's words.
            raise DamageError(f"the database {name} is damaged: a text is not UTF-8. Restore it from a copy") from None
        raise StorageError(
            f"the database {name} refused: {_said(error)}. {_UNDONE}; make room or access, then try again"
        ) from error
    except UnicodeDecodeError as error:
        # SQLite repeats a damaged name in its complaint, and the driver cannot read that.
        raise DamageError(f"the database {name} is damaged: a name is not UTF-8. Restore it from a copy") from error
    except DatabaseError as error:
        raise DamageError(f"the database {name} is damaged: {_said(error)}. Restore it from a copy") from error


def _said(error: DatabaseError) -> str:
    return str(error.orig).strip().partition("\n")[0]
