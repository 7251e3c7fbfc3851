"""One size at a time is changed; at every size ours and a hand-written loop do the same work, one after the other."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from experiments.bench.bare import BareLoops, job
from experiments.bench.fit import fit
from experiments.bench.machine import seconds
from experiments.bench.rig import Rig
from experiments.bench.workload import Setting, purchase, read_setting
from experiments.benchmark import Benchmark, Figure, Say

WORDS = {
    "records": "records",
    "n_shards": "shards",
    "n_slices": "slices",
    "together": "requests",
    "workers": "workers",
}
"""The sizes that are changed, in words."""


@dataclass(frozen=True)
class Point:
    """What was measured at one size, in seconds; `bare` is the loop over the same steps."""

    fit: float
    bare_fit: float
    recover: float
    bare_recover: float
    forget: float


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure at every size of every axis.

    Args:
        setting: The entries of `config.toml`.
        folder: Where to work.
        say: Told what is under way.

    Returns:
        The figures, named `AXIS.SIZE.WHAT`.
    """
    base = read_setting(quick=False, changes=setting["base"])
    _point(replace(base, records=500), folder / "first", lambda _: None)  # starts workers, loads libraries
    points: dict[Setting, Point] = {}
    figures: list[Figure] = []
    for axis, sizes in setting["axes"].items():
        for size in sizes:
            there = replace(base, **{axis: size})
            if there not in points:
                points[there] = _point(there, folder / f"{axis}-{size}", say)
            figures += _figures(WORDS[axis], size, points[there])
            say(f"{size:,} {WORDS[axis]}: fit {points[there].fit:.2f} s, recover {points[there].recover:.2f} s")
    return figures


def _point(setting: Setting, folder: Path, say: Say) -> Point:
    (folder / "bare").mkdir(parents=True)
    rig = Rig(setting, purchase(setting), folder, say)
    layout = rig.layout
    with BareLoops(setting, rig.data, folder / "bare") as bare:
        whole = layout.hit(rows[0] for rows in layout.rows.values())
        jobs = [job(layout, shard, first, None) for shard, first in sorted(whole.items())]
        before, ours, after = bare.train(jobs), fit(rig), bare.train(jobs)
        rig.assert_same_weights(rig.trained, after)
        with rig.opened(rig.trained) as workspace:
            forgets = [seconds(functools.partial(workspace.forget, record_ids=[row])) for row in rig.together]
            left = layout.without(rig.together)
            todo = [
                job(left, shard, at, rig.parent(rig.trained, shard, at))
                for shard, at in layout.hit(rig.together).items()
            ]
            first = bare.train(todo)
            recover = seconds(functools.partial(workspace.recover, progress=False))
            second = bare.train(todo)
            rig.assert_same_weights(rig.trained, second)
    return Point(
        fit=ours.seconds,
        bare_fit=(before.seconds + after.seconds) / 2,
        recover=recover,
        bare_recover=(first.seconds + second.seconds) / 2,
        forget=median(forgets),
    )


def _figures(word: str, size: int, at: Point) -> list[Figure]:
    def figure(what: str, text: str, value: float, unit: str = "s") -> Figure:
        return Figure(f"{word}.{size}.{what}", f"{size:,} {word}: {text}", value, unit)

    return [
        figure("fit", "create + ingest + train", at.fit),
        figure("fit.loop", "the hand-written loop over the same steps", at.bare_fit),
        figure("fit.ratio", "fit against the loop", at.fit / at.bare_fit, "x"),
        figure("recover", "recover all requests together", at.recover),
        figure("recover.loop", "the hand-written loop over the same steps", at.bare_recover),
        figure("recover.ratio", "recover against the loop", at.recover / at.bare_recover, "x"),
        figure("forget", "forget one subject, durable; median", at.forget),
    ]


BENCHMARK = Benchmark("bench_growth", "how cost grows", measure)
