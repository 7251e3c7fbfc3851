"""Submissions handed from process to process, so that one wait for the disk acknowledges those of many.

One process at a time adds submissions to the ledger. Who finds it busy leaves its own in a file beside the keys of the
inbox; who comes next commits whatever lies there together with its own. Nothing is owed to such a file: what counts is
in the ledger, where everybody looks before it says that a request was accepted. So it is not synced, and one that is
torn, or that a crashed process left behind, is thrown away. It holds what the ledger is to hold, the ids encrypted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from shards.digest import canonical_json
from shards.interrupts import guarded
from unlearn.errors import StorageError, UnlearnError
from unlearn.ledger import Submission
from unlearn.ledger.clock import BUSY_SECONDS
from unlearn.request import Request, RequestState

if TYPE_CHECKING:
    from unlearn.ledger import Ledger

POLL_SECONDS = (0.004, 0.032)
"""How soon who waits looks again, at first and at last: many who look often have no time left for anything else."""

DRAFT, LEFT, DONE = ".draft", ".left", ".done"
"""What a file is called while it is written, while it waits, and once all that it holds is in the ledger."""

_DIGEST = hashlib.sha256().digest_size
_TIMES = tuple(name for name, hint in get_type_hints(Request).items() if hint in {datetime, datetime | None})

Results = list[Request | UnlearnError | None]


class Relay:
    """Commits submissions together with those of other processes.

    Args:
        folder: Where they meet, on one file system for all of them.
        ledger: Where submissions go.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger

    def commit(self, own: Sequence[Submission]) -> Results:
        """Add submissions to the ledger, or have another process do it.

        Args:
            own: This process's submissions.

        Returns:
            What `Ledger.submit` says of each.

        Raises:
            StorageError: If the disk refuses, or the process whose turn it is does not get on.
        """
        with self._handle() as handle:
            if _try_lock(handle):
                return self._lead(own)
            left = self._leave(own)
            try:
                if self._wait(handle, left):
                    return self._lead(own, left)
                done = left.with_suffix(DONE)
                if _is_there(done):
                    done.unlink(missing_ok=True)
                    return [item.request for item in own]
            finally:
                left.unlink(missing_ok=True)
            # Another process took them, and not all were accepted: we decide on the others ourselves.
            accepted = self._ledger.accepted([item.request.id for item in own])
            rest = [item for item in own if item.request.id not in accepted]
            if rest:
                self._wait(handle)
            decided = iter(self._lead(rest) if rest else ())
            return [item.request if item.request.id in accepted else next(decided) for item in own]

    @guarded
    def _handle(self) -> Iterator[int]:
        handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def _wait(self, handle: int, left: Path | None = None) -> bool:
        """Wait for the turn (true), or until what was left is dealt with (false)."""
        deadline = time.monotonic() + BUSY_SECONDS
        pause, longest = POLL_SECONDS
        while left is None or _is_there(left):
            if _try_lock(handle):
                if left is None or _is_there(left):
                    return True
                # Who had the turn before has dealt with them after we looked.
                fcntl.flock(handle, fcntl.LOCK_UN)
                return False
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"another process has been adding to {self._ledger.name} for {BUSY_SECONDS} seconds and does not "
                    "get on: end it, or wait, then try again; nothing was recorded"
                )
            time.sleep(pause)
            pause = min(2 * pause, longest)
        return False

    def _lead(self, own: Sequence[Submission], left: Path | None = None) -> Results:
        """Commit our own and all that lies there; the lock is held."""
        others = {path: found for path, found in self._lying() if path != left}
        together = [*own, *(item for group in others.values() for item in group)]
        results = self._ledger.submit(together)
        accepted = {item.id for item in results if isinstance(item, Request)}
        for path, group in others.items():
            # Who left it may have given up.
            with suppress(FileNotFoundError):
                if accepted.issuperset(item.request.id for item in group):
                    path.rename(path.with_suffix(DONE))
                else:
                    path.unlink()
        return results[: len(own)]

    def _leave(self, own: Sequence[Submission]) -> Path:
        draft = self._folder / f"{secrets.token_hex(8)}{DRAFT}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_encode(own))
        return draft.rename(draft.with_suffix(LEFT))

    def _lying(self) -> Iterator[tuple[Path, list[Submission]]]:
        """What others wait for; what nobody waits for any more, or nobody can read, is thrown away."""
        oldest = _now() - 2 * BUSY_SECONDS
        for entry in os.scandir(self._folder):
            path = Path(entry)
            if path.suffix not in {DRAFT, LEFT, DONE}:
                continue
            # Who left it, or was to find it done, may take it away meanwhile.
            with suppress(FileNotFoundError):
                found = _decode(path.read_bytes()) if path.suffix == LEFT else []
                if found is None or entry.stat().st_mtime < oldest:
                    path.unlink()
                elif found:
                    yield path, found


def _now() -> float:
    """Seconds since the epoch; if the clock fails, so early that nothing is old."""
    try:
        return time.time()
    except OSError:
        return -math.inf


def _is_there(path: Path) -> bool:
    return os.access(path, os.F_OK)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _encode(submissions: Sequence[Submission]) -> bytes:
    body = canonical_json([_describe(item) for item in submissions])
    return hashlib.sha256(body).digest() + body


def _describe(item: Submission) -> dict[str, Any]:
    # The opening is its submitter's alone.
    request = {**vars(item.request), "shards": {}, "opening": None}
    request |= {name: value.isoformat() for name in _TIMES if (value := request[name]) is not None}
    return {
        "request": request,
        "fingerprint": item.fingerprint,
        "epoch": item.epoch,
        "sealed": item.sealed.hex(),
        "dated": item.dated,
        "escalated": item.escalated,
    }


def _decode(data: bytes) -> list[Submission] | None:
    """Submissions from a file, or None if it is torn or of another version."""
    digest, body = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        return [_submission(item) for item in json.loads(body)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # whole, but not of this version's making


def _submission(item: Any) -> Submission:
    """A submission as `_describe` wrote it down; anything else raises one of the errors that `_decode` expects."""
    request = item["request"]
    if request.keys() != {field.name for field in fields(Request)}:
        raise ValueError("a request of another version")
    request |= {name: datetime.fromisoformat(request[name]) for name in _TIMES if request[name] is not None}
    request["state"] = RequestState(request["state"])
    if type(item["dated"]) is not bool or type(item["escalated"]) is not bool:
        raise ValueError("a submission of another version")
    sealed = bytes.fromhex(item["sealed"])
    return Submission(Request(**request), item["fingerprint"], item["epoch"], sealed, item["dated"], item["escalated"])
