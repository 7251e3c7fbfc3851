"""How many faults were tried, and in how many something acknowledged was lost; one line at the end of the run.

If the variable `UNLEARN_FAULTS` names a file, the counts are written there as well, a kind as soon as it is counted:
trying everything takes hours, and may be done in parts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]

RECORD = "UNLEARN_FAULTS"
TRIED: Counter[str] = Counter()
LOST: Counter[str] = Counter()


def add(kind: str, tried: int, lost: int) -> str:
    """Count faults.

    Args:
        kind: What they were.
        tried: How many were applied.
        lost: After how many something was wrong.

    Returns:
        A line that says so.
    """
    TRIED[kind] += tried
    LOST[kind] += lost
    if os.environ.get(RECORD):
        _record(Path(os.environ[RECORD]), kind)
    return f"{kind}: faults tried: {tried}, lost: {lost}"


def _record(path: Path, kind: str) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    known[kind] = {
        "tried": TRIED[kind],
        "lost": LOST[kind],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def counts() -> dict[str, tuple[int, int]]:
    """What was counted in this process: kind to faults tried and lost."""
    return {kind: (TRIED[kind], LOST[kind]) for kind in TRIED}


def take(counted: Mapping[str, tuple[int, int]]) -> None:
    """Add what was counted in another process."""
    for kind, (tried, lost) in counted.items():
        TRIED[kind] += tried
        LOST[kind] += lost


def summary() -> str:
    """The line for the whole run, or an empty string if no fault was tried."""
    if not TRIED:
        return ""
    kinds = ", ".join(f"{kind} {number}" for kind, number in TRIED.items())
    return f"faults tried: {TRIED.total()}, lost: {LOST.total()} ({kinds})"
