"""`python -m experiments.attack_strength [--quick]`: known answers, and the strength of attacks with shadow models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.attack_strength.location import measure_pool, train
from experiments.attack_strength.posteriors import measure_posteriors
from experiments.attack_strength.speed import measure_speed
from experiments.benchmark import Benchmark, Figure, Say


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: The entries of `config.toml`.
        folder: Not used: nothing is written.
        say: Told what is under way.

    Returns:
        The figures.
    """
    del folder
    say("published posteriors")
    figures = measure_posteriors()
    figures += measure_speed(setting, say)
    return figures + measure_pool("location", train(setting, say), setting, say)


BENCHMARK = Benchmark("attack_strength", "How strong the attacks are", measure)
"""`python -m experiments.attack_strength`."""
