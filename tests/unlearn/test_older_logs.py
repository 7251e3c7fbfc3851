"""A workspace whose log an older version of this program wrote: it opens, goes on, and is verified."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

import unlearn
from shards.digest import Json
from tests.unlearn import attacks
from tests.unlearn.helpers import canaries, filled, labels, names
from unlearn import Workspace
from unlearn.errors import TombstoneError, VerificationError
from unlearn.ledger import chain, migrations
from unlearn.ledger import schema as s
from unlearn.ledger.events import FIELDS, encode


@contextmanager
def older(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this program write what the first version wrote: the first migration alone, and no field that came later.

    The tables that later versions have are there meanwhile, since its code is the present one; see `made_older`.
    """

    def first(c: Connection) -> None:
        migrations.MIGRATIONS[0][1](c)
        for table in migrations._LATER:
            table.create(c)

    def as_then(kind: str, at: datetime, **fields: Json) -> bytes:
        return encode(kind, at, **{name: value for name, value in fields.items() if name in FIELDS[kind]})

    with patch.context() as patched:
        patched.setattr(migrations.migrate, "__defaults__", (((migrations.MIGRATIONS[0][0], first),),))
        patched.setattr(chain.events, "encode", as_then)
        yield


def made_older(folder: Path) -> None:
    """Take away the tables that the first version had not."""
    with closing(sqlite3.connect(folder / "ledger.db")) as c:
        for table in migrations._LATER:
            c.execute(f"DROP TABLE {table.name}")
        c.commit()


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, bytes]:
    """A workspace of the first version in which two people were forgotten; its key and a receipt."""
    with older(monkeypatch), closing(filled(tmp_path / "old")) as workspace:
        workspace.forget(record_ids=names([1]))
        request = workspace.forget(record_ids=names([2]), reason="asked by letter")
        workspace.recover()
        key, receipt = workspace.public_key, workspace.receipt(request.id).data
    made_older(tmp_path / "old")
    return tmp_path / "old", key, receipt


def bodies(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(body) for body in attacks.events(folder)]


def test_an_older_log_opens_and_goes_on(old: tuple[Path, str, bytes]) -> None:
    folder, key, receipt = old
    before = attacks.events(folder)
    assert not any("tombstones" in body for body in bodies(folder))
    with closing(Workspace.open(folder)) as workspace:
        with pytest.raises(TombstoneError):
            workspace.ingest(canaries([1]), labels([1]), record_ids=names([1]))
        workspace.forget(record_ids=names([3]))
        workspace.ingest(canaries([1]), labels([1]), record_ids=names([1]), reconsent=names([1]))
        workspace.recover()
    assert attacks.events(folder)[: len(before)] == before
    assert bodies(folder)[len(before)]["kind"] == "migrated"
    found = unlearn.verify(receipt, key, workspace=folder)
    said = next(step.detail for step in found.steps if step.number == 13)
    assert f"which tombstones there were before its event {len(before) + 1:,}" in said


def test_a_log_that_always_covered_them_is_not_said_not_to_have(tmp_path: Path) -> None:
    with closing(filled(tmp_path / "new")) as workspace:
        receipt = workspace.receipt(workspace.forget(record_ids=names([1])).id).data
        key = workspace.public_key
    found = unlearn.verify(receipt, key, workspace=tmp_path / "new")
    assert "1 tombstones" in found.steps[-4].detail
    assert "before its event" not in found.steps[-4].detail


def test_from_the_migration_on_tombstones_are_covered(old: tuple[Path, str, bytes]) -> None:
    folder, key, receipt = old
    Workspace.open(folder).close()
    attacks.execute(folder, "UPDATE tombstone SET token = randomblob(length(token))")
    with pytest.raises(VerificationError, match="does not hold the tombstones any more that the log vouches for"):
        unlearn.verify(receipt, key, workspace=folder)


def test_the_database_of_an_older_version_comes_to_be_that_of_this_one(
    old: tuple[Path, str, bytes], tmp_path: Path
) -> None:
    """Every table, index and trigger, to the letter."""
    folder, _, _ = old
    Workspace.open(folder).close()
    filled(tmp_path / "new").close()
    schemas = []
    for path in (folder, tmp_path / "new"):
        with closing(sqlite3.connect(path / "ledger.db")) as c:
            schemas.append(set(c.execute("SELECT type, name, sql FROM sqlite_master")))
    assert schemas[0] == schemas[1]
    assert {row[1] for row in schemas[0] if row[0] == "table"} == set(s.metadata.tables)
