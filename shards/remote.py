"""Calls to an object store that may fail: a few tries each, then one error that says which store and what to do.

Every call may be repeated after it took effect: writing the same bytes again, copying again and deleting what is
gone change nothing. So whatever fails on the way is simply done again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shards.buckets import check_gcs, check_memory, check_s3, end_no_uploads, end_s3_uploads
from shards.errors import ConfigurationError, DamageError, StorageError
from shards.retries import retry_after

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """A kind of object store, in which writing or copying an object is atomic.

    Attributes:
        options: What its file system is made with.
        check: Says why a bucket cannot forget, if it cannot.
        end_uploads: Destroys unfinished uploads below a prefix.
        errors: The errors its library raises.
    """

    options: Mapping[str, Any]
    check: Callable[[Any, str], str | None]
    end_uploads: Callable[[Any, str], None]
    errors: Callable[[], tuple[type[BaseException], ...]]


def _s3_errors() -> tuple[type[BaseException], ...]:
    from aiohttp import ClientError as Transport
    from botocore.exceptions import BotoCoreError, ClientError

    return OSError, BotoCoreError, ClientError, Transport


def _gcs_errors() -> tuple[type[BaseException], ...]:
    from aiohttp import ClientError
    from gcsfs.retry import ChecksumError, HttpError
    from google.auth.exceptions import GoogleAuthError

    return OSError, ClientError, ChecksumError, HttpError, GoogleAuthError


def _os_errors() -> tuple[type[BaseException], ...]:
    return (OSError,)


# Tries are counted here alone: those of the libraries would multiply them, and keep a user waiting for minutes.
_ONCE = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 1}}}

KINDS = {
    "s3": Kind(_ONCE, check_s3, end_s3_uploads, _s3_errors),
    "gs": Kind({}, check_gcs, end_no_uploads, _gcs_errors),
    "memory": Kind({}, check_memory, end_no_uploads, _os_errors),
}
"""By protocol: the stores of which it is known how they publish and whether they forget."""


@dataclass(frozen=True, eq=False)
class Remote:
    """An object store.

    Attributes:
        protocol: As in its URLs.
        kind: What is known of it.
        files: Its file system (fsspec).
        errors: What its library raises.
        sleep: Waits for some seconds.
    """

    protocol: str
    kind: Kind
    files: Any
    errors: tuple[type[BaseException], ...]
    sleep: Callable[[float], None] = field(default=time.sleep)

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"{self.protocol}://{path}"

    def read(self, path: str) -> bytes:
        """All bytes of an object.

        Args:
            path: Bucket and key.

        Returns:
            The bytes.

        Raises:
            FileNotFoundError: If there is none.
        """
        return self._try("reading", path, lambda: bytes(self.files.cat_file(path)))

    def read_between(self, path: str, start: int, end: int) -> bytes:
        """Some bytes of an object that holds at least one of them.

        Args:
            path: Bucket and key.
            start: The first byte.
            end: The byte after the last.

        Returns:
            The bytes, as many as there are.

        Raises:
            FileNotFoundError: If there is none.
        """
        return self._try("reading", path, lambda: bytes(self.files.cat_file(path, start=start, end=end)))

    def size(self, path: str) -> int | None:
        """Size of an object in bytes, or None if there is none."""
        try:
            found = self._try("looking at", path, lambda: self.files.info(path))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def write(self, path: str, data: bytes) -> None:
        """Put an object; it is there whole or not at all, and afterwards for good.

        Args:
            path: Bucket and key.
            data: The bytes.

        Raises:
            StorageError: If the store fails, or has no such bucket any more.
        """
        try:
            self._try("writing", path, lambda: self.files.pipe_file(path, data))
        except FileNotFoundError as error:
            raise self._given_up("writing", path, 1, error) from error

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the store; the copy is there whole or not at all.

        Args:
            source: Bucket and key.
            target: Bucket and key.

        Raises:
            FileNotFoundError: If there is no such object.
        """
        self._try("writing", target, lambda: self.files.cp_file(source, target))

    def delete(self, path: str) -> None:
        """Delete an object, if it is there."""
        try:
            self._try("deleting", path, lambda: self.files.rm_file(path))
        except FileNotFoundError:
            return

    def names(self, path: str) -> set[str]:
        """Names of the objects directly below a prefix, asked of the store itself and of no cache."""
        return {name for name, kind in self._listed(path) if kind == "file"}

    def everything(self, path: str) -> list[str]:
        """Paths of all objects below a prefix."""
        found = []
        for name, kind in sorted(self._listed(path)):
            inside = f"{path}/{name}"
            found += self.everything(inside) if kind == "directory" else [inside]
        return found

    def purge(self, path: str, names: Iterable[str]) -> None:
        """Delete objects below a prefix, and what was left there of unfinished uploads; make sure they are gone.

        Args:
            path: The prefix.
            names: Names of the objects; those that do not exist are none the worse.

        Raises:
            DamageError: If one is still there afterwards.
        """
        gone = sorted(names)
        for name in gone:
            self.delete(f"{path}/{name}")
        self._try("clearing", path, lambda: self.kind.end_uploads(self.files, path))
        left = sorted(self.names(path).intersection(gone))
        if left:
            raise DamageError(
                f"{self.url(path)}/{left[0]} was deleted but is still there: is another program writing to the "
                "workspace?"
            )

    def check(self, path: str) -> None:
        """Refuse a bucket that keeps what is deleted.

        Args:
            path: The bucket, perhaps with a prefix.

        Raises:
            StorageError: If it does, or cannot be asked.
        """
        bucket = path.partition("/")[0]
        try:
            fault = self._try("asking", bucket, lambda: self.kind.check(self.files, bucket))
        except FileNotFoundError as error:
            raise StorageError(
                f"the store {self.url(bucket)} is not there: make the bucket first, and check that this machine asks "
                "the right place (credentials and endpoint come from the environment, such as AWS_ENDPOINT_URL)"
            ) from error
        if fault is not None:
            raise StorageError(
                f"the store {self.url(bucket)} cannot forget: {fault}. Nothing deleted there would be gone for good"
            )

    def _listed(self, path: str) -> set[tuple[str, str]]:
        def listing() -> list[Any]:
            self.files.invalidate_cache()
            found: list[Any] = self.files.ls(path, detail=True)
            return found

        try:
            found = self._try("listing", path, listing)
        except FileNotFoundError:
            return set()  # object stores know no empty folders
        pairs = {(item["name"].rstrip("/").rpartition("/")[2], item["type"]) for item in found}
        return {(name, kind) for name, kind in pairs if name}

    def _try(self, doing: str, path: str, call: Callable[[], T]) -> T:
        attempt = 1
        while True:
            try:
                return call()
            except FileNotFoundError:
                raise  # an answer, not a failure
            except self.errors as error:
                wait = retry_after(error, attempt, random.random())  # noqa: S311 - not a secret  # nosec B311
                if wait is None:
                    raise self._given_up(doing, path, attempt, error) from error
            self.sleep(wait)
            attempt += 1

    def _given_up(self, doing: str, path: str, attempts: int, error: BaseException) -> StorageError:
        tried = "" if attempts == 1 else f" {attempts} times in a row"
        return StorageError(
            f"the store failed{tried} {doing} {self.url(path)} ({type(error).__name__}: {error}): check that it is "
            "reached and allows this (credentials and endpoint come from the environment), then repeat the command; "
            "what was acknowledged before is safe, and what was begun is finished then"
        )


def connect(protocol: str) -> Remote:
    """Connect to a store, as the environment says.

    Args:
        protocol: One of `KINDS`.

    Returns:
        The store.

    Raises:
        ConfigurationError: If the library for it is missing.
    """
    kind = KINDS[protocol]
    try:
        import fsspec

        files = fsspec.filesystem(protocol, use_listings_cache=False, **kind.options)
        errors = kind.errors()
    except ImportError as error:
        library = {"s3": "pip install 'sisa-unlearn[stores]'", "gs": "pip install gcsfs"}.get(protocol, "fsspec")
        raise ConfigurationError(f"{protocol}:// needs a library that is missing ({error}): {library}") from error
    if protocol == "s3":
        files.retries = 1
    return Remote(protocol, kind, files, errors)
