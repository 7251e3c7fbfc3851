"""What was charged, kept so that no crash forgets it: a charge is on disk before what it pays for is released.

A folder holds

    secret        16 random bytes that key the tokens of ids (0600)
    ledger.jsonl  an entry a line, appended and synchronised (0600: charges are computed from data)
    state.npz     what the mechanism holds, weights without their noise among them (0600), and what is published

and goes through `charged` → state.npz renamed into place → `released`. Whoever opens a folder whose last word is
`charged` does not know what became of it, and has to release anew.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from shards.files import sync_path
from shards.lock import exclusive
from unlearn.errors import DamageError, FencedError, WorkspaceError

Entry = Mapping[str, Any]


class Ledger(ABC):
    """Entries in their order, and the state that belongs to the last one that says `released`."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.entries: list[Entry] = []

    def token(self, record_id: object) -> str:
        """A keyed digest that shows a forgotten id to nobody without the key.

        Args:
            record_id: A string or a number.

        Returns:
            32 hex digits.
        """
        return hmac.new(self._key, repr(record_id).encode(), hashlib.sha256).hexdigest()[:32]

    def fingerprint(self, tokens: Iterable[str]) -> str:
        """A keyed digest of a set of records.

        Args:
            tokens: Theirs.

        Returns:
            32 hex digits.
        """
        return hmac.new(self._key, "".join(sorted(tokens)).encode(), hashlib.sha256).hexdigest()[:32]

    @abstractmethod
    def alone(self) -> AbstractContextManager[None]:
        """Nobody else writes meanwhile."""

    @abstractmethod
    def append(self, entry: Entry) -> None:
        """Make an entry durable.

        Args:
            entry: JSON values.
        """

    @abstractmethod
    def keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Make a state durable, in place of the one before.

        Args:
            arrays: By name.
        """

    @abstractmethod
    def kept(self) -> dict[str, np.ndarray]:
        """The state that was kept last."""


class MemoryLedger(Ledger):
    """For as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(secrets.token_bytes(16))
        self._arrays: dict[str, np.ndarray] = {}

    def alone(self) -> AbstractContextManager[None]:
        """No other process knows of it."""
        return nullcontext()

    def append(self, entry: Entry) -> None:
        """Remember it.

        Args:
            entry: JSON values.
        """
        self.entries.append(dict(entry))

    def keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Remember it.

        Args:
            arrays: By name.
        """
        self._arrays = dict(arrays)

    def kept(self) -> dict[str, np.ndarray]:
        """The state that was kept last."""
        return dict(self._arrays)


class FileLedger(Ledger):
    """In a folder."""

    def __init__(self, folder: Path, key: bytes) -> None:
        super().__init__(key)
        self.folder = folder
        self._size = 0

    @classmethod
    def create(cls, folder: Path) -> FileLedger:
        """Begin a new one.

        Args:
            folder: That does not exist, or is empty.

        Returns:
            It.
        """
        check_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        key = secrets.token_bytes(16)
        _write(folder / "secret", key)
        _write(folder / "ledger.jsonl", b"")
        return cls(folder, key)

    @classmethod
    def open(cls, folder: Path) -> FileLedger:
        """Go on with one; a line that a crash cut off had released nothing, and goes.

        Args:
            folder: Its folder.

        Returns:
            It.

        Raises:
            WorkspaceError: If there is none.
        """
        if not (folder / "secret").exists() or not (folder / "ledger.jsonl").exists():
            raise WorkspaceError(f"{folder} holds no ledger of certified removal: fit with path={str(folder)!r} first")
        found = cls(folder, (folder / "secret").read_bytes())
        with exclusive(folder / "lock", 0):
            found._read()
        return found

    def _read(self) -> None:
        path = self.folder / "ledger.jsonl"
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.entries.append(json.loads(line))
            except ValueError as error:
                raise DamageError(f"{path}, line {number} is no JSON: restore the file from a backup") from error
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        self._size = len(whole)

    def alone(self) -> AbstractContextManager[None]:
        """Hold the folder's lock, and be sure that nobody wrote since it was read."""
        return _Alone(self)

    def append(self, entry: Entry) -> None:
        """Write and synchronise.

        Args:
            entry: JSON values.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        with (self.folder / "ledger.jsonl").open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(line)
        self.entries.append(json.loads(line))

    def keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write aside, synchronise, rename.

        Args:
            arrays: By name.
        """
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        aside = self.folder / "state.npz.new"
        aside.unlink(missing_ok=True)
        _write(aside, content.getvalue())
        aside.replace(self.folder / "state.npz")
        sync_path(self.folder)

    def kept(self) -> dict[str, np.ndarray]:
        """The state that was kept last.

        Returns:
            Arrays by name.

        Raises:
            DamageError: If there is none.
        """
        path = self.folder / "state.npz"
        if not path.exists():
            raise DamageError(f"{path} is gone: restore it from a backup, or fit anew in another folder")
        with np.load(path, allow_pickle=False) as found:
            return dict(found)

    def unchanged(self) -> bool:
        """Whether the file is as long as this process left it."""
        return (self.folder / "ledger.jsonl").stat().st_size == self._size


class _Alone(AbstractContextManager[None]):
    def __init__(self, ledger: FileLedger) -> None:
        self._ledger = ledger
        self._lock = exclusive(ledger.folder / "lock", 0)

    def __enter__(self) -> None:
        self._lock.__enter__()
        if not self._ledger.unchanged():
            self._lock.__exit__(None, None, None)
            raise FencedError(
                f"another process charged the ledger in {self._ledger.folder} since it was opened here: open it again"
            )

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def check_empty(folder: Path) -> None:
    """Refuse a folder that is in use.

    Args:
        folder: That need not exist.

    Raises:
        WorkspaceError: If there is something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise WorkspaceError(
            f"{folder} is not empty: a budget begins once for its data. Open what is there, or name another folder"
        )


def _write(path: Path, content: bytes) -> None:
    """Create a file that its owner alone may read, and synchronise it with its name."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_path(path.parent)
