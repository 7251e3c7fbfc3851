"""Whether a ledger's database is what it was written as: what no single answer taken from it would show.

Its pages and indices, the stored trees over its events and its records, and its tombstones, each computed again from
what it stands for. Reads everything: for whoever verifies a workspace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import func, select

from unlearn.errors import DamageError
from unlearn.ledger import merkle, radix
from unlearn.ledger import schema as s
from unlearn.ledger.ledger import Ledger
from unlearn.ledger.recordset import CUT

_ADVICE = "the database was changed by something else than this program, or its disk is failing; restore it from a copy"


def check_pages(ledger: Ledger) -> None:
    """Refuse a database whose pages or indices contradict each other.

    Args:
        ledger: The ledger. PostgreSQL sees to its own pages.

    Raises:
        DamageError: Naming the first contradiction.
    """
    with ledger._read() as c:
        if c.dialect.name != "sqlite":
            return
        found = [row[0] for row in c.exec_driver_sql("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise DamageError(f"the database {ledger.name} contradicts itself ({' '.join(found)}): {_ADVICE}")


def check_log_tree(ledger: Ledger, leaves: Iterable[bytes]) -> None:
    """Refuse stored nodes of the log's tree that are not those of its events.

    Args:
        ledger: The ledger.
        leaves: Hashes of its events, in order.

    Raises:
        DamageError: If a node is missing, too many, or another.
    """
    nodes: dict[tuple[int, int], bytes] = {}
    appender = merkle.Appender(0, lambda level, index: nodes[level, index])
    for leaf in leaves:
        nodes |= {(level, index): value for level, index, value in appender.append(leaf)}
    with ledger._read() as c:
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
    with ledger._read() as c:
        # By token, which is the table itself and no index of it.
        commitments = sorted(bytes(row.commitment) for row in c.execute(select(s.record).order_by(s.record.c.token)))
        stored = {row.node: radix.Node(row.count, bytes(row.hash)) for row in c.execute(select(s.bucket))}
    groups: dict[int, list[bytes]] = {}
    for item in commitments:
        groups.setdefault((1 << CUT) + (int.from_bytes(item[:4], "big") >> (32 - CUT)), []).append(item)
    level = {number: radix.subtree(items, CUT) for number, items in groups.items()}
    nodes = dict(level)
    for _ in range(CUT):
        level = {
            number: radix.join(level.get(2 * number, radix.EMPTY), level.get(2 * number + 1, radix.EMPTY))
            for number in {number >> 1 for number in level}
        }
        nodes |= level
    if stored != nodes:
        raise DamageError(f"the stored tree over the records of {ledger.name} is not theirs: {_ADVICE}")


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
