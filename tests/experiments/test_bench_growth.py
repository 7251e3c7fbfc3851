"""The bench of growth, with almost nothing: every figure is there, and the picture shows all of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench import history
from experiments.bench_growth.plot import draw
from experiments.bench_growth.run import BENCHMARK

BASE = {"records": 120, "test_records": 1, "features": 6, "hidden": 3, "epochs": 2, "n_shards": 2, "n_slices": 2}
TINY = {
    "base": BASE | {"together": 2, "workers": 1},
    "axes": {"records": [120, 240], "together": [1, 2]},
}
WHAT = ("fit", "fit.loop", "fit.ratio", "recover", "recover.loop", "recover.ratio", "forget")


@pytest.mark.slow
def test_every_size_is_measured_and_drawn(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    replace(BENCHMARK, where=tmp_path / "runs").run(TINY, output)
    document = json.loads(output.read_text())
    figures = {figure["name"]: figure["value"] for figure in document["figures"]}
    sizes = ("records.120", "records.240", "requests.1", "requests.2")
    assert figures.keys() == {f"{size}.{what}" for size in sizes for what in WHAT}
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    # One size of every axis is the base, and was measured once.
    assert figures["records.120.fit"] == figures["requests.2.fit"]
    assert figures["records.240.fit"] != figures["records.120.fit"]
    picture = draw(output)
    first = picture.read_bytes()
    assert all(f"<!-- {word} -->".encode() in first for word in ("records", "requests", "fit, bare loop"))
    assert draw(output).read_bytes() == first

    past = tmp_path / "history.jsonl"
    history.append("growth", document, past)
    history.append("growth", document, past)
    lines = [json.loads(line) for line in past.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["figures"].keys() == figures.keys()
    assert lines[0]["commit"]
