"""The ledger's tables.

No table holds an id of a person: records and subjects appear as keyed tokens of 16 bytes. The rows of `record`
go when the record goes; of a forgotten id the token in `tombstone` is all that stays.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: `generation` (raised whenever the served state changes), `operation` (the long operation
under way, or empty), `task` (declared with the first batch), `batches` (how many were ingested)."""

slice_table = Table(
    "slice",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
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
    sqlite_with_rowid=False,
)
"""Where each present record is. Not whose it is: a database page may keep copies of a deleted cell for a while, and
of a record's token a tombstone stays anyway, but of a subject that only records were forgotten of, nothing does."""

tombstone = Table(
    "tombstone",
    metadata,
    Column("token", LargeBinary(16), primary_key=True),
    Column("kind", String, nullable=False),
    Column("request", String, nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""Tokens of forgotten subjects and records, which must not return."""

step = Table(
    "step",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("content", String, nullable=False),
    Column("payload", String, nullable=False),
    Column("records", Integer, nullable=False),
    Column("visits", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""Built steps; a shard serves the one with the highest position."""

request = Table(
    "request",
    metadata,
    Column("id", String, primary_key=True),
    Column("idempotency_key", String, unique=True),
    Column("fingerprint", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("n_subjects", Integer, nullable=False),
    Column("n_records", Integer, nullable=False),
    Column("submitted_at", String, nullable=False),
    Column("forgotten_at", String),
    Column("recovered_at", String),
)

request_shard = Table(
    "request_shard",
    metadata,
    Column("request", String, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("position", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Which shards a request hit, and the earliest position in each."""

erasure = Table(
    "erasure",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
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
