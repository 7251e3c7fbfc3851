"""The ledger: every durable fact about a workspace, and the log of how it came about.

Each public method is one transaction: it happens whole or not at all, and is on disk when it returns; what it
changes is said by an event in the same transaction. Callers hold the workspace's lock around whatever changes the
model or the records. `submit` and what belongs to it need no lock: any number of processes may use them at once.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import Row

from shards.digest import Json, canonical_json, digest_json
from shards.interrupts import guarded
from unlearn.errors import DamageError, FencedError, IdempotencyError, UnlearnError
from unlearn.facts import STAGE, EditRequest, EditState
from unlearn.ledger import chain, edits, recordset
from unlearn.ledger import schema as s
from unlearn.ledger.chain import Entry, Head
from unlearn.ledger.clock import now
from unlearn.ledger.database import Database, insert_plain, upsert
from unlearn.ledger.evidence import (
    EditEvidence,
    Evidence,
    approximations,
    gather_recovery,
    gather_withdrawal,
    served,
)
from unlearn.ledger.migrations import migrate
from unlearn.ledger.rows import (
    SALT_BYTES,
    Approximation,
    Artefact,
    BuiltStep,
    Edited,
    EditSubmission,
    Erasure,
    Given,
    Known,
    Location,
    NewRecord,
    NewSlice,
    Submission,
    Unlearnt,
    Withdrawal,
    approximation_digest,
    said_digest,
    sealed_digest,
    time_of,
    time_or_none,
)
from unlearn.request import CERTIFIED, FAILURES, NOT_APPLIED, Request, RequestState, check_transition

V = TypeVar("V")

CHUNK = 500
"""Tokens per query: databases limit the parameters of a statement."""

ROWS = 10_000
"""Rows of one INSERT of many."""

_REMOVALS = "removals/"
"""With a shard's number, the single value that counts its certified removals since it was last trained."""


