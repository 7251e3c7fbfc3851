"""Take a batch in from files that may be larger than memory, and end as if it had been taken in from memory.

The driver reads ids, subjects and targets, some at a time, and keeps some tens of bytes of each record: its tokens and
where it goes. Whole rows are read by workers alone, from the files into the store (`shards.spread`). Until the ledger
takes the batch in, in one transaction, nothing of it is anybody's: whatever ends it earlier, this process or the next
one destroys what lies in the store of it (`undo_ingest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from shards import parquet
from shards.executors.base import Executor
from shards.parquet import Survey
from shards.placement import Placement, grouped, keyed_tokens, place
from shards.records import Records, repeated_ids
from shards.slicefile import TOKEN_BYTES
from shards.sources import Identities, Roles
from shards.spread import Plan, join_slice, placement_to_bytes, refusal, spread_piece
from shards.task import Task
from shards.train import describe_task
from unlearn.erasure import slice_file_name, undo_ingest
from unlearn.errors import DamageError, InputError
from unlearn.intake import check_ids, fit_task
from unlearn.ledger import NewRecord, NewSlice
from unlearn.progress import progress_bar
from unlearn.risk import check_risks, numbered, refuse_two_classes
from unlearn.site import Site

COMMITMENT_BYTES = 32

_CHUNK = 10_000
"""Records that are Python objects at a time."""

_NAMED = 5
"""Repeated ids that a message names."""


@dataclass(frozen=True, eq=False)
class Register:
    """What is kept of every record of a batch while it is taken in, by row.

    Attributes:
        pseudonyms: `[n, 16]` uint8, record tokens as the ledger knows them.
        placement: Where the records go; numbers are int32.
        owners: `[n, 16]` uint8, tokens of their subjects; empty where there are no risk classes.
        classes: `[n]` int32, numbers of their subjects' risk classes; likewise.
    """

    pseudonyms: np.ndarray
    placement: Placement
    owners: np.ndarray
    classes: np.ndarray

    @classmethod
    def empty(cls, n: int, *, classed: bool = False) -> Register:
        """Room for n records, of subjects that have a risk class or none."""
        known = n if classed else 0
        numbers = [np.empty(n, dtype=np.int32) for _ in range(2)]
        return cls(
            np.empty((n, TOKEN_BYTES), dtype=np.uint8),
            Placement(numbers[0], numbers[1], np.empty((n, TOKEN_BYTES), dtype=np.uint8)),
            np.empty((known, TOKEN_BYTES), dtype=np.uint8),
            np.empty(known, dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.pseudonyms)

    def put(self, first: int, pseudonyms: np.ndarray, placement: Placement) -> None:
        """Set the rows from `first` on."""
        here = slice(first, first + len(pseudonyms))
        self.pseudonyms[here] = pseudonyms
        self.placement.shards[here] = placement.shards
        self.placement.slices[here] = placement.slices
        self.placement.tokens[here] = placement.tokens

    def part(self, first: int, rows: int) -> Placement:
        """Where some rows go."""
        here = slice(first, first + rows)
        where = self.placement
        return Placement(where.shards[here], where.slices[here], where.tokens[here])

    def by_pseudonym(self) -> np.ndarray:
        """Rows `[n]` in ascending order of their pseudonyms; of equal ones, the first row first."""
        words = self.pseudonyms.view(">u8")
        return np.lexsort((words[:, 1], words[:, 0]))


def ingest_files(
    site: Site, executor: Executor, source: Any, roles: Roles, reconsent: Sequence[str], *, show: bool | None
) -> int:
    """Take in a batch of records from Parquet files.

    Args:
        site: The workspace, whose lock the caller holds.
        executor: Where to read and write rows.
        source: The files, see `shards.parquet.parquet_files`.
        roles: What the columns are.
        reconsent: Forgotten subjects or records that may return.
        show: Whether to show progress; None: on a terminal.

    Returns:
        The number of the batch.

    Raises:
        InputError: If the data cannot be read or trained on; nothing was changed.
        TombstoneError: If a forgotten subject or record is in it; nothing was changed.
    """
    batch = site.ledger.batches()
    found = parquet.survey(parquet.parquet_files(source))
    empty = roles.records(found.schema.empty_table(), batch)
    if roles.features is None:
        # By name from here on, since files may have their columns in another order.
        taken = set(roles.of_ids)
        roles = replace(roles, features=tuple(name for name in found.schema.names if name not in taken))
    register, labels, lifted = _read_ids(site, found, roles, batch, reconsent, empty, show)
    _refuse_repeated(found, roles, batch, register)
    refuse_two_classes(site, register.owners, register.classes)
    task, _ = fit_task(site, replace(empty, target=labels))
    _store(site, executor, found, register, (roles, task, batch), lifted, show)
    return batch


def _read_ids(
    site: Site,
    found: Survey,
    roles: Roles,
    batch: int,
    reconsent: Sequence[str],
    empty: Records,
    show: bool | None,
) -> tuple[Register, np.ndarray, list[bytes]]:
    """Where every record goes, the distinct labels (of classification), and the tombstones that are lifted."""
    declared, keys = site.declaration, site.keys
    register = Register.empty(found.rows, classed=declared.regions is not None)
    labels = empty.target
    lifted: set[bytes] = set()
    with progress_bar("reading ids", show=show, unit="records") as start:
        said = start(found.rows)
        for first, rows in _rows(found, roles.of_ids):
            some = _identities(roles, rows, batch, first)
            n = len(some.record_ids)
            among = f"among rows {first} to {first + n - 1}: "
            lifted |= set(check_ids(site, some.record_ids, some.subjects, reconsent, among))
            regions = check_risks(site, some.subjects, some.risks)
            ids = some.record_ids
            where = place(keys.placement, some.subjects, ids, declared.n_shards, declared.n_slices, regions)
            register.put(first, keyed_tokens(keys.pseudonyms, "record", ids), where)
            if regions is not None:
                register.owners[first : first + n] = keyed_tokens(keys.pseudonyms, "subject", some.subjects)
                register.classes[first : first + n] = numbered(site, some.risks)
            if declared.task == "classification" and some.target.ndim == 1:
                labels = np.unique(np.concatenate([labels, np.unique(some.target)]))
            said(0, 0, first + n)
    return register, labels, sorted(lifted)


def _identities(roles: Roles, rows: Any, batch: int, first: int) -> Identities:
    try:
        return roles.identities(rows, batch, first)
    except InputError as error:
        raise InputError(f"rows counted from row {first} of all: {error}; nothing was ingested") from error


def _rows(found: Survey, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    for piece in found.pieces:
        try:
            yield from parquet.read(piece, columns)
        except InputError as error:
            raise InputError(f"{error}; nothing was ingested") from error


def _refuse_repeated(found: Survey, roles: Roles, batch: int, register: Register) -> None:
    """Refuse ids that occur more than once; only then are they read again, to name some."""
    order = register.by_pseudonym()
    ascending = register.pseudonyms[order]
    same = (ascending[1:] == ascending[:-1]).all(axis=1)
    # Of each repeated id the first row, which is where a run of equal neighbours begins.
    begins = np.flatnonzero(same & ~np.concatenate([[False], same[:-1]])) if len(same) else np.empty(0, dtype=np.int64)
    if not len(begins):
        return
    shown = np.sort(order[begins])[:_NAMED].tolist()
    names: list[str] = []
    for first, rows in _rows(found, roles.of_ids):
        ids = roles.identities(rows, batch, first).record_ids
        names += [ids[row - first] for row in shown if first <= row < first + len(ids)]
        if len(names) == len(shown):
            break
    raise repeated_ids(len(begins), names)


def _store(
    site: Site,
    executor: Executor,
    found: Survey,
    register: Register,
    what: tuple[Roles, Task, int],
    lifted: Sequence[bytes],
    show: bool | None,
) -> None:
    """Have the batch written and note it in the ledger; on any failure nothing of it stays."""
    shards = range(site.declaration.n_shards)
    site.store.prepare()
    for shard in shards:
        site.folder(shard).create()
    site.ledger.begin_operation("ingest")
    try:
        parts = _spread(site, executor, found, register, what, show)
        slices, commitments = _join(site, executor, register, parts, what[2], show)
        for shard in shards:
            site.folder(shard).sync_records()
            # Gone before the batch is there: afterwards nobody would look for what is left of its parts.
            site.clear_staging(shard)
        site.ledger.add_batch(
            describe_task(what[1]), slices, _new_records(site, register, commitments, what[2]), lifted
        )
    except BaseException:
        undo_ingest(site)
        site.ledger.end_operation()
        raise


Parts = dict[tuple[int, int], list[tuple[str, int]]]
"""Shard and slice within the batch to names and sizes of the parts."""


def _spread(
    site: Site, executor: Executor, found: Survey, register: Register, what: tuple[Roles, Task, int], show: bool | None
) -> Parts:
    """Have every piece read, and its rows staged by shard and slice."""
    roles, task, batch = what
    folders = [site.folder(shard) for shard in range(site.declaration.n_shards)]
    places = tuple((folder.location, folder.fence()) for folder in folders)
    columns = tuple(dict.fromkeys([*roles.of_ids, *(roles.features or ())]))
    declared = site.declaration
    plan = Plan(roles, columns, task, declared.learner, batch, declared.n_slices, places)
    staged = folders[0].stage_bytes(plan.to_bytes())
    orders = [
        {
            "home": list(places[0]),
            "plan": staged,
            "placement": folders[0].stage_bytes(placement_to_bytes(register.part(piece.first, piece.rows))),
            "piece": piece.to_json(),
        }
        for piece in found.pieces
    ]
    with progress_bar("spreading records", show=show, unit="records") as start:
        said = start(found.rows)
        answers = executor.map(
            spread_piece, orders, None, on_done=lambda number: said(number, 0, found.pieces[number].rows)
        )
    _check(answers)
    parts: Parts = {}
    for answer in answers:
        for shard, piece, name, rows in answer["parts"]:
            parts.setdefault((shard, piece), []).append((name, rows))
    return parts


def _join(
    site: Site, executor: Executor, register: Register, parts: Parts, batch: int, show: bool | None
) -> tuple[list[NewSlice], np.ndarray]:
    """Have every slice put together, and publish it; also the commitments `[n, 32]`, by row."""
    n_slices = site.declaration.n_slices
    groups = grouped(register.placement, n_slices)
    folders = {shard: site.folder(shard) for shard, _, _ in groups}
    fences = {shard: folder.fence() for shard, folder in folders.items()}
    orders = []
    for shard, piece, rows in groups:
        here = parts.pop((shard, piece), [])
        if sum(count for _, count in here) != len(rows):
            raise InputError("rows are not where they belong: were the files changed meanwhile? Nothing was ingested")
        orders.append(
            {
                "shard": [folders[shard].location, fences[shard]],
                "parts": [name for name, _ in here],
                "rows": len(rows),
                "name": f"slice {batch * n_slices + piece} of shard {shard}",
            }
        )
    with progress_bar("writing slices", show=show, unit="records") as start:
        said = start(len(register))
        answers = executor.map(
            join_slice, orders, None, on_done=lambda number: said(number, 0, cast(int, orders[number]["rows"]))
        )
    _check(answers)
    commitments = np.empty((len(register), COMMITMENT_BYTES), dtype=np.uint8)
    slices = []
    for (shard, piece, rows), answer in zip(groups, answers, strict=True):
        position = batch * n_slices + piece
        folder, name = folders[shard], slice_file_name(position, 0)
        data = np.frombuffer(folder.staged_bytes(answer["commitments"]), dtype=np.uint8)
        if data.size != len(rows) * COMMITMENT_BYTES:
            raise DamageError(f"slice {position} of shard {shard} lost records on the way; repeat the command")
        commitments[rows] = data.reshape(-1, COMMITMENT_BYTES)
        folder.publish_records(answer["staged"], name)
        slices.append(NewSlice(shard, position, name, len(rows), answer["digest"]))
    return slices, commitments


def _check(answers: Sequence[Any]) -> None:
    why = refusal(answers)
    if why is not None:
        raise InputError(why)


def _new_records(site: Site, register: Register, commitments: np.ndarray, batch: int) -> Iterator[NewRecord]:
    """The records for the ledger, in the order in which its table keeps them."""
    where = register.placement
    order = register.by_pseudonym()
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        positions = where.slices[rows] + batch * site.declaration.n_slices
        for token, shard, position, commitment in zip(
            register.pseudonyms[rows],
            where.shards[rows].tolist(),
            positions.tolist(),
            commitments[rows],
            strict=True,
        ):
            yield NewRecord(token.tobytes(), shard, position, commitment.tobytes())
