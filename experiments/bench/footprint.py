"""Figures e and g: memory of the workers, and how long the interpreter takes to start with us."""

from __future__ import annotations

import functools
from statistics import median

from experiments.bench.figures import Figure
from experiments.bench.machine import memory_after, python, seconds, worker_peaks
from experiments.bench.rig import Rig

MEGABYTE = 2**20

COMMANDS = {
    "g.import": ("-c", "import unlearn; unlearn.Workspace"),
    "g.help": ("-m", "unlearn", "--help"),
}


def measure_memory(rig: Rig) -> list[Figure]:
    """Peak memory of the workers, all of which have trained by now.

    Args:
        rig: What they trained.

    Returns:
        The figures: what the worst worker needs more than a process that has merely imported numpy and scipy.
    """
    peaks = worker_peaks()
    assert peaks, "there is no worker process to be measured"
    per_row = rig.data.X.itemsize * rig.setting.features + rig.data.y.itemsize
    shard = max(len(rig.layout.shard(number)) for number in range(rig.setting.n_shards)) * per_row
    return [
        _memory(
            rig, "e.worker_memory", "numpy and scipy are imported", "import numpy, scipy.linalg.blas", peaks, shard
        ),
    ]


def _memory(rig: Rig, name: str, what: str, code: str, peaks: list[int], shard: int) -> Figure:
    base = memory_after(code)
    rig.say(f"memory: worker {max(peaks) / MEGABYTE:.0f} MB, once {what} {base / MEGABYTE:.0f} MB")
    return Figure(
        name,
        f"peak RSS of a worker above the RSS once {what}; goal: 2 shards + 100 MB; sides: RSS in MB",
        (max(peaks) - base) / MEGABYTE,
        "MB",
        2 * shard / MEGABYTE + 100,
        max(peaks) / MEGABYTE,
        base / MEGABYTE,
        {"peaks": [peak / MEGABYTE for peak in peaks]},
    )


def measure_start(rig: Rig) -> list[Figure]:
    """Start the interpreter with and without us.

    Args:
        rig: How often.

    Returns:
        The figures.
    """
    empty: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        python(*arguments)  # once, so that everything is compiled and in the file cache
    for _ in range(rig.setting.start_repeats):
        empty.append(seconds(functools.partial(python, "-c", "pass")))
        for name, arguments in COMMANDS.items():
            ours[name].append(seconds(functools.partial(python, *arguments)))
    rig.say("start: " + ", ".join(f"{name} {median(values):.2f} s" for name, values in ours.items()))
    return [_start(name, values, empty) for name, values in ours.items()]


def _start(name: str, values: list[float], empty: list[float]) -> Figure:
    what = f"python {' '.join(COMMANDS[name])}, beside python -c pass"
    samples = {"ours": values, "baseline": empty}
    return Figure(name, what, median(values), "s", None, median(values), median(empty), samples)
