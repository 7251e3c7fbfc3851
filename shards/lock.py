"""One writer at a time: an advisory lock on a file of the workspace, released by the kernel if its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shards.errors import LockedError
from shards.interrupts import check, guarded

POLL_SECONDS = 0.005


@guarded
def exclusive(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock on a file while the block runs.

    Args:
        path: The file; created if absent.
        timeout: How long to wait for another holder, in seconds.

    Yields:
        Nothing.

    Raises:
        LockedError: If another process holds it for longer; names that process.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise LockedError(
                    f"{path.parent} is being written to by another process (process id {holder}): wait until it has "
                    "finished, or stop it; nothing was changed"
                )
            time.sleep(POLL_SECONDS)
            check()
        # Only to name the holder in others' messages; a full disk must not keep anybody from forgetting.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