class Ledger:
    """The database of one workspace.

    Args:
        database: Where it lies; it holds a ledger already.

    Raises:
        DamageError: If it is no ledger.
        WorkspaceError: If it was written by a newer version of this program.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mine = threading.local()
        self._values: tuple[tuple[int, int] | None, dict[str, str | None]] = (None, {})
        try:
            _check_tables(database)
        except BaseException:
            # Nobody else can: a connection left open may keep a damaged file locked until it is collected.
            database.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open a ledger in a file.

        Args:
            path: The file.

        Returns:
            The ledger.

        Raises:
            DamageError: If there is none, or it is no ledger.
        """
        if not path.is_file():
            raise DamageError(f"the database {path} is missing: restore it from a copy; nothing was changed")
        return cls(Database.sqlite(path))

    @classmethod
    def create(cls, database: Database, workspace: str, description: str) -> Ledger:
        """Make a new ledger in an empty database.

        Args:
            database: Where.
            workspace: The workspace's id.
            description: Digest of its description.

        Returns:
            The ledger.
        """
        at = now()
        migrate(database, at)
        with database.write() as c:
            chain.append(c, "created", at, workspace=workspace, description=description)
        return cls(database)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    @property
    def name(self) -> str:
        """Where it lies, for messages."""
        return self._database.name

    @guarded
    def at_one_moment(self) -> Iterator[None]:
        """Read all that this thread reads meanwhile in one transaction: for several short looks, and no writing.

        Yields:
            Nothing.
        """
        with self._database.read() as connection:
            self._mine.reading = connection
            try:
                yield
            finally:
                del self._mine.reading

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        shared: Connection | None = getattr(self._mine, "reading", None)
        with self._database.read() if shared is None else nullcontext(shared) as connection, self._understanding():
            yield connection

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """No text, time, number or state that this program wrote cannot be read by it."""
        try:
            yield
        except UnlearnError:
            raise
        except (ValueError, TypeError, RecursionError) as error:  # SQLite keeps any type in any column
            raise DamageError(f"the database {self.name} is damaged: {error}. Restore it from a copy") from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        assert getattr(self._mine, "reading", None) is None  # noqa: S101 - it would not see what is written
        with self._database.write() as connection:
            self._refuse_fenced(connection)
            yield connection

    # Who writes

    @guarded
    def writing_as(self, writer: str, timeout: float) -> Iterator[None]:
        """Be the workspace's writer, in this thread, while the block runs; whoever was before is shut out.

        Args:
            writer: A name nobody else has.
            timeout: How long to wait for one in another place, where the database can tell, in seconds.

        Yields:
            Nothing.

        Raises:
            LockedError: If another keeps writing.
        """
        with self._database.held(timeout):
            with self._read() as c:
                before = _get(c, "writer")
            if before != writer:
                with self._write() as c:
                    _set(c, "writer", writer)
            self._mine.writer = writer
            try:
                yield
            finally:
                del self._mine.writer

    def check_writer(self) -> None:
        """Make sure that nobody took over from this thread.

        Raises:
            FencedError: If somebody did.
        """
        with self._read() as c:
            self._refuse_fenced(c)

    def _refuse_fenced(self, c: Connection) -> None:
        writer = getattr(self._mine, "writer", None)
        if writer is not None and _get(c, "writer") != writer:
            raise FencedError(
                f"another process took over {self.name} while this one was writing: this one has stopped, and nothing "
                "more of it was recorded; let one process at a time train and forget"
            )

    # Single values

    def generation(self) -> int:
        """Number that grows whenever the served state changes."""
        return self._number("generation")

    def operation(self) -> str:
        """The long operation that was begun and has not ended, or an empty string."""
        return self._meta("operation") or ""

    def begin_operation(self, name: str) -> None:
        """Note that a long operation is under way, so that a crash in it is noticed."""
        with self._write() as c:
            _set(c, "operation", name)

    def end_operation(self) -> None:
        """Note that nothing is under way."""
        with self._write() as c:
            _set(c, "operation", "")

    def task(self) -> Json | None:
        """The declared task, described, or None before the first batch."""
        text = self._meta("task")
        with self._understanding():
            return None if text is None else json.loads(text)

    def batches(self) -> int:
        """How many batches were ingested, those emptied since included."""
        return self._number("batches")

    def _number(self, name: str) -> int:
        with self._understanding():
            return int(self._meta(name) or 0)

    def _meta(self, name: str) -> str | None:
        # A process that serves asks for the generation with every prediction: read once for as long as nobody writes.
        if getattr(self._mine, "reading", None) is not None:
            with self._read() as c:  # and not kept: somebody may have written since that moment
                return _get(c, name)
        version, (of, values) = self._database.version(), self._values
        if version is None or version != of or name not in values:
            with self._read() as c:
                values = {**(values if version == of else {}), name: _get(c, name)}
            self._values = version, values
        return values[name]

    def published(self) -> int:
        """How many labels were published by noisy votes."""
        return self._number("published")

    def publish(self, asked: int, count: Callable[[int, int], int]) -> None:
        """Count labels before they are handed out, in every process.

        Args:
            asked: How many.
            count: (published, asked) to the new number; raises if there may not be so many.
        """
        with self._write() as c:
            _set(c, "published", str(count(int(_get(c, "published") or 0), asked)))

    # Records

    def locations(self, tokens: Sequence[bytes]) -> list[Location]:
        """Where records are.

        Args:
            tokens: Record tokens.

        Returns:
            One location per present record, sorted by place and token.
        """
        with self._read() as c:
            found = {Location(bytes(row.token), row.shard, row.position) for row in _rows(c, s.record, tokens)}
        return sorted(found, key=lambda item: (item.shard, item.position, item.token))

    def commitments_of(self, tokens: Sequence[bytes]) -> list[bytes]:
        """Commitments of present records, by their tokens, in no order."""
        with self._read() as c:
            return [bytes(row.commitment) for row in _rows(c, s.record, tokens)]

    def present(self, shard: int, position: int) -> set[bytes]:
        """Tokens of the records that are in a slice, by looking at every record: for rare cases only."""
        query = select(s.record.c.token).where((s.record.c.shard == shard) & (s.record.c.position == position))
        with self._read() as c:
            return {bytes(row.token) for row in c.execute(query)}

    def tombstones(self, tokens: Sequence[bytes]) -> set[bytes]:
        """Those of the tokens that were forgotten."""
        with self._read() as c:
            return {bytes(row.token) for row in _rows(c, s.tombstone, tokens)}

    def forgotten_by(self, tokens: Sequence[bytes]) -> dict[bytes, str]:
        """Those of the tokens that were forgotten, and by which request each was."""
        with self._read() as c:
            return {bytes(row.token): str(row.request) for row in _rows(c, s.tombstone, tokens)}

    def tombstones_under_way(self) -> set[bytes]:
        """Tokens named by requests that are withdrawn but not yet forgotten."""
        with self._read() as c:
            return {bytes(row.token) for row in c.execute(_TOMBSTONES_UNDER_WAY)}

    def hit_under_way(self, tokens: Sequence[bytes]) -> dict[int, int]:
        """What is hit by the requests that are withdrawn, not yet forgotten, and have some tokens to destroy.

        Args:
            tokens: Tokens.

        Returns:
            Shard to earliest position.
        """
        hit: dict[int, int] = {}
        here = s.request_shard.join(s.tombstone, s.tombstone.c.request == s.request_shard.c.request).join(
            s.request, s.request.c.id == s.request_shard.c.request
        )
        with self._read() as c:
            for part in _chunks(tokens):
                query = select(s.request_shard.c.shard, s.request_shard.c.position).select_from(here).distinct()
                for shard, position in c.execute(query.where(_under_way() & s.tombstone.c.token.in_(part))):
                    hit[shard] = min(position, hit.get(shard, position))
        return hit

    def hit_by_approximations(self, tokens: Sequence[bytes]) -> dict[int, int]:
        """What is hit by whoever names again what was forgotten, since what a method made may still know it.

        Args:
            tokens: Tokens.

        Returns:
            Shard to the position of the state that a method made, if a request that named some of the tokens was
            answered by it, or by one that it was made from.
        """
        with self._read() as c:
            made = approximations(c)
            if not made:
                return {}
            earlier = {row.request for part in _chunks(tokens) for row in _rows(c, s.tombstone, part)}
            asked = [
                row for name in sorted(earlier) if (row := c.execute(_REQUEST, {"this": name}).first()) is not None
            ]
            known = [_shards(c, row.id) for row in asked if _request(row, {}).guarantee in ("empirical", "certified")]
            return {shard: item.position for shard, item in made.items() if any(map(item.had_seen, known))}

    def shards_under_way(self) -> set[int]:
        """Shards hit by the requests that are withdrawn and not yet forgotten."""
        here = s.request_shard.join(s.request, s.request.c.id == s.request_shard.c.request)
        with self._read() as c:
            return set(c.execute(select(s.request_shard.c.shard).select_from(here).where(_under_way())).scalars())

    def count(self) -> int:
        """How many records are present."""
        with self._read() as c:
            return int(c.execute(select(func.coalesce(func.sum(s.slice_table.c.records), 0))).scalar_one())

    def record_root(self) -> tuple[bytes, int]:
        """Root of the tree over the present records' commitments, and how many there are."""
        with self._read() as c:
            node = recordset.root(c)
            return node.hash, node.count

    def tombstone_root(self) -> tuple[bytes, int]:
        """Root of the tree over the tombstones, and how many there are."""
        with self._read() as c:
            node = recordset.root(c, recordset.TOMBSTONES)
            return node.hash, node.count

    def commitments(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Every present record, in the order of their commitments.

        Yields:
            Token, shard, position, commitment.
        """
        query = select(s.record).order_by(s.record.c.commitment)
        with self._read() as c:
            for row in c.execute(query.execution_options(yield_per=ROWS)):
                yield bytes(row.token), row.shard, row.position, bytes(row.commitment)

    def slices(self, shard: int | None = None) -> dict[tuple[int, int], NewSlice]:
        """The non-empty slices, of one shard or of all, by (shard, position)."""
        query = select(s.slice_table)
        if shard is not None:
            query = query.where(s.slice_table.c.shard == shard)
        with self._read() as c:
            return {(row.shard, row.position): NewSlice(**row._mapping) for row in c.execute(query)}

    def add_batch(
        self, task: Json, slices: Sequence[NewSlice], records: Iterable[NewRecord], lifted: Sequence[bytes]
    ) -> None:
        """Take a batch in; ends the operation under way.

        Args:
            task: The declared task.
            slices: Its non-empty slices, whose files are on disk.
            records: Its records; taken one after the other, and quickest where their tokens ascend.
            lifted: Tombstones that a recorded re-consent removes.
        """
        with self._write() as c:
            batch = int(_get(c, "batches") or 0)
            _set(c, "task", canonical_json(task).decode())
            _set(c, "batches", str(batch + 1))
            _set(c, "operation", "")
            with _tombstones(c, lifted) as said:
                for part in _chunks(lifted):
                    c.execute(delete(s.tombstone).where(s.tombstone.c.token.in_(part)))
            if slices:
                c.execute(insert(s.slice_table), [vars(item) for item in slices])
            # A part at a time: there may be more records than fit in memory.
            root = recordset.update(c, (row[3] for rows in _parts(records) for row in _inserted(c, rows)))
            said |= {"records": root.hash.hex(), "count": root.count, "lifted": len(lifted)}
            chain.append(c, "ingested", now(), batch=batch, **said)

    # Steps

    def steps(self, shard: int | None = None) -> dict[tuple[int, int], BuiltStep]:
        """Built steps, of one shard or of all, by (shard, position)."""
        query, given = (select(s.step), {}) if shard is None else (_STEPS_OF, {"this": shard})
        with self._read() as c:
            return {(row.shard, row.position): BuiltStep(**row._mapping) for row in c.execute(query, given)}

    def served(self) -> tuple[int, list[BuiltStep]]:
        """The generation and, read with it in one transaction, what each shard serves."""
        with self._read() as c:
            return int(_get(c, "generation") or 0), served(c)

    def record_step(self, built: BuiltStep) -> None:
        """A step's checkpoint is published: serve it."""
        with self._write() as c:
            at = now()
            c.execute(delete(s.step).where((s.step.c.shard == built.shard) & (s.step.c.position == built.position)))
            c.execute(insert(s.step), vars(built))
            _drop_approximations(c, at, lambda made: made.shard == built.shard and made.position <= built.position)
            c.execute(delete(s.meta).where(s.meta.c.name == f"{_REMOVALS}{built.shard}"))
            _next_generation(c)
            chain.append(
                c,
                "built",
                at,
                shard=built.shard,
                position=built.position,
                key=built.key,
                environment=built.environment,
                state=built.commitment,
                records=built.records,
                visits=built.visits,
            )

    def drop_steps(self, steps: Sequence[BuiltStep]) -> None:
        """Stop serving steps whose checkpoints are missing, damaged or superseded."""
        if not steps:
            return
        with self._write() as c:
            at = now()
            for item in steps:
                c.execute(delete(s.step).where((s.step.c.shard == item.shard) & (s.step.c.position == item.position)))
                chain.append(c, "dropped", at, shard=item.shard, position=item.position, key=item.key)
            _next_generation(c)

    def approximations(self) -> dict[int, Approximation]:
        """The states that approximate methods made and that are served, by shard."""
        with self._read() as c:
            return approximations(c)

    def removals(self) -> dict[int, int]:
        """Certified removals since shards were last trained, those whose state is served no more included.

        Returns:
            Shard to their number; shards without any are left out.
        """
        with self._read() as c:
            rows = c.execute(select(s.meta).where(s.meta.c.name.startswith(_REMOVALS)))
            return {int(row.name.removeprefix(_REMOVALS)): int(row.value) for row in rows}

    def drop_approximations(self, keys: Sequence[str]) -> None:
        """Stop serving states that approximate methods made; nobody can make them again.

        Args:
            keys: Their keys.
        """
        with self._write() as c:
            _drop_approximations(c, now(), lambda made: made.key in keys)
            _next_generation(c)

    def refute_approximation(self, key: str, audit: str) -> None:
        """Note that an audit refuted a state that an approximate method made; the first time counts.

        Args:
            key: Of the state.
            audit: Digest of the audit.
        """
        here = (s.approximation.c.key == key) & s.approximation.c.refuted_at.is_(None)
        with self._write() as c:
            shard = c.execute(select(s.approximation.c.shard).where(here)).scalar()
            if shard is None:
                return
            at = now()
            c.execute(update(s.approximation).where(here).values(refuted_at=at.isoformat()))
            chain.append(c, "approximation-refuted", at, shard=shard, key=key, audit=audit)

    def named(self, shard: int) -> set[str]:
        """Keys of all checkpoints of a shard that are not rubbish."""
        with self._read() as c:
            steps = set(c.execute(select(s.step.c.key).where(s.step.c.shard == shard)).scalars())
            return steps | set(
                c.execute(select(s.approximation.c.key).where(s.approximation.c.shard == shard)).scalars()
            )

    def record_environment(self, digest: str, description: Json) -> None:
        """Keep an environment's description, so that a digest can be explained later."""
        with self._write() as c:
            c.execute(
                upsert(c.dialect.name, s.environment)
                .values(digest=digest, description=canonical_json(description).decode())
                .on_conflict_do_nothing()
            )

    def environments(self) -> dict[str, Json]:
        """Descriptions of the environments steps were built in, by digest."""
        with self._read() as c:
            return {row.digest: json.loads(row.description) for row in c.execute(_ENVIRONMENTS)}

    # Requests accepted

    def epoch(self) -> str:
        """Name of the key that submitted ids are to be encrypted under; empty before the first."""
        return self._meta("epoch") or ""

    def submit(self, submissions: Sequence[Submission]) -> list[Request | UnlearnError | None]:
        """Accept requests, all in one transaction.

        Args:
            submissions: The requests, with their ids encrypted.

        Returns:
            For each: the request as it is durable now, or, under a known idempotency key, the one it repeats; the
            error if the key was used for something else; None if its key is not the current one any more: then
            encrypt anew and repeat.
        """
        if not submissions:
            return []
        with self._write() as c:
            return _accept(c, submissions, _get(c, "epoch") or "")

    def accepted(self, request_ids: Sequence[str]) -> set[str]:
        """Those of some requests that are durable."""
        with self._read() as c:
            return _there(c, request_ids)

    def change_epoch(self, name: str) -> None:
        """Have ids encrypted under another key from here on; none under an older key is accepted after this."""
        with self._write() as c:
            _set(c, "epoch", name)

    def pending(self) -> list[Submission]:
        """The accepted requests nobody has served yet, oldest first."""
        query = _requests(s.pending.c.epoch, s.pending.c.sealed).join(s.pending, s.pending.c.request == s.request.c.id)
        with self._read() as c:
            return [
                Submission(_request(row, {}), row.fingerprint, row.epoch, bytes(row.sealed))
                for row in c.execute(query.order_by(s.request.c.number))
            ]

    def has_pending(self) -> bool:
        """Whether an accepted request waits to be served."""
        with self._read() as c:
            return c.execute(_ANY_PENDING).first() is not None

    def reseal(self, sealed: Mapping[str, tuple[str, bytes]]) -> None:
        """Replace the encrypted ids of requests that have to wait.

        Args:
            sealed: Request to name of the key and encrypted ids.
        """
        with self._write() as c:
            at = now()
            for name, (epoch, data) in sealed.items():
                c.execute(update(s.pending).where(s.pending.c.request == name).values(epoch=epoch, sealed=data))
                chain.append(c, "resealed", at, request=name, sealed=sealed_digest(epoch, data))

    def sealed_digests(self) -> dict[str, str]:
        """Digest of the encrypted ids, or facts, of every request that waits, as they are now."""
        with self._read() as c:
            return {
                row.request: sealed_digest(row.epoch, bytes(row.sealed))
                for table in (s.pending, s.edit_pending)
                for row in c.execute(select(table))
            }

    def is_as_accepted(self, item: Submission) -> bool:
        """Whether the encrypted ids of a request that waits are those the log vouches for; True where it does not."""
        with self._read() as c:
            told = [entry.event.fields.get("sealed") for entry in chain.of_request(c, item.request.id)]
        return [name for name in told if name][-1:] in ([], [sealed_digest(item.epoch, item.sealed)])

    def said_digests(self) -> dict[str, str]:
        """Digest of what every request says, as it is now; of those that have a salt."""
        query = _requests(s.request_salt.c.salt).join(s.request_salt, s.request_salt.c.request == s.request.c.id)
        with self._read() as c:
            said = {
                row.id: said_digest(bytes(row.salt), _request(row, {}), row.fingerprint) for row in c.execute(query)
            }
            return {**said, **edits.said(c)}

    def fail(self, request_id: str, code: str) -> None:
        """Give up a request that cannot be carried out; its ids are dropped.

        Args:
            request_id: The request.
            code: Why, one of `FAILURES`.
        """
        with self._write() as c:
            _move(c, RequestState.SUBMITTED, RequestState.FAILED, request_id, failure=FAILURES[code])
            c.execute(delete(s.pending).where(s.pending.c.request == request_id))
            chain.append(c, "failed", now(), request=request_id, why=code)

    def extend(self, request_id: str, deadline: datetime) -> None:
        """Move a request's deadline."""
        with self._write() as c:
            c.execute(update(s.request).where(s.request.c.id == request_id).values(deadline=deadline.isoformat()))
            chain.append(c, "extended", now(), request=request_id, deadline=deadline.isoformat())

    # Requests carried out

    def withdraw(
        self, withdrawals: Sequence[Withdrawal], unlearnt: Unlearnt | None = None, not_applied: str | None = None
    ) -> None:
        """Commit deletion requests and swap the served state, in one transaction.

        From here on the records are not found, their ids are refused, the shards serve the last step that never
        saw them, or what an approximate method made, and the slices to rewrite are noted. Ends the operation of making
        that.

        Args:
            withdrawals: What to remove; requests that were not submitted before are, by this.
            unlearnt: What to serve in place of what saw them, for requests that ask for it; its checkpoint is there.
            not_applied: Why nothing was made for those that ask for it: one of `NOT_APPLIED`.

        Raises:
            DamageError: If a record to remove is not among those present.
        """
        with self._write() as c:
            for item in withdrawals:
                self._withdraw(c, item, unlearnt, not_applied)
            if unlearnt is not None:
                _approximate(c, unlearnt.approximation)
                _set(c, "operation", "")
            _next_generation(c)

    def _withdraw(self, c: Connection, item: Withdrawal, unlearnt: Unlearnt | None, not_applied: str | None) -> None:
        request, at = item.request, now()
        if c.execute(_REQUEST, {"this": request.id}).first() is None:
            key = request.idempotency_key
            if key is not None and (taken := _edits_by_keys(c, [key])):
                raise IdempotencyError(edits.used_before(key, taken[key]))
            _add_requests(c, [(request, item.fingerprint, {})])
        c.execute(_SERVED, {"this": request.id})
        found_out = {"n_subjects": request.n_subjects, "n_records": len(item.gone), "withdrawn_at": at.isoformat()}
        c.execute(_FOUND_OUT, {"this": request.id, **found_out})
        tokens = [location.token for location in item.gone]
        commitments = sorted(bytes(row.commitment) for row in _rows(c, s.record, tokens))
        if len(commitments) != len(tokens):
            raise DamageError(
                f"{len(tokens) - len(commitments)} of the records of request {request.id} are in the record files but "
                f"not in the ledger {self.name}: restore both from the same copy; nothing was changed"
            )
        found = gather_withdrawal(c, request.shards, commitments)
        _insert_many(
            c, s.request_shard, [{"request": request.id, "shard": k, "position": v} for k, v in request.shards.items()]
        )
        kinds = [{"token": k, "kind": v, "request": request.id} for k, v in item.tombstones.items()]
        with _tombstones(c, list(item.tombstones)) as said:
            if kinds:
                # A subject of whom something was forgotten before is in the list already.
                c.execute(_add_new(s.tombstone, c.dialect.name), kinds)
        for part in _chunks(tokens):
            c.execute(delete(s.record).where(s.record.c.token.in_(part)))
        _insert_many(c, s.removed, [{"request": request.id, "commitment": data} for data in commitments])
        places = sorted({(g.shard, g.position) for g in item.gone})
        if places:
            c.execute(_add_new(s.erasure, c.dialect.name), [{"shard": a, "position": b} for a, b in places])
        for shard, position in request.shards.items():
            c.execute(delete(s.step).where((s.step.c.shard == shard) & (s.step.c.position >= position)))
        _drop_approximations(c, at, lambda made: made.had_seen(request.shards))
        _taint(c, request, at)
        root = recordset.update(c, commitments)
        evidence = found.complete(c, root)
        _keep_evidence(c, request.id, "withdrawal", evidence)
        said |= _instead(c, request, unlearnt, not_applied)
        chain.append(
            c,
            "withdrawn",
            at,
            request=request.id,
            n_records=len(commitments),
            evidence=digest_json("withdrawal", evidence),
            records=[evidence["records"]["before"]["root"], root.hash.hex()],
            counts=[evidence["records"]["before"]["count"], root.count],
            shards=[number for pair in sorted(request.shards.items()) for number in pair],
            **said,
        )

    def erasures(self) -> list[Erasure]:
        """The slices that still have to be rewritten."""
        with self._read() as c:
            return [Erasure(row.shard, row.position, row.file, row.digest) for row in c.execute(_ERASURES)]

    def replace_slices(self, rewritten: Mapping[tuple[int, int], NewSlice | None]) -> None:
        """Name the files of rewritten slices.

        Args:
            rewritten: (shard, position) to the slice as it is now, None if nothing is left of it.
        """
        if not rewritten:
            return
        with self._write() as c:
            for (shard, position), piece in rewritten.items():
                here = {"shard": shard, "position": position}
                c.execute(_NO_SLICE, here)
                if piece is not None:
                    c.execute(_INSERT_SLICE, vars(piece))
                c.execute(_ERASED, here)

    def is_forgetting(self) -> bool:
        """Whether a request is withdrawn and not yet forgotten."""
        with self._read() as c:
            return c.execute(_ANY_UNDER_WAY).first() is not None

    def finish_forget(self) -> None:
        """Move the withdrawn requests on, but for those with a slice that could not be rewritten."""
        stuck = (
            select(s.request_shard.c.request)
            .join(s.erasure, s.erasure.c.shard == s.request_shard.c.shard)
            .where(s.erasure.c.position >= s.request_shard.c.position)
        )
        query = select(s.request.c.id).where(_under_way() & s.request.c.id.not_in(stuck)).order_by(s.request.c.number)
        with self._write() as c:
            at = now()
            for name in c.execute(query).scalars().all():
                _move(c, RequestState.SUBMITTED, RequestState.FORGOTTEN, name, forgotten_at=at.isoformat())
                chain.append(c, "forgotten", at, request=name)

    def finish_recover(self, complete: Iterable[int]) -> list[str]:
        """Move on the forgotten requests all of whose shards are complete again.

        Args:
            complete: Shards whose every step is built.

        Returns:
            Ids of the requests that are now recovered.
        """
        whole = set(complete)
        done = [request for request in self.waiting() if set(request.shards) <= whole]
        with self._write() as c:
            at = now()
            # Whoever forgets everything leaves nothing to be built that would take its place.
            if _drop_approximations(c, at, lambda made: made.shard in whole):
                _next_generation(c)
            # The receipts of these say that every state is exact.
            done = [] if approximations(c) else done
            for request in done:
                _move(c, RequestState.FORGOTTEN, RequestState.RECOVERED, request.id, recovered_at=at.isoformat())
                query = select(s.removed.c.commitment).where(s.removed.c.request == request.id)
                commitments = sorted(bytes(row) for row in c.execute(query).scalars())
                evidence = gather_recovery(c, request.shards, commitments)
                _keep_evidence(c, request.id, "recovery", evidence)
                chain.append(
                    c,
                    "recovered",
                    at,
                    request=request.id,
                    evidence=digest_json("recovery", evidence),
                    records=evidence["records"]["root"],
                    count=evidence["records"]["count"],
                )
        return [request.id for request in done]

    # Edits of language models

    def submit_edit(self, item: EditSubmission) -> EditRequest:
        """Accept a request to edit.

        Args:
            item: The request, with its facts encrypted.

        Returns:
            It, or, under a known idempotency key, the one it repeats.

        Raises:
            IdempotencyError: If the key was used for something else.
        """
        key = item.request.idempotency_key
        with self._write() as c:
            known = None if key is None else edits.by_key(c, key)
            if known is not None:
                return edits.repeated(known, item)
            if key is not None and (other := _by_keys(c, [key]).get(key)) is not None:
                raise IdempotencyError(edits.used_before(key, other.request.id))
            edits.add(c, item)
            return item.request

    def finish_edit(self, edit_id: str, made: Edited) -> None:
        """Register an edited model, whose folder is there, and note what the one before says still.

        The edited model depends on whatever the one before depends on, and is tainted by what taints that. Its facts
        are dropped. Ends the operation of making it.

        Args:
            edit_id: The request.
            made: What was made.
        """
        with self._write() as c:
            before = edits.by_id(c, edit_id)
            _set(c, "operation", "")
            query = select(s.artefact_source).where(s.artefact_source.c.artefact == before.artefact)
            sources = {row.shard: row.position for row in c.execute(query)}
            taints = select(s.taint.c.request).where(s.taint.c.artefact == before.artefact).order_by(s.taint.c.request)
            inherited = c.execute(taints).scalars().all()
            _add_artefact(c, made.artefact, sources)
            for name in inherited:
                _note_taint(c, made.artefact.id, name, made.artefact.registered_at)
            _note_taint(c, before.artefact, edit_id, made.artefact.registered_at)
            edits.finish(c, before, made)

    def fail_edit(self, edit_id: str, code: str) -> None:
        """Give up an edit that was not made; its facts are dropped. Ends the operation of making it.

        Args:
            edit_id: The request.
            code: Why, one of `facts.NOT_MADE`.
        """
        with self._write() as c:
            _set(c, "operation", "")
            edits.fail(c, edits.by_id(c, edit_id), code, now())

    def edit(self, edit_id: str) -> EditRequest | None:
        """The request to edit with this id, or None."""
        with self._read() as c:
            return edits.find(c, edit_id)

    def edits(self) -> list[EditRequest]:
        """All requests to edit, oldest first."""
        with self._read() as c:
            return edits.every(c)

    def edit_by_key(self, idempotency_key: str) -> EditRequest | None:
        """The request to edit that was submitted under this key, or None."""
        with self._read() as c:
            known = edits.by_key(c, idempotency_key)
            return None if known is None else known[0]

    def edits_pending(self) -> list[EditSubmission]:
        """The accepted edits that nobody has made yet, oldest first."""
        with self._read() as c:
            return edits.pending(c)

    def edit_evidence(self, edit_id: str) -> EditEvidence:
        """What the receipt of an edit shows, read in one transaction.

        Args:
            edit_id: The request.

        Returns:
            Its evidence.
        """
        with self._read() as c:
            entries = chain.of_request(c, edit_id)
            head, proofs = chain.proven(c, [entry.number for entry in entries])
            return EditEvidence(
                request=edits.by_id(c, edit_id),
                head=head,
                entries=list(zip(entries, proofs, strict=True)),
                rotations=_rotations(c),
                artefacts=_tainted(c, edit_id),
            )

    # Requests looked up

    def request(self, request_id: str) -> Request | None:
        """The request with this id, or None."""
        with self._read() as c:
            row = c.execute(_REQUEST, {"this": request_id}).first()
            return None if row is None else _request(row, _shards(c, row.id))

    def request_by_key(self, idempotency_key: str) -> Known | None:
        """The request submitted under this key, or None."""
        with self._read() as c:
            return _by_keys(c, [idempotency_key]).get(idempotency_key)

    def requests(self) -> list[Request]:
        """All requests, oldest first."""
        with self._read() as c:
            shards: dict[str, dict[int, int]] = {}
            for row in c.execute(select(s.request_shard).order_by(s.request_shard.c.shard)):
                shards.setdefault(row.request, {})[row.shard] = row.position
            rows = c.execute(_requests().order_by(s.request.c.number)).all()
            return [_request(row, shards.get(row.id, {})) for row in rows]

    def count_requests(self) -> dict[RequestState, int]:
        """How many requests are in each state."""
        query = select(s.request.c.state, func.count()).group_by(s.request.c.state)
        with self._read() as c:
            found = {RequestState(row[0]): int(row[1]) for row in c.execute(query)}
        return {state: found.get(state, 0) for state in RequestState}

    def open_requests(self) -> list[Request]:
        """The requests whose data is not gone, failed ones included."""
        query = _requests().where(s.request.c.forgotten_at.is_(None)).order_by(s.request.c.number)
        with self._read() as c:
            return [_request(row, _shards(c, row.id)) for row in c.execute(query).all()]

    def late_requests(self) -> list[Request]:
        """The requests that were forgotten after their deadline, oldest first."""
        query = _requests().where(s.request.c.forgotten_at > s.request.c.deadline).order_by(s.request.c.number)
        with self._read() as c:
            # Texts are in the order of the times they tell, all being UTC; the times themselves decide.
            found = [_request(row, _shards(c, row.id)) for row in c.execute(query).all()]
        return [request for request in found if request.days_late]

    def waiting(self) -> list[Request]:
        """The requests that are forgotten and wait to be recovered."""
        query = _requests().where(s.request.c.state == RequestState.FORGOTTEN.value).order_by(s.request.c.number)
        with self._read() as c:
            return [_request(row, _shards(c, row.id)) for row in c.execute(query).all()]

    # Receipts

    def receipts_due(self) -> list[tuple[str, str]]:
        """Request and stage (`"forgotten"`, `"recovered"`, `"edited"`) of receipts to be issued, in that order."""
        with self._read() as c:
            return [(name, stage) for stage, query in _DUE.items() for name in c.execute(query).scalars()]

    def evidence(self, request_id: str) -> Evidence:
        """What the receipts of a request show, read in one transaction.

        Args:
            request_id: The request.

        Returns:
            Its evidence.

        Raises:
            DamageError: If it is missing.
        """
        with self._read() as c:
            this = {"this": request_id}
            row = c.execute(_REQUEST, this).first()
            parts = {item.part: json.loads(bytes(item.body)) for item in c.execute(_EVIDENCE, this)}
            if row is None or "withdrawal" not in parts:
                raise DamageError(f"the ledger {self.name} lacks the evidence of {request_id}: restore it from a copy")
            entries = chain.of_request(c, request_id)
            head, proofs = chain.proven(c, [entry.number for entry in entries])
            previous = c.execute(_FIRST_RECEIPT, this).scalar()
            return Evidence(
                request=_request(row, _shards(c, request_id)),
                withdrawal=parts["withdrawal"],
                recovery=parts.get("recovery"),
                approximation=parts.get("approximation"),
                head=head,
                entries=list(zip(entries, proofs, strict=True)),
                previous=previous,
                rotations=_rotations(c),
                artefacts=_tainted(c, request_id),
            )

    def record_receipts(self, issued: Sequence[tuple[str, str, str]]) -> None:
        """Receipts are published.

        Args:
            issued: Request, stage (`"forgotten"`, or `"recovered"` or `"edited"`, which end the request), and SHA-256
                of the signed payload, hex.
        """
        with self._write() as c:
            at = now()
            for name, stage, digest in issued:
                c.execute(_INSERT_RECEIPT, {"request": name, "stage": stage, "digest": digest})
                chain.append(c, "receipted", at, request=name, stage=stage, receipt=digest)
                if stage == STAGE:
                    edits.move(c, name, EditState.EDITED, EditState.RECEIPTED)
                if stage == "recovered":
                    _move(c, RequestState.RECOVERED, RequestState.RECEIPTED, name)
                    c.execute(delete(s.evidence).where(s.evidence.c.request == name))
                    c.execute(delete(s.removed).where(s.removed.c.request == name))

    def receipt_digests(self, request_id: str) -> dict[str, str]:
        """Digest of every receipt issued for a request, by stage."""
        query = select(s.receipt.c.stage, s.receipt.c.digest).where(s.receipt.c.request == request_id)
        with self._read() as c:
            return {row.stage: row.digest for row in c.execute(query)}

    def receipts_issued(self) -> dict[tuple[str, str], str]:
        """Digest of every receipt issued, by request and stage."""
        with self._read() as c:
            return {(row.request, row.stage): row.digest for row in c.execute(select(s.receipt))}

    def signing_keys(self) -> list[tuple[str, str]]:
        """Ids of the signing keys, the current one last, each with the rotation that introduced it (or nothing)."""
        with self._read() as c:
            return [(row.id, row.rotation) for row in c.execute(_KEYS)]

    def add_key(self, key_id: str, rotation: str) -> None:
        """Sign with another key from here on.

        Args:
            key_id: Its id.
            rotation: The signed statement that introduces it; empty for the first.
        """
        with self._write() as c:
            number = c.execute(select(func.count()).select_from(s.key)).scalar_one()
            c.execute(insert(s.key).values(number=number, id=key_id, rotation=rotation))
            chain.append(c, "key-added", now(), key=key_id)

    # What was derived

    def add_artefact(self, artefact: Artefact, sources: Mapping[int, int], states: Collection[str] = ()) -> None:
        """Register something derived from the model or the records.

        What was derived from a state that an approximate method made may know what the requests before it forgot, so
        these taint it.

        Args:
            artefact: What it is.
            sources: Shard to the latest position it depends on.
            states: Keys of the states it was derived from.
        """
        with self._write() as c:
            _add_artefact(c, artefact, sources)
            if any(made.key in states for made in approximations(c).values()):
                waiting = _requests().where(s.request.c.withdrawn_at.is_not(None) & s.request.c.recovered_at.is_(None))
                for row in c.execute(waiting.order_by(s.request.c.number)).all():
                    if _request(row, {}).is_approximate:
                        _note_taint(c, artefact.id, row.id, artefact.registered_at)

    def retire_artefact(self, artefact_id: str) -> bool:
        """Note that an artefact is gone or was made anew; whether there is such a one."""
        at = now()
        with self._write() as c:
            here = (s.artefact.c.id == artefact_id) & s.artefact.c.retired_at.is_(None)
            if c.execute(select(s.artefact.c.id).where(here)).first() is None:
                return False
            c.execute(update(s.artefact).where(here).values(retired_at=at.isoformat()))
            chain.append(c, "artefact-retired", at, artefact=artefact_id)
            return True

    def artefact_sources(self) -> dict[str, dict[int, int]]:
        """What each artefact was derived from: shard to the latest position it depends on."""
        found: dict[str, dict[int, int]] = {}
        with self._read() as c:
            for row in c.execute(select(s.artefact_source)):
                found.setdefault(row.artefact, {})[row.shard] = row.position
        return found

    def artefacts(self) -> list[Artefact]:
        """All registered artefacts, oldest first."""
        with self._read() as c:
            taints: dict[str, list[str]] = {}
            for row in c.execute(select(s.taint).order_by(s.taint.c.request)):
                taints.setdefault(row.artefact, []).append(row.request)
            rows = c.execute(select(s.artefact).order_by(s.artefact.c.registered_at, s.artefact.c.id)).all()
            return [_artefact(row, taints.get(row.id, [])) for row in rows]

    # The log

    def migrations(self) -> dict[str, str]:
        """The migrations this database went through, and when."""
        with self._read() as c:
            return {row.name: row.at for row in c.execute(select(s.migration))}

    def head(self) -> Head:
        """Size and root of the log."""
        with self._read() as c:
            return chain.head(c)

    def root_at(self, size: int) -> bytes:
        """Root of the log's first `size` events."""
        with self._read() as c:
            return chain.root_at(c, size)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Proof that the log of `size` events only added to that of `old`."""
        with self._read() as c:
            return chain.consistency(c, old, size)

    def inclusion(self, number: int, size: int) -> list[bytes]:
        """Proof that an event is among the first `size`."""
        with self._read() as c:
            return chain.inclusion(c, number, size)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """All events from a number on that are there now, read page by page.

        Yields:
            The events, in order.
        """
        with self._read() as c:
            stop = chain.size(c)
        while start < stop:
            # No transaction while the caller is at work: it may take long, or never come back.
            with self._read() as c:
                page = chain.page(c, start, stop)
            yield from page
            start += len(page)


def _check_tables(database: Database) -> None:
    """Bring a database's tables up to date, and refuse one that has not all of them."""
    with database.read() as c:
        there = set(inspect(c).get_table_names())
    if "migration" in there:
        migrate(database, now())
        with database.read() as c:
            there = set(inspect(c).get_table_names())
    missing = set(s.metadata.tables) - there
    if missing:
        raise DamageError(
            f"the database {database.name} lacks the tables {', '.join(sorted(missing))}: restore it from a copy; "
            "nothing was changed"
        )


def _accept(c: Connection, items: Sequence[Submission], epoch: str) -> list[Request | UnlearnError | None]:
    """Add the requests that are new, with few statements for many."""
    keys = sorted({key for item in items if (key := item.request.idempotency_key) is not None})
    known, of_edits = _by_keys(c, keys), _edits_by_keys(c, keys)
    there = _there(c, [item.request.id for item in items])
    results: list[Request | UnlearnError | None] = []
    new: list[Submission] = []
    for item in items:
        request, key = item.request, item.request.idempotency_key
        if request.id in there:
            results.append(request)
        elif key is not None and key in known:
            given = Given(item.dated, item.escalated)
            results.append(check_repeat(known[key], request, item.fingerprint, given))
        elif key is not None and key in of_edits:
            results.append(IdempotencyError(edits.used_before(key, of_edits[key])))
        elif item.epoch != epoch:
            results.append(None)
        else:
            new.append(item)
            results.append(request)
            there.add(request.id)
            if key is not None:
                known[key] = Known(replace(request, opening=None), item.fingerprint, request.deadline)
    _add_requests(c, [(item.request, item.fingerprint, _waiting(item)) for item in new])
    insert_plain(c, s.pending, [(item.request.id, item.epoch, item.sealed) for item in new])
    return results


def check_repeat(known: Known, request: Request, fingerprint: str, given: Given) -> Request | IdempotencyError:
    """Tell the repetition of a request from another one under the same key.

    Args:
        known: The request that has the key.
        request: The present one.
        fingerprint: Keyed digest of what the present one names.
        given: What of the present one was given: what was not says nothing else than the first.

    Returns:
        The known request, or the error to raise.
    """
    if known.fingerprint != fingerprint:
        other = "other ids"
    elif known.request.reason != request.reason:
        other = "another reason"
    elif given.deadline and known.deadline != request.deadline:
        other = "another deadline"
    elif known.request.method_digest != request.method_digest:
        other = "another method"
    elif given.escalate_by and known.request.escalate_by != request.escalate_by:
        other = "another date of retraining"
    else:
        return known.request
    return IdempotencyError(
        f"the idempotency key {known.request.idempotency_key!r} was used for another request ({known.request.id}), "
        f"with {other}: choose another key, or repeat the first request as it was; nothing was changed"
    )


def _waiting(item: Submission) -> dict[str, Json]:
    """What the log says of a request that waits."""
    return {"sealed": sealed_digest(item.epoch, item.sealed), "n_records": item.request.n_records}


def _add_requests(c: Connection, added: Sequence[tuple[Request, str, dict[str, Json]]]) -> None:
    """Note requests, each with its fingerprint and what else its event says, as submitted."""
    if not added:
        return
    last = c.execute(_LAST_REQUEST).scalar()
    rows, drafts, salts, asked = [], [], [], []
    for number, (request, fingerprint, more) in enumerate(added, 0 if last is None else last + 1):
        deadline = None if request.deadline is None else request.deadline.isoformat()
        salt = secrets.token_bytes(SALT_BYTES)
        salts.append((request.id, salt))
        method: dict[str, Json] = {}
        if request.method is not None:
            until = None if request.escalate_by is None else request.escalate_by.isoformat()
            config = canonical_json(dict(request.method_config or {})).decode()
            asked.append((request.id, request.method, config, until, ""))
            method = {"method": request.method, "method_digest": request.method_digest, "escalate_by": until}
        rows.append(
            (
                *(number, request.id, request.idempotency_key, fingerprint, request.digest, request.reason),
                *(RequestState.SUBMITTED.value, request.n_subjects, request.n_records),
                *(request.submitted_at.isoformat(), deadline, None, None, None, ""),
            )
        )
        drafts.append(
            chain.draft(
                "submitted",
                request.submitted_at,
                request=request.id,
                digest=request.digest,
                n_subjects=request.n_subjects,
                deadline=deadline,
                said=said_digest(salt, request, fingerprint),
                **more,
                **method,
            )
        )
    insert_plain(c, s.request, rows)
    insert_plain(c, s.request_salt, salts)
    insert_plain(c, s.unlearning, asked)
    chain.append_all(c, drafts)


def _there(c: Connection, names: Sequence[str]) -> set[str]:
    """Those of some requests that the ledger holds."""
    found: set[str] = set()
    for part in _chunks(names):
        found |= set(c.execute(select(s.request.c.id).where(s.request.c.id.in_(part))).scalars())
    return found


@contextmanager
def _tombstones(c: Connection, tokens: Sequence[bytes]) -> Iterator[dict[str, Json]]:
    """Keep the tree over the tombstones while some are added or deleted.

    What is there before is computed anew where the change is to be, so that whoever changed the table beside the log is
    contradicted by it for good, and does not have the next honest change vouch for what he did.

    Args:
        c: A connection in a writing transaction.
        tokens: What is to be added or deleted.

    Yields:
        What the event says of it, once the block is left.
    """
    said: dict[str, Json] = {}
    before = recordset.recomputed(c, tokens, recordset.TOMBSTONES)
    yield said
    after = recordset.update(c, tokens, recordset.TOMBSTONES)
    said |= {"tombstones": [before.hash.hex(), after.hash.hex()], "buried": [before.count, after.count]}


def _requests(*more: ColumnElement[Any]) -> Select[Any]:
    """Select requests as `_request` reads them, with some columns more."""
    asked = s.unlearning
    columns = (asked.c.method, asked.c.config, asked.c.escalate_by, asked.c.not_applied)
    there = s.request.outerjoin(asked, asked.c.request == s.request.c.id)
    return select(s.request, *columns, *more).select_from(there)


def _under_way() -> Any:
    return (s.request.c.state == RequestState.SUBMITTED.value) & s.request.c.withdrawn_at.is_not(None)


def _edits_by_keys(c: Connection, idempotency_keys: Sequence[str]) -> dict[str, str]:
    """Those of some keys that stand for an edit, with its id: a key stands for one request, of whatever kind."""
    found: dict[str, str] = {}
    for part in _chunks(idempotency_keys):
        found |= edits.holders(c, part)
    return found


def _by_keys(c: Connection, idempotency_keys: Sequence[str]) -> dict[str, Known]:
    """The requests submitted under some keys, by key."""
    rows: list[Row[Any]] = []
    for part in _chunks(idempotency_keys):
        rows += c.execute(_requests().where(s.request.c.idempotency_key.in_(part))).all()
    return {
        row.idempotency_key: Known(_request(row, _shards(c, row.id)), row.fingerprint, _first_deadline(c, row))
        for row in rows
    }


def _first_deadline(c: Connection, row: Row[Any]) -> datetime | None:
    """The deadline a request was submitted with, whatever it was moved to."""
    told = [entry.event for entry in chain.of_request(c, row.id)]
    return time_or_none(next((event.fields["deadline"] for event in told if event.kind == "submitted"), row.deadline))


def _taint(c: Connection, request: Request, at: datetime) -> None:
    """Note which artefacts depend on a slice that a request hits."""
    if not request.shards:
        return
    rows = c.execute(_SOURCES)
    hit = {row.artefact for row in rows if row.position >= request.shards.get(row.shard, row.position + 1)}
    for name in sorted(hit):
        _note_taint(c, name, request.id, at)


def _add_artefact(c: Connection, artefact: Artefact, sources: Mapping[int, int]) -> None:
    c.execute(
        insert(s.artefact).values(
            id=artefact.id,
            name=artefact.name,
            kind=artefact.kind,
            location=artefact.location,
            registered_at=artefact.registered_at.isoformat(),
        )
    )
    rows = [{"artefact": artefact.id, "shard": k, "position": v} for k, v in sorted(sources.items())]
    _insert_many(c, s.artefact_source, rows)
    flat = [number for pair in sorted(sources.items()) for number in pair]
    chain.append(c, "artefact-registered", artefact.registered_at, artefact=artefact.id, sources=flat)


def _note_taint(c: Connection, artefact: str, request_id: str, at: datetime) -> None:
    c.execute(insert(s.taint).values(artefact=artefact, request=request_id))
    chain.append(c, "artefact-tainted", at, artefact=artefact, request=request_id)


def _drop_approximations(c: Connection, at: datetime, which: Callable[[Approximation], bool]) -> int:
    """Stop serving some of the states that methods made; how many there were."""
    dropped = [made for made in approximations(c).values() if which(made)]
    for made in dropped:
        c.execute(delete(s.approximation).where(s.approximation.c.shard == made.shard))
        chain.append(c, "approximation-dropped", at, shard=made.shard, key=made.key)
    return len(dropped)


def _approximate(c: Connection, made: Approximation) -> None:
    """Serve what a method made."""
    refuted = None if made.refuted_at is None else made.refuted_at.isoformat()
    values = {**vars(made), "config": canonical_json(dict(made.config)).decode(), "refuted_at": refuted}
    c.execute(insert(s.approximation).values(values))
    if made.method == CERTIFIED:
        _set(c, f"{_REMOVALS}{made.shard}", str(made.applications))
    chain.append(
        c,
        "approximated",
        now(),
        shard=made.shard,
        position=made.position,
        key=made.key,
        environment=made.environment,
        state=made.commitment,
        records=made.records,
        made_from=made.made_from,
        method=made.method,
        config=made.config_digest,
        applications=made.applications,
        refuted=refuted,
    )


def _instead(c: Connection, request: Request, unlearnt: Unlearnt | None, not_applied: str | None) -> dict[str, Json]:
    """Keep what a request that asks for a method got; what its event says of it."""
    if request.method is None:
        return {}
    if unlearnt is not None and unlearnt.approximation.had_seen(request.shards):
        body = unlearnt.to_json(request.escalate_by)
        _keep_evidence(c, request.id, "approximation", body)
        return {"approximation": approximation_digest(body)}
    code = not_applied or "nothing served"
    here = s.unlearning.c.request == request.id
    c.execute(update(s.unlearning).where(here).values(not_applied=NOT_APPLIED[code]))
    return {"not_applied": code}


def _tainted(c: Connection, request_id: str) -> list[Artefact]:
    return [_artefact(row, [request_id]) for row in c.execute(_TAINTED, {"this": request_id})]


def _artefact(row: Row[Any], tainted_by: Sequence[str]) -> Artefact:
    return Artefact(
        id=row.id,
        name=row.name,
        kind=row.kind,
        location=row.location,
        registered_at=time_of(row.registered_at),
        retired_at=time_or_none(row.retired_at),
        tainted_by=tuple(tainted_by),
    )


def _rotations(c: Connection) -> list[Json]:
    return [json.loads(row.rotation) for row in c.execute(_KEYS) if row.rotation]


def _keep_evidence(c: Connection, request_id: str, part: str, body: Json) -> None:
    c.execute(_INSERT_EVIDENCE, {"request": request_id, "part": part, "body": canonical_json(body)})


def _chunks(tokens: Sequence[V]) -> Iterator[Sequence[V]]:
    for start in range(0, len(tokens), CHUNK):
        yield tokens[start : start + CHUNK]


def _parts(records: Iterable[NewRecord]) -> Iterator[list[tuple[bytes, int, int, bytes]]]:
    """Rows of the table of records, some at a time."""
    coming = iter(records)
    while part := list(islice(coming, ROWS)):
        yield [(item.token, item.shard, item.position, item.commitment) for item in part]


def _inserted(c: Connection, rows: list[tuple[bytes, int, int, bytes]]) -> list[tuple[bytes, int, int, bytes]]:
    insert_plain(c, s.record, rows)
    return rows


def _insert_many(c: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS):
        c.execute(_insert(table), rows[start : start + ROWS])


def _rows(c: Connection, table: Table, tokens: Sequence[bytes]) -> Iterator[Row[Any]]:
    """The rows of a table that bear one of the tokens."""
    if len(tokens) > CHUNK and c.execute(select(func.count()).select_from(table)).scalar_one() <= len(tokens):
        # Reading it all is less than asking for so many: the usual case when a batch is taken in.
        wanted = set(tokens)
        yield from (row for row in c.execute(select(table)) if bytes(row.token) in wanted)
        return
    for part in _chunks(tokens):
        yield from c.execute(_with_tokens(table), {"tokens": part})


def _get(c: Connection, name: str) -> str | None:
    return c.execute(_VALUE, {"this": name}).scalar()


def _set(c: Connection, name: str, value: str) -> None:
    c.execute(_put(c.dialect.name), {"name": name, "value": value})


def _next_generation(c: Connection) -> None:
    _set(c, "generation", str(int(_get(c, "generation") or 0) + 1))


def _move(c: Connection, before: RequestState, after: RequestState, name: str, **values: str) -> None:
    """Move a request along the transition table."""
    check_transition(before, after)
    c.execute(_MOVED, {"this": name, "before": before.value, "state": after.value, **values})


def _shards(c: Connection, request_id: str) -> dict[int, int]:
    return {row.shard: row.position for row in c.execute(_SHARDS, {"this": request_id})}


@cache
def _insert(table: Table) -> Executable:
    return insert(table)


@cache
def _add_new(table: Table, dialect: str) -> Any:
    """Insert, but for what is there."""
    return upsert(dialect, table).on_conflict_do_nothing()


@cache
def _put(dialect: str) -> Any:
    """Insert a single value, or replace it."""
    statement = upsert(dialect, s.meta)
    return statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})


