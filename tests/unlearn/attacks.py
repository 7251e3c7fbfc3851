"""Attacks on a workspace and its receipts, one a function, each by somebody who knows this program well.

Every attack works on a closed workspace's folder. Its docstring says what the attacker may do; what the attacker may
never do is sign with a key that only the verifier's trusted party holds, unless it says that the key was stolen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from shards import slicefile
from shards.digest import Json, canonical_json, digest_arrays
from shards.placement import place_subjects
from shards.store import new_salt
from shards.store_local import ShardFolder
from unlearn import Workspace
from unlearn.ledger import merkle, radix
from unlearn.ledger.recordset import CUT
from unlearn.receipt.envelope import parse_envelope, seal
from unlearn.receipt.keys import create_key, load_signer
from unlearn.receipt.predicate import withdrawal_digest

Edit = Callable[[Any], None]


# Tools


@contextmanager
def ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """The tables, for a while without the triggers that keep the log append-only."""
    with closing(sqlite3.connect(path / "ledger.db", isolation_level=None)) as c:
        triggers = c.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        c.execute("BEGIN")
        for name, _ in triggers:
            c.execute(f"DROP TRIGGER {name}")
        yield c
        for _, sql in triggers:
            c.execute(sql)
        c.execute("COMMIT")


def events(path: Path) -> list[bytes]:
    """The log, as the exact bytes of each event."""
    with closing(sqlite3.connect(path / "ledger.db")) as c:
        return [bytes(row[0]) for row in c.execute("SELECT body FROM event ORDER BY number")]


def write_log(c: sqlite3.Connection, bodies: Sequence[bytes]) -> None:
    """Put another log in the place of the one that is there, with the tree that belongs to it."""
    c.execute("DELETE FROM event")
    c.execute("DELETE FROM tree")
    nodes: dict[tuple[int, int], bytes] = {}
    appender = merkle.Appender(0, lambda level, index: nodes[level, index])
    for number, body in enumerate(bodies):
        c.execute("INSERT INTO event VALUES (?, ?, ?)", (number, body, json.loads(body).get("request")))
        nodes |= {(level, index): value for level, index, value in appender.append(merkle.leaf_hash(body))}
    c.executemany("INSERT INTO tree VALUES (?, ?, ?)", [(*place, value) for place, value in nodes.items()])


def places(bodies: Sequence[bytes], kind: str) -> list[int]:
    """Where in a log the events of a kind are."""
    return [number for number, body in enumerate(bodies) if json.loads(body)["kind"] == kind]


def edited(body: bytes, **fields: Json) -> bytes:
    """An event with other fields."""
    return canonical_json({**json.loads(body), **fields})


def signer_of(path: Path) -> Any:
    """The workspace's own signing key, stolen."""
    private = next(item for item in (path / "keys").glob("*.pem") if not item.name.endswith(".pub.pem"))
    return load_signer(private)


def statement_of(receipt: bytes) -> Any:
    """What a receipt says."""
    return json.loads(parse_envelope(receipt).payload)


def record_files(path: Path) -> list[tuple[int, int, Path]]:
    """Shard, position and file of every slice."""
    with closing(sqlite3.connect(path / "ledger.db")) as c:
        rows = c.execute("SELECT shard, position, file FROM slice ORDER BY shard, position").fetchall()
    return [(shard, position, path / "shards" / f"{shard:04d}" / "records" / file) for shard, position, file in rows]


def write_slice(path: Path, file: Path, data: slicefile.SliceRecords) -> None:
    """Put other records in the place of a file, the ledger's description of the file included."""
    file.unlink(missing_ok=True)
    slicefile.write(file, data)
    digest = slicefile.slice_digest(slicefile.commitments(data))
    with ledger(path) as c:
        c.execute("UPDATE slice SET records = ?, digest = ? WHERE file = ? AND shard = ?", (
            len(data), digest, file.name, int(file.parent.parent.name),
        ))  # fmt: skip


