"""Destroy what saw forgotten records: rewrite their slices without them, purge the checkpoints after them.

Every function can be repeated after a crash at any point and ends in the same state. The order within a slice:
the new file is complete and durable before the old one goes, so that no crash loses a record that stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

import numpy as np

from shards import slicefile
from shards.store import ShardStore
from unlearn.errors import DamageError
from unlearn.ledger import Erasure, NewSlice
from unlearn.site import Site

_NAME = re.compile(r"p(\d{6})-v(\d+)\.arrow")


def slice_file_name(position: int, version: int) -> str:
    """Name of a slice's file; the version counts its rewritings."""
    return f"p{position:06d}-v{version}.arrow"


def rewrite(site: Site, item: Erasure, forgotten: Set[bytes]) -> NewSlice | None:
    """Rewrite one slice without some of its records, and delete the file that held them.

    Args:
        site: The workspace.
        item: The slice.
        forgotten: Tokens of the records to leave out.

    Returns:
        The slice as it is now, or None if nothing is left of it.

    Raises:
        DamageError: If the file is missing or does not match its digest, and held records that stay: what is
            damaged cannot be told apart.
    """
    if item.file is None:
        return None
    folder = site.folder(item.shard)
    match = _NAME.fullmatch(item.file)
    if match is None:
        raise DamageError(f"the ledger of {site.path} names a record file {item.file!r}, which is no such name")
    name = slice_file_name(item.position, int(match[2]) + 1)
    old = item.file
    if not folder.has_records(old):
        return _rewritten_before(site, item, folder, name)
    folder.discard_records(name)  # half written by a crash, if it is there; made durable with what follows
    try:
        kept, commitments = _without_forgotten(site, item, folder.read_records(old), forgotten)
    except DamageError:
        if site.ledger.present(item.shard, item.position):
            raise
        folder.purge_records([old])  # no record of it stays, so nothing needs to be told apart
        return None
    if len(kept):
        folder.write_records(name, kept)
        folder.sync_records()
    folder.purge_records([old])
    return _described(item, name, commitments) if len(kept) else None


def _rewritten_before(site: Site, item: Erasure, folder: ShardStore, new: str) -> NewSlice | None:
    """The slice after an interruption between deleting its old file and saying so: then the new one is complete."""
    folder.sync_records()  # whoever deleted the old file may have been interrupted before it was gone for good
    stay = site.ledger.present(item.shard, item.position)
    if not stay:
        return None
    if not folder.has_records(new):
        raise DamageError(
            f"the record file {item.file} of shard {item.shard} is missing, with {len(stay)} records that are to stay: "
            "restore it from a copy, then run `unlearn recover`. The request is durable and its records are no longer "
            "served"
        )
    data = folder.read_records(new)
    if set(site.tokens("record", data.record_ids)) != stay:
        where = folder.record_location(new)
        raise DamageError(f"the record file {where} does not hold the records that are to stay: restore it from a copy")
    return _described(item, new, slicefile.commitments(data))


def _described(item: Erasure, name: str, commitments: np.ndarray) -> NewSlice:
    return NewSlice(item.shard, item.position, name, len(commitments), slicefile.slice_digest(commitments))


def _without_forgotten(
    site: Site, item: Erasure, data: slicefile.SliceRecords, forgotten: Set[bytes]
) -> tuple[slicefile.SliceRecords, np.ndarray]:
    """The records that stay, with their commitments `[n, 32]`, after the whole file was checked."""
    commitments = slicefile.commitments(data)
    if slicefile.slice_digest(commitments) != item.digest:
        raise DamageError(
            f"the record file {item.file} of shard {item.shard} does not match its digest: restore it from a copy, "
            "then run `unlearn recover`. The request is durable and the records are no longer served"
        )
    tokens = site.tokens("record", data.record_ids)
    stays = np.array([token not in forgotten for token in tokens], dtype=bool)
    return slicefile.keep(data, stays), commitments[stays]


def purge_checkpoints(site: Site, shards: Iterable[int]) -> int:
    """Delete every checkpoint the ledger does not name.

    Args:
        site: The workspace.
        shards: The shards to look at.

    Returns:
        How many were deleted.
    """
    count = 0
    for shard in shards:
        folder = site.folder(shard)
        unnamed = folder.keys() - site.ledger.named(shard)
        folder.purge(unnamed)
        count += len(unnamed)
    return count


def undo_ingest(site: Site) -> None:
    """Destroy what an ingest that did not end left behind.

    Args:
        site: The workspace, whose lock the caller holds.
    """
    # First what is staged, since that shuts out whoever might still write.
    for shard in range(site.declaration.n_shards):
        site.clear_staging(shard)
    purge_record_files(site)


def purge_record_files(site: Site) -> None:
    """Delete every record file the ledger does not name: what a crashed ingest left behind."""
    slices = site.ledger.slices()
    named = {(item.shard, item.file) for item in slices.values()}
    for shard in range(site.declaration.n_shards):
        folder = site.folder(shard)
        found = sorted(name for name in folder.record_files() if _NAME.fullmatch(name))
        folder.purge_records([name for name in found if (shard, name) not in named])
