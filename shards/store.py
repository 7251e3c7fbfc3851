"""Checkpoints on disk: named by their key, published by rename, purged for good.

A file under its final name is complete: it was written elsewhere, synced, renamed, and its directory synced.
What it says is trusted only after its digests were checked. Each shard has a folder of its own:

    shards/0003/records/       the slices' records (see `slicefile`)
    shards/0003/checkpoints/   one file a step, named by key
    shards/0003/staging/       unfinished files; emptied whenever nobody is writing
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.digest import canonical_json, digest_arrays, digest_json, digest_parts
from shards.errors import DamageError

SUFFIX = ".safetensors"
_KEY = re.compile("[0-9a-z]{64}")
_SALT_BYTES = 32
_MAX_HEADER_BYTES = 100_000_000
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


@dataclass(frozen=True)
class ShardFolder:
    """The folder of one shard, the only place its worker reads or writes.

    Attributes:
        path: Absolute path of the folder.
    """

    path: Path

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

    def checkpoint(self, key: str) -> Path:
        """Final path of the checkpoint with this key.

        Args:
            key: 64 digits or lower-case letters.

        Returns:
            The path, below `checkpoints`.

        Raises:
            DamageError: If it is no key.
        """
        if not _KEY.fullmatch(key):
            raise DamageError(f"{key[:80]!r} is no key of a checkpoint: the ledger is damaged, restore it from a copy")
        return self.checkpoints / f"{key}{SUFFIX}"

    def keys(self) -> set[str]:
        """Keys of the complete checkpoints in the folder."""
        return {path.stem for path in self.checkpoints.glob(f"*{SUFFIX}") if _KEY.fullmatch(path.stem)}

    def stage(self, header: CheckpointHeader, state: Mapping[str, np.ndarray]) -> Path:
        """Write a checkpoint into the staging part and sync it.

        Args:
            header: What to say of it.
            state: The arrays.

        Returns:
            Path of the staged file; `publish` gives it its final name.
        """
        from safetensors.numpy import save

        # Sorted, so that the container is as reproducible as it can be; digests never rely on it.
        arrays = {name: np.asarray(state[name], order="C") for name in sorted(state)}
        fields = asdict(header)
        metadata = {
            "header": canonical_json(fields).decode(),
            "check": digest_json("checkpoint", fields),
        }
        path = self.staging / secrets.token_hex(8)
        with path.open("xb") as file:
            file.write(save(arrays, metadata=metadata))
            file.flush()
            os.fsync(file.fileno())
        return path

    def publish(self, staged: Path, key: str) -> Path:
        """Give a staged checkpoint its final name; afterwards it survives a crash.

        Args:
            staged: What `stage` returned.
            key: The step's key.

        Returns:
            The final path.
        """
        final = self.checkpoint(key)
        staged.replace(final)
        sync_path(self.checkpoints)
        return final

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
        path = self.checkpoint(key)
        try:
            data = path.read_bytes()
        except (IsADirectoryError, PermissionError) as error:
            raise DamageError(f"the checkpoint {path} cannot be read: {error.strerror}") from error
        return _parse(path, data, key)

    def load_staged(self, staged: Path, key: str) -> Checkpoint:
        """Read a checkpoint that is not published.

        Args:
            staged: What `stage` returned.
            key: The step's key.

        Returns:
            The checkpoint.

        Raises:
            DamageError: If its bytes are not what was written.
        """
        return _parse(staged, staged.read_bytes(), key)

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
        path = self.checkpoint(key)
        with path.open("rb") as file:
            length = file.read(8)
            data = length + file.read(min(int.from_bytes(length, "little"), _MAX_HEADER_BYTES))
        return _parse_header(path, data, key)

    def purge(self, keys: Iterable[str]) -> None:
        """Delete checkpoints and make sure they are gone.

        Args:
            keys: Keys of the checkpoints; those that do not exist are none the worse.
        """
        purge_files([self.checkpoint(key) for key in keys], self.checkpoints)


def _parse(path: Path, data: bytes, key: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = _parse_header(path, data, key)
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DamageError(f"the checkpoint {path} is damaged: {error}") from error
    if digest_arrays(arrays) != header.payload:
        raise DamageError(f"the checkpoint {path} is damaged: its content does not match its digest")
    return Checkpoint(header, arrays)


def _parse_header(path: Path, data: bytes, key: str) -> CheckpointHeader:
    damaged = f"the checkpoint {path} is damaged"
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


def sync_path(path: Path) -> None:
    """Make durable the names in a directory, or the content of a file that somebody else may have written."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def purge_files(paths: Iterable[Path], *folders: Path) -> None:
    """Delete files, make the deletion durable, and verify that they are gone.

    Args:
        paths: The files; those that do not exist are none the worse.
        folders: Where deletions are made durable in any case: of what is gone already, whoever deleted it may have
            been interrupted before it was gone for good.

    Raises:
        DamageError: If a file is still there afterwards.
    """
    gone = list(paths)
    for path in gone:
        if path.is_dir() and not path.is_symlink():
            raise DamageError(f"{path} is a folder where a file belongs: move it away")
        path.unlink(missing_ok=True)
    for parent in sorted({*folders, *(path.parent for path in gone)}):
        sync_path(parent)
    for path in gone:
        if path.exists():
            raise DamageError(f"{path} was deleted but is still there: is another program writing to the workspace?")
