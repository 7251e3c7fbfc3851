"""Take a batch in: hold it to the declared task, refuse ids that may not come, lay its records out by slice."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from shards import slicefile
from shards.digest import Json
from shards.placement import Placement, grouped, keyed_tokens, place
from shards.records import (
    Records,
    encode_target,
    feature_schema,
    fit_records,
    is_dataset,
    make_records,
    refuse_other_order,
)
from shards.task import FieldSchema, Kind, Task
from shards.train import describe_task, task_from
from unlearn.erasure import purge_record_files, slice_file_name
from unlearn.errors import InputError, TombstoneError, some
from unlearn.ledger import NewRecord, NewSlice
from unlearn.risk import check_risks, numbered, refuse_two_classes
from unlearn.site import Site


def as_records(site: Site, X: Any, y: Any, subjects: Any, record_ids: Any, risk: Any = None) -> Records:
    """Turn what the user gives into records of the next batch.

    Args:
        site: The workspace.
        X: Array `[n, ...]`, mapping of arrays, pandas or pyarrow table; a map-style torch dataset, without y; or
            `Records`, with nothing beside it.
        y: Targets.
        subjects: Subject of each record, or None.
        record_ids: Id of each record, or None.
        risk: Risk class of each record's subject, or None.

    Returns:
        The records.

    Raises:
        InputError: If they cannot be trained on.
    """
    if isinstance(X, Records):
        if any(item is not None for item in (y, subjects, record_ids, risk)):
            raise InputError("Records carry their own y, subjects, record ids and risk classes: give them alone")
        return X
    if is_dataset(X):
        from shards.sources import from_dataset

        if y is not None:
            raise InputError("a dataset gives pairs of input and target: leave y out")
        return from_dataset(X, subjects=subjects, record_ids=record_ids, risk=risk, batch=site.ledger.batches())
    if y is None:
        raise InputError("y is missing: give the targets of the records")
    refuse_other_order(X, y=y, subjects=subjects, record_ids=record_ids, risk=risk)
    columns: tuple[str, ...] = ()
    if is_table(X):
        from shards.sources import features_from_table, stacked_columns

        names = list(map(str, getattr(X, "column_names", None) or X.columns))
        X = features_from_table(X, names)
        columns = stacked_columns(X, names)
    records = make_records(X, y, subjects=subjects, record_ids=record_ids, risk=risk, batch=site.ledger.batches())
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
    if described is None:
        labels = _labels(site, records) if kind == "classification" else ()
        target = encode_target(records.target, kind, labels)
        shape = FieldSchema(target.shape[1:], target.dtype.str)
        task = Task(kind, feature_schema(records.features), shape, labels, records.columns)
    else:
        task = task_from(described)
    records = fit_records(records, task)
    site.learner.check(task)
    site.learner.check_values(records.features, records.target, task)
    return task, records


def _labels(site: Site, records: Records) -> tuple[Json, ...]:
    declared = site.declaration.classes
    return tuple(np.unique(records.target).tolist() if declared is None else declared)


def check_ids(
    site: Site, record_ids: Sequence[str], subjects: Sequence[str], reconsent: Sequence[str], among: str = ""
) -> list[bytes]:
    """Refuse ids that are present or were forgotten.

    Args:
        site: The workspace.
        record_ids: Ids of the records.
        subjects: Whose they are.
        reconsent: Forgotten subjects or records that may return.
        among: Which rows these are, for messages, where they are not all.

    Returns:
        Tokens of the tombstones that the re-consent lifts.

    Raises:
        InputError: If a record id is in the workspace already.
        TombstoneError: If a forgotten subject or record is in the batch without re-consent, or with it while what is
            served was made by an approximate method that forgot it.
    """
    record_tokens = site.tokens("record", record_ids)
    subject_tokens = site.tokens("subject", subjects)
    present = {item.token for item in site.ledger.locations(record_tokens)}
    again = [name for name, token in zip(record_ids, record_tokens, strict=True) if token in present]
    if again:
        raise InputError(
            f"{among}{len(again)} of the record ids are already in the workspace ({some(again)}): give new records "
            "other ids; nothing was ingested"
        )
    lifted = {token for kind in ("subject", "record") for token in site.tokens(kind, reconsent)}
    dead = site.ledger.tombstones(list({*record_tokens, *subject_tokens}))
    back = {
        name
        for names, tokens in ((record_ids, record_tokens), (subjects, subject_tokens))
        for name, token in zip(names, tokens, strict=True)
        if token in dead - lifted
    }
    if back:
        raise TombstoneError(
            f"{among}{len(back)} of the subjects or records were forgotten before ({some(sorted(back))}): leave them "
            "out, or name them in reconsent if they agreed to return; nothing was ingested"
        )
    returning = sorted(dead & lifted)
    if returning and site.ledger.hit_by_approximations(returning):
        # Without its tombstone nothing would tell, when it is forgotten again, that what is served may know it.
        raise TombstoneError(
            f"{among}some that were forgotten are to return while an approximate method's model is served, which may "
            "still know them: run `unlearn recover` first; nothing was ingested"
        )
    return returning


def place_batch(site: Site, records: Records) -> Placement:
    """Where the records of a batch go.

    Args:
        site: The workspace.
        records: The batch.

    Returns:
        Their places.

    Raises:
        InputError: If their risk classes are not those of the workspace, or of their subjects' other records.
    """
    declared, keys = site.declaration, site.keys
    regions = check_risks(site, records.subjects, records.risks)
    if regions is not None:
        tokens = keyed_tokens(keys.pseudonyms, "subject", records.subjects)
        refuse_two_classes(site, tokens, numbered(site, records.risks))
    return place(keys.placement, records.subjects, records.record_ids, declared.n_shards, declared.n_slices, regions)


def store_batch(
    site: Site, batch: int, task: Task, records: Records, where: Placement, lifted: Sequence[bytes]
) -> None:
    """Write a batch's slices and note it in the ledger; on any failure nothing of it stays.

    Args:
        site: The workspace, whose lock the caller holds.
        batch: Number of the batch.
        task: The declared task.
        records: The batch, checked.
        where: Where they go.
        lifted: Tombstones to remove.
    """
    declared = site.declaration
    n_slices = declared.n_slices
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
