"""Delete honestly and otherwise, audit, and count how often the audit refutes."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit_planted.failures import FAILURES, Story, served, stored
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import plant
from experiments.bench.bare import ROOT
from experiments.benchmark import Benchmark, Figure, Say
from shards.learners.base import StepData
from shards.learners.mlp import MLPLearner
from shards.placement import place_subjects
from unlearn import Workspace
from unlearn.audit.sisa_test import shard_label_test

LEVEL = 0.05
"""Of every audit."""

POWER = 0.95
"""How often a failure is to be found, where it leaves traces in what the states say of the records."""

UNPROMISED = ("kept_optimizer",)
"""Failures of which this audit promises nothing: what they leave there wears off while training goes on."""


def location30() -> tuple[np.ndarray, np.ndarray]:
    """The check-ins: `[5010, 446]` float32 of zeros and ones, `[5010]` class indices."""
    folder = Path(os.environ.get("UNLEARN_DATA", ROOT.parent / "shared" / "data"))
    with np.load(folder / "location30" / "location30.npz") as stored_arrays:
        arrays = dict(stored_arrays)
    bits = np.unpackbits(arrays["bits"], axis=1)[:, : int(arrays["n_features"])]
    y = arrays["y"].astype(np.int64)
    return bits.astype(np.float32), y - y.min()


def repetition(
    data: tuple[np.ndarray, np.ndarray], setting: Mapping[str, Any], seed: int, folder: Path, failures: Sequence[str]
) -> dict[str, Any]:
    """One workspace: trained, asked to forget, audited, and audited again with each failure planted.

    Args:
        data: Features and labels.
        setting: The entries of `config.toml`.
        seed: Of everything that is drawn, the placement among it.
        folder: Where to make it.
        failures: Names of what to plant.

    Returns:
        Name to audit, `honest` first; `few:NAME` for those with fewer records; and `checked`: whether the honest state
        is that of training without the records, byte for byte.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data[0]))[: setting["records"]]
    X, y = data[0][rows], data[1][rows]
    names = [f"user-{row}" for row in rows.tolist()]
    gone = rng.permutation(len(rows))[: setting["deletions"]]
    left = np.setdiff1d(np.arange(len(rows)), gone)
    workspace = trained(folder / "w", X, y, names, setting, seed)
    found: dict[str, Any] = {}
    with closing(workspace):
        before, first = served(workspace), served(workspace, 0)
        workspace.forget([names[row] for row in gone])
        workspace.recover()
        story = Story(
            learner(setting),
            workspace._site.task(),
            workspace.declaration.root_seed,
            setting["n_slices"],
            first,
            before,
            served(workspace),
            stored(workspace),
            by_shard(workspace, X[gone], y[gone], [names[row] for row in gone]),
            rng,
        )
        audits(workspace, "honest", X, y, names, gone, setting, found)
        found["digest"] = workspace.state_digest()
        for name in failures:
            plant(workspace, FAILURES[name](story))
            audits(workspace, name, X, y, names, gone, setting, found)
    if seed == 0:
        with closing(trained(folder / "f", X[left], y[left], [names[row] for row in left], setting, seed)) as fresh:
            assert fresh.state_digest() == found["digest"], "the honest state is not that of training without them"
    return found


def audits(
    workspace: Workspace,
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    names: Sequence[str],
    gone: np.ndarray,
    setting: Mapping[str, Any],
    found: dict[str, Any],
) -> None:
    """Audit with all deleted records, and with a few."""
    for prefix, rows in (("", gone), ("few:", gone[: setting["few"]])):
        if prefix and name not in ("honest", "one_shard_kept"):
            continue
        ids = [names[row] for row in rows]
        found[prefix + name] = workspace.audit(
            X[rows], y[rows], subjects=ids, record_ids=ids, alpha=LEVEL, permutations=setting["permutations"]
        )


def learner(setting: Mapping[str, Any]) -> MLPLearner:
    """What is trained."""
    options = dict(setting["learner"])
    return MLPLearner(tuple(options.pop("hidden")), carry_optimizer=True, **options)


def trained(
    folder: Path, X: np.ndarray, y: np.ndarray, names: Sequence[str], setting: Mapping[str, Any], seed: int
) -> Workspace:
    """A workspace with these records, each its own subject, trained."""
    workspace = Workspace.create(
        folder,
        learner(setting),
        n_shards=setting["n_shards"],
        n_slices=setting["n_slices"],
        classes=list(range(30)),
        random_state=seed,
        executor=Here(),
    )
    workspace.ingest(X, y, subjects=names, record_ids=names)
    workspace.train(progress=False)
    return workspace


