"""Forget writers honestly and otherwise, audit with few and with many of them, and count how often that refutes."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.audit_planted.failures import FAILURES
from experiments.audit_writers.people import writers
from experiments.audit_writers.repetition import LEVEL, Repetition, Seen, repetition
from experiments.bench.bare import ROOT
from experiments.benchmark import Benchmark, Figure, Say
from unlearn.audit.metrics.estimate import proportion

POWER = 0.8
"""How often a failure is to be found with as many writers as are said to be needed."""

NAMES = {"honest": "Honest deletion"} | {name: str(of.__doc__).rstrip(".") for name, of in FAILURES.items()}

_images = cache(writers)
"""Read once in each process."""


def repetitions(setting: Mapping[str, Any], folder: Path, kept: Path) -> Iterator[Repetition]:
    """All repetitions in order, some at a time, each in a process of its own numeric libraries.

    Args:
        setting: The entries of `config.toml`.
        folder: An empty folder.
        kept: Where to keep what was found, a file a repetition; those that are there are not made again.

    Yields:
        What was found.
    """
    kept.mkdir(parents=True, exist_ok=True)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(setting["processes"], mp_context=spawned) as pool:
        number = setting["repetitions"]
        yield from pool.map(_one, [setting] * number, range(number), [folder] * number, [kept] * number)


def _one(setting: Mapping[str, Any], seed: int, folder: Path, kept: Path) -> Repetition:
    file = kept / f"{seed}.json"
    if file.exists():
        return Repetition.from_json(file.read_text(encoding="utf-8"))
    made = folder / str(seed)
    found = repetition(_images(setting["images"]), setting, seed, made)
    shutil.rmtree(made)
    written = file.with_suffix(".new")
    written.write_text(found.to_json(), encoding="utf-8")
    written.replace(file)
    return found


def kept_for(setting: Mapping[str, Any]) -> Path:
    """Where repetitions are kept: a folder of its own for all that decides what is found in one.

    Args:
        setting: The entries of `config.toml`.

    Returns:
        The folder; whoever changes the code deletes it.
    """
    decides = {name: value for name, value in setting.items() if name not in ("repetitions", "processes")}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    return ROOT / "runs" / "audit_writers" / digest


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    found: list[Repetition] = []
    for one in repetitions(setting, folder, kept_for(setting)):
        found.append(one)
        if len(found) % 20 == 1:
            say(f"{len(found)} of {setting['repetitions']}")
    return figures_of(found, setting)


def figures_of(found: Sequence[Repetition], setting: Mapping[str, Any]) -> list[Figure]:
    """What was found, as figures.

    Args:
        found: The repetitions.
        setting: The entries of `config.toml`.

    Returns:
        The figures.
    """
    most = setting["presented"][-1]
    named = [name for name in NAMES if f"{name}:{most}" in found[0].audits]
    figures = []
    for name in named:
        for number in setting["presented"]:
            seen = [(audit.refuted, audit.p_value) for audit in _of(found, f"{name}:{number}")]
            figures.append(_rate(f"{name}:{number}", f"{NAMES[name]}, {number} writers presented", seen, name))
        attacked = [one.attacked[name] for one in found if name in one.attacked]
        how = f"{NAMES[name]}, by attacks ({', '.join(setting['attacks'])}), all presented"
        figures.append(_rate(f"attacks:{name}", how, attacked, name))
    for number in setting["presented"]:
        figures += _beforehand(number, _of(found, f"honest:{number}"))
    for name in named:
        figures += _traces(name, _of(found, f"{name}:{most}"))
    figures += [_needed(name, found, setting) for name in named if name != "honest"]
    figures += [_replayed(name, found) for name in named if name in found[0].replayed]
    for passes in found[0].distances:
        figures += _momentum(passes, found)
    return figures


def _of(found: Sequence[Repetition], name: str) -> list[Seen]:
    return [one.audits[name] for one in found if name in one.audits]


def _rate(name: str, what: str, seen: Sequence[tuple[bool, float]], kind: str) -> Figure:
    refuted, p_values = (list(part) for part in zip(*seen, strict=True))
    estimate = proportion(sum(refuted), len(refuted))
    words = f"{what}; refuted, of {len(refuted)}, 95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
    most = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / len(refuted)) if kind == "honest" else None
    return Figure(name, words, float(np.mean(refuted)), "share", at_most=most, samples=p_values)


def _beforehand(number: int, honest: Sequence[Seen]) -> list[Figure]:
    """What audits of honest deletions name: what they would have found."""
    with_all = f"audits of honest deletions with {number} writers"
    return [
        *_least(f"named:{number}", with_all, honest),
        Figure(
            f"named:{number}.power_one_shard",
            f"{with_all} expect to find one shard that was kept so often, mean",
            float(np.mean([one.power_one_shard for one in honest])),
            "share",
        ),
        Figure(
            f"named:{number}.power_all_shards",
            f"{with_all} expect to find that all were kept so often, mean",
            float(np.mean([one.power_all_shards for one in honest])),
            "share",
        ),
    ]


def _traces(name: str, audits: Sequence[Seen]) -> list[Figure]:
    """What a deletion leaves, what the audits of it could have found, and what the states know of those who stay."""
    members, advantages = [audit.members for audit in audits], [audit.advantage for audit in audits]
    what = "mean advantage of the own shard"
    return [
        Figure(f"{name}.advantage", f"{NAMES[name]}: {what}, of the forgotten", float(np.mean(advantages)), "logits"),
        Figure(f"{name}.members", f"{what}, of writers who stay", float(np.mean(members)), "logits"),
        *_least(name, "audits of it", audits),
    ]


def _least(name: str, whose: str, audits: Sequence[Seen]) -> list[Figure]:
    found = []
    for where, of in (("everywhere", "in all shards"), ("one_shard", "in one shard")):
        values = [getattr(audit, where) for audit in audits]
        middle = median(math.inf if value is None else value for value in values)
        words = f"{whose} would find such an advantage {of} with probability 0.95, median"
        none = math.isinf(middle)
        found.append(
            Figure(f"{name}.least_{where}", words + ("; 0: none" if none else ""), 0.0 if none else middle, "logits")
        )
    return found


def _needed(name: str, found: Sequence[Repetition], setting: Mapping[str, Any]) -> Figure:
    """The fewest writers from which on the failure is found often enough; 0: more than were tried."""
    rates = {
        number: float(np.mean([audit.refuted for audit in _of(found, f"{name}:{number}")]))
        for number in setting["presented"]
    }
    enough = [k for k in rates if all(rate >= POWER for number, rate in rates.items() if number >= k)]
    words = f"{NAMES[name]}: fewest writers presented, of those tried, with which it is found in {POWER:.0%} of cases"
    return Figure(
        f"{name}.needed", words + ("" if enough else "; 0: none were enough"), min(enough, default=0), "writers"
    )


def _replayed(name: str, found: Sequence[Repetition]) -> Figure:
    others = [one.replayed[name] for one in found if name in one.replayed]
    words = f"{NAMES[name]}; training again finds other states, of {len(others)}"
    bounds = {"at_most": 0.0} if name == "honest" else {"at_least": 1.0}
    return Figure(f"replay:{name}", words, float(np.mean(others)), "share", **bounds)


def _momentum(passes: str, found: Sequence[Repetition]) -> list[Figure]:
    audits = _of(found, f"momentum:{passes}")
    what = f"started over but for the momentum, {passes} passes later"
    return [
        _rate(f"momentum:{passes}", what, [(audit.refuted, audit.p_value) for audit in audits], "momentum"),
        Figure(
            f"momentum:{passes}.advantage",
            f"{what}: mean advantage of the own shard",
            float(np.mean([audit.advantage for audit in audits])),
            "logits",
        ),
        *_least(f"momentum:{passes}", "audits of it", audits)[:1],
        Figure(
            f"momentum:{passes}.distance",
            f"{what}: distance of the parameters from those without it, over the way these have come, mean",
            float(np.mean([one.distances[passes] for one in found if passes in one.distances])),
            "ratio",
        ),
    ]


BENCHMARK = Benchmark("audit_writers", "Audits of writers", measure, where=None)
"""`python -m experiments.audit_writers`."""