def write_buckets(path: Path) -> tuple[str, int]:
    """Make the stored tree over the records the one that belongs to the record table; its root and count."""
    with ledger(path) as c:
        present = [bytes(row[0]) for row in c.execute("SELECT commitment FROM record")]
        return _write_tree(c, "bucket", sorted(present))


def write_graves(path: Path) -> tuple[str, int]:
    """Make the stored tree over the tombstones the one that belongs to their table; its root and count."""
    with ledger(path) as c:
        rows = c.execute("SELECT token, kind, request FROM tombstone").fetchall()
        rest = [hashlib.sha256(f"tombstone/{kind}/{request}".encode()).digest()[:16] for _, kind, request in rows]
        return _write_tree(c, "tombstone_bucket", sorted(row[0] + more for row, more in zip(rows, rest, strict=True)))


def _write_tree(c: sqlite3.Connection, table: str, members: list[bytes]) -> tuple[str, int]:
    level = {
        (1 << CUT) + prefix: radix.subtree(
            [item for item in members if int.from_bytes(item[:4], "big") >> (32 - CUT) == prefix], CUT
        )
        for prefix in {int.from_bytes(item[:4], "big") >> (32 - CUT) for item in members}
    }
    nodes = dict(level)
    for _ in range(CUT):
        level = {
            node >> 1: radix.join(level.get(node >> 1 << 1, radix.EMPTY), level.get((node >> 1 << 1) + 1, radix.EMPTY))
            for node in level
        }
        nodes |= level
    c.execute(f"DELETE FROM {table}")
    c.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", [(k, v.count, v.hash) for k, v in nodes.items()])
    root = nodes.get(1, radix.EMPTY)
    return root.hash.hex(), root.count


# The log


def truncate(path: Path, old: Path) -> None:
    """Cut the last events off, with the tree, and roll every other table back to what they were before.

    May write the database and has an older copy of it. The files stay as they are.
    """
    bodies = events(old)
    with ledger(path) as c:
        write_log(c, bodies)
        c.execute("COMMIT")
        c.execute("ATTACH ? AS old", (str(old / "ledger.db"),))
        c.execute("BEGIN")
        tables = [row[0] for row in c.execute("SELECT name FROM old.sqlite_master WHERE type = 'table'")]
        for table in set(tables) - {"event", "tree"}:
            c.execute(f"DELETE FROM main.{table}")
            c.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")


def swap_events(path: Path, first: int, second: int) -> None:
    """Exchange two events and compute the tree again. May write the database."""
    bodies = events(path)
    bodies[first], bodies[second] = bodies[second], bodies[first]
    with ledger(path) as c:
        write_log(c, bodies)


def edit_event(path: Path, number: int, *, rebuild: bool, **fields: Json) -> None:
    """Change an event, and compute the tree again or leave it. May write the database."""
    bodies = events(path)
    bodies[number] = edited(bodies[number], **fields)
    with ledger(path) as c:
        if rebuild:
            write_log(c, bodies)
        else:
            c.execute("UPDATE event SET body = ? WHERE number = ?", (bodies[number], number))


def rewrite_history(path: Path) -> None:
    """Write a log in which everything happened a day later, with its own tree; the tables agree. May write all."""

    def later(text: str | None) -> str | None:
        return None if text is None else (datetime.fromisoformat(text) + timedelta(days=1)).isoformat()

    bodies = [edited(body, at=later(json.loads(body)["at"])) for body in events(path)]
    with ledger(path) as c:
        write_log(c, bodies)
        for column in ("submitted_at", "withdrawn_at", "forgotten_at", "recovered_at"):
            for name, at in c.execute(f"SELECT id, {column} FROM request").fetchall():
                c.execute(f"UPDATE request SET {column} = ? WHERE id = ?", (later(at), name))


def append_event(path: Path, kind: str, **fields: Json) -> None:
    """Add an event as the program itself would. May write the database."""
    bodies = events(path)
    at = json.loads(bodies[-1])["at"]
    with ledger(path) as c:
        write_log(c, [*bodies, canonical_json({"kind": kind, "version": 1, "at": at, **fields})])