@cache
def _with_tokens(table: Table) -> Executable:
    return select(table).where(table.c.token.in_(bindparam("tokens", expanding=True)))


def _request(row: Row[Any], shards: dict[int, int]) -> Request:
    return Request(
        id=row.id,
        state=RequestState(row.state),
        reason=row.reason,
        idempotency_key=row.idempotency_key,
        digest=row.digest,
        n_subjects=row.n_subjects,
        n_records=row.n_records,
        shards=shards,
        submitted_at=time_of(row.submitted_at),
        deadline=time_or_none(row.deadline),
        withdrawn_at=time_or_none(row.withdrawn_at),
        forgotten_at=time_or_none(row.forgotten_at),
        recovered_at=time_or_none(row.recovered_at),
        failure=row.failure,
        method=row.method,
        method_config=None if row.config is None else json.loads(row.config),
        escalate_by=time_or_none(row.escalate_by),
        not_applied=row.not_applied or "",
    )


# Statements that every request runs: building one takes longer than running it.

_THIS: Any = bindparam("this")
_VALUE = select(s.meta.c.value).where(s.meta.c.name == _THIS)
_STEPS_OF = select(s.step).where(s.step.c.shard == _THIS)
_ENVIRONMENTS = select(s.environment)
_KEYS = select(s.key).order_by(s.key.c.number)

