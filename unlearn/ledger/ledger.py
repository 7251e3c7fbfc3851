"""The ledger: every durable fact about a workspace, in one SQLite database.

Each public method is one transaction: it happens whole or not at all, and is on disk when it returns. Callers
hold the workspace's lock around anything that writes. Deleted rows are overwritten (`secure_delete`), and
`scrub` empties the write-ahead log, which would otherwise keep the pages as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, delete, event, func, insert, inspect, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import Row
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, ProgrammingError

from shards.digest import Json, canonical_json
from unlearn.errors import DamageError, StorageError
from unlearn.ledger import schema as s
from unlearn.request import Request, RequestState, check_transition

CHUNK = 500
"""Tokens per query: SQLite limits the parameters of a statement."""


@dataclass(frozen=True)
class NewSlice:
    """A slice as it lies on disk: file in the shard's `records` folder, count, digest of its commitments."""

    shard: int
    position: int
    file: str
    records: int
    digest: str


@dataclass(frozen=True)
class Location:
    """Where a present record is; its token is a keyed pseudonym of 16 bytes."""

    token: bytes
    shard: int
    position: int


@dataclass(frozen=True)
class BuiltStep:
    """A step whose checkpoint is published."""

    shard: int
    position: int
    key: str
    environment: str
    content: str
    payload: str
    records: int
    visits: int
    seconds: float


@dataclass(frozen=True)
class Erasure:
    """A slice to rewrite, with what is recorded of it now; file and digest are None if it was emptied already."""

    shard: int
    position: int
    file: str | None
    digest: str | None


