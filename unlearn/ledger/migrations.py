"""How a database came to its present form: named steps, each committed together with its name.

A step is never changed once a version with it is out: what an older database lacks is added by a new step at the
end. A step that finds a database half way cannot exist, since each is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, inspect, select

from shards.digest import Json
from unlearn.errors import WorkspaceError
from unlearn.ledger import chain, recordset
from unlearn.ledger import schema as s
from unlearn.ledger.database import Database

Migration = tuple[str, Callable[[Connection], dict[str, Json] | None]]
"""Name, and what it does within one transaction; may return what its event says besides its name."""

_LATER = (s.tombstone_bucket, s.request_salt, s.unlearning, s.approximation, s.edit, s.edit_pending)
"""Tables that later steps add."""


def _initial(c: Connection) -> None:
    s.metadata.create_all(c, [table for table in s.metadata.sorted_tables if table not in _LATER])
    for statement in _APPEND_ONLY[c.dialect.name]:
        c.exec_driver_sql(statement)


def _vouch_for_tombstones(c: Connection) -> dict[str, Json]:
    """Store the tree over the tombstones that are there, and have the log vouch for them from here on."""
    s.tombstone_bucket.create(c)
    nodes = recordset.whole(recordset.members(c, recordset.TOMBSTONES))
    if nodes:
        rows = [{"node": number, "count": node.count, "hash": node.hash} for number, node in nodes.items()]
        c.execute(insert(s.tombstone_bucket), rows)
    root = recordset.root(c, recordset.TOMBSTONES)
    return {"tombstones": [root.hash.hex()], "buried": [root.count]}


def _salt_requests(c: Connection) -> None:
    """Make room for the salts of what requests say; those there are keep none, and the log says nothing of theirs."""
    s.request_salt.create(c)


def _admit_methods(c: Connection) -> None:
    """Make room for what approximate methods make, and for the requests that ask for them."""
    s.unlearning.create(c)
    s.approximation.create(c)


def _admit_edits(c: Connection) -> None:
    """Make room for requests to edit a language model."""
    s.edit.create(c)
    s.edit_pending.create(c)


_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in ("event", "tree")
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        (
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        ),
        *(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            for table in ("event", "tree")
        ),
    ],
}
"""Against mistakes, not against whoever owns the database: that is what the hashes are for."""

MIGRATIONS: tuple[Migration, ...] = (
    ("0001-initial", _initial),
    ("0002-tombstone-tree", _vouch_for_tombstones),
    ("0003-request-salts", _salt_requests),
    ("0004-approximate-methods", _admit_methods),
    ("0005-edits", _admit_edits),
)
"""All of them, oldest first."""


def applied(database: Database) -> list[str]:
    """Names of the steps a database went through.

    Args:
        database: The database.

    Returns:
        The names, in order; none if there are no tables.
    """
    with database.bare() as c:
        if not inspect(c).has_table("migration"):
            return []
        return list(c.execute(select(s.migration.c.name).order_by(s.migration.c.name)).scalars())


def migrate(database: Database, at: datetime, migrations: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Bring a database to the newest form.

    Args:
        database: The database.
        at: The time, UTC.
        migrations: All that there are.

    Returns:
        Names of the steps that were taken.

    Raises:
        WorkspaceError: If the database went through a step this program does not know.
    """
    done = applied(database)
    unknown = sorted(str(name) for name in set(done) - {name for name, _ in migrations})
    if unknown:
        raise WorkspaceError(
            f"the database {database.name} was written by a newer version of this program (it went through "
            f"{', '.join(unknown)}): upgrade to open it"
        )
    taken = []
    for name, change in migrations:
        if name not in done:
            with database.bare() as c:
                said = change(c) or {}
                c.execute(s.migration.insert().values(name=name, at=at.isoformat()))
                chain.append(c, "migrated", at, name=name, **said)
            taken.append(name)
    return taken
