"""Audits of writers, on made-up ones: people with several records each."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.audit_planted.failures import FAILURES
from experiments.audit_planted.run import learner
from experiments.audit_writers.people import Writers
from experiments.audit_writers.repetition import Repetition, repetition
from experiments.audit_writers.run import BENCHMARK, figures_of, kept_for, repetitions
from experiments.audit_writers.table import tables

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
    "replayed": 1,
    "passes": [1],
    "permutations": 199,
    "attacks": ["loss", "shard_lira"],
    "processes": 1,
    "learner": {"hidden": [], "learning_rate": 0.5, "momentum": 0.9, "epochs": 40, "batch_size": 8},
}


def made_up() -> Writers:
    """A hundred writers of noise, which can only be learnt by heart, and one with too few images."""
    rng = np.random.default_rng(0)
    who = np.append(np.repeat(np.arange(100), 4), [100])
    return Writers(rng.random((401, 196)).astype(np.float32), rng.integers(0, 10, 401), who, np.arange(100))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Repetition:
    return repetition(made_up(), SETTING, 0, tmp_path_factory.mktemp("writers") / "w")


def test_writers_are_presented_whole() -> None:
    found = made_up().records([7, 3], 3)
    assert found.subjects == ("writer-7",) * 3 + ("writer-3",) * 3
    assert found.record_ids == ("image-28", "image-29", "image-30", "image-12", "image-13", "image-14")
    assert (found.features["x"] == made_up().x[[28, 29, 30, 12, 13, 14]]).all()


def test_an_honest_deletion_passes_and_what_was_kept_does_not(found: Repetition) -> None:
    looked_at = ("honest", *FAILURES)
    assert found.audits.keys() == {*(f"{name}:{k}" for name in looked_at for k in (10, 30)), "momentum:1"}
    assert found.attacked.keys() == set(looked_at)
    for name in ("honest:10", "honest:30"):
        assert not found.audits[name].refuted, name
    for name in ("nothing_done:10", "nothing_done:30", "one_shard_kept:30", "late_checkpoint:30"):
        assert found.audits[name].refuted, name
    assert not found.attacked["honest"][0]
    assert found.attacked["nothing_done"][0]


def test_what_was_found_is_kept(found: Repetition, tmp_path: Path) -> None:
    assert Repetition.from_json(found.to_json()) == found
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "0.json").write_text(found.to_json())
    # Nothing is made: there are no writers of so many images.
    assert list(repetitions({**SETTING, "images": 10**6}, tmp_path / "none", tmp_path / "kept")) == [found]


def test_other_settings_are_kept_elsewhere() -> None:
    assert kept_for(SETTING) == kept_for({**SETTING, "repetitions": 7, "processes": 3})
    assert kept_for(SETTING) != kept_for({**SETTING, "images": 5})


def test_writers_of_one_shard_are_not_presented(tmp_path: Path) -> None:
    """Nothing can be rearranged among them, so the audit would refuse."""
    alone = {**SETTING, "presented": [1, 30], "planted": 0, "replayed": 0}
    assert repetition(made_up(), alone, 0, tmp_path / "w").audits.keys() == {"honest:30"}


def test_training_again_finds_every_failure_and_no_honest_deletion(found: Repetition) -> None:
    assert found.replayed == {"honest": False} | dict.fromkeys(FAILURES, True)


def test_a_kept_momentum_moves_the_parameters(found: Repetition) -> None:
    assert 0 < found.distances["1"] < 1


def test_every_figure_says_what_was_found(found: Repetition) -> None:
    honest = Repetition(
        {name: audit for name, audit in found.audits.items() if name.startswith("honest")},
        {"honest": found.attacked["honest"]},
    )
    figures = {figure.name: figure for figure in figures_of([found, honest], SETTING)}
    assert figures["nothing_done.needed"].value == 10
    assert figures["nothing_done:30"].value == 1
    assert len(figures["honest:30"].samples) == 2
    assert figures["honest:30"].at_most == pytest.approx(0.05 + 3 * (0.05 * 0.95 / 2) ** 0.5)
    assert figures["nothing_done.advantage"].value > 3 * abs(figures["honest.advantage"].value)
    assert figures["named:30.least_everywhere"].value == found.audits["honest:30"].everywhere
    assert figures["momentum:1.distance"].value == found.distances["1"]
    assert (figures["replay:honest"].value, figures["replay:kept_optimizer"].value) == (0, 1)


def test_the_readme_says_what_the_figures_say(found: Repetition) -> None:
    figures = [figure.to_json() for figure in figures_of([found, found], SETTING)]
    said = tables({"figures": figures, "setting": SETTING}).splitlines()
    row = next(line for line in said if line.startswith("| `nothing_done`"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["1.00", "1.00", "1.00", "10"]
    assert said[0].startswith("2 honest deletions, 1 with each failure")
    assert len([line for line in said if line.startswith("| `kept_optimizer`")]) == 2
    assert all(len(one) == len(next_one) for one, next_one in pairwise(said) if one[:2] == next_one[:2] == "| ")


def test_what_few_audits_name_is_said_to_be_nothing(found: Repetition) -> None:
    audit = found.audits["honest:10"]
    blind = replace(audit, one_shard=None)
    figures = figures_of([Repetition(found.audits | {"honest:10": blind}, found.attacked)], SETTING)
    none = next(figure for figure in figures if figure.name == "named:10.least_one_shard")
    assert (none.value, none.what.endswith("0: none")) == (0, True)


def test_every_setting_has_its_entries() -> None:
    for quick in (True, False):
        setting = BENCHMARK.setting(quick=quick)
        assert SETTING.keys() == setting.keys()
        assert learner(setting).carry_optimizer
    assert BENCHMARK.setting(quick=False)["repetitions"] >= 200
