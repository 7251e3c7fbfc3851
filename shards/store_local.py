"""Shards in folders of a local file system, or of one that all machines mount: published by rename.

Publish = write elsewhere, sync, rename, sync the folder. A worker holds a lock of the kernel on its shard's folder
while it works, so whoever cleans up after a dead driver can wait for its orphans.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from shards import slicefile
from shards.errors import DamageError, StorageError
from shards.files import purge_files, sync_path
from shards.interrupts import guarded
from shards.lock import exclusive
from shards.store import (
    MAX_HEADER_BYTES,
    SUFFIX,
    Checkpoint,
    CheckpointHeader,
    ShardStore,
    Store,
    checkpoint_name,
    encode_checkpoint,
    keys_among,
    missing_staged,
    parse_checkpoint,
    parse_header,
    plain_name,
    shard_name,
)


@final
@dataclass(frozen=True)
class ShardFolder(ShardStore):
    """The folder of one shard; every operation as in `ShardStore`.

    Attributes:
        path: Absolute path of the folder.
    """

    path: Path

    @property
    def location(self) -> str:
        """See `ShardStore.location`."""
        return str(self.path)

    @property
    def records(self) -> Path:
        """Where the slices' records are."""
        return self.path / "records"

    @property
    def checkpoints(self) -> Path:
        """Where complete checkpoints are."""
        return self.path / "checkpoints"

    @property
    def staging(self) -> Path:
        """Where files are written before they are published."""
        return self.path / "staging"

    @property
    def busy(self) -> Path:
        """The file whose lock workers hold."""
        return self.path / "busy"

    def create(self) -> None:
        """Make the folder and its three parts, durably; no error where they exist.

        The staging part comes last and says that the others are durable: whoever was here before may have been
        interrupted between making them and making sure.

        Raises:
            DamageError: If one of them is a link: what is destroyed in a workspace must lie in it.
        """
        parts = (self.records, self.checkpoints, self.staging)
        for place in (self.path, *parts):
            if place.is_symlink():
                raise DamageError(
                    f"{place} is a symbolic link, which a workspace does not hold: put the folder itself there"
                )
        if all(part.is_dir() for part in parts):
            return
        for part in (self.records, self.checkpoints):
            part.mkdir(parents=True, exist_ok=True)
        for place in (self.path, self.path.parent, self.path.parent.parent):
            sync_path(place)
        self.staging.mkdir(exist_ok=True)

    # Who may write

    def fence(self) -> str:
        """See `ShardStore.fence`; the lock suffices."""
        return ""

    @guarded
    def writing(self) -> Iterator[None]:
        """See `ShardStore.writing`.

        Yields:
            Nothing.

        Raises:
            StorageError: If this machine does not see the folder.
        """
        if not self.path.is_dir():
            raise StorageError(
                f"{socket.gethostname()} does not see {self.path}, which holds the records to train on: mount there "
                "what the driver sees, or create the workspace with a store that all machines reach, such as s3://"
            )
        # Held while anything is written: who wants the folder to themselves waits for this lock.
        with self.busy.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def clear_staging(self, patience: float) -> None:
        """See `ShardStore.clear_staging`; a worker whose driver died holds the lock this waits for."""
        with exclusive(self.busy, patience):
            purge_files(list(self.staging.iterdir()), self.staging)

    # Checkpoints

    def checkpoint(self, key: str) -> Path:
        """Final path of the checkpoint with this key.

        Args:
            key: 64 digits or lower-case letters.

        Returns:
            The path, below `checkpoints`.
        """
        return self.checkpoints / checkpoint_name(key)

    def keys(self) -> set[str]:
        """See `ShardStore.keys`."""
        return keys_among(path.name for path in self.checkpoints.glob(f"*{SUFFIX}"))

    def stage(self, header: CheckpointHeader, state: Mapping[str, np.ndarray]) -> str:
        """See `ShardStore.stage`."""
        path = self.staging / secrets.token_hex(8)
        with path.open("xb") as file:
            file.write(encode_checkpoint(header, state))
            file.flush()
            os.fsync(file.fileno())
        return path.name

    def publish(self, staged: str, key: str) -> None:
        """See `ShardStore.publish`."""
        path, final = self.staging / plain_name(staged), self.checkpoint(key)
        path.replace(final)
        self.sync_checkpoints()

    def sync_checkpoints(self) -> None:
        """See `ShardStore.sync_checkpoints`."""
        sync_path(self.checkpoints)

    def load(self, key: str) -> Checkpoint:
        """See `ShardStore.load`.

        Args:
            key: The step's key.

        Returns:
            The checkpoint.

        Raises:
            DamageError: If its bytes are not what was written, or cannot be read.
        """
        path = self.checkpoint(key)
        try:
            data = path.read_bytes()
        except (IsADirectoryError, PermissionError) as error:
            raise DamageError(f"the checkpoint {path} cannot be read: {error.strerror}") from error
        return parse_checkpoint(path, data, key)

    def load_staged(self, staged: str, key: str) -> Checkpoint:
        """See `ShardStore.load_staged`."""
        path = self.staging / plain_name(staged)
        return parse_checkpoint(path, path.read_bytes(), key)

    def discard_staged(self, staged: str) -> None:
        """See `ShardStore.discard_staged`."""
        (self.staging / plain_name(staged)).unlink(missing_ok=True)

    def header(self, key: str) -> CheckpointHeader:
        """See `ShardStore.header`."""
        path = self.checkpoint(key)
        with path.open("rb") as file:
            length = file.read(8)
            data = length + file.read(min(int.from_bytes(length, "little"), MAX_HEADER_BYTES))
        return parse_header(path, data, key)

    def purge(self, keys: Iterable[str]) -> None:
        """See `ShardStore.purge`."""
        purge_files([self.checkpoint(key) for key in keys], self.checkpoints)

    # Records

    def record_files(self) -> set[str]:
        """See `ShardStore.record_files`."""
        return {path.name for path in self.records.iterdir()} if self.records.is_dir() else set()

    def has_records(self, name: str) -> bool:
        """See `ShardStore.has_records`."""
        return (self.records / plain_name(name)).exists()

    def record_location(self, name: str) -> str:
        """See `ShardStore.record_location`."""
        return str(self.records / name)

    def write_records(self, name: str, data: slicefile.SliceRecords) -> None:
        """See `ShardStore.write_records`."""
        slicefile.write(self.records / plain_name(name), data)

    def sync_records(self) -> None:
        """See `ShardStore.sync_records`."""
        sync_path(self.records)

    def read_records(self, name: str) -> slicefile.SliceRecords:
        """See `ShardStore.read_records`."""
        return slicefile.read(self.records / plain_name(name))

    def stage_records(self, data: slicefile.SliceRecords) -> str:
        """See `ShardStore.stage_records`."""
        path = self._unused()
        slicefile.write(path, data)
        return path.name

    def publish_records(self, staged: str, name: str) -> None:
        """See `ShardStore.publish_records`."""
        (self.staging / plain_name(staged)).rename(self.records / plain_name(name))

    def staged_records(self, staged: str) -> slicefile.SliceRecords:
        """See `ShardStore.staged_records`."""
        return slicefile.read(self.staging / plain_name(staged))

    def stage_bytes(self, data: bytes) -> str:
        """See `ShardStore.stage_bytes`."""
        path = self._unused()
        with path.open("xb") as file:
            file.write(data)
        return path.name

    def staged_bytes(self, staged: str) -> bytes:
        """See `ShardStore.staged_bytes`.

        Args:
            staged: Their name.

        Returns:
            The bytes.

        Raises:
            DamageError: If they are missing.
        """
        path = self.staging / plain_name(staged)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise DamageError(missing_staged(path)) from error

    def _unused(self) -> Path:
        """A path for something staged."""
        return self.staging / secrets.token_hex(8)

    def discard_records(self, name: str) -> None:
        """See `ShardStore.discard_records`."""
        (self.records / plain_name(name)).unlink(missing_ok=True)

    def purge_records(self, names: Iterable[str]) -> None:
        """See `ShardStore.purge_records`."""
        gone = [self.records / plain_name(name) for name in names]
        if gone or self.records.is_dir():
            purge_files(gone, self.records)


