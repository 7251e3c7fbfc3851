"""Find the records of subjects. The ledger does not know whose a record is; its slice's file does.

All records of a subject lie in one shard and, of each batch, in one slice, both known from the subject alone. So
a subject is found by reading one small file a batch; where risk classes are declared, one for each place that a class
would give it, since nobody notes which class it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shards import slicefile
from shards.placement import place_subjects
from unlearn.errors import DamageError
from unlearn.ledger import Location
from unlearn.site import Site


def records_of(site: Site, subjects: Sequence[str]) -> dict[str, list[Location]]:
    """Where all records of some subjects are.

    Args:
        site: The workspace.
        subjects: The subjects.

    Returns:
        Subject to locations, for those that have records.

    Raises:
        DamageError: If a file that may hold such records cannot be read, or shows none and does not match its digest.
    """
    n_slices, batches = site.declaration.n_slices, site.ledger.batches()
    together: dict[int, dict[int, set[str]]] = {}
    for shards, slices in places_of(site, subjects):
        for name, shard, piece in zip(subjects, shards.tolist(), slices.tolist(), strict=True):
            together.setdefault(shard, {}).setdefault(piece, set()).add(name)
    found: dict[str, list[Location]] = {}
    for shard, pieces in sorted(together.items()):
        files = site.ledger.slices(shard)
        for position in (batch * n_slices + piece for batch in range(batches) for piece in sorted(pieces)):
            item = files.get((shard, position))
            if item is None:
                continue
            folder = site.folder(shard)
            data = folder.read_records(item.file)
            wanted = pieces[position % n_slices]
            rows = [row for row, name in enumerate(data.subjects) if name in wanted]
            if not rows and slicefile.slice_digest(slicefile.commitments(data)) != item.digest:
                # It may hide a record of theirs. (A file with such records is checked when they are taken out.)
                raise DamageError(
                    f"the record file {folder.record_location(item.file)} does not match its digest, so it cannot be "
                    "told whose records it holds: restore it from a copy, or forget them by their record ids; nothing "
                    "was changed"
                )
            tokens = site.tokens("record", [data.record_ids[row] for row in rows])
            for row, token in zip(rows, tokens, strict=True):
                found.setdefault(data.subjects[row], []).append(Location(token, shard, position))
    return found


def places_of(site: Site, subjects: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where records of some subjects may be, one class after the other; once where there are no classes.

    Args:
        site: The workspace.
        subjects: The subjects, n of them.

    Yields:
        Shards and slices within a batch, each `[n]` int64.
    """
    declared = site.declaration
    regions = [None] if declared.regions is None else declared.regions.values()
    for region in regions:
        everyone = None if region is None else [region] * len(subjects)
        yield place_subjects(site.keys.placement, subjects, declared.n_shards, declared.n_slices, everyone)
