"""What the shim wrote down: every change to the files below a folder, in order, with its bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tests.crash.shim import Counted

_HEAD = struct.Struct("<BBHiiqIII")


class Kind(IntEnum):
    """What was done; the numbers stand in `shim.c` too."""

    OPEN = 1
    WRITE = 2
    RESIZE = 3
    SYNC = 4
    FAILED_SYNC = 5
    RENAME = 6
    UNLINK = 7
    MKDIR = 8
    RMDIR = 9
    LINK = 10
    CLOSE = 11
    DUPLICATE = 12
    MARK = 13
    UNKNOWN = 14
    START = 15

    @property
    def changes(self) -> bool:
        """Whether a power loss before it and one after it can leave different disks."""
        return self not in {Kind.CLOSE, Kind.DUPLICATE, Kind.MARK, Kind.START}


CREATED, EMPTIED = 1, 2
"""Flags of an opening."""


@dataclass(frozen=True)
class Operation:
    """One entry.

    Attributes:
        kind: What was done.
        flag: Of an opening: whether it created or emptied the file; of a new size: whether it is larger.
        handle: The file's handle, or -1.
        other: The second handle of a duplication.
        offset: Where a write starts; the new size of a file that is resized.
        path: Absolute path; the text of a mark.
        target: The new path of what is renamed or linked.
        data: The bytes written.
    """

    kind: Kind
    flag: int = 0
    handle: int = -1
    other: int = -1
    offset: int = 0
    path: str = ""
    target: str = ""
    data: bytes = b""

    def is_counted(self, counted: Counted) -> bool:
        """Whether the shim counts it in a class, so that a fault can befall it."""
        match self.kind:
            case Kind.OPEN:
                return (self.flag == CREATED and counted is not Counted.WRITES) or (
                    self.flag == EMPTIED and counted is Counted.ANY
                )
            case Kind.WRITE:
                return True
            case Kind.RESIZE:
                return counted is Counted.ANY or (counted is Counted.ALLOCATES and bool(self.flag))
            case Kind.RENAME | Kind.MKDIR | Kind.LINK:
                return counted is not Counted.WRITES
            case _:
                return self.kind.changes and counted is Counted.ANY

    def __str__(self) -> str:
        extent = f" {self.offset}+{len(self.data)}" if self.kind is Kind.WRITE else ""
        return f"{self.kind.name.lower()} {self.path or self.handle} {self.target}{extent}".rstrip()


def read(path: Path) -> list[Operation]:
    """Read a trace.

    Args:
        path: The file that the shim wrote.

    Returns:
        Its entries; a last one that a kill cut short is left out.
    """
    raw = path.read_bytes()
    found = []
    at = 0
    while at + _HEAD.size <= len(raw):
        kind, flag, _, handle, other, offset, *lengths = _HEAD.unpack_from(raw, at)
        start = at + _HEAD.size
        middle, late = start + lengths[0], start + lengths[0] + lengths[1]
        at = late + lengths[2]
        if at > len(raw):
            break
        found.append(
            Operation(
                Kind(kind), flag, handle, other, offset, raw[start:middle].decode(), raw[middle:late].decode(),
                raw[late:at],
            )
        )  # fmt: skip
    return found