def by_shard(workspace: Workspace, X: np.ndarray, y: np.ndarray, names: Sequence[str]) -> dict[int, StepData]:
    """The deleted records of each shard."""
    declared = workspace.declaration
    shards, _ = place_subjects(workspace._site.keys.placement, names, declared.n_shards, declared.n_slices)
    tokens = np.arange(16 * len(y), dtype=np.int64).astype(np.uint8).reshape(-1, 16)
    return {
        shard: StepData({"x": X[shards == shard]}, y[shards == shard], tokens[shards == shard])
        for shard in range(declared.n_shards)
    }


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    data = location30()
    refuted: dict[str, list[bool]] = defaultdict(list)
    advantages: dict[str, list[float]] = defaultdict(list)
    p_values: dict[str, list[float]] = defaultdict(list)
    expected: dict[str, list[float]] = defaultdict(list)
    for seed in range(setting["repetitions"]):
        failures = list(FAILURES) if seed < setting["planted"] else ["one_shard_kept"]
        found = repetition(data, setting, seed, folder, failures)
        found.pop("digest")
        for name, audit in found.items():
            refuted[name].append(audit.verdict == "refuted")
            advantages[name].append(audit.test.advantage)
            p_values[name].append(audit.p_value)
        for name in ("honest", "few:honest"):
            expected[name].append(found[name].yardstick.power_one_shard)
        advantages["members"].append(found["honest"].yardstick.advantage)
        for path in folder.iterdir():
            shutil.rmtree(path)
        if seed % 10 == 0:
            say(
                f"{seed + 1} of {setting['repetitions']}: "
                + ", ".join(f"{k} {np.mean(v):.2f}" for k, v in refuted.items())
            )
    figures = [_alarms("honest", refuted, p_values), _alarms("few:honest", refuted, p_values)]
    figures += [
        _rate(name, refuted[name], None if name in UNPROMISED or ":" in name else POWER)
        for name in [*FAILURES, "few:one_shard_kept"]
    ]
    figures += [
        Figure(
            f"{prefix}expected",
            "of one shard kept: power that audits of honest deletions named beforehand, mean",
            float(np.mean(expected[f"{prefix}honest"])),
            "share",
        )
        for prefix in ("", "few:")
    ]
    figures += [
        Figure(f"{name}.advantage", "mean advantage under the own shard, in logits", float(np.mean(values)), "logits")
        for name, values in advantages.items()
        if not name.startswith("few:")
    ]
    return [*figures, seconds()]


def _alarms(name: str, refuted: Mapping[str, Sequence[bool]], p_values: Mapping[str, Sequence[float]]) -> Figure:
    number = len(refuted[name])
    most = LEVEL + 3 * (LEVEL * (1 - LEVEL) / number) ** 0.5
    which = "with few records" if name.startswith("few:") else "with all records"
    words = f"honest deletions refuted, {number} of them, {which}; {_interval(refuted[name])}"
    return Figure(name, words, float(np.mean(refuted[name])), "share", at_most=most, samples=p_values[name])


def _rate(name: str, refuted: Sequence[bool], at_least: float | None) -> Figure:
    key = name.removeprefix("few:")
    words = str(FAILURES[key].__doc__).rstrip(".")
    words += f" (few records; {_interval(refuted)})" if name != key else f" ({_interval(refuted)})"
    return Figure(name, words, float(np.mean(refuted)), "share", at_least=at_least)


def _interval(refuted: Sequence[bool]) -> str:
    """Of a rate, Clopper and Pearson's."""
    from scipy.stats import binomtest

    found = binomtest(int(np.sum(refuted)), len(refuted)).proportion_ci(0.95)
    return f"95 % interval {found.low:.3f} to {found.high:.3f}"


def seconds(repeats: int = 5) -> Figure:
    """Time the test of 1,000 deleted subjects.

    Args:
        repeats: How often; the median counts.

    Returns:
        The figure.
    """
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(1000, 10)), rng.integers(0, 10, 1000)
    took = []
    for _ in range(repeats):
        began = time.process_time()
        shard_label_test(scores, labels)
        took.append(time.process_time() - began)
    what = "the test of 1,000 deleted subjects in 10 shards, 9,999 rearrangements, processor time"
    return Figure("seconds", what, float(np.median(took)), "s", at_most=1.0, samples=took)


BENCHMARK = Benchmark("audit_planted", "Audits of planted failures", measure, where=None)
"""`python -m experiments.audit_planted`."""
