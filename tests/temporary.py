"""Where tests keep their files: in memory, if there is room.

What is written durably is waited for, file by file, and the tests write some hundred thousand; what the disk would lose
is simulated where that matters (`tests/crash`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOT = MEMORY / f"unlearn-tests-{os.getuid()}"
ENOUGH = 6 * 2**30
"""Bytes that have to be free."""

VARIABLE = "PYTEST_DEBUG_TEMPROOT"
"""Where pytest makes temporary folders, if it is set."""


def keep_in_memory() -> None:
    """Have pytest make its temporary folders in memory, unless somebody chose another place."""
    if VARIABLE in os.environ or not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ENOUGH:
        return
    ROOT.mkdir(mode=0o700, exist_ok=True)
    os.environ[VARIABLE] = str(ROOT)
