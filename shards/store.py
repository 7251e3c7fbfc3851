"""Where the data of shards lies: records and checkpoints, published whole, purged for good.

What has its final name is complete. What it says is trusted only after its digests were checked. Each shard has a
place of its own:

    0003/records/       the slices' records (see `slicefile`)
    0003/checkpoints/   one a step, named by key
    0003/staging/       unfinished; emptied whenever nobody is writing

`store_local` keeps them in a folder, `store_objects` in an object store; `location` tells which from a path or URL.
"""

from __future__ import annotations

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shards.digest import canonical_json, digest_arrays, digest_json, digest_parts
from shards.errors import DamageError
from shards.slicefile import SliceRecords

SUFFIX = ".safetensors"
_KEY = re.compile("[0-9a-z]{64}")
_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_SALT_BYTES = 32
MAX_HEADER_BYTES = 100_000_000
"""As safetensors itself allows."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint file says of itself.

    Attributes:
        key: Key of the step.
        parent: Key of the step before it.
        shard: Shard number.
        position: Position in the chain.
        records: Records of slices 1..r, which the state was trained on.
        environment: Digest of the numeric environment.
        content: Canonical digest of the state.
        payload: Digest of the arrays as they are stored.
        salt: 64 random hex digits, kept in this file alone.
    """

    key: str
    parent: str | None
    shard: int
    position: int
    records: int
    environment: str
    content: str
    payload: str
    salt: str

    @property
    def commitment(self) -> str:
        """Salted digest of the state; once the file is destroyed, it says nothing about the state."""
        return digest_parts("state", [bytes.fromhex(self.salt), self.content.encode(), self.payload.encode()])


