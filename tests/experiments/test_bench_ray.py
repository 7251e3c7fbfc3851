"""Ray beside the local executor, measured with almost no work: every figure is there, and other bytes fail the run."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import SGDClassifier

from experiments.bench_ray.run import BENCHMARK, OVERHEAD_MS, SPEEDUP
from experiments.bench_ray.trainings import Timing, Training, time_training
from shards.executors.local import LocalExecutor
from shards.learners.sklearn import SklearnLearner
from tests.ray_head import ROOT, loopback_variables

pytestmark = pytest.mark.ray

TINY: dict[str, Any] = {
    "repeats": 2,
    "overhead": {"shards": 4, "slices": 2, "records": 60},
    "workers": {"shards": 2, "records": 60, "epochs": 1},
    "growth": {"shards": [1, 3], "repeats": 2, "records": 60, "epochs": 1},
}

SCRIPT = """
import json, sys
from pathlib import Path
from experiments.bench_ray.run import BENCHMARK
BENCHMARK.run(json.loads(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_every_figure_is_there_and_finite(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    # In a process of its own, whose Ray ends with it.
    command = [sys.executable, "-c", SCRIPT, json.dumps(TINY), str(output)]
    done = subprocess.run(command, env=loopback_variables(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text())
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert figures.keys() == {
        *("overhead.local", "overhead.ray", "overhead.task"),
        *(f"workers.{place}.{what}" for place in ("local", "ray") for what in ("1", "2", "gain")),
        *(f"growth.{shards}.{what}" for shards in (1, 3) for what in ("local", "ray", "ratio")),
    }
    assert all(math.isfinite(figure["value"]) and len(figure["samples"]) == 2 for figure in figures.values())
    assert all(figure["value"] > 0 for name, figure in figures.items() if name != "overhead.task")
    each = [
        1e3 * (ray - local) / 4
        for ray, local in zip(figures["overhead.ray"]["samples"], figures["overhead.local"]["samples"], strict=True)
    ]
    assert figures["overhead.task"]["value"] == pytest.approx(sum(each) / 2)
    assert {
        name: (item["at_least"], item["at_most"]) for name, item in figures.items() if item["passed"] is not None
    } == {
        "overhead.task": (None, OVERHEAD_MS),
        "workers.ray.gain": (SPEEDUP, None),
    }
    assert "ray" in document["machine"]["versions"]


class Forgetful(LocalExecutor):
    """Trains nothing of the last shard."""

    def perform(self, program: Any, work: Any, on_turn: Any) -> None:
        super().perform(program, work if len(work) <= 4 else work[:-1], on_turn)


def test_other_bytes_fail_the_run(tmp_path: Path) -> None:
    training = Training(SklearnLearner(SGDClassifier(loss="log_loss")), 6, 1, 60)
    assert time_training(training, {"a": LocalExecutor(1), "b": LocalExecutor(2)}, 1, tmp_path).steps == 6
    with pytest.raises(AssertionError, match="not the same"):
        time_training(training, {"a": LocalExecutor(1), "b": Forgetful(1)}, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_taken_within_a_repeat() -> None:
    timing = Timing(1, {"a": [2.0, 30.0, 8.0], "b": [1.0, 10.0, 2.0]})
    assert timing.ratios("a", "b") == [2.0, 3.0, 4.0]
    assert timing.seconds("a") == 8.0


def test_full_and_quick_settings_differ_in_the_amount_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    assert all(
        full[name].keys() == quick[name].keys() == TINY[name].keys() for name in ("overhead", "workers", "growth")
    )
    assert full["growth"]["shards"] == [20, 100, 500, 2000]
    assert (full["overhead"]["shards"], full["overhead"]["slices"]) == (200, 5)
    assert all(quick[name]["records"] < full[name]["records"] for name in ("overhead", "workers", "growth"))
