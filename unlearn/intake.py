"""Take a batch in: hold it to the declared task, refuse ids that may not come, lay its records out by slice."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from shards import slicefile
from shards.digest import Json
from shards.placement import grouped, place
from shards.records import Records, check_features, encode_target, feature_schema, make_records
from shards.task import FieldSchema, Kind, Task
from shards.train import describe_task, task_from
from unlearn.erasure import purge_record_files, slice_file_name
from unlearn.errors import InputError, TombstoneError, some
from unlearn.ledger import NewRecord, NewSlice
from unlearn.site import Site


def as_records(site: Site, X: Any, y: Any, subjects: Any, record_ids: Any) -> Records:
    """Turn what the user gives into records of the next batch.

    Args:
        site: The workspace.
        X: Array `[n, ...]`, mapping of arrays, pandas or pyarrow table; or `Records`, with nothing beside it.
        y: Targets.
        subjects: Subject of each record, or None.
        record_ids: Id of each record, or None.

    Returns:
        The records.

    Raises:
        InputError: If they cannot be trained on.
    """
    if isinstance(X, Records):
        if y is not None or subjects is not None or record_ids is not None:
            raise InputError("Records carry their own y, subjects and record ids: give them alone")
        return X
    if y is None:
        raise InputError("y is missing: give the targets of the records")
    columns: tuple[str, ...] = ()
    if is_table(X):
        from shards.sources import features_from_table, stacked_columns

        names = list(map(str, getattr(X, "column_names", None) or X.columns))
        X = features_from_table(X, names)
        columns = stacked_columns(X, names)
    records = make_records(X, y, subjects=subjects, record_ids=record_ids, batch=site.ledger.batches())
    return replace(records, columns=columns)


def is_table(X: object) -> bool:
    """Whether this is a pandas or pyarrow table."""
    return hasattr(X, "columns") or hasattr(X, "column_names")


def fit_task(site: Site, records: Records) -> tuple[Task, Records]:
    """Declare the task with the first batch; hold later ones to it.

    Args:
        site: The workspace.
        records: The batch.

    Returns:
        The task, and the batch with features and target as declared.

    Raises:
        InputError: If the batch does not fit.
    """
    kind = cast(Kind, site.declaration.task)
    described = site.ledger.task()
    known = None if described is None else task_from(described)
    if known is not None:
        records = _in_declared_order(records, known.columns)
    if known is None:
        schema: Mapping[str, FieldSchema] = feature_schema(records.features)
        labels = _labels(site, records) if kind == "classification" else ()
    else:
        schema, labels = known.features, known.classes
    features = check_features(records.features, schema)
    target = encode_target(records.target, kind, labels)
    shape = FieldSchema(target.shape[1:], target.dtype.str)
    task = known or Task(kind, schema, shape, labels, records.columns)
    if shape != task.target:
        raise InputError(
            f"y has shape {list(shape.shape)} per record, but the first batch declared {list(task.target.shape)}"
        )
    site.learner.check(task)
    return task, replace(records, features=features, target=target)


def _in_declared_order(records: Records, columns: tuple[str, ...]) -> Records:
    """A table's stacked columns in the order of the first batch; arrays without names are taken as they are."""
    if not columns or not records.columns or records.columns == columns:
        return records
    if set(records.columns) != set(columns):
        raise InputError(
            f"the table's columns are {list(records.columns)}, but the first batch declared {list(columns)}: give "
            "exactly those; nothing was ingested"
        )
    order = [records.columns.index(name) for name in columns]
    return replace(records, features={"x": np.ascontiguousarray(records.features["x"][:, order])}, columns=columns)


def _labels(site: Site, records: Records) -> tuple[Json, ...]:
    declared = site.declaration.classes
    return tuple(np.unique(records.target).tolist() if declared is None else declared)


def check_ids(site: Site, records: Records, reconsent: Sequence[str]) -> list[bytes]:
    """Refuse ids that are present or were forgotten.

    Args:
        site: The workspace.
        records: The batch.
        reconsent: Forgotten subjects or records that may return.

    Returns:
        Tokens of the tombstones that the re-consent lifts.

    Raises:
        InputError: If a record id is in the workspace already.
        TombstoneError: If a forgotten subject or record is in the batch without re-consent.
    """
    record_tokens = site.tokens("record", records.record_ids)
    subject_tokens = site.tokens("subject", records.subjects)
    present = {item.token for item in site.ledger.locations(record_tokens)}
    again = [name for name, token in zip(records.record_ids, record_tokens, strict=True) if token in present]
    if again:
        raise InputError(
            f"{len(again)} of the record ids are already in the workspace ({some(again)}): give new records other ids; "
            "nothing was ingested"
        )
    lifted = {token for kind in ("subject", "record") for token in site.tokens(kind, reconsent)}
    dead = site.ledger.tombstones(list({*record_tokens, *subject_tokens}))
    back = {
        name
        for names, tokens in ((records.record_ids, record_tokens), (records.subjects, subject_tokens))
        for name, token in zip(names, tokens, strict=True)
        if token in dead - lifted
    }
    if back:
        raise TombstoneError(
            f"{len(back)} of the subjects or records were forgotten before ({some(sorted(back))}): leave them out, or "
            "name them in reconsent if they agreed to return; nothing was ingested"
        )
    return sorted(dead & lifted)


def store_batch(site: Site, batch: int, task: Task, records: Records, lifted: Sequence[bytes]) -> None:
    """Write a batch's slices and note it in the ledger; on any failure nothing of it stays.

    Args:
        site: The workspace, whose lock the caller holds.
        batch: Number of the batch.
        task: The declared task.
        records: The batch, checked.
        lifted: Tombstones to remove.
    """
    declared = site.declaration
    n_slices = declared.n_slices
    where = place(site.keys.placement, records.subjects, records.record_ids, declared.n_shards, n_slices)
    site.store.prepare()
    for shard in range(declared.n_shards):
        site.folder(shard).create()
    site.ledger.begin_operation("ingest")
    try:
        slices: list[NewSlice] = []
        rows: list[NewRecord] = []
        for shard, piece, chosen in grouped(where, n_slices):
            position = batch * n_slices + piece
            part = records.take(chosen)
            item, commitments = _write_slice(site, shard, position, part, where.tokens[chosen])
            slices.append(item)
            tokens = site.tokens("record", part.record_ids)
            rows += [NewRecord(token, shard, position, data) for token, data in zip(tokens, commitments, strict=True)]
        for shard in {item.shard for item in slices}:
            site.folder(shard).sync_records()
        site.ledger.add_batch(describe_task(task), slices, rows, lifted)
    except BaseException:
        purge_record_files(site)
        site.ledger.end_operation()
        raise


def _write_slice(
    site: Site, shard: int, position: int, records: Records, tokens: np.ndarray
) -> tuple[NewSlice, list[bytes]]:
    """Write one slice; also return its records' commitments, in order."""
    n = len(records)
    data = slicefile.SliceRecords(
        record_ids=records.record_ids,
        subjects=records.subjects,
        tokens=tokens,
        salts=np.frombuffer(secrets.token_bytes(32 * n), dtype=np.uint8).reshape(n, 32),
        features=records.features,
        target=records.target,
    )
    name = slice_file_name(position, 0)
    site.folder(shard).write_records(name, data)
    commitments = slicefile.commitments(data)
    item = NewSlice(shard, position, name, n, slicefile.slice_digest(commitments))
    return item, [row.tobytes() for row in commitments]
