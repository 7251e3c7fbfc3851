"""Whether a ledger's database is what it was written as: what no single answer taken from it would show.

Its pages and indices, the stored trees over its events and its records, and its tombstones, each computed again from
what it stands for. Reads everything: for whoever verifies a workspace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, func, select

from unlearn.errors import DamageError
from unlearn.ledger import merkle, recordset
from unlearn.ledger import schema as s
from unlearn.ledger.database import Database
from unlearn.ledger.events import decode
from unlearn.ledger.ledger import ROWS, Ledger
from unlearn.ledger.migrations import migrate

_ADVICE = "the database was changed by something else than this program, or its disk is failing; restore it from a copy"


def check_pages(ledger: Ledger) -> None:
    """Refuse a database whose pages or indices contradict each other, or that has other tables or triggers than ours.

    Args:
        ledger: The ledger. PostgreSQL sees to its own pages.

    Raises:
        DamageError: Naming the first contradiction.
    """
    with ledger._read() as c:
        if c.dialect.name != "sqlite":
            return
        found = [row[0] for row in c.exec_driver_sql("PRAGMA integrity_check(1)")]
        schema = _schema(c)
    if found != ["ok"]:
        raise DamageError(f"the database {ledger.name} contradicts itself ({' '.join(found)}): {_ADVICE}")
    foreign = sorted(item[1] for item in schema ^ _ours())
    if foreign:
        # A trigger could undo, whenever a record is forgotten, that it is.
        raise DamageError(
            f"the database {ledger.name} has other tables, indices or triggers than a ledger ({foreign[0][:40]}): "
            f"{_ADVICE}"
        )


def _schema(c: Connection) -> frozenset[tuple[str, str, str]]:
    rows = c.exec_driver_sql("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return frozenset((str(row[0]), str(row[1]), str(row[2])) for row in rows)


@cache
def _ours() -> frozenset[tuple[str, str, str]]:
    """The schema that the migrations lead to."""
    database = Database.sqlite(Path(":memory:"))
    try:
        migrate(database, datetime.now(UTC))
        with database.read() as c:
            return _schema(c)
    finally:
        database.close()


def check_log(ledger: Ledger) -> None:
    """Refuse a stored tree that is not that of the events, and events filed where they do not belong.

    Args:
        ledger: The ledger.

    Raises:
        DamageError: If a node is missing, too many, or another, or an event is not found under its request.
    """
    nodes: dict[tuple[int, int], bytes] = {}
    appender = merkle.Appender(0, lambda level, index: nodes[level, index])
    with ledger._read() as c:
        for row in c.execute(select(s.event).order_by(s.event.c.number).execution_options(yield_per=ROWS)):
            body = bytes(row.body)
            nodes |= {(level, index): value for level, index, value in appender.append(merkle.leaf_hash(body))}
            if decode(body).request != row.request:
                raise DamageError(
                    f"entry {row.number} of the log is filed under another request than it is about, whose receipts "
                    f"would lack it: {_ADVICE}"
                )
        stored = {(row.level, row.position): bytes(row.hash) for row in c.execute(select(s.tree))}
    if stored != nodes:
        raise DamageError(
            f"the stored tree over the events of {ledger.name} is not theirs: an event was changed, or the tree was"
        )


def check_record_tree(ledger: Ledger) -> None:
    """Refuse stored nodes of the tree over the records that are not those of the record table.

    Args:
        ledger: The ledger.

    Raises:
        DamageError: If a node is missing, too many, or another.
    """
    if not _is_stored(ledger, recordset.RECORDS):
        raise DamageError(f"the stored tree over the records of {ledger.name} is not theirs: {_ADVICE}")


def _is_stored(ledger: Ledger, of: recordset.Members) -> bool:
    """Whether the stored tree over a set is the one that belongs to its table."""
    with ledger._read() as c:
        return recordset.stored(c, of) == recordset.whole(recordset.members(c, of))


def check_removed(ledger: Ledger, request_id: str, removed: Sequence[str]) -> None:
    """Refuse a list of removed records, kept for the receipt of the recovery, that is not the evidence's.

    Args:
        ledger: The ledger.
        request_id: A request that is not recovered yet.
        removed: Commitments as its evidence has them, hex.

    Raises:
        DamageError: If the list is another.
    """
    query = select(s.removed.c.commitment).where(s.removed.c.request == request_id)
    with ledger._read() as c:
        held = sorted(bytes(row).hex() for row in c.execute(query).scalars())
    if held != sorted(removed):
        raise DamageError(f"what {request_id} removed is not what the evidence of it says: {_ADVICE}")


def check_tombstones(ledger: Ledger, removed: Mapping[str, int], lifted: int) -> None:
    """Refuse a list of what must not return from which something was taken.

    Whom a lifted tombstone was of, nobody knows any more: after a re-consent, so many may be missing.

    Args:
        ledger: The ledger.
        removed: Request to how many records it removed.
        lifted: How many tombstones a recorded re-consent lifted.

    Raises:
        DamageError: If there are too few, or of a request that removed nothing.
    """
    query = select(s.tombstone.c.request, func.count()).where(s.tombstone.c.kind == "record")
    with ledger._read() as c:
        held = {row[0]: int(row[1]) for row in c.execute(query.group_by(s.tombstone.c.request))}
    missing = sum(max(count - held.get(name, 0), 0) for name, count in removed.items())
    if missing > lifted or any(count > removed.get(name, 0) for name, count in held.items()):
        raise DamageError(
            f"{ledger.name} has forgotten which records must not return: {missing:,} tombstones are missing, and "
            f"{lifted:,} were lifted by a re-consent; restore it from a copy"
        )


def check_tombstone_tree(ledger: Ledger) -> None:
    """Refuse stored nodes of the tree over the tombstones that are not those of the table.

    Args:
        ledger: The ledger.

    Raises:
        DamageError: If a node is missing, too many, or another: what must not return is not what was forgotten.
    """
    if not _is_stored(ledger, recordset.TOMBSTONES):
        raise DamageError(
            f"{ledger.name} does not hold the tombstones any more that the log vouches for, so what was forgotten "
            f"could return unnoticed: {_ADVICE}"
        )
