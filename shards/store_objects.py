"""Shards in an object store, which any number of machines reach: published by copies the store makes whole.

An object is there whole or not at all, so there is nothing to sync; what a name says stands. No kernel keeps a
lock for other machines, so workers whose driver is gone are shut out by a *fence*: an object of each shard that
holds a token. A worker stages under the token it was told and looks at the fence before and after; whoever clears
up changes the fence first and deletes then. See decision 0012 for what is left.

Below the URL, every workspace has a prefix of its own:

    URL/ID/workspace       holds ID: this is the place, and not one that looks like it
    URL/ID/0003/fence      the token
    URL/ID/0003/records/ checkpoints/ staging/
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import final

import numpy as np

from shards import slicefile
from shards.errors import DamageError, StorageError
from shards.interrupts import guarded
from shards.remote import Remote
from shards.store import (
    MAX_HEADER_BYTES,
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

MARK = "workspace"
FENCE = "fence"
_PROBE = "probe"
_FENCE_DIGITS = 32
_HEADER_BYTES = 65536
"""Enough for the headers of most checkpoints, in one call."""


@final
@dataclass(frozen=True)
class ShardObjects(ShardStore):
    """One shard's objects; every operation as in `ShardStore`.

    Attributes:
        remote: The store.
        path: Bucket and prefix of the shard.
        token: What the fence must hold for this writer to stage; empty for the driver, who sets it.
    """

    remote: Remote
    path: str
    token: str = ""

    @property
    def location(self) -> str:
        """See `ShardStore.location`."""
        return self.remote.url(self.path)

    def create(self) -> None:
        """See `ShardStore.create`."""
        if not self.fence():
            self._raise_fence()

    # Who may write

    def fence(self) -> str:
        """See `ShardStore.fence`."""
        try:
            return self.remote.read_between(self._at(FENCE), 0, _FENCE_DIGITS).decode("ascii", errors="replace")
        except FileNotFoundError:
            return ""

    def _raise_fence(self) -> None:
        self.remote.write(self._at(FENCE), secrets.token_hex(_FENCE_DIGITS // 2).encode())

    @guarded
    def writing(self) -> Iterator[None]:
        """See `ShardStore.writing`.

        Yields:
            Nothing.
        """
        self._check_fence()
        yield

    def _check_fence(self) -> None:
        found = self.fence()
        if not found:
            raise StorageError(
                f"{socket.gethostname()} does not see {self.location}, which holds the records to train on: give its "
                "workers the environment the driver has (credentials, and endpoints such as AWS_ENDPOINT_URL)"
            )
        if found != self.token:
            raise StorageError(
                f"this worker may not write to {self.location} any more: whoever opened the workspace since has taken "
                "over; nothing of what it trained last was kept"
            )

    def clear_staging(self, patience: float) -> None:
        """See `ShardStore.clear_staging`; nobody is waited for."""
        del patience
        self._raise_fence()
        staging = self._at("staging")
        self.remote.purge(staging, self.remote.names(staging))

    # Checkpoints

    def keys(self) -> set[str]:
        """See `ShardStore.keys`."""
        return keys_among(self.remote.names(self._at("checkpoints")))

    def stage(self, header: CheckpointHeader, state: Mapping[str, np.ndarray]) -> str:
        """See `ShardStore.stage`.

        Args:
            header: What to say of it.
            state: The arrays.

        Returns:
            Its name while it is staged.

        """
        return self.stage_bytes(encode_checkpoint(header, state))

    def publish(self, staged: str, key: str) -> None:
        """See `ShardStore.publish`."""
        source = self._at("staging", staged)
        self.remote.copy(source, self._checkpoint(key))
        self.remote.delete(source)

    def sync_checkpoints(self) -> None:
        """See `ShardStore.sync_checkpoints`; what is there is there for good."""

    def load(self, key: str) -> Checkpoint:
        """See `ShardStore.load`."""
        path = self._checkpoint(key)
        return parse_checkpoint(self.remote.url(path), self.remote.read(path), key)

    def load_staged(self, staged: str, key: str) -> Checkpoint:
        """See `ShardStore.load_staged`."""
        path = self._at("staging", staged)
        return parse_checkpoint(self.remote.url(path), self.remote.read(path), key)

    def discard_staged(self, staged: str) -> None:
        """See `ShardStore.discard_staged`."""
        self.remote.delete(self._at("staging", staged))

    def header(self, key: str) -> CheckpointHeader:
        """See `ShardStore.header`.

        Args:
            key: The step's key.

        Returns:
            The header.

        Raises:
            FileNotFoundError: If there is none.
        """
        path = self._checkpoint(key)
        size = self.remote.size(path)
        if size is None:
            raise FileNotFoundError(self.remote.url(path))
        data = self.remote.read_between(path, 0, min(size, _HEADER_BYTES)) if size else b""
        end = min(8 + min(int.from_bytes(data[:8], "little"), MAX_HEADER_BYTES), size)
        if end > len(data):
            data += self.remote.read_between(path, len(data), end)
        return parse_header(self.remote.url(path), data, key)

    def purge(self, keys: Iterable[str]) -> None:
        """See `ShardStore.purge`."""
        self.remote.purge(self._at("checkpoints"), [checkpoint_name(key) for key in keys])

    # Records

    def record_files(self) -> set[str]:
        """See `ShardStore.record_files`."""
        return self.remote.names(self._at("records"))

    def has_records(self, name: str) -> bool:
        """See `ShardStore.has_records`."""
        return self.remote.size(self._at("records", name)) is not None

    def record_location(self, name: str) -> str:
        """See `ShardStore.record_location`."""
        return self.remote.url(self._at("records", name))

    def write_records(self, name: str, data: slicefile.SliceRecords) -> None:
        """See `ShardStore.write_records`."""
        self.remote.write(self._at("records", name), slicefile.to_bytes(self.record_location(name), data))

    def sync_records(self) -> None:
        """See `ShardStore.sync_records`; what is there is there for good."""

    def read_records(self, name: str) -> slicefile.SliceRecords:
        """See `ShardStore.read_records`.

        Args:
            name: Its name.

        Returns:
            The records.

        Raises:
            DamageError: If it is missing or is no well-formed slice file.
        """
        try:
            data = self.remote.read(self._at("records", name))
        except FileNotFoundError as error:
            raise DamageError(slicefile.missing(self.record_location(name))) from error
        return slicefile.from_bytes(self.record_location(name), data)

    def stage_records(self, data: slicefile.SliceRecords) -> str:
        """See `ShardStore.stage_records`."""
        return self.stage_bytes(slicefile.to_bytes(f"{self.location}/staging", data))

    def publish_records(self, staged: str, name: str) -> None:
        """See `ShardStore.publish_records`."""
        source = self._at("staging", staged)
        self.remote.copy(source, self._at("records", name))
        self.remote.delete(source)

    def staged_records(self, staged: str) -> slicefile.SliceRecords:
        """See `ShardStore.staged_records`."""
        return slicefile.from_bytes(self.remote.url(self._at("staging", staged)), self.staged_bytes(staged))

    def stage_bytes(self, data: bytes) -> str:
        """See `ShardStore.stage_bytes`.

        Args:
            data: The bytes.

        Returns:
            Their name.

        Raises:
            StorageError: If this writer was shut out; nothing of them stays.
        """
        staged = secrets.token_hex(16)
        path = self._at("staging", staged)
        if not self.token:
            self.remote.write(path, data)
            return staged
        self._check_fence()
        self.remote.write(path, data)
        try:
            self._check_fence()
        except StorageError:
            self.remote.delete(path)
            raise
        return staged

    def staged_bytes(self, staged: str) -> bytes:
        """See `ShardStore.staged_bytes`.

        Args:
            staged: Their name.

        Returns:
            The bytes.

        Raises:
            DamageError: If they are missing.
        """
        path = self._at("staging", staged)
        try:
            return self.remote.read(path)
        except FileNotFoundError as error:
            raise DamageError(missing_staged(self.remote.url(path))) from error

    def discard_records(self, name: str) -> None:
        """See `ShardStore.discard_records`."""
        self.remote.delete(self._at("records", name))

    def purge_records(self, names: Iterable[str]) -> None:
        """See `ShardStore.purge_records`."""
        self.remote.purge(self._at("records"), map(plain_name, names))

    def known(self, records: Set[str]) -> set[str]:
        """Paths of what belongs here.

        Args:
            records: Names of the record files.

        Returns:
            Paths; of checkpoints, of all that look like ones.
        """
        checkpoints = {self._checkpoint(key) for key in self.keys()}
        return {self._at(FENCE), *(self._at("records", name) for name in records)} | checkpoints

    def _at(self, *parts: str) -> str:
        return "/".join((self.path, *map(plain_name, parts)))

    def _checkpoint(self, key: str) -> str:
        return self._at("checkpoints", checkpoint_name(key))


@final
@dataclass(frozen=True)
class StoreObjects(Store):
    """The prefix that holds the shards' objects; every operation as in `Store`.

    Attributes:
        remote: The store.
        path: Bucket and prefix, without the workspace.
        id: The workspace.
    """

    remote: Remote
    path: str
    id: str

    def prepare(self) -> None:
        """See `Store.prepare`."""
        self.remote.check(self.path)
        # Whoever may write and not delete would find out when somebody is to be forgotten.
        self.remote.write(f"{self._own}/{_PROBE}", b"")
        self.remote.purge(self._own, [_PROBE])
        self.remote.write(f"{self._own}/{MARK}", self.id.encode())

    def check(self) -> None:
        """See `Store.check`.

        Raises:
            StorageError: If it is not the place.
        """
        self.remote.check(self.path)
        path = f"{self._own}/{MARK}"
        try:
            found = self.remote.read(path)
        except FileNotFoundError:
            found = b""
        if found != self.id.encode():
            raise StorageError(
                f"the store {self.remote.url(self.path)} does not hold this workspace ({self.remote.url(path)} is not "
                "there): check that the environment names the same place as when it was created (credentials, and "
                "endpoints such as AWS_ENDPOINT_URL), or restore it from a copy"
            )

    def shard(self, number: int) -> ShardObjects:
        """See `Store.shard`."""
        return ShardObjects(self.remote, f"{self._own}/{shard_name(number)}")

    def strays(self, records: Mapping[int, Set[str]]) -> list[str]:
        """See `Store.strays`."""
        known = {f"{self._own}/{MARK}"}.union(*(self.shard(number).known(names) for number, names in records.items()))
        return [self.remote.url(path) for path in self.remote.everything(self._own) if path not in known]

    @property
    def _own(self) -> str:
        return f"{self.path}/{self.id}"
