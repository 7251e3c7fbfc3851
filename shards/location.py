"""Which store a path or URL names.

A path, or `file://`, is a folder; `s3://bucket/prefix` and `gs://bucket/prefix` are object stores. Credentials come
from the environment and are never part of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shards.errors import ConfigurationError
from shards.remote import KINDS, connect
from shards.store import ShardStore, Store
from shards.store_local import ShardFolder, StoreFolder
from shards.store_objects import ShardObjects, StoreObjects

_ALIASES = {"s3a": "s3", "gcs": "gs"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,221}")
_PREFIX = re.compile(r"[0-9A-Za-z._=+-]+(/[0-9A-Za-z._=+-]+)*")


def normal_location(location: str) -> str:
    """A path or URL as it is written down.

    Args:
        location: What a user gave.

    Returns:
        An absolute path, or `protocol://bucket/prefix`.

    Raises:
        ConfigurationError: If it names no store that is known to forget, or holds credentials.
    """
    if "://" not in location:
        if not location:
            raise ConfigurationError("store is empty: give a path, or a URL such as s3://bucket/prefix")
        return str(Path(location).absolute())
    parts = urlsplit(location)
    protocol = _ALIASES.get(parts.scheme, parts.scheme)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # It is not repeated here: messages end up in logs.
        raise ConfigurationError(
            "the URL of a store must hold no credentials and no options, since it is written down: give "
            "protocol://bucket/prefix alone, and the rest through the environment (AWS_ACCESS_KEY_ID, "
            "AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, …)"
        )
    if protocol in {"file", "local"}:
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise ConfigurationError(f"{location} names no absolute path: give file:///path, or the path itself")
        return str(Path(unquote(parts.path)))
    if protocol not in KINDS:
        raise ConfigurationError(
            f"{protocol}:// is no store of which it is known how to destroy what it holds: use s3:// or gs://, or "
            "mount it and give the folder"
        )
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc) or (prefix and not _is_plain(prefix)):
        raise ConfigurationError(
            f"{location} is no place in a store: give {protocol}://bucket/prefix, of letters, digits and "
            "the signs . _ = + -"
        )
    return f"{protocol}://{parts.netloc}/{prefix}".rstrip("/")


def _is_plain(prefix: str) -> bool:
    return bool(_PREFIX.fullmatch(prefix)) and not {".", ".."}.intersection(prefix.split("/"))


def open_store(location: str, workspace: str) -> Store:
    """The place of all shards of a workspace.

    Args:
        location: Path or URL, below which many workspaces may lie.
        workspace: Id of the workspace, which has a place of its own there.

    Returns:
        The store; nothing was asked of it yet.
    """
    protocol, path = _split(normal_location(location))
    if not protocol:
        return StoreFolder(Path(path) / workspace)
    return StoreObjects(connect(protocol), path, workspace)


def open_shard(location: str, fence: str = "") -> ShardStore:
    """The place of one shard, on any machine that reaches it.

    Args:
        location: `ShardStore.location` of the shard.
        fence: For a worker: the token it was told.

    Returns:
        The shard's store; nothing was asked of it yet.
    """
    protocol, path = _split(normal_location(location))
    if not protocol:
        return ShardFolder(Path(path))
    return ShardObjects(connect(protocol), path, fence)


def _split(location: str) -> tuple[str, str]:
    """Protocol and path; a folder has none of the first."""
    protocol, there, path = location.partition("://")
    return (protocol, path) if there else ("", location)
