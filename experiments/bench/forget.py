"""Figures b: forget one subject, durable on disk."""

from __future__ import annotations

import functools
import time
from statistics import median

import numpy as np

from experiments.bench.figures import Figure, ratio
from experiments.bench.machine import durable_write, seconds
from experiments.bench.rig import Rig


def measure_forget(rig: Rig, gone: set[int]) -> list[Figure]:
    """Forget one record after another, the last slices first, so that every request destroys a checkpoint.

    Args:
        rig: Where; its trained workspace stays as it is.
        gone: Rows that were forgotten before.

    Returns:
        The figures.
    """
    rows = rig.layout.without(gone).rows
    order = sorted(rows, key=lambda place: (-place[1], place[0]))
    forgets: list[float] = []
    writes: list[float] = []
    used: list[float] = []
    for _ in range(rig.setting.forget_rounds):
        with rig.copied() as (_, workspace):
            for place in order:
                before = time.process_time()
                forgets.append(seconds(functools.partial(workspace.forget, record_ids=[rows[place][0]])))
                used.append(time.process_time() - before)
                path = rig.folder / f"write-{len(writes)}"
                writes.append(seconds(functools.partial(durable_write, path)))
    rig.say(f"forget: {len(forgets)} requests, median {1000 * median(forgets):.1f} ms")
    tail, tail_write = (float(np.quantile(values, 0.99)) for values in (forgets, writes))
    what = f"forget one subject, durable, {{}} of {len(forgets)} requests, beside a synced 4 KiB write"
    middle = median(forgets)
    return [
        Figure("b.forget_median", what.format("median"), middle, "s", 0.008, middle, median(writes)),
        Figure("b.forget_p99", what.format("99th percentile"), tail, "s", 0.025, tail, tail_write),
        ratio("b.forget_in_writes", "forget one subject, in synced 4 KiB writes", None, forgets, writes),
        Figure(
            "b.forget_cpu",
            "forget one subject, processor time, median",
            median(used),
            "s",
            None,
            median(used),
            samples={"ours": used},
        ),
    ]