def restore(path: Path, old: Path) -> None:
    """Put an older copy of the whole workspace in its place. May write all, and kept a copy."""
    shutil.rmtree(path)
    shutil.copytree(old, path)


def execute(path: Path, statement: str, *values: object) -> None:
    """Change the tables and not the log. May write the database."""
    with ledger(path) as c:
        assert c.execute(statement, values).rowcount > 0, "the attack changed nothing"


# Receipts


def reworded(receipt: bytes, edit: Edit, signers: Sequence[Any]) -> bytes:
    """Let a receipt say something else, signed by whoever. Has a receipt, and the keys given."""
    statement = statement_of(receipt)
    edit(statement)
    return seal(statement, signers)


def reworded_unsigned(receipt: bytes, edit: Edit) -> bytes:
    """Let a receipt say something else under the signature it has. Has a receipt, and no key."""
    envelope, statement = json.loads(receipt), statement_of(receipt)
    edit(statement)
    envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()
    return json.dumps(envelope).encode()


def stripped(receipt: bytes) -> bytes:
    """Take the signatures off. Has a receipt."""
    return json.dumps({**json.loads(receipt), "signatures": []}).encode()


def crossed(receipt: bytes, other: bytes) -> bytes:
    """Put the content of one receipt under the signature of another. Has two receipts."""
    return json.dumps({**json.loads(receipt), "payload": json.loads(other)["payload"]}).encode()


def foreign_signer(folder: Path) -> Any:
    """A key of the attacker's own."""
    return load_signer(create_key(folder))


def deny_presence(receipt: bytes, signer: Any) -> bytes:
    """Let a receipt say that a record is gone that is there, with a log and digests that agree. Stole the key.

    The tree the attacker shows is the true one, over all records, with the branch of the record left out.
    """
    statement = statement_of(receipt)
    predicate = statement["predicate"]
    taken = predicate["withdrawal"]
    before = taken["records"]["before"]
    taken["records"]["after"] = {"root": before["root"], "count": before["count"] - len(taken["removed"])}
    taken["absence"] = f"h:{before['root']}:{before['count']}"
    bodies = [json.loads(item["body"]) for item in predicate["log"]["events"]]
    withdrawn = next(body for body in bodies if body["kind"] == "withdrawn")
    withdrawn["evidence"] = withdrawal_digest(taken)
    withdrawn["records"] = [before["root"]] * 2
    lines = [canonical_json(body) for body in bodies]
    nodes: dict[tuple[int, int], bytes] = {}
    appender = merkle.Appender(0, lambda level, index: nodes[level, index])
    for line in lines:
        nodes |= {(level, index): value for level, index, value in appender.append(merkle.leaf_hash(line))}
    predicate["log"] = {
        "size": len(lines),
        "root": appender.root().hex(),
        "events": [
            {
                "index": number,
                "body": line.decode(),
                "proof": [
                    item.hex()
                    for item in merkle.inclusion_proof(number, len(lines), lambda level, index: nodes[level, index])
                ],
            }
            for number, line in enumerate(lines)
        ],
    }
    return seal(statement, [signer])


# Checkpoints


def other_states_file(path: Path, shard: int) -> None:
    """Put the file of one step under the key of another. May write the shard's folder."""
    folder = ShardFolder(path / "shards" / f"{shard:04d}")
    first, second = sorted(folder.keys())[:2]
    shutil.copyfile(folder.checkpoint(first), folder.checkpoint(second))


def other_state(path: Path, shard: int) -> tuple[str, str]:
    """Put a state that was trained on other data under a step's key, with a header that fits it.

    May write the shard's folder; knows every format and digest. Returns the step's key and the new commitment.
    """
    with closing(Workspace.open(path)) as workspace:
        learner = workspace._site.learner
    folder = ShardFolder(path / "shards" / f"{shard:04d}")
    loaded = sorted((folder.load(key) for key in folder.keys()), key=lambda item: item.header.position)  # noqa: SIM118
    victim, other = loaded[1], loaded[0]
    header = replace(
        victim.header,
        content=learner.content_digest(other.state),
        payload=digest_arrays(dict(other.state)),
        salt=new_salt(),
    )
    assert header.content != victim.header.content
    folder.publish(folder.stage(header, other.state), header.key)
    return header.key, header.commitment


