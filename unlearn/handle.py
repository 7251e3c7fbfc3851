"""An estimator's hold on its workspace: the path, and how to tell that it is still the same workspace.

Copies of an estimator, pickled ones included, share a handle. It carries no state and no record, so what was
forgotten through one copy is forgotten for all.
"""

from __future__ import annotations

import os
import shutil
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from shards.digest import digest_parts
from shards.executors.base import Executor
from unlearn import declaration as declared
from unlearn.errors import WorkspaceError
from unlearn.workspace import Workspace

_open: weakref.WeakValueDictionary[tuple[int, str], Workspace] = weakref.WeakValueDictionary()
"""The workspaces this process has open, by process id (a forked child shares no connection) and identity."""

_pinned: dict[str, Workspace] = {}
"""Temporary workspaces that a pickle somewhere points to; who knows for how long, so until the process ends."""


class Handle:
    """Path of a workspace, and how to tell that it is still the same one; what copies of an estimator share.

    Args:
        path: The workspace's folder, absolute.
        identity: Digest that no other workspace has, and that says nothing about this one.
        temporary: Whether it ends with the process that made it.
    """

    def __init__(self, path: str, identity: str, temporary: bool) -> None:
        self._path = path
        self._identity = identity
        self._temporary = temporary
        # By process id, and never dropped in a forked child: closing there what the parent opened would harm it.
        self._held: dict[int, Workspace] = {}

    @classmethod
    def of(cls, workspace: Workspace, *, temporary: bool) -> Handle:
        """The handle of a workspace just created; a temporary one is removed once nobody holds it any more."""
        handle = cls(str(workspace.path), _identity(workspace.path), temporary)
        handle._hold(workspace)
        if temporary:
            weakref.finalize(workspace, _remove, workspace.path.parent, os.getpid())
        return handle

    def open(self, executor: str | Executor) -> Workspace:
        """The workspace, opened where this process has not done so yet.

        Args:
            executor: Where it trains if it has to be opened.

        Returns:
            The one open workspace that all copies in this process share.
        """
        self._check()
        process = os.getpid()
        workspace = self._held.get(process) or _open.get((process, self._identity))
        return self._hold(workspace or Workspace.open(self._path, executor=executor))

    def _hold(self, workspace: Workspace) -> Workspace:
        self._held[os.getpid()] = _open[os.getpid(), self._identity] = workspace
        return workspace

    def _check(self) -> None:
        """Refuse to go on from memory when the folder is gone or is another workspace by now."""
        path = Path(self._path)
        if (path / "workspace.json").is_file():
            if _identity(path) == self._identity:
                return
            raise WorkspaceError(
                f"{path} is not the workspace this estimator was fitted into, but another one made there since: open "
                "that with unlearn.Workspace.open, or fit again with workspace= another path"
            )
        if self._temporary:
            raise WorkspaceError(
                f"the workspace of this estimator, {path}, was temporary and ended with the process that made it: "
                "fit with workspace=PATH to keep it, and to use pickles of the estimator in other processes"
            )
        raise WorkspaceError(
            f"the workspace of this estimator is not at {path} (any more): an estimator holds no model of its own; "
            "move the workspace back, or fit again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone; a temporary workspace then stays until the process ends."""
        workspace = self._held.get(os.getpid())
        if self._temporary and workspace is not None:
            _pinned[self._identity] = workspace
        return Handle, (self._path, self._identity, self._temporary)

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return self


def _identity(path: Path) -> str:
    """Digest of a workspace's own fresh random key: unique, and of no use to anybody."""
    _, keys = declared.read(path)
    return digest_parts("workspace of an estimator", [keys.pseudonyms])


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, unless this is a forked child of the process that made it."""
    if os.getpid() == process:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
