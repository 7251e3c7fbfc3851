"""What a worker keeps of the records that it had a method forget."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from unlearn.methods import checkpoints


class Records:
    """Something that refers to itself, so that nothing but the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_what_refers_to_itself_is_gone_when_the_answer_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Records]] = []

    def applied(order: Any) -> Any:
        kept.append(weakref.ref(Records()))
        return order

    monkeypatch.setattr(checkpoints, "_apply", applied)
    gc.disable()
    try:
        assert checkpoints.apply({"shard": 0}) == {"shard": 0}
        assert [ref() for ref in kept] == [None]
    finally:
        gc.enable()
