"""What every benchmark found at which commit: a line of `history.jsonl` each time one is run in full."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).with_name("history.jsonl")


def append(name: str, document: Mapping[str, Any], history: Path = HISTORY) -> None:
    """Add a line.

    Args:
        name: Of the benchmark.
        document: What it writes: date, load, machine, figures.
        history: The file.
    """
    line = {
        "benchmark": name,
        "date": document["date"],
        "commit": _commit(),
        "cpu": document["machine"]["cpu"],
        "cores": document["machine"]["cores"],
        "load": round(document["load_before"][0], 2),
        "figures": {figure["name"]: float(f"{figure['value']:.4g}") for figure in document["figures"]},
    }
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=HISTORY.parent, capture_output=True, text=True, check=True).stdout.strip()
