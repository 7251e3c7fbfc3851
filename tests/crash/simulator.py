"""Disks as a power loss could leave them: a trace of what a process did to files, minus what was not made durable.

Every file's data and every folder's entries are kept apart, each twice: as the running system sees them, and as
they are durable. Data is durable once the file was synced; an entry (created, renamed, removed) once its folder
was. Of the rest, a power loss keeps any part, in any order:

* of a file's data, any sector of 512 bytes as any unsynced write left it. What a truncation did is the exception:
  it is one change of the file's description, and nothing written after it is there without it;
* of entries, any subset, in any order; the two halves of a rename are kept together or not at all, as every file
  system with a journal does;
* what a failed sync was to write is never written, unless it is written anew: the kernel takes the pages for clean.

SQLite asks for less: sectors may tear, its own folder is synced when it creates a log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.trace import CREATED, EMPTIED, Kind, Operation

SECTOR = 512
PAGE = 4096
VERSIONS = 12
"""How many states of a file between two syncs its sectors are drawn from; of more, some are left out."""

Image = Mapping[str, bytes | None]
"""Path below the folder to content; None for a folder."""


@dataclass(frozen=True)
class Write:
    """Bytes at an offset."""

    offset: int
    data: bytes

    def on(self, content: bytes) -> bytes:
        """The content with the bytes in it."""
        end = self.offset + len(self.data)
        return content[: self.offset].ljust(self.offset, b"\0") + self.data + content[end:]


@dataclass(frozen=True)
class Resize:
    """A new length."""

    size: int

    def on(self, content: bytes) -> bytes:
        """The content at its new length."""
        return content[: self.size].ljust(self.size, b"\0")


@dataclass(eq=False)
class File:
    """A file's data, whatever its names are."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[Write | Resize] = field(default_factory=list)
    failed: bool = False

    def change(self, change: Write | Resize) -> None:
        """Write or resize, not durably."""
        if isinstance(change, Write):
            self.now.extend(bytes(max(0, change.offset - len(self.now))))
            self.now[change.offset : change.offset + len(change.data)] = change.data
        else:
            self.now[:] = change.on(bytes(self.now))
        self.pending.append(change)

    def sync(self) -> None:
        """Make everything durable, but for what an earlier failure took for written."""
        if not self.failed:
            self.durable = bytes(self.now) if self.pending else self.durable
        else:
            durable = bytearray(self.durable[: len(self.now)].ljust(len(self.now), b"\0"))
            for change in self.pending:
                if isinstance(change, Write):
                    start = change.offset // PAGE * PAGE
                    end = -(-(change.offset + len(change.data)) // PAGE) * PAGE
                    durable[start:end] = self.now[start:end]
            self.durable = bytes(durable)
        self.pending.clear()

    def fail_to_sync(self) -> None:
        """Lose what is pending for good, while the running system still sees it."""
        self.failed = True
        self.pending.clear()

    def after_loss(self, chance: Random) -> bytes:
        """Content that a power loss could leave."""
        fate = chance.random()
        if not self.pending or fate < 0.2:
            return self.durable
        if fate < 0.4 and not self.failed:
            return bytes(self.now)
        content, writes = self.durable, list[Write]()
        kept = chance.randint(0, sum(isinstance(change, Resize) for change in self.pending))
        for change in self.pending:
            if isinstance(change, Write):
                writes.append(change)
                continue
            if not kept:
                break
            kept -= 1
            content, writes = change.on(_torn(content, writes, chance)), []
        return _torn(content, writes, chance)


def _torn(content: bytes, writes: Iterable[Write], chance: Random) -> bytes:
    versions = [content]
    for write in writes:
        versions.append(write.on(versions[-1]))
    if len(versions) > VERSIONS:
        versions = [versions[0], *chance.sample(versions[1:-1], VERSIONS - 2), versions[-1]]
    if len(versions) == 1:
        return content
    size = len(chance.choice(versions))
    sectors = []
    for start in range(0, size, SECTOR):
        version = chance.choice(versions)
        sectors.append(version[start : start + SECTOR].ljust(min(SECTOR, size - start), b"\0"))
    return b"".join(sectors)[:size]


@dataclass(eq=False)
class Folder:
    """A folder's entries."""

    now: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


@dataclass(eq=False)
class Move:
    """An entry's new node, or its removal."""

    folder: Folder
    name: str
    node: Node | None

    def on(self, entries: dict[str, Node]) -> None:
        """Change a folder's entries by it."""
        if self.node is None:
            entries.pop(self.name, None)
        else:
            entries[self.name] = self.node


_NAMES = {Kind.MKDIR, Kind.UNLINK, Kind.RMDIR, Kind.RENAME, Kind.LINK}


class Disk:
    """What a machine has on its disk and in memory.

    Args:
        root: The folder that is watched.
        content: What is in it, durably, at the start.
    """

    def __init__(self, root: str, content: Image | None = None) -> None:
        self._root = root
        self._top = Folder()
        self._handles: dict[int, Node] = {}
        self._moves: list[tuple[Move, ...]] = []
        for name, data in sorted((content or {}).items()):
            folder, last = self._parent(f"{root}/{name}")
            node: Node = Folder() if data is None else File(bytearray(data), data)
            folder.now[last] = folder.durable[last] = node

    def apply(self, done: Operation) -> None:
        """Go on by one entry of the trace."""
        assert done.kind is not Kind.UNKNOWN, f"the simulator knows nothing of {done.target} on {done.path}"
        if done.kind in _NAMES:
            self._change_names(done)
        elif done.kind is Kind.START:
            assert done.path == self._root
            self._handles.clear()
        elif done.kind is not Kind.MARK:
            self._use_handle(done)

    def _change_names(self, done: Operation) -> None:
        folder, name = self._parent(done.path)
        match done.kind:
            case Kind.MKDIR:
                self._move((folder, name, Folder()))
            case Kind.UNLINK | Kind.RMDIR:
                self._move((folder, name, None))
            case Kind.RENAME:
                self._move((folder, name, None), (*self._parent(done.target), folder.now[name]))
            case Kind.LINK:
                self._move((*self._parent(done.target), folder.now[name]))

    def _use_handle(self, done: Operation) -> None:
        match done.kind:
            case Kind.OPEN:
                self._open(done)
            case Kind.CLOSE:
                del self._handles[done.handle]
            case Kind.DUPLICATE:
                self._handles[done.other] = self._handles[done.handle]
            case Kind.WRITE:
                self._file(done.handle).change(Write(done.offset, done.data))
            case Kind.RESIZE:
                self._file(done.handle).change(Resize(done.offset))
            case Kind.SYNC:
                self._sync(self._handles[done.handle])
            case Kind.FAILED_SYNC:
                if isinstance(node := self._handles[done.handle], File):
                    node.fail_to_sync()

    def kept(self) -> Image:
        """The disk if nothing is lost: what a kill leaves."""
        return _image(lambda folder: folder.now, lambda file: bytes(file.now), self._top)

    def lost(self) -> Image:
        """The disk if all is lost that was not made durable."""
        return _image(lambda folder: folder.durable, lambda file: file.durable, self._top)

    def mixed(self, chance: Random) -> Image:
        """The disk if a part is lost."""
        share = chance.choice((0.1, 0.5, 0.9))
        kept = [move for group in self._moves if chance.random() < share for move in group]

        def entries(folder: Folder) -> dict[str, Node]:
            found = dict(folder.durable)
            for move in kept:
                if move.folder is folder:
                    move.on(found)
            return found

        contents: dict[File, bytes] = {}

        def content(file: File) -> bytes:
            # Drawn once: a file may have two names, if its link was kept and the removal of the first was not.
            if file not in contents:
                contents[file] = file.after_loss(chance)
            return contents[file]

        return _image(entries, content, self._top)

    def _open(self, done: Operation) -> None:
        folder, name = self._parent(done.path)
        if done.flag == CREATED:
            self._move((folder, name, File()))
        node = folder.now[name] if name else self._top
        if done.flag == EMPTIED:
            assert isinstance(node, File)
            node.change(Resize(0))
        self._handles[done.handle] = node

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.sync()
            return
        # A rename takes its other half along, and that takes along all that was done to the same name before.
        names, done, open_ = set[tuple[Folder, str]](), list[tuple[Move, ...]](), list[tuple[Move, ...]]()
        for group in reversed(self._moves):
            touched = {(move.folder, move.name) for move in group}
            if touched & names or any(move.folder is node for move in group):
                names |= touched
                done.append(group)
            else:
                open_.append(group)
        for group in reversed(done):
            for move in group:
                move.on(move.folder.durable)
        self._moves = open_[::-1]

    def _move(self, *moves: tuple[Folder, str, Node | None]) -> None:
        group = tuple(Move(*move) for move in moves)
        for move in group:
            move.on(move.folder.now)
        self._moves.append(group)

    def _file(self, handle: int) -> File:
        node = self._handles[handle]
        assert isinstance(node, File)
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        """The folder a path is in, and its name there; the name of the root is empty."""
        assert path.startswith(self._root)
        *above, name = path[len(self._root) :].strip("/").split("/")
        folder = self._top
        for part in above:
            inner = folder.now[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name


def _image(entries: Callable[[Folder], Mapping[str, Node]], content: Callable[[File], bytes], top: Folder) -> Image:
    found: dict[str, bytes | None] = {}
    stack = [("", top)]
    while stack:
        path, folder = stack.pop()
        for name, node in entries(folder).items():
            if isinstance(node, Folder):
                found[path + name] = None
                stack.append((f"{path}{name}/", node))
            else:
                found[path + name] = content(node)
    return found


@dataclass(frozen=True)
class Loss:
    """A disk after a power loss.

    Attributes:
        after: How many entries of the trace had happened.
        kind: `"kept"`, `"lost"` or `"mixed"`.
        image: What is on it.
        marks: What had been said until then.
    """

    after: int
    kind: str
    image: Image
    marks: tuple[str, ...]


def losses(
    disk: Disk, trace: Iterable[Operation], points: Collection[int], *, kept: bool, mixed: int, seed: int
) -> Iterator[Loss]:
    """Every different disk that a power loss could leave at some points of a trace.

    Args:
        disk: The disk before the trace.
        trace: What happened.
        points: Numbers of entries, each standing for the moment right after that many.
        kept: Whether a disk that loses nothing is among them.
        mixed: How many random disks to draw at each point, besides the one that loses all.
        seed: Of the random disks; each depends on it and on its point alone.

    Yields:
        The disks, in the order of the points; one that was there before under the same marks is left out.
    """
    seen: set[bytes] = set()
    marks: list[str] = []
    for after, done in enumerate(trace, start=1):
        disk.apply(done)
        if done.kind is Kind.MARK:
            marks.append(done.path)
        if after not in points:
            continue
        drawn = [("kept", disk.kept())] if kept else []
        drawn.append(("lost", disk.lost()))
        drawn += [("mixed", disk.mixed(Random(f"{seed} {after} {number}"))) for number in range(mixed)]
        for kind, image in drawn:
            digest = _digest(image, marks)
            if digest not in seen:
                seen.add(digest)
                yield Loss(after, kind, image, tuple(marks))


def _digest(image: Image, marks: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(repr(list(marks)).encode())
    for name, data in sorted(image.items()):
        digest.update(f"{name} {'folder' if data is None else len(data)}\n".encode())
        digest.update(data or b"")
    return digest.digest()


def scan(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder, without the indexes of write-ahead logs.

    Args:
        folder: The folder.

    Returns:
        Its image.
    """
    found: dict[str, bytes | None] = {}
    for path in folder.rglob("*"):
        if not path.name.endswith("-shm"):
            found[str(path.relative_to(folder))] = None if path.is_dir() else path.read_bytes()
    return found


def put(image: Image, folder: Path) -> None:
    """Make a folder hold an image.

    Args:
        image: What to write.
        folder: A folder that does not exist yet.
    """
    folder.mkdir()
    for name, data in sorted(image.items()):
        path = f"{folder}/{name}"
        if data is None:
            os.mkdir(path, 0o700)  # noqa: PTH102 (thousands of disks: plain calls are a third of the time)
        else:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # private keys are refused otherwise
            with os.fdopen(handle, "wb") as file:
                file.write(data)
