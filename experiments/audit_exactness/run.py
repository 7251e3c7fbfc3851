"""P-values of honest deletions: simulated, with one seed held fixed, of many workspaces, and those published before."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit_exactness.uniform import even, no_smaller
from experiments.audit_planted.run import BENCHMARK as PLANTED
from experiments.audit_planted.run import LEVEL, location30, repetition
from experiments.benchmark import Benchmark, Figure, Say
from unlearn.audit.metrics.estimate import proportion
from unlearn.audit.sisa_test import shard_label_test

DOUBT = 0.001
"""P-values of p-values below this would speak for a defect: some twenty are looked at."""

PUBLISHED = ("audit_planted", "audit_writers")
"""Experiments whose p-values of honest deletions are looked at again."""

_data = cache(location30)
"""Read once in each process."""


def dependent_scores(rng: np.random.Generator, subjects: int, shards: int) -> np.ndarray:
    """Scores of states that never saw anybody: shards good and bad, noisy and not, hard subjects, heavy tails."""
    quality, noise = rng.normal(size=shards) * 2, rng.uniform(0.2, 4, shards)
    hard = rng.standard_t(2, size=(subjects, 1))
    return quality + hard * rng.uniform(0, 2, shards) + noise * rng.standard_t(3, size=(subjects, shards))


def simulated(subjects: int, shards: int, number: int, permutations: int, seed: int, fixed: int | None) -> np.ndarray:
    """P-values of honest deletions that were made up.

    Args:
        subjects: K.
        shards: S.
        number: Of deletions.
        permutations: B.
        seed: Of scores and labels.
        fixed: Seed of the rearrangements of all; None: each its own.

    Returns:
        `[number]`; fewer where all subjects of a draw are in one shard, and nothing can be tested.
    """
    rng = np.random.default_rng(seed)
    found = []
    for own in range(number):
        scores, labels = dependent_scores(rng, subjects, shards), rng.integers(0, shards, subjects)
        if len(np.unique(labels)) > 1:
            drawn_from = own if fixed is None else fixed
            found.append(shard_label_test(scores, labels, permutations=permutations, seed=drawn_from).p_value)
    return np.array(found)


def of_workspace(setting: Mapping[str, Any], folder: Path, seed: int) -> tuple[float, float]:
    """Forget honestly as `experiments/audit_planted` does.

    Args:
        setting: Its entries of `config.toml`.
        folder: An empty folder.
        seed: Of everything.

    Returns:
        The p-values with all and with few records.
    """
    made = folder / str(seed)
    try:
        found = repetition(_data(), setting, seed, made, [])
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return found["honest"].p_value, found["few:honest"].p_value


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    b = setting["permutations"]
    figures = []
    planted = PLANTED.setting(quick=False) | {"permutations": b}
    with ProcessPoolExecutor(setting["processes"], mp_context=multiprocessing.get_context("spawn")) as pool:
        for subjects, shards in setting["simulated"]:
            say(f"{setting['simulations']:,} simulations of {subjects} subjects in {shards} shards")
            seeds = np.random.SeedSequence([subjects, shards]).generate_state(setting["processes"]).tolist()
            each = setting["simulations"] // setting["processes"]
            jobs = [pool.submit(simulated, subjects, shards, each, b, seed, None) for seed in seeds]
            p_values = np.concatenate([job.result() for job in jobs])
            what = f"simulated, {subjects} subjects in {shards} shards"
            figures += judged(f"simulated:{subjects}x{shards}", what, p_values, b)
        say(f"{setting['seeds']} seeds of rearrangements held fixed")
        size = (*setting["fixed"], setting["of_each"], b)
        rates = [pool.submit(simulated, *size, 10_000 + seed, seed) for seed in range(setting["seeds"])]
        figures.append(spread([job.result() for job in rates]))
        say(f"{setting['workspaces']:,} workspaces")
        seeds = range(setting["first_seed"], setting["first_seed"] + setting["workspaces"])
        n = len(seeds)
        found = np.array(list(pool.map(of_workspace, [planted] * n, [folder] * n, seeds)))
    for column, which in enumerate(("deletions", "few")):
        name, number = ("all", "few")[column], planted[which]
        figures += judged(f"workspaces:{name}", f"workspaces, {number} forgotten records", found[:, column], b)
    for experiment in PUBLISHED:
        figures += figures_of_published(experiment)
    return figures


def judged(name: str, what: str, p_values: np.ndarray, permutations: int) -> list[Figure]:
    """How often p-values refute, and whether they are no smaller than uniform, or even uniform.

    Args:
        name: Of the figures.
        what: Was done, in words.
        p_values: `[n]`, independent.
        permutations: Rearrangements of each.

    Returns:
        Three figures.
    """
    refuted = int((p_values <= LEVEL).sum())
    interval = proportion(refuted, len(p_values))
    words = f"{what}; refuted at {LEVEL}, of {len(p_values):,}, 95 % interval {interval.low:.4f} to {interval.high:.4f}"
    most = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / len(p_values))
    return [
        Figure(name, words, refuted / len(p_values), "share", at_most=most),
        Figure(f"{name}.no_smaller", f"{what}: p-values no smaller than uniform", no_smaller(p_values), "p", DOUBT),
        Figure(f"{name}.even", f"{what}: p-values uniform on their grid", even(p_values, permutations), "p"),
    ]


def spread(by_seed: Sequence[np.ndarray]) -> Figure:
    """Whether some seeds of rearrangements refute more often than others.

    Args:
        by_seed: Seed to p-values that share it.

    Returns:
        Pearson's test that all refute at the same rate.
    """
    from scipy.stats import chi2_contingency

    refuted = np.array([[(p <= LEVEL).sum(), (p > LEVEL).sum()] for p in by_seed])
    rates = refuted[:, 0] / refuted.sum(axis=1)
    words = (
        f"{len(by_seed)} seeds held fixed, {len(by_seed[0]):,} simulations each, refuted at {LEVEL} in "
        f"{rates.min():.3f} to {rates.max():.3f}, mean {rates.mean():.4f}: the same rate for all of them"
    )
    return Figure(
        "fixed_seeds.alike", words, float(chi2_contingency(refuted).pvalue), "p", DOUBT, samples=rates.tolist()
    )


def figures_of_published(experiment: str) -> list[Figure]:
    """The same of p-values of honest deletions in a result file.

    Args:
        experiment: Its folder.

    Returns:
        Two figures of each kind of deletion.
    """
    document = json.loads(Path(__file__).parents[1].joinpath(experiment, "result.json").read_text(encoding="utf-8"))
    figures = []
    for figure in document["figures"]:
        if figure["name"].startswith(("honest", "few:honest")) and figure["samples"]:
            p_values = np.array(figure["samples"])
            what = f"experiments/{experiment}, {figure['name']}, {len(p_values)} deletions"
            name = f"{experiment}:{figure['name']}"
            permutations = document["setting"]["permutations"]
            figures += [
                Figure(f"{name}.no_smaller", f"{what}: no smaller than uniform", no_smaller(p_values), "p", DOUBT),
                Figure(f"{name}.even", f"{what}: uniform on their grid", even(p_values, permutations), "p"),
            ]
    return figures


BENCHMARK = Benchmark("audit_exactness", "P-values of honest deletions", measure, where=None)
"""`python -m experiments.audit_exactness`."""
