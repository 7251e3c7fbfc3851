"""Ids on their way: accepted by any process, encrypted until the one writer serves them, then gone for good.

A deletion request that nobody has served yet must survive a crash, so the ids it names have to be on the disk. They
are encrypted under the key of the present epoch, a file beside the ledger. Whoever serves requests first begins a
new epoch, so that nothing more comes under the old key, then serves what there is, then destroys the old key: from
then on the ciphertext, of which a database may keep copies in unused pages, journals and backups, says nothing.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shards.digest import Json, canonical_json
from shards.files import purge_files, sync_path
from unlearn.errors import DamageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_EPOCH = re.compile("[0-9a-f]{16}")


class Inbox:
    """The keys of the epochs.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin_epoch(self) -> str:
        """Make a new key, durably.

        Returns:
            Name of the epoch.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = secrets.token_hex(8)
        handle = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        sync_path(self._folder)
        sync_path(self._folder.parent)
        return name

    def end_epochs_but(self, kept: Iterable[str]) -> None:
        """Destroy every key but some.

        Args:
            kept: Names of the epochs under which ids still wait, and of the present one.
        """
        over = self.epochs() - set(kept)
        if over:
            purge_files([self._folder / f"{name}.key" for name in sorted(over)])

    def epochs(self) -> set[str]:
        """Names of the epochs whose keys are there."""
        return {path.stem for path in self._folder.glob("*.key")}

    def seal(self, epoch: str, request_id: str, subjects: Iterable[str], record_ids: Iterable[str]) -> bytes:
        """Encrypt the ids a request names (AES-256-GCM, bound to the request).

        Args:
            epoch: Name of the present epoch.
            request_id: The request.
            subjects: Subjects it names.
            record_ids: Single records it names.

        Returns:
            Nonce and ciphertext.

        Raises:
            FileNotFoundError: If the epoch is over.
        """
        return self.seal_json(epoch, request_id, {"subjects": list(subjects), "record_ids": list(record_ids)})

    def seal_json(self, epoch: str, request_id: str, value: Json) -> bytes:
        """Encrypt what belongs to a request, as `seal` does.

        Args:
            epoch: Name of the present epoch.
            request_id: The request.
            value: What is to be read again.

        Returns:
            Nonce and ciphertext.

        Raises:
            FileNotFoundError: If the epoch is over.
        """
        nonce, plain = secrets.token_bytes(_NONCE_BYTES), canonical_json(value)
        return nonce + self._cipher(epoch).encrypt(nonce, plain, request_id.encode())

    def open(self, epoch: str, request_id: str, sealed: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Decrypt them.

        Args:
            epoch: Name of the epoch they were encrypted in.
            request_id: The request.
            sealed: What `seal` returned.

        Returns:
            Subjects and record ids.

        Raises:
            DamageError: If the key is missing or is another one.
        """
        ids = self.open_json(epoch, request_id, sealed)
        return tuple(ids["subjects"]), tuple(ids["record_ids"])

    def open_json(self, epoch: str, request_id: str, sealed: bytes) -> Json:
        """Decrypt what `seal_json` encrypted.

        Args:
            epoch: Name of the epoch it was encrypted in.
            request_id: The request.
            sealed: Nonce and ciphertext.

        Returns:
            The value.

        Raises:
            DamageError: If the key is missing or is another one.
        """
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher(epoch).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], request_id.encode())
        except (FileNotFoundError, InvalidTag, ValueError) as error:
            raise DamageError(
                f"what was sealed for request {request_id} cannot be decrypted: the key {self._path(epoch)} is missing "
                "or is not the one it was encrypted under; restore it from a copy, or submit the request again"
            ) from error
        return json.loads(plain)

    def _cipher(self, epoch: str) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = self._path(epoch).read_bytes()
        if len(key) != _KEY_BYTES:
            raise DamageError(f"{self._path(epoch)} is no key: restore it from a copy; nothing was changed")
        return AESGCM(key)

    def _path(self, epoch: str) -> Path:
        if not _EPOCH.fullmatch(epoch):
            raise DamageError(f"{epoch[:40]!r} is no name of an epoch: the ledger is damaged, restore it from a copy")
        return self._folder / f"{epoch}.key"
