"""Audits of writers, on made-up ones: people with several records each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.audit_planted.run import learner
from experiments.audit_writers import run
from experiments.audit_writers.run import BENCHMARK, PLANTED, Writers, repetition

SETTING: dict[str, Any] = {
    "writers": 60,
    "images": 4,
    "n_shards": 4,
    "n_slices": 2,
    "deletions": 30,
    "presented": [10, 30],
    "held_out": 30,
    "repetitions": 1,
    "planted": 1,
    "permutations": 199,
    "attacks": ["loss", "shard_lira"],
    "learner": {"hidden": [], "learning_rate": 0.5, "momentum": 0.9, "epochs": 40, "batch_size": 8},
}


def made_up() -> Writers:
    """A hundred writers of noise, which can only be learnt by heart, and one with too few images."""
    rng = np.random.default_rng(0)
    who = np.append(np.repeat(np.arange(100), 4), [100])
    return Writers(rng.random((401, 196)).astype(np.float32), rng.integers(0, 10, 401), who, np.arange(100))


def test_writers_are_presented_whole() -> None:
    found = made_up().records([7, 3], 3)
    assert found.subjects == ("writer-7",) * 3 + ("writer-3",) * 3
    assert found.record_ids == ("image-28", "image-29", "image-30", "image-12", "image-13", "image-14")
    assert (found.features["x"] == made_up().x[[28, 29, 30, 12, 13, 14]]).all()


def test_an_honest_deletion_passes_and_what_was_kept_does_not(tmp_path: Path) -> None:
    found = repetition(made_up(), SETTING, 0, tmp_path)
    assert found.keys() == {
        *(f"{name}:{number}" for name in ("honest", "nothing_done", "one_shard_kept") for number in (10, 30)),
        "kept_optimizer:30",
        *(f"attacks:{name}" for name in ("honest", *PLANTED)),
    }
    for name in ("honest:10", "honest:30", "attacks:honest"):
        assert found[name].verdict == "not refuted", name
    for name in ("nothing_done:10", "nothing_done:30", "one_shard_kept:30", "attacks:nothing_done"):
        assert found[name].verdict == "refuted", name
    assert found["honest:10"].test.n_subjects == 10
    assert (found["attacks:honest"].forgotten, found["attacks:honest"].held_out) == (30, 30)


def test_every_figure_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "writers", lambda images: made_up())
    figures = {figure.name: figure for figure in run.measure(SETTING, tmp_path, lambda line: None)}
    assert figures["nothing_done.needed"].value == 10
    assert figures["nothing_done:30"].value == 1
    assert figures["honest:30"].at_most is not None
    assert figures["nothing_done:30.advantage"].value > 3 * abs(figures["honest:30.advantage"].value)


def test_every_setting_has_its_entries() -> None:
    for quick in (True, False):
        setting = BENCHMARK.setting(quick=quick)
        assert SETTING.keys() == setting.keys()
        assert learner(setting).carry_optimizer
