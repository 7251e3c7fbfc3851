"""The benchmark, run on almost nothing: every figure is there, and the comparisons it rests on hold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.bench.__main__ import run
from experiments.bench.bare import Job, spread
from experiments.bench.figures import Figure, ratio
from experiments.bench.workload import Layout, Setting, StepSize, purchase, read_setting

TINY = {
    "records": 300,
    "test_records": 50,
    "features": 12,
    "hidden": 4,
    "epochs": 2,
    "n_shards": 4,
    "n_slices": 3,
    "fit_repeats": 1,
    "single_recoveries": 3,
    "together": 4,
    "together_repeats": 2,
    "forget_rounds": 1,
    "start_repeats": 1,
    "predicted_rows": 20,
}

FIGURES = {
    *("a.fit_cold", "a.fit_warm", "a.fit_cpu", "a.accuracy"),
    *("b.forget_median", "b.forget_p99", "b.forget_in_writes", "b.forget_cpu"),
    *("b.floor_commit", "b.floor_signature", "b.floor_rewrite", "b.floor", "b.forget_in_floors"),
    *("c.recover_one", "c.recover_one_worst", "c.recover_one_cpu", "c.forget_before"),
    *("d.visits", "d.recover_together", "d.against_separate"),
    *("e.worker_memory",),
    *(
        "f.ingest",
        "f.kernel",
        "f.not_training",
        "f.driver.ledger",
        "f.driver.ledger_cpu",
        "f.driver.digests",
        "f.driver.files",
    ),
    *("f.worker.digests", "f.worker.files", "f.worker.checkpoints"),
    *("g.import", "g.help"),
    *("h.fit_against_loader", "h.requests_against_plain", "h.plain_accuracy", "i.predict_many", "i.predict_one"),
}


@pytest.fixture
def tiny() -> Setting:
    return read_setting(quick=True, changes=TINY)


@pytest.mark.slow
def test_every_figure_is_there_and_finite(tiny: Setting, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    run(tiny, output, tmp_path / "runs")
    document = json.loads(output.read_text())
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert figures.keys() >= FIGURES
    assert len(figures) == len(document["figures"])
    for figure in figures.values():
        numbers = [figure[key] for key in ("value", "goal", "ours", "baseline") if figure[key] is not None]
        numbers += [value for values in figure["samples"].values() for value in values]
        assert all(math.isfinite(number) for number in numbers), figure
        assert figure["passed"] in {True, False} if figure["goal"] is not None else figure["passed"] is None
    assert figures["d.visits"]["passed"]
    assert len(figures["c.recover_one"]["samples"]["ours"]) == 3
    assert len(figures["b.forget_in_writes"]["samples"]["ours"]) == 12
    assert document["machine"]["versions"]["torch"]
    assert document["environment"]["kernel"]
    assert not list((tmp_path / "runs").iterdir())


def test_the_workload_is_what_the_formulas_say(tiny: Setting) -> None:
    data, again = purchase(tiny), purchase(tiny)
    assert np.array_equal(data.X, again.X)
    assert data.X.shape == (300, 12)
    assert data.X.dtype == np.float32
    assert set(np.unique(data.X)) == {0.0, 1.0}
    assert set(np.unique(data.y)) == {0, 1}


def test_full_and_quick_settings_differ_in_the_size_of_the_data_only() -> None:
    full, quick = read_setting(quick=False), read_setting(quick=True)
    assert (full.records, full.n_shards, full.n_slices, full.epochs) == (50_000, 20, 5, 20)
    assert quick.records * 10 == full.records
    assert (quick.features, quick.n_shards, quick.epochs) == (full.features, full.n_shards, full.epochs)


def test_steps_of_a_layout(tiny: Setting) -> None:
    layout = Layout(tiny, {(0, 0): (1, 2), (0, 2): (3,), (1, 1): (4, 5, 6)})
    # e = 2 * 2 / (3 + 1) = 1 visit a record and step.
    assert layout.steps(0) == [StepSize(0, 2, 2), StepSize(1, 2, 2), StepSize(2, 3, 3)]
    assert layout.steps(1) == [StepSize(1, 3, 3), StepSize(2, 3, 3)]
    assert layout.hit([3, 1, 5]) == {0: 0, 1: 1}
    assert layout.without([3]).hit([2]) == {0: 0}
    assert layout.visits({0: 1, 1: 2}) == 2 + 3 + 3


def test_jobs_are_spread_evenly() -> None:
    jobs = [Job(shard, 0, [], [StepSize(0, 1, visits)], None) for shard, visits in enumerate([5, 4, 3, 3, 3])]
    assert [sorted(job.shard for job in share) for share in spread(jobs, 2)] == [[0, 3], [1, 2, 4]]


def test_a_ratio_is_of_pairs_and_a_goal_is_a_bound() -> None:
    figure = ratio("n", "w", 1.5, [1.0, 8.0, 3.0], [1.0, 4.0, 1.0])
    assert figure.value == 2.0
    assert figure.passed is False
    assert Figure("n", "w", 1.5, "x", 1.5).passed is True
    assert Figure("n", "w", 1.5, "x").passed is None