_REQUEST = _requests().where(s.request.c.id == _THIS)
_LAST_REQUEST = select(func.max(s.request.c.number))
_FOUND_OUT = update(s.request).where(s.request.c.id == _THIS)
_MOVED = update(s.request).where((s.request.c.id == _THIS) & (s.request.c.state == bindparam("before")))
_SHARDS = select(s.request_shard).where(s.request_shard.c.request == _THIS).order_by(s.request_shard.c.shard)
_ANY_PENDING = select(s.pending.c.request).limit(1)
_SERVED = delete(s.pending).where(s.pending.c.request == _THIS)

_ANY_UNDER_WAY = select(s.request.c.id).where(_under_way()).limit(1)
_TOMBSTONES_UNDER_WAY = (
    select(s.tombstone.c.token).join(s.request, s.request.c.id == s.tombstone.c.request).where(_under_way())
)
_ERASURES = select(s.erasure, s.slice_table.c.file, s.slice_table.c.digest).outerjoin(
    s.slice_table, (s.erasure.c.shard == s.slice_table.c.shard) & (s.erasure.c.position == s.slice_table.c.position)
)
_ERASED = delete(s.erasure).where(
    (s.erasure.c.shard == bindparam("shard")) & (s.erasure.c.position == bindparam("position"))
)
_NO_SLICE = delete(s.slice_table).where(
    (s.slice_table.c.shard == bindparam("shard")) & (s.slice_table.c.position == bindparam("position"))
)
_INSERT_SLICE = insert(s.slice_table)

