"""`python -m experiments.influence [--quick]`: against retraining, other libraries and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.benchmark import Benchmark, Figure, Say
from experiments.influence import clock, oracles, truth


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything, on one thread.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for decay in setting["decays"]:
        say(f"3 against 8, λ={decay:g}: leave-one-out")
        figures += truth.leave_one_out_figures(decay, setting["leave_one_out"])
        say(f"3 against 8, λ={decay:g}: removals")
        figures += truth.removal_figures(decay, setting["removal"])
    say("other libraries")
    figures += oracles.figures(folder, say)
    say("cached removals and L-BFGS")
    figures += clock.removal_figures(setting["speed"])
    say("per-sample gradients")
    figures += clock.gradient_figures(setting["gradients"])
    say("removals one by one")
    figures += clock.stream_figures(setting["stream"])
    return figures


BENCHMARK = Benchmark("influence", "Influence functions", measure, versions=oracles.versions())
"""`python -m experiments.influence`."""
