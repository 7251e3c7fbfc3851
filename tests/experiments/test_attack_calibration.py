"""The calibration of audits by attacks, with few repetitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.attack_calibration.run import BENCHMARK, draw, measure


@pytest.mark.parametrize("tossed", [False, True])
def test_models_that_know_and_models_that_do_not(tossed: bool) -> None:
    setting, rng = BENCHMARK.setting(quick=True), np.random.default_rng(0)
    knows = draw(setting, rng, tossed=tossed, kept=True)
    assert (knows.verdict, knows.members, knows.forgotten + knows.held_out) == ("refuted", 60, 80)
    assert draw(setting, rng, tossed=tossed, kept=False).verdict == "not refuted"


def test_every_figure_is_there(tmp_path: Path) -> None:
    setting = BENCHMARK.setting(quick=True) | {"repetitions": 5, "kept": 2}
    figures = {figure.name: figure for figure in measure(setting, tmp_path, lambda line: None)}
    assert figures.keys() == {
        *(f"{kind}.{name}" for kind in ("null", "kept") for name in ("verdict", "coins.verdict", "coins.epsilon")),
        "null.uniform",
    }
    assert figures["kept.verdict"].value == 1
