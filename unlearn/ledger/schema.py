"""The ledger's tables.

No table holds an id of a person in the clear, and no digest that could be compared with a guess at a record: records
and subjects appear as keyed tokens of 16 bytes, records and states as salted commitments whose salts lie in their
own files and go with them. So what a database leaves in unused parts of its pages, in its journal or in its
write-ahead log says no more than what it keeps on purpose.

`event` is the log: rows are only ever added. Every other table is what the events come to, kept so that nobody has
to read the log to answer a question, and is changed in the same transaction as the event that says so.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: `generation` (raised whenever the served state changes), `operation` (the long operation
under way, or empty), `task` (declared with the first batch), `batches` (how many were ingested), `epoch` (name of
the key that submitted ids are encrypted under)."""

migration = Table(
    "migration",
    metadata,
    Column("name", String, primary_key=True),
    Column("at", String, nullable=False),
)
"""The migrations this database went through."""

event = Table(
    "event",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("request", String, index=True),
)
"""The log: canonical JSON of each event, from 0; the request it is about, if any."""

tree = Table(
    "tree",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
"""The complete subtrees of the log's Merkle tree (`merkle`), leaves at level 0."""

slice_table = Table(
    "slice",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("file", String, nullable=False),
    Column("records", Integer, nullable=False),
    Column("digest", String, nullable=False),
    sqlite_with_rowid=False,
)
"""The non-empty slices; the position counts slices over all batches."""

record = Table(
    "record",
    metadata,
    Column("token", LargeBinary(16), primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("commitment", LargeBinary(32), nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""Where each present record is, and its salted commitment. Not whose it is: of a forgotten record's token a
tombstone stays anyway, but of a subject that only records were forgotten of, nothing does."""

bucket = Table(
    "bucket",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
"""The upper nodes of the sorted Merkle tree over the commitments (`radix`), numbered as in a heap from 1; those of
empty subtrees are left out."""

tombstone = Table(
    "tombstone",
    metadata,
    Column("token", LargeBinary(16), primary_key=True),
    Column("kind", String, nullable=False),
    Column("request", String, nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""Tokens of forgotten subjects and records, which must not return."""

tombstone_bucket = Table(
    "tombstone_bucket",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
"""The same as `bucket`, of the tree over the tombstones."""

step = Table(
    "step",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("key", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("commitment", String, nullable=False),
    Column("records", Integer, nullable=False),
    Column("visits", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""Built steps; a shard serves the one with the highest position. The commitment's salt is in the checkpoint."""

request = Table(
    "request",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("idempotency_key", String, unique=True),
    Column("fingerprint", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("n_subjects", Integer, nullable=False),
    Column("n_records", Integer, nullable=False),
    Column("submitted_at", String, nullable=False),
    Column("deadline", String),
    Column("withdrawn_at", String),
    Column("forgotten_at", String),
    Column("recovered_at", String),
    Column("failure", Text, nullable=False),
)

request_salt = Table(
    "request_salt",
    metadata,
    Column("request", String, primary_key=True),
    Column("salt", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
"""What salts the log's digest of a request's texts, which may name somebody: without it, the digest says nothing."""

unlearning = Table(
    "unlearning",
    metadata,
    Column("request", String, primary_key=True),
    Column("method", String, nullable=False),
    Column("config", Text, nullable=False),
    Column("escalate_by", String),
    Column("not_applied", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Which approximate method a request asks for, until when the model is to be retrained after it, and why it was not
applied, if it was not."""

approximation = Table(
    "approximation",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    Column("key", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("commitment", String, nullable=False),
    Column("records", Integer, nullable=False),
    Column("made_from", String, nullable=False),
    Column("method", String, nullable=False),
    Column("config", Text, nullable=False),
    Column("applications", Integer, nullable=False),
    Column("refuted_at", String),
    sqlite_with_rowid=False,
)
"""States that approximate methods made; a shard that has one serves it, whatever steps there are."""

request_shard = Table(
    "request_shard",
    metadata,
    Column("request", String, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Which shards a request hit, and the earliest position in each."""

pending = Table(
    "pending",
    metadata,
    Column("request", String, primary_key=True),
    Column("epoch", String, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The ids of accepted requests that nobody has served yet, encrypted under a key that is no part of the database
and is destroyed once they are served."""

removed = Table(
    "removed",
    metadata,
    Column("request", String, primary_key=True),
    Column("commitment", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)
"""Commitments of the records a request removed, until its last receipt is issued."""

evidence = Table(
    "evidence",
    metadata,
    Column("request", String, primary_key=True),
    Column("part", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""What a receipt will show (`withdrawal`, `recovery`), until the last one is issued."""

edit = Table(
    "edit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("idempotency_key", String, unique=True),
    Column("fingerprint", String, nullable=False),
    Column("salt", LargeBinary(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("facts", Text, nullable=False),
    Column("texts", String, nullable=False),
    Column("artefact", String, nullable=False),
    Column("output", Text, nullable=False),
    Column("editor", String, nullable=False),
    Column("config", Text, nullable=False),
    Column("weights", String, nullable=False),
    Column("submitted_at", String, nullable=False),
    Column("edited_at", String),
    Column("made", String),
    Column("weights_after", String),
    Column("measured", Text, nullable=False),
    Column("failure", Text, nullable=False),
)
"""Requests to edit a language model. Facts and weights are there as salted commitments; `salt` is of what a request
says beside them, as in `request_salt`."""

edit_pending = Table(
    "edit_pending",
    metadata,
    Column("request", String, primary_key=True),
    Column("epoch", String, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Facts and texts of the edits that nobody has made yet, encrypted under a key that is a file of its own and is
destroyed once the edit is made, or given up."""

receipt = Table(
    "receipt",
    metadata,
    Column("request", String, primary_key=True),
    Column("stage", String, primary_key=True),
    Column("digest", String, nullable=False),
    sqlite_with_rowid=False,
)
"""Receipts issued: digest of the signed payload."""

key = Table(
    "key",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("rotation", Text, nullable=False),
)
"""Signing keys, the current one last; how each but the first was introduced by the one before it."""

artefact = Table(
    "artefact",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("location", Text, nullable=False),
    Column("registered_at", String, nullable=False),
    Column("retired_at", String),
)
"""What was derived from the model or the records and lives elsewhere."""

artefact_source = Table(
    "artefact_source",
    metadata,
    Column("artefact", String, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The latest slice of each shard that an artefact depends on."""

taint = Table(
    "taint",
    metadata,
    Column("artefact", String, primary_key=True),
    Column("request", String, primary_key=True),
    sqlite_with_rowid=False,
)
"""Artefacts that depend on what a request removed."""

erasure = Table(
    "erasure",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Slices that still have to be rewritten without the forgotten records: work a crash must not lose."""

environment = Table(
    "environment",
    metadata,
    Column("digest", String, primary_key=True),
    Column("description", Text, nullable=False),
)
"""The numeric environments steps were built in."""