class Ledger:
    """The database of one workspace.

    Args:
        path: The database file.

    Raises:
        DamageError: If there is none, or it is no ledger.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DamageError(f"the database {path} is missing: restore it from a copy; nothing was changed")
        self._path = path
        self._engine = _engine(path)
        with _translating(path):
            missing = set(s.metadata.tables) - set(inspect(self._engine).get_table_names())
        if missing:
            raise DamageError(
                f"the database {path} lacks the tables {', '.join(sorted(missing))}: restore it from a copy; nothing "
                "was changed"
            )

    @classmethod
    def create(cls, path: Path) -> Ledger:
        """Make a new database.

        Args:
            path: A file that does not exist yet.

        Returns:
            The empty ledger.
        """
        engine = _engine(path)
        with _translating(path):
            s.metadata.create_all(engine)
        engine.dispose()
        return cls(path)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with _translating(self._path), self._engine.begin() as connection:
            yield connection

    # Single values

    def generation(self) -> int:
        """Number that grows whenever the served state changes."""
        return int(self._meta("generation") or 0)

    def operation(self) -> str:
        """The long operation that was begun and has not ended, or an empty string."""
        return self._meta("operation") or ""

    def begin_operation(self, name: str) -> None:
        """Note that a long operation is under way, so that a crash in it is noticed."""
        with self._begin() as c:
            _set(c, "operation", name)

    def end_operation(self) -> None:
        """Note that nothing is under way."""
        with self._begin() as c:
            _set(c, "operation", "")

    def task(self) -> Json | None:
        """The declared task, described, or None before the first batch."""
        text = self._meta("task")
        return None if text is None else json.loads(text)

    def batches(self) -> int:
        """How many batches were ingested, those emptied since included."""
        return int(self._meta("batches") or 0)

    def _meta(self, name: str) -> str | None:
        with self._begin() as c:
            return c.execute(select(s.meta.c.value).where(s.meta.c.name == name)).scalar()

    # Records

    def locations(self, tokens: Sequence[bytes]) -> list[Location]:
        """Where records are.

        Args:
            tokens: Record tokens.

        Returns:
            One location per present record, sorted by place and token.
        """
        with self._begin() as c:
            found = {Location(row.token, row.shard, row.position) for row in _rows(c, s.record, tokens)}
        return sorted(found, key=lambda item: (item.shard, item.position, item.token))

    def present(self, shard: int, position: int) -> set[bytes]:
        """Tokens of the records that are in a slice, by looking at every record: for rare cases only."""
        query = select(s.record.c.token).where((s.record.c.shard == shard) & (s.record.c.position == position))
        with self._begin() as c:
            return {row.token for row in c.execute(query)}

    def tombstones(self, tokens: Sequence[bytes]) -> set[bytes]:
        """Those of the tokens that were forgotten."""
        with self._begin() as c:
            return {row.token for row in _rows(c, s.tombstone, tokens)}

    def tombstones_under_way(self) -> set[bytes]:
        """Tokens named by requests that are submitted but not yet forgotten."""
        query = (
            select(s.tombstone.c.token)
            .join(s.request, s.request.c.id == s.tombstone.c.request)
            .where(s.request.c.state == RequestState.SUBMITTED.value)
        )
        with self._begin() as c:
            return {row.token for row in c.execute(query)}

    def count(self) -> int:
        """How many records are present."""
        with self._begin() as c:
            return int(c.execute(select(func.coalesce(func.sum(s.slice_table.c.records), 0))).scalar_one())

    def slices(self, shard: int | None = None) -> dict[tuple[int, int], NewSlice]:
        """The non-empty slices, of one shard or of all, by (shard, position)."""
        query = select(s.slice_table)
        if shard is not None:
            query = query.where(s.slice_table.c.shard == shard)
        with self._begin() as c:
            return {(row.shard, row.position): NewSlice(**row._mapping) for row in c.execute(query)}

    def add_batch(
        self, task: Json, slices: Sequence[NewSlice], records: Iterable[Location], lifted: Sequence[bytes]
    ) -> None:
        """Take a batch in; ends the operation under way.

        Args:
            task: The declared task.
            slices: Its non-empty slices, whose files are on disk.
            records: Where each of its records is.
            lifted: Tombstones that a recorded re-consent removes.
        """
        with self._begin() as c:
            _set(c, "task", canonical_json(task).decode())
            _set(c, "batches", str(int(_get(c, "batches") or 0) + 1))
            _set(c, "operation", "")
            for part in _chunks(lifted):
                c.execute(delete(s.tombstone).where(s.tombstone.c.token.in_(part)))
            if slices:
                c.execute(insert(s.slice_table), [vars(item) for item in slices])
            rows = [(item.token, item.shard, item.position) for item in records]
            if rows:
                # Plain tuples: there may be millions, and they need none of the statement builder's conversions.
                c.exec_driver_sql("INSERT INTO record (token, shard, position) VALUES (?, ?, ?)", rows)

    # Steps

    def steps(self, shard: int | None = None) -> dict[tuple[int, int], BuiltStep]:
        """Built steps, of one shard or of all, by (shard, position)."""
        query = select(s.step)
        if shard is not None:
            query = query.where(s.step.c.shard == shard)
        with self._begin() as c:
            return {(row.shard, row.position): BuiltStep(**row._mapping) for row in c.execute(query)}

    def served(self) -> tuple[int, list[BuiltStep]]:
        """The generation and, read with it in one transaction, each shard's last built step."""
        last = select(s.step.c.shard, func.max(s.step.c.position).label("position")).group_by(s.step.c.shard).subquery()
        query = (
            select(s.step)
            .join(last, (s.step.c.shard == last.c.shard) & (s.step.c.position == last.c.position))
            .order_by(s.step.c.shard)
        )
        with self._begin() as c:
            generation = int(_get(c, "generation") or 0)
            return generation, [BuiltStep(**row._mapping) for row in c.execute(query)]

    def record_step(self, built: BuiltStep) -> None:
        """A step's checkpoint is published: serve it."""
        with self._begin() as c:
            c.execute(delete(s.step).where((s.step.c.shard == built.shard) & (s.step.c.position == built.position)))
            c.execute(insert(s.step), vars(built))
            _next_generation(c)

    def drop_steps(self, steps: Sequence[tuple[int, int]]) -> None:
        """Stop serving steps whose checkpoints are missing, damaged or superseded."""
        if not steps:
            return
        with self._begin() as c:
            for shard, position in steps:
                c.execute(delete(s.step).where((s.step.c.shard == shard) & (s.step.c.position == position)))
            _next_generation(c)

    def record_environment(self, digest: str, description: Json) -> None:
        """Keep an environment's description, so that a digest can be explained later."""
        with self._begin() as c:
            c.execute(
                upsert(s.environment)
                .values(digest=digest, description=canonical_json(description).decode())
                .on_conflict_do_nothing()
            )

    def environments(self) -> dict[str, Json]:
        """Descriptions of the environments steps were built in, by digest."""
        with self._begin() as c:
            return {row.digest: json.loads(row.description) for row in c.execute(select(s.environment))}

    # Requests

    def begin_forget(
        self,
        request: Request,
        fingerprint: str,
        gone: Sequence[Location],
        tombstones: Mapping[bytes, str],
    ) -> None:
        """Commit a deletion request and swap the served state, in one transaction.

        From here on the records are not found, their ids are refused, the shards serve the last step that never
        saw them, and the slices to rewrite are noted.

        Args:
            request: The request, in state submitted.
            fingerprint: Keyed digest of what it names, for idempotency.
            gone: Where its records are.
            tombstones: Token to kind (`"subject"` or `"record"`) of what must not return.
        """
        with self._begin() as c:
            c.execute(
                insert(s.request).values(
                    id=request.id,
                    idempotency_key=request.idempotency_key,
                    fingerprint=fingerprint,
                    reason=request.reason,
                    state=request.state.value,
                    n_subjects=request.n_subjects,
                    n_records=request.n_records,
                    submitted_at=request.submitted_at.isoformat(),
                )
            )
            c.execute(
                insert(s.request_shard),
                [{"request": request.id, "shard": k, "position": v} for k, v in request.shards.items()],
            )
            c.execute(
                insert(s.tombstone),
                [{"token": k, "kind": v, "request": request.id} for k, v in tombstones.items()],
            )
            for part in _chunks([item.token for item in gone]):
                c.execute(delete(s.record).where(s.record.c.token.in_(part)))
            c.execute(
                upsert(s.erasure).on_conflict_do_nothing(),
                [{"shard": a, "position": b} for a, b in sorted({(g.shard, g.position) for g in gone})],
            )
            for shard, position in request.shards.items():
                c.execute(delete(s.step).where((s.step.c.shard == shard) & (s.step.c.position >= position)))
            _next_generation(c)

    def erasures(self) -> list[Erasure]:
        """The slices that still have to be rewritten."""
        query = select(s.erasure, s.slice_table.c.file, s.slice_table.c.digest).outerjoin(
            s.slice_table,
            (s.erasure.c.shard == s.slice_table.c.shard) & (s.erasure.c.position == s.slice_table.c.position),
        )
        with self._begin() as c:
            return [Erasure(row.shard, row.position, row.file, row.digest) for row in c.execute(query)]

    def replace_slices(self, rewritten: Mapping[tuple[int, int], NewSlice | None]) -> None:
        """Name the files of rewritten slices.

        Args:
            rewritten: (shard, position) to the slice as it is now, None if nothing is left of it.
        """
        if not rewritten:
            return
        with self._begin() as c:
            for (shard, position), piece in rewritten.items():
                here = (s.slice_table.c.shard == shard) & (s.slice_table.c.position == position)
                c.execute(delete(s.slice_table).where(here))
                if piece is not None:
                    c.execute(insert(s.slice_table), vars(piece))
                c.execute(delete(s.erasure).where((s.erasure.c.shard == shard) & (s.erasure.c.position == position)))

    def is_forgetting(self) -> bool:
        """Whether a request is submitted and not yet forgotten."""
        query = select(s.request.c.id).where(s.request.c.state == RequestState.SUBMITTED.value).limit(1)
        with self._begin() as c:
            return c.execute(query).first() is not None

    def finish_forget(self, at: datetime) -> None:
        """Move the submitted requests on, but for those with a slice that could not be rewritten.

        Args:
            at: Time, UTC.
        """
        stuck = (
            select(s.request_shard.c.request)
            .join(s.erasure, s.erasure.c.shard == s.request_shard.c.shard)
            .where(s.erasure.c.position >= s.request_shard.c.position)
        )
        query = select(s.request.c.id).where(
            (s.request.c.state == RequestState.SUBMITTED.value) & s.request.c.id.not_in(stuck)
        )
        with self._begin() as c:
            for name in c.execute(query).scalars().all():
                _move(c, RequestState.SUBMITTED, RequestState.FORGOTTEN, name, "forgotten_at", at)

    def finish_recover(self, complete: Iterable[int], at: datetime) -> list[str]:
        """Move on the forgotten requests all of whose shards are complete again.

        Args:
            complete: Shards whose every step is built.
            at: Time, UTC.

        Returns:
            Ids of the requests that are now recovered.
        """
        whole = set(complete)
        done = [request.id for request in self.waiting() if set(request.shards) <= whole]
        with self._begin() as c:
            for name in done:
                _move(c, RequestState.FORGOTTEN, RequestState.RECOVERED, name, "recovered_at", at)
        return done

    def request(self, request_id: str) -> Request | None:
        """The request with this id, or None."""
        with self._begin() as c:
            row = c.execute(select(s.request).where(s.request.c.id == request_id)).first()
            return None if row is None else _request(row, _shards(c, row.id))

    def request_by_key(self, idempotency_key: str) -> tuple[Request, str] | None:
        """The request submitted under this key, with its fingerprint, or None."""
        with self._begin() as c:
            row = c.execute(select(s.request).where(s.request.c.idempotency_key == idempotency_key)).first()
            return None if row is None else (_request(row, _shards(c, row.id)), row.fingerprint)

    def requests(self) -> list[Request]:
        """All requests, oldest first."""
        with self._begin() as c:
            shards: dict[str, dict[int, int]] = {}
            for row in c.execute(select(s.request_shard).order_by(s.request_shard.c.shard)):
                shards.setdefault(row.request, {})[row.shard] = row.position
            rows = c.execute(select(s.request).order_by(s.request.c.submitted_at, s.request.c.id)).all()
            return [_request(row, shards.get(row.id, {})) for row in rows]

    def count_requests(self) -> dict[RequestState, int]:
        """How many requests are in each state."""
        query = select(s.request.c.state, func.count()).group_by(s.request.c.state)
        with self._begin() as c:
            found = {RequestState(state): int(number) for state, number in c.execute(query)}
        return {state: found.get(state, 0) for state in RequestState}

    def waiting(self) -> list[Request]:
        """The requests that are forgotten and wait to be recovered."""
        query = select(s.request).where(s.request.c.state == RequestState.FORGOTTEN.value)
        with self._begin() as c:
            return [_request(row, _shards(c, row.id)) for row in c.execute(query).all()]

    # Erasure of the database itself

    def compact(self) -> None:
        """Write the database anew, so that no copy of a deleted cell is left in an unused part of a page.

        Deleted cells are overwritten at once (`secure_delete`), but where the database moves cells between pages,
        it may leave copies behind. Takes time in proportion to the database.
        """
        with _translating(self._path), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM")

    def scrub(self) -> None:
        """Empty the write-ahead log into the database, so that no old page survives in it.

        Raises:
            StorageError: If a reader holds the log for longer than it should.
        """
        with _translating(self._path), closing(self._engine.raw_connection()) as connection:
            # Outside of any transaction: inside one, the log could not be emptied.
            busy = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy is None or busy[0] != 0:
            raise StorageError(
                f"the write-ahead log of {self._path} could not be emptied: another program keeps the database open "
                "in the middle of a read; close it, then run `unlearn recover`"
            )


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Transactions are begun explicitly: the driver's own guess would leave reads outside of them.
        connection.isolation_level = None
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    """Say in the project's words what the database refused."""
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise  # a mistake of this program's, not of the disk's
    except OperationalError as error:
        raise StorageError(
            f"the database {path} refused: {error.orig}. Nothing of this step was recorded; make room or access, "
            "then try again"
        ) from error
    except DatabaseError as error:
        raise DamageError(f"the database {path} is damaged: {error.orig}. Restore it from a copy") from error