_EVIDENCE = select(s.evidence).where(s.evidence.c.request == _THIS)
_INSERT_EVIDENCE = insert(s.evidence)
_FIRST_RECEIPT = select(s.receipt.c.digest).where((s.receipt.c.request == _THIS) & (s.receipt.c.stage == "forgotten"))
_INSERT_RECEIPT = insert(s.receipt)
_FIRST = select(s.receipt.c.request).where(s.receipt.c.stage == "forgotten")
_DUE = {
    "forgotten": select(s.request.c.id)
    .where(
        s.request.c.state.in_([RequestState.FORGOTTEN.value, RequestState.RECOVERED.value])
        & s.request.c.id.not_in(_FIRST)
    )
    .order_by(s.request.c.number),
    "recovered": select(s.request.c.id)
    .where(s.request.c.state == RequestState.RECOVERED.value)
    .order_by(s.request.c.number),
    STAGE: select(s.edit.c.id).where(s.edit.c.state == EditState.EDITED.value).order_by(s.edit.c.number),
}
_SOURCES = (
    select(s.artefact_source)
    .join(s.artefact, s.artefact.c.id == s.artefact_source.c.artefact)
    .where(s.artefact.c.retired_at.is_(None))
)
_TAINTED = (
    select(s.artefact)
    .join(s.taint, s.taint.c.artefact == s.artefact.c.id)
    .where(s.taint.c.request == _THIS)
    .order_by(s.artefact.c.id)
)
