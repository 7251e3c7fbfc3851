"""The bench of large ingests, with almost nothing: every figure is there, and nothing is left."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench_ingest.data import copy, decode, make
from experiments.bench_ingest.run import BENCHMARK

TINY = {"rows": 300, "width": 5, "files": 2, "group": 40, "people": 20, "shards": 2, "slices": 2, "workers": 1}


@pytest.mark.slow
def test_every_figure_is_there_and_finite(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    replace(BENCHMARK, where=tmp_path / "runs").run(BENCHMARK.setting(quick=True) | TINY, output)
    figures = {figure["name"]: figure for figure in json.loads(output.read_text())["figures"]}
    assert figures.keys() == {
        *("data", "copy", "decode", "ingest", "ingest.rate", "stored"),
        *("driver", "worker", "driver.libraries", "worker.libraries"),
    }
    assert all(math.isfinite(figure["value"]) for figure in figures.values())
    assert figures["driver"]["passed"]
    assert figures["worker"]["passed"]
    assert not list((tmp_path / "runs").iterdir())


def test_the_data_is_all_there(tmp_path: Path) -> None:
    size = make(tmp_path / "data", TINY)
    copy(tmp_path / "data", tmp_path / "copy")
    assert sum(path.stat().st_size for path in (tmp_path / "copy").iterdir()) == size > 300 * 5 * 4
    assert decode(tmp_path / "copy") == 300
