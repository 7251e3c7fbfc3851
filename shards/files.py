"""Files of a local or mounted file system: names made durable, deletions made sure of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from shards.errors import DamageError


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
