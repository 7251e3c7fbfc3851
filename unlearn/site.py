"""The parts of an open workspace that everything else works on: folder, constants, keys, ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.code import CodeDigest, changed, code_digest
from shards.errors import ConfigurationError
from shards.learners.base import Learner
from shards.location import open_store
from shards.placement import keyed_tokens
from shards.recipe import Constants, SliceInput
from shards.slicefile import slice_digest
from shards.store import ShardStore, Store
from shards.store_local import StoreFolder
from shards.task import Task
from shards.train import SliceFile, code_of, learner_from, task_digest, task_from
from unlearn.declaration import Declaration, Secrets
from unlearn.errors import DamageError, WorkspaceError
from unlearn.inbox import Inbox
from unlearn.ledger import NewSlice

if TYPE_CHECKING:
    from unlearn.ledger import Ledger

ORPHAN_SECONDS = 30.0
"""How long to wait for workers whose driver is gone; they end when they notice, which takes a moment."""


def empty_slice_digest() -> str:
    """Digest of a slice that holds no records."""
    return slice_digest(np.empty((0, 32), dtype=np.uint8))


def store_of(path: Path, declaration: Declaration) -> Store:
    """Where the shards of a workspace lie.

    Args:
        path: The workspace's folder.
        declaration: Its constants.

    Returns:
        A part of the folder, or what the declaration names.
    """
    if declaration.store is None:
        return StoreFolder(path / "shards")
    return open_store(declaration.store, declaration.id)


@dataclass(frozen=True)
class Site:
    """An open workspace, without any behaviour that needs an order.

    Attributes:
        path: The workspace's folder, absolute.
        declaration: Its constants.
        keys: Its secrets.
        ledger: Its database.
    """

    path: Path
    declaration: Declaration
    keys: Secrets
    ledger: Ledger

    @cached_property
    def inbox(self) -> Inbox:
        """The keys that submitted ids are encrypted under."""
        return Inbox(self.path / "inbox")

    @cached_property
    def edit_keys(self) -> Inbox:
        """The keys that facts to edit are encrypted under, one for each request."""
        return Inbox(self.path / "edits")

    @property
    def keys_folder(self) -> Path:
        """Where the signing keys are."""
        return self.path / "keys"

    @property
    def receipts_folder(self) -> Path:
        """Where the receipts are."""
        return self.path / "receipts"

    @cached_property
    def learner(self) -> Learner:
        """The learner, built from its description."""
        return learner_from(self.declaration.learner)

    def task(self) -> Task:
        """The declared task.

        Returns:
            The task.

        Raises:
            WorkspaceError: If nothing was ingested yet.
            DamageError: If the ledger's description of it is none.
        """
        described = self.ledger.task()
        if described is None:
            raise WorkspaceError(f"{self.path} holds no records yet: ingest some first")
        try:
            return task_from(described)
        except (KeyError, TypeError, ValueError) as error:
            raise DamageError(
                f"the ledger {self.ledger.name} describes a task that is none ({error!r}): restore it from a copy"
            ) from error

    def constants(self) -> Constants:
        """What the recipe needs to know besides the records."""
        declared = self.declaration
        return Constants(
            learner=declared.learner,
            code=declared.code,
            task=task_digest(self.task()),
            root_seed=declared.root_seed,
            n_slices=declared.n_slices,
        )

    @cached_property
    def store(self) -> Store:
        """Where the shards' records and checkpoints are."""
        return store_of(self.path, self.declaration)

    def folder(self, shard: int) -> ShardStore:
        """Where the data of a shard is."""
        return self.store.shard(shard)

    def tokens(self, kind: str, ids: Sequence[str]) -> list[bytes]:
        """Keyed pseudonyms of ids, as the ledger knows them.

        Args:
            kind: `"record"` or `"subject"`.
            ids: The ids.

        Returns:
            16 bytes each.
        """
        return [row.tobytes() for row in keyed_tokens(self.keys.pseudonyms, kind, ids)]

    def slice_files(
        self, shard: int, slices: dict[tuple[int, int], NewSlice], batches: int | None = None
    ) -> list[SliceFile]:
        """A shard's slices by position, empty ones included.

        Args:
            shard: Shard number.
            slices: The non-empty slices, as the ledger gives them.
            batches: How many batches were ingested, where that is known already.

        Returns:
            One for each position.
        """
        count = (self.ledger.batches() if batches is None else batches) * self.declaration.n_slices
        empty = SliceFile(None, 0, empty_slice_digest())
        found = [slices.get((shard, position)) for position in range(count)]
        return [empty if item is None else SliceFile(item.file, item.records, item.digest) for item in found]

    def slice_inputs(self, files: Sequence[SliceFile]) -> list[SliceInput]:
        """What the recipe sees of slices."""
        return [SliceInput(item.records, item.digest) for item in files]

    def clear_staging(self, shard: int) -> None:
        """Destroy unfinished files of a shard, once no worker is writing there any more.

        A worker whose driver died may still be at work for a moment; it is waited for, or shut out.
        """
        folder = self.folder(shard)
        folder.create()
        folder.clear_staging(ORPHAN_SECONDS)

    def check_code(self) -> CodeDigest:
        """Refuse to train with code other than what the workspace was created with.

        Returns:
            The digest of the code as it is on disk now.

        Raises:
            ConfigurationError: Naming the modules that differ.
        """
        found = code_digest(code_of(self.learner))
        if found.source != self.declaration.code:
            declared = CodeDigest("", self.declaration.modules, found.distributions)
            differ = ", ".join(changed(declared, found)) or "its modules"
            raise ConfigurationError(
                f"the learner's code is not what {self.path} was created with ({differ}): restore it to train here, "
                "or create a new workspace with the new code; forgetting works all the same"
            )
        return found