def _chunks(tokens: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(tokens), CHUNK):
        yield tokens[start : start + CHUNK]


def _rows(c: Connection, table: Table, tokens: Sequence[bytes]) -> Iterator[Row[Any]]:
    """The rows of a table that bear one of the tokens."""
    if len(tokens) > CHUNK and c.execute(select(func.count()).select_from(table)).scalar_one() <= len(tokens):
        # Reading it all is less than asking for so many: the usual case when a batch is taken in.
        wanted = set(tokens)
        yield from (row for row in c.execute(select(table)) if row.token in wanted)
        return
    for part in _chunks(tokens):
        yield from c.execute(select(table).where(table.c.token.in_(part)))


def _get(c: Connection, name: str) -> str | None:
    return c.execute(select(s.meta.c.value).where(s.meta.c.name == name)).scalar()


def _set(c: Connection, name: str, value: str) -> None:
    statement = upsert(s.meta).values(name=name, value=value)
    c.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def _next_generation(c: Connection) -> None:
    _set(c, "generation", str(int(_get(c, "generation") or 0) + 1))


def _move(c: Connection, before: RequestState, after: RequestState, name: str, column: str, at: datetime) -> None:
    """Move a request along the transition table."""
    check_transition(before, after)
    here = (s.request.c.id == name) & (s.request.c.state == before.value)
    c.execute(update(s.request).where(here).values({"state": after.value, column: at.isoformat()}))


def _shards(c: Connection, request_id: str) -> dict[int, int]:
    query = select(s.request_shard).where(s.request_shard.c.request == request_id).order_by(s.request_shard.c.shard)
    return {row.shard: row.position for row in c.execute(query)}


def _request(row: Row[Any], shards: dict[int, int]) -> Request:
    def time(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text)

    return Request(
        id=row.id,
        state=RequestState(row.state),
        reason=row.reason,
        idempotency_key=row.idempotency_key,
        n_subjects=row.n_subjects,
        n_records=row.n_records,
        shards=shards,
        submitted_at=datetime.fromisoformat(row.submitted_at),
        forgotten_at=time(row.forgotten_at),
        recovered_at=time(row.recovered_at),
    )
