"""A small workspace with a history, for whoever attacks it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shards import slicefile
from tests.unlearn import attacks
from tests.unlearn.helpers import filled, names, shard_of
from unlearn import Workspace

ROWS = 30


@dataclass(frozen=True)
class Victim:
    """A workspace with a history, closed, and what somebody kept of its past.

    Attributes:
        path: Its folder.
        old: A copy of it from before the second request.
        key: Its public key.
        receipts: Request number and stage to receipt.
        requests: Ids of three requests: recovered, recovered, only forgotten.
        forgotten: The record the second request removed.
        home: Shard and position that record was in.
    """

    path: Path
    old: Path
    key: str
    receipts: dict[tuple[int, str], bytes]
    requests: tuple[str, str, str]
    forgotten: str
    home: tuple[int, int]

    @property
    def latest(self) -> bytes:
        """The last receipt of the second request, which its step destroyed a checkpoint for."""
        return self.receipts[1, "recovered"]

    def copy(self, folder: Path) -> Path:
        """An independent copy, to attack."""
        return Path(shutil.copytree(self.path, folder / "workspace"))

    @property
    def kept(self) -> slicefile.SliceRecords:
        """The slice of the forgotten record, as it was."""
        return slicefile.read(next(f for *at, f in attacks.record_files(self.old) if tuple(at) == self.home))


def make_victim(folder: Path) -> Victim:
    """Make one.

    Args:
        folder: Where to.

    Returns:
        The workspace, closed.
    """
    workspace = filled(folder / "workspace", n=ROWS)
    places = {name: shard_of(workspace, name) for name in names(range(ROWS))}
    # The third one is in a last slice, so that every other step is built while it waits.
    first, second = [name for name, place in places.items() if place == (0, 0)][:2]
    third = next(name for name, place in places.items() if place == (2, 1))
    workspace.register("student", "distilled model", "elsewhere")
    requests = []
    for name in (first, second, third):
        if name == second:
            workspace.close()
            shutil.copytree(workspace.path, folder / "old")
            workspace = Workspace.open(workspace.path)
        requests.append(workspace.forget(record_ids=[name], reason="asked by letter", idempotency_key=name[-7:]).id)
        if name != third:
            workspace.recover()
    receipts = {
        (number, item.stage): item.data for number, name in enumerate(requests) for item in workspace.receipts(name)
    }
    key = workspace.public_key
    workspace.close()
    return Victim(
        workspace.path, folder / "old", key, receipts, (requests[0], requests[1], requests[2]), second, places[second]
    )
