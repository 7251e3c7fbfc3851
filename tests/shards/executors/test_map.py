"""Functions called in workers: values kept in a folder, or brought back with the answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.errors import CallError, InputError
from shards.executors.local import LocalExecutor


def halved(item: Any) -> Any:
    if item["n"] < 0:
        raise ValueError("below nothing")
    Path(item["seen"]).joinpath(str(item["n"])).write_text(str(os.getpid()))
    return {"half": item["n"] / 2, "parts": [item["n"], (1, "two", None)]}


def an_array(item: Any) -> Any:
    return np.arange(item)


@pytest.mark.parametrize("kept", [True, False])
def test_values_come_back_in_order(kept: bool, tmp_path: Path) -> None:
    folder = tmp_path / "values"
    items = [{"n": n, "seen": str(tmp_path)} for n in (5, 3, 8, 3)]
    done: list[int] = []
    found = LocalExecutor(2).map(
        "tests.shards.executors.test_map:halved", items, folder if kept else None, on_done=done.append
    )
    assert found == [{"half": n / 2, "parts": [n, [1, "two", None]]} for n in (5, 3, 8, 3)]
    assert set(done) >= {0, 1, 2}
    assert folder.exists() == kept


def test_arrays_need_a_folder(tmp_path: Path) -> None:
    call = "tests.shards.executors.test_map:an_array"
    assert LocalExecutor(1).map(call, [3], tmp_path)[0].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="item 0: an answer holds no arrays"):
        LocalExecutor(1).map(call, [3], None)


def test_a_function_that_raises(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="item 1 failed: ValueError: below nothing"):
        LocalExecutor(1).map(
            "tests.shards.executors.test_map:halved", [{"n": n, "seen": str(tmp_path)} for n in (1, -1)], None
        )