def new_salt() -> str:
    """A fresh secret salt, 64 hex digits."""
    return secrets.token_hex(_SALT_BYTES)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state with its header."""

    header: CheckpointHeader
    state: Mapping[str, np.ndarray]


class ShardStore(ABC):
    """Abstract: where one shard's data lies, the only place its worker reads or writes.

    Every operation can be repeated. Whatever is asked to be durable or gone is so when the operation returns.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """The path or URL from which `open_shard` gives this again, on any machine."""

    @abstractmethod
    def create(self) -> None:
        """Make the place, durably; no error where it exists."""

    # Who may write

    @abstractmethod
    def fence(self) -> str:
        """The token that a worker needs to stage here; empty where a lock keeps the others out."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """Held by a worker while it trains.

        Raises:
            StorageError: If this machine does not see the place, or the worker was shut out by `clear_staging`.
        """

    @abstractmethod
    def clear_staging(self, patience: float) -> None:
        """Shut out workers whose driver is gone, and destroy what is staged.

        Args:
            patience: How long to wait for such workers where they can only be waited for, in seconds.

        Raises:
            LockedError: If one still writes after that.
            DamageError: If something is still there afterwards.
        """

    # Checkpoints

    @abstractmethod
    def keys(self) -> set[str]:
        """Keys of the complete checkpoints."""

    @abstractmethod
    def stage(self, header: CheckpointHeader, state: Mapping[str, np.ndarray]) -> str:
        """Write a checkpoint, durably, that nobody sees yet.

        Args:
            header: What to say of it.
            state: The arrays.

        Returns:
            Its name while it is staged; `publish` gives it its final one.

        Raises:
            StorageError: If `clear_staging` shut this writer out; nothing of it stays.
        """

    @abstractmethod
    def publish(self, staged: str, key: str) -> None:
        """Give a staged checkpoint its final name; afterwards it survives a crash.

        Args:
            staged: What `stage` returned.
            key: The step's key.
        """

    @abstractmethod
    def sync_checkpoints(self) -> None:
        """Make durable what others published, who may have been interrupted before it was."""

    @abstractmethod
    def load(self, key: str) -> Checkpoint:
        """Read a checkpoint and check every digest it carries.

        Args:
            key: The step's key.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: If there is none.
            DamageError: If its bytes are not what was written.
        """

    @abstractmethod
    def load_staged(self, staged: str, key: str) -> Checkpoint:
        """Read a checkpoint that is not published.

        Args:
            staged: What `stage` returned.
            key: The step's key.

        Returns:
            The checkpoint.

        Raises:
            DamageError: If its bytes are not what was written.
        """

    @abstractmethod
    def discard_staged(self, staged: str) -> None:
        """Delete a staged checkpoint, if it is there.

        Args:
            staged: What `stage` returned.
        """

    @abstractmethod
    def header(self, key: str) -> CheckpointHeader:
        """Read what a checkpoint says of itself, without its arrays.

        Args:
            key: The step's key.

        Returns:
            The header; whether the arrays match it, only `load` looks at.

        Raises:
            FileNotFoundError: If there is none.
            DamageError: If the header is not what was written.
        """

    @abstractmethod
    def purge(self, keys: Iterable[str]) -> None:
        """Delete checkpoints and make sure they are gone.

        Args:
            keys: Keys of the checkpoints; those that do not exist are none the worse.

        Raises:
            DamageError: If one is still there afterwards.
        """

    # Records

    @abstractmethod
    def record_files(self) -> set[str]:
        """Names of whatever lies among the records."""

    @abstractmethod
    def has_records(self, name: str) -> bool:
        """Whether there is a record file of this name.

        Args:
            name: Its name.
        """

    @abstractmethod
    def record_location(self, name: str) -> str:
        """Path or URL of a record file, for messages.

        Args:
            name: Its name.
        """

    @abstractmethod
    def write_records(self, name: str, data: SliceRecords) -> None:
        """Write a record file; `sync_records` makes its name durable.

        Args:
            name: A name that does not exist yet.
            data: The records.

        Raises:
            InputError: If they cannot be stored.
        """

    @abstractmethod
    def sync_records(self) -> None:
        """Make durable which record files there are."""

    @abstractmethod
    def read_records(self, name: str) -> SliceRecords:
        """Read a record file; what it holds is not compared with any digest.

        Args:
            name: Its name.

        Returns:
            The records; see `slicefile.read` for how long their arrays keep a deleted file alive.

        Raises:
            DamageError: If it is missing or is no well-formed slice file.
        """

    @abstractmethod
    def stage_records(self, data: SliceRecords) -> str:
        """Write records, durably, that nobody sees yet.

        Args:
            data: The records.

        Returns:
            Their name while they are staged; `publish_records` gives them their final one.

        Raises:
            InputError: If they cannot be stored.
            StorageError: If `clear_staging` shut this writer out; nothing of them stays.
        """

    @abstractmethod
    def publish_records(self, staged: str, name: str) -> None:
        """Give staged records their final name; `sync_records` makes it durable.

        Args:
            staged: What `stage_records` returned.
            name: A name that does not exist yet.
        """

    @abstractmethod
    def staged_records(self, staged: str) -> SliceRecords:
        """Read records that are not published, or a part of a slice that was staged as bytes.

        Args:
            staged: What `stage_records` or `stage_bytes` returned.

        Returns:
            The records.

        Raises:
            DamageError: If they are missing or no well-formed slice file.
        """

    @abstractmethod
    def stage_bytes(self, data: bytes) -> str:
        """Write what one worker leaves for another until `clear_staging`; need not survive a crash.

        Args:
            data: The bytes.

        Returns:
            Their name.

        Raises:
            StorageError: If `clear_staging` shut this writer out; nothing of them stays.
        """

    @abstractmethod
    def staged_bytes(self, staged: str) -> bytes:
        """Read what was staged.

        Args:
            staged: What `stage_bytes` returned.

        Returns:
            The bytes.

        Raises:
            DamageError: If they are missing.
        """

    @abstractmethod
    def discard_records(self, name: str) -> None:
        """Delete a half-written record file, if it is there; `sync_records` makes that durable.

        Args:
            name: Its name.
        """

    @abstractmethod
    def purge_records(self, names: Iterable[str]) -> None:
        """Delete record files and make sure they are gone.

        Args:
            names: Their names; those that do not exist are none the worse.

        Raises:
            DamageError: If one is still there afterwards.
        """


class Store(ABC):
    """Abstract: where all shards of a workspace lie, and nothing else does."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the place, durably; no error where it exists.

        Raises:
            StorageError: If it cannot be used, or would keep what is deleted.
        """

    @abstractmethod
    def check(self) -> None:
        """Make sure that the place is there, is this workspace's own, and does not keep what is deleted.

        Raises:
            StorageError: If not; says what to do.
        """

    @abstractmethod
    def shard(self, number: int) -> ShardStore:
        """The place of one shard.

        Args:
            number: The shard.
        """

    @abstractmethod
    def strays(self, records: Mapping[int, Set[str]]) -> list[str]:
        """Whatever lies there that nothing names.

        Args:
            records: Every shard, with the names of its record files.

        Returns:
            Paths or URLs; checkpoints are not among them, if they look like ones.
        """


def shard_name(number: int) -> str:
    """Name of a shard's place below the store."""
    return f"{number:04d}"