@final
@dataclass(frozen=True)
class StoreFolder(Store):
    """The folder that holds the shards' folders; every operation as in `Store`.

    Attributes:
        path: Absolute path of the folder; the one above it exists.
    """

    path: Path

    def prepare(self) -> None:
        """See `Store.prepare`.

        Raises:
            StorageError: If the folder above is not there.
        """
        if not self.path.parent.is_dir():
            raise StorageError(f"the store {self.path.parent} is not there: make the folder, or mount it, first")
        self.path.mkdir(mode=0o700, exist_ok=True)

    def check(self) -> None:
        """See `Store.check`.

        Raises:
            StorageError: If the folder is not there.
        """
        if not self.path.is_dir():
            raise StorageError(
                f"the store {self.path}, which holds the workspace's records and checkpoints, is not there: mount it, "
                "or restore it from a copy"
            )

    def shard(self, number: int) -> ShardFolder:
        """See `Store.shard`."""
        return ShardFolder(self.path / shard_name(number))

    def strays(self, records: Mapping[int, Set[str]]) -> list[str]:
        """See `Store.strays`; a link is one whatever its name."""
        known: set[Path] = set()
        for number, names in records.items():
            folder = self.shard(number)
            known |= {folder.records / name for name in names}
            known |= {folder.checkpoint(key) for key in folder.keys()}  # noqa: SIM118 - not a mapping's
            known.add(folder.busy)
        there = [path for path in sorted(self.path.rglob("*")) if path.is_symlink() or not path.is_dir()]
        return [str(path) for path in there if path.is_symlink() or path not in known]
