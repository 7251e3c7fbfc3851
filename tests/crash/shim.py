"""The preloaded library that makes files fail: how it is built, and how it is told what to do (see `shim.c`)."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


class Fault(IntEnum):
    """What happens at the chosen operation; each kind counts the operations it can befall."""

    NONE = 0
    KILL = 1
    """The process is killed right before it."""
    TORN = 2
    """Half of a write is done, then the process is killed."""
    SHORT = 3
    """Half of a write is done, which is no error: the caller is to write the rest."""
    IO_ERROR = 4
    """It fails with EIO and does nothing."""
    FULL_ONCE = 5
    """It fails with ENOSPC and does nothing; there is room again afterwards."""
    FULL_FOR_GOOD = 6
    """It and everything after it that needs room fails with ENOSPC."""

    NO_CLOCK = 7
    """A look at the clock fails with EINVAL."""

    @property
    def kills(self) -> bool:
        """Whether the process does not live on."""
        return self in {Fault.KILL, Fault.TORN}

    @property
    def counts(self) -> Counted:
        """The operations it can befall."""
        if self in {Fault.TORN, Fault.SHORT}:
            return Counted.WRITES
        if self is Fault.NO_CLOCK:
            return Counted.LOOKS
        return Counted.ALLOCATES if self in {Fault.FULL_ONCE, Fault.FULL_FOR_GOOD} else Counted.ANY


class Counted(IntEnum):
    """Classes of operations."""

    ANY = 1
    WRITES = 2
    ALLOCATES = 4
    LOOKS = 8
    """At the clock; they change nothing, and are in no trace."""


def build(folder: Path) -> Path:
    """Compile the library.

    Args:
        folder: Where to.

    Returns:
        Its path, for `LD_PRELOAD`.

    Raises:
        RuntimeError: If there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(
            "the crash tests need a C compiler and found none of cc, gcc, clang: install one, for example with "
            "`apt-get install gcc libc6-dev`"
        )
    library = folder / "shim.so"
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    done = subprocess.run([*command, "-ldl", "-lpthread"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"shim.c could not be compiled ({compiler}); is libc6-dev installed?\n{done.stderr}")
    return library


class Shim:
    """The library in this process, which must have been started with it."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._watch = library.shim_watch
        self._watch.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self._count = library.shim_count
        self._count.restype = ctypes.c_long
        self._mark = library.shim_mark
        self._mark.argtypes = [ctypes.c_char_p]
        self._clock = library.shim_clock
        self._clock.argtypes = [ctypes.c_uint64]
        self._lazy = library.shim_lazy
        self.ignore = library.shim_ignore

    def watch(self, folder: Path, fault: Fault, at: int, report: int = -1, trace: int = -1) -> None:
        """Watch a folder from now on.

        Args:
            folder: The folder.
            fault: What is to happen.
            at: To which operation of those it counts, from 1.
            report: Handle of a file or pipe to which marks and what was hit are written as lines; -1: none.
            trace: Handle of a file to which everything is written; -1: none.
        """
        self._watch(str(folder).encode(), int(fault), at, report, trace)

    def count(self, counted: Counted) -> int:
        """How many operations of a class there were since `watch`."""
        return int(self._count(int(counted)))

    def mark(self, text: str) -> None:
        """Say something in the report and the trace."""
        self._mark(text.encode())

    def clock(self, seed: int) -> None:
        """Have the clock jump with every look at it; 0: have it go right."""
        self._clock(seed)

    def lazy(self) -> None:
        """Leave out what makes the kernel write to the disk: a kill loses nothing that the kernel has."""
        self._lazy(1)
