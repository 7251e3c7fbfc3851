"""Functions that workers call in the tests. Referred to as `"call_functions:name"`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np


def _note(item: Any) -> None:
    """Leave a mark for every call: appended, so that it is counted whoever calls."""
    if isinstance(item, dict) and "notes" in item:
        with Path(item["notes"]).open("a") as file:
            file.write(f"{item['value']}\n")


def square(item: Any) -> Any:
    """The value squared, with what a numeric library makes of it."""
    _note(item)
    value = item["value"] if isinstance(item, dict) else item
    rng = np.random.default_rng(value)
    data = rng.normal(size=(60, 60))
    return {"square": value**2, "solved": np.linalg.solve(data, data.T @ data), "pair": (value, "text")}


def fail_at_two(item: Any) -> Any:
    """Raises for the value 2."""
    _note(item)
    if item["value"] == 2:
        raise RuntimeError("the function's own words")
    return item["value"]


def unkept(item: Any) -> Any:
    """Returns what cannot be kept."""
    return {1, 2, item}


def die_once(item: Any) -> Any:
    """Ends its process the first time."""
    flag = Path(item["flag"])
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item["value"]
