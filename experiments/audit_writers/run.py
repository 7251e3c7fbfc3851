"""Forget writers honestly and otherwise, audit with few and with many of them, and count how often that refutes."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit_planted.failures import FAILURES, Story, served, stored
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import plant
from experiments.audit_planted.run import by_shard, learner
from experiments.benchmark import Benchmark, Figure, Say
from experiments.forget_exact.run import mnist
from shards.records import Records, make_records
from unlearn import Workspace
from unlearn.audit.metrics.estimate import proportion

LEVEL = 0.05
"""Of every audit."""

POWER = 0.8
"""How often a failure is to be found with as many writers as are said to be needed."""

PLANTED = ("nothing_done", "one_shard_kept", "kept_optimizer")
NAMES = {
    "honest": "honest deletion",
    "nothing_done": "every shard kept",
    "one_shard_kept": "one shard of five kept",
    "kept_optimizer": "started over, but for the momentum",
}


@dataclass(frozen=True, eq=False)
class Writers:
    """Images of writers.

    Attributes:
        x: `[n, 196]` float32, means of 2 x 2 pixels, from 0 to 1.
        y: `[n]` int64.
        writer: `[n]` int.
        known: Writers with enough images.
    """

    x: np.ndarray
    y: np.ndarray
    writer: np.ndarray
    known: np.ndarray

    def records(self, who: Sequence[int], images: int) -> Records:
        """The first images of some writers, under their names."""
        rows = np.concatenate([np.flatnonzero(self.writer == one)[:images] for one in who])
        names = [f"writer-{one}" for one in self.writer[rows].tolist()]
        return make_records(
            self.x[rows], self.y[rows], subjects=names, record_ids=[f"image-{row}" for row in rows.tolist()]
        )


def writers(images: int) -> Writers:
    """MNIST's training part, smaller.

    Args:
        images: That a writer needs.

    Returns:
        The images.
    """
    data = mnist()
    small = data.x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(data.x), -1) / 255
    who, counts = np.unique(data.writer, return_counts=True)
    return Writers(small.astype(np.float32), data.y.astype(np.int64), data.writer, who[counts >= images])


def repetition(data: Writers, setting: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One workspace: trained, asked to forget, audited, and audited again with failures planted.

    Args:
        data: Images.
        setting: The entries of `config.toml`.
        seed: Of everything that is drawn, the placement among it.
        folder: Where to make it.

    Returns:
        `NAME:K` to the audit with K writers, `attacks:NAME` to that by attacks.
    """
    rng = np.random.default_rng(seed)
    n, held = setting["writers"], setting["held_out"]
    drawn = rng.permutation(data.known)[: n + held]
    gone = drawn[: setting["deletions"]]
    workspace = Workspace.create(
        folder / "w",
        learner(setting),
        n_shards=setting["n_shards"],
        n_slices=setting["n_slices"],
        classes=list(range(10)),
        random_state=seed,
        executor=Here(),
    )
    found: dict[str, Any] = {}
    with closing(workspace):
        workspace.ingest(data.records(drawn[:n], setting["images"]))
        workspace.train(progress=False)
        before, first = served(workspace), served(workspace, 0)
        workspace.forget([f"writer-{one}" for one in gone])
        workspace.recover(progress=False)
        audits(workspace, "honest", data, gone, drawn[n:], setting, found)
        if seed < setting["planted"]:
            away = data.records(gone, setting["images"])
            story = Story(
                learner(setting),
                workspace._site.task(),
                workspace.declaration.root_seed,
                setting["n_slices"],
                first,
                before,
                served(workspace),
                stored(workspace),
                by_shard(workspace, away.features["x"], away.target, away.subjects),
                rng,
            )
            for name in PLANTED:
                plant(workspace, FAILURES[name](story))
                audits(workspace, name, data, gone, drawn[n:], setting, found)
    return found


def audits(
    workspace: Workspace,
    name: str,
    data: Writers,
    gone: np.ndarray,
    held: np.ndarray,
    setting: Mapping[str, Any],
    found: dict[str, Any],
) -> None:
    """Audit with few and with many writers, and by attacks with all."""
    options = {"alpha": LEVEL, "permutations": setting["permutations"]}
    for number in setting["presented"] if name != "kept_optimizer" else setting["presented"][-1:]:
        presented = data.records(gone[:number], setting["images"])
        found[f"{name}:{number}"] = workspace.audit(presented, **options)
    found[f"attacks:{name}"] = workspace.audit(
        data.records(gone, setting["images"]),
        attacks=setting["attacks"],
        held_out=data.records(held, setting["images"]),
        **options,
    )


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    data = writers(setting["images"])
    refuted: dict[str, list[bool]] = defaultdict(list)
    p_values: dict[str, list[float]] = defaultdict(list)
    advantages: dict[str, list[float]] = defaultdict(list)
    for seed in range(setting["repetitions"]):
        found = repetition(data, setting, seed, folder)
        for name, audit in found.items():
            refuted[name].append(audit.verdict == "refuted")
            p_values[name].append(float(audit.p_value))
            if not name.startswith("attacks:"):
                advantages[name].append(audit.test.advantage)
        advantages["members"].append(found[f"honest:{setting['presented'][-1]}"].yardstick.advantage)
        for path in folder.iterdir():
            shutil.rmtree(path)
        if seed % 20 == 0:
            rates = ", ".join(f"{name} {np.mean(values):.2f}" for name, values in refuted.items())
            say(f"{seed + 1} of {setting['repetitions']}: {rates}")
    figures = [_rate(name, values, p_values[name], setting) for name, values in refuted.items()]
    figures += [_needed(name, refuted, setting) for name in ("nothing_done", "one_shard_kept")]
    return figures + [
        Figure(f"{name}.advantage", "mean advantage under the own shard, in logits", float(np.mean(values)), "logits")
        for name, values in advantages.items()
        if name == "members" or name.endswith(f":{setting['presented'][-1]}")
    ]


def _rate(name: str, found: Sequence[bool], p_values: Sequence[float], setting: Mapping[str, Any]) -> Figure:
    kind, _, number = name.rpartition(":") if not name.startswith("attacks:") else (name[8:], "", "")
    estimate = proportion(int(np.sum(found)), len(found))
    how = f"{number} writers presented" if number else f"by attacks ({', '.join(setting['attacks'])}), all presented"
    words = f"{NAMES[kind]}, {how}; refuted in {len(found)}, 95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
    most = LEVEL + 3 * (LEVEL * (1 - LEVEL) / len(found)) ** 0.5 if kind == "honest" else None
    return Figure(name, words, float(np.mean(found)), "share", at_most=most, samples=p_values)


def _needed(name: str, refuted: Mapping[str, Sequence[bool]], setting: Mapping[str, Any]) -> Figure:
    """The fewest writers from which on the failure is found often enough; 0: more than were tried."""
    rates = {number: float(np.mean(refuted[f"{name}:{number}"])) for number in setting["presented"]}
    enough = [k for k in rates if all(rate >= POWER for number, rate in rates.items() if number >= k)]
    words = f"{NAMES[name]}: fewest writers presented, of those tried, with which it is found in {POWER:.0%} of cases"
    return Figure(
        f"{name}.needed", words + ("" if enough else "; 0: none were enough"), min(enough, default=0), "writers"
    )


BENCHMARK = Benchmark("audit_writers", "Audits of writers", measure, where=None)
"""`python -m experiments.audit_writers`."""
