"""What benchmarks share: bounds, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.benchmark import Benchmark, Figure


def test_bounds() -> None:
    assert Figure("a", "", 1.0, "s").passed is None
    assert Figure("a", "", 1.0, "s", at_most=1.0).passed
    assert not Figure("a", "", 1.1, "s", at_most=1.0).passed
    assert Figure("a", "", 1.0, "s", at_least=1.0).passed
    assert not Figure("a", "", 0.9, "s", at_least=1.0).passed


def test_goals_that_are_missed_are_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Figure("slow", "too slow", 2.0, "s", at_most=1.0),
        Figure("quick", "quick enough", 1.0, "s", at_most=1.0),
        Figure("few", "too few", 1.0, "1/s", at_least=2.0),
        Figure("any", "without a goal", 1.0, "s"),
    ]
    Benchmark("bench_ledger", "", lambda *_: figures, where=None).run({}, tmp_path / "result.json")
    assert capsys.readouterr().out.splitlines()[-2:] == ["missed: slow", "missed: few"]