def missing_staged(where: object) -> str:
    """What to say of something staged that is not there."""
    return f"{where}, which was under way, is missing: is another program writing to the workspace? Repeat the command"


def checkpoint_name(key: str) -> str:
    """Name of the checkpoint with this key.

    Args:
        key: 64 digits or lower-case letters.

    Returns:
        The name, below `checkpoints`.

    Raises:
        DamageError: If it is no key.
    """
    if not _KEY.fullmatch(key):
        raise DamageError(f"{key[:80]!r} is no key of a checkpoint: the ledger is damaged, restore it from a copy")
    return f"{key}{SUFFIX}"


def keys_among(names: Iterable[str]) -> set[str]:
    """Keys of the checkpoints among some names."""
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return {stem for stem in stems if _KEY.fullmatch(stem)}


def plain_name(name: str) -> str:
    """A name that comes from elsewhere, if it stays in its folder.

    Args:
        name: Name of a record file or a staged checkpoint.

    Returns:
        The same.

    Raises:
        DamageError: If it is none.
    """
    if not _NAME.fullmatch(name):
        raise DamageError(
            f"{name[:80]!r} is no name of a file in a shard: the ledger is damaged, restore it from a copy"
        )
    return name


def encode_checkpoint(header: CheckpointHeader, state: Mapping[str, np.ndarray]) -> bytes:
    """A checkpoint as it is stored.

    Args:
        header: What to say of it.
        state: The arrays.

    Returns:
        A safetensors file.
    """
    from safetensors.numpy import save

    # Sorted, so that the container is as reproducible as it can be; digests never rely on it.
    arrays = {name: np.asarray(state[name], order="C") for name in sorted(state)}
    fields = asdict(header)
    metadata = {
        "header": canonical_json(fields).decode(),
        "check": digest_json("checkpoint", fields),
    }
    data: bytes = save(arrays, metadata=metadata)
    return data


def parse_checkpoint(where: object, data: bytes, key: str) -> Checkpoint:
    """Read a stored checkpoint and check every digest it carries.

    Args:
        where: Where it lies, for messages.
        data: Its bytes.
        key: Key of the step it is to be.

    Returns:
        The checkpoint.

    Raises:
        DamageError: If the bytes are not what was written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = parse_header(where, data, key)
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DamageError(f"the checkpoint {where} is damaged: {error}") from error
    if digest_arrays(arrays) != header.payload:
        raise DamageError(f"the checkpoint {where} is damaged: its content does not match its digest")
    return Checkpoint(header, arrays)


def parse_header(where: object, data: bytes, key: str) -> CheckpointHeader:
    """Read what a stored checkpoint says of itself.

    Args:
        where: Where it lies, for messages.
        data: Its bytes, the arrays' perhaps left out.
        key: Key of the step it is to be.

    Returns:
        The header.

    Raises:
        DamageError: If it is not what was written.
    """
    return _parse_header(f"the checkpoint {where} is damaged", data, key)


def _parse_header(damaged: str, data: bytes, key: str) -> CheckpointHeader:
    try:
        fields = _header_fields(data)
        if fields.pop("check") != digest_json("checkpoint", fields["header"]):
            raise DamageError(f"{damaged}: its header does not match its digest")
        header = CheckpointHeader(**fields["header"])
        if len(bytes.fromhex(header.salt)) != _SALT_BYTES:
            raise ValueError("its salt is not one")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamageError(f"{damaged}: {error}") from error
    if header.key != key:
        raise DamageError(f"{damaged}: it holds another step than its name says")
    return header


def _header_fields(data: bytes) -> dict[str, Any]:
    """The `header` and `check` entries of a safetensors file: a length of 8 bytes, then JSON with `__metadata__`."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    return {"header": json.loads(metadata["header"]), "check": metadata["check"]}