def heavier_state(path: Path, shard: int) -> None:
    """Let a checkpoint say that it saw more records than it did, which weighs its vote. May write the folder."""
    folder = ShardFolder(path / "shards" / f"{shard:04d}")
    key = min(folder.keys())
    loaded = folder.load(key)
    folder.publish(folder.stage(replace(loaded.header, records=10**6), loaded.state), key)


# Records


def edit_records(path: Path, file: Path, edit: Callable[[slicefile.SliceRecords], slicefile.SliceRecords]) -> None:
    """Write other records into a file, in the right form. May write the shard's folder, not the ledger."""
    data = slicefile.read(file)
    copied = slicefile.keep(data, np.ones(len(data), dtype=bool))
    file.unlink()
    slicefile.write(file, edit(copied))


def nudged(data: slicefile.SliceRecords) -> slicefile.SliceRecords:
    """The records with one byte of one feature changed."""
    features = {name: array.copy() for name, array in data.features.items()}
    next(iter(features.values())).reshape(-1).view(np.uint8)[0] ^= 1
    return replace(data, features=features)


def salts_exchanged(data: slicefile.SliceRecords) -> slicefile.SliceRecords:
    """The records with the salts of two of them exchanged."""
    salts = data.salts.copy()
    salts[[0, 1]] = salts[[1, 0]]
    return replace(data, salts=salts)


def joined(data: slicefile.SliceRecords, extra: slicefile.SliceRecords) -> slicefile.SliceRecords:
    """The records of two slices in one, in canonical order."""
    tokens = np.concatenate([data.tokens, extra.tokens])
    order = np.array(sorted(range(len(tokens)), key=lambda row: tokens[row].tobytes()))
    ids, subjects = (*data.record_ids, *extra.record_ids), (*data.subjects, *extra.subjects)
    return slicefile.SliceRecords(
        record_ids=tuple(ids[row] for row in order),
        subjects=tuple(subjects[row] for row in order),
        tokens=tokens[order],
        salts=np.concatenate([data.salts, extra.salts])[order],
        features={name: np.concatenate([data.features[name], extra.features[name]])[order] for name in data.features},
        target=np.concatenate([data.target, extra.target])[order],
    )


def slip_back(
    path: Path, kept: slicefile.SliceRecords, record_id: str, *, salt: bytes | None = None
) -> tuple[str, int]:
    """Bring a forgotten record back into its slice: file, record table, slice table and tree agree.

    May write all and kept a copy of the record and the workspace's secrets. Returns root and count of the new tree.
    """
    row = kept.record_ids.index(record_id)
    extra = slicefile.keep(kept, np.arange(len(kept)) == row)
    if salt is not None:
        extra = replace(extra, salts=np.frombuffer(salt, dtype=np.uint8).reshape(1, -1).copy())
    with closing(Workspace.open(path)) as workspace:
        token = workspace._site.tokens("record", [record_id])[0]
        home = workspace._site.keys.placement
        constants = workspace.declaration
    shards, slices = place_subjects(home, extra.subjects, constants.n_shards, constants.n_slices)
    shard, position = int(shards[0]), int(slices[0])
    file = next(item for at, place, item in record_files(path) if (at, place) == (shard, position))
    data = slicefile.read(file)
    write_slice(path, file, joined(slicefile.keep(data, np.ones(len(data), dtype=bool)), extra))
    commitment = slicefile.commitments(extra)[0].tobytes()
    with ledger(path) as c:
        c.execute("INSERT INTO record VALUES (?, ?, ?, ?)", (token, shard, position, commitment))
    return write_buckets(path)
