"""Figures c and d: recover after one request, and after many, against the bare loop over the same steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from experiments.bench.bare import BareLoops, BareRun, job
from experiments.bench.figures import Figure, ratio
from experiments.bench.machine import cpu, seconds
from experiments.bench.rig import Rig
from unlearn import Workspace
from unlearn.building import BuildReport


@dataclass(frozen=True)
class Turn:
    """A recovery and, right before or after it, the loop over the same steps."""

    seconds: float
    cpu: float
    report: BuildReport
    loop: BareRun


def measure_recover_one(rig: Rig, bare: BareLoops) -> tuple[list[Figure], set[int]]:
    """Forget one record, recover; again and again, in different shards and slices.

    Args:
        rig: Where; its trained workspace loses the records.
        bare: The loops, of which one process is used.

    Returns:
        The figures, and the rows that were forgotten.
    """
    turns, forgets, gone = [], [], set[int]()
    with rig.opened(rig.trained) as workspace:
        for number in range(rig.setting.single_recoveries):
            place = number * 7 % rig.setting.n_shards, number % rig.setting.n_slices
            row = next(row for row in rig.layout.rows[place] if row not in gone and row not in rig.together)
            gone.add(row)
            forgets.append(seconds(functools.partial(workspace.forget, record_ids=[row])))
            todo = [job(rig.layout.without(gone), *place, rig.parent(rig.trained, *place))]
            turn = _turn(workspace, functools.partial(bare.train, todo, 1), loop_first=number % 2 == 1)
            assert turn.report.visits == todo[0].visits
            rig.assert_same_weights(rig.trained, turn.loop)
            turns.append(turn)
            rig.say(
                f"recover: shard {place[0]}, slice {place[1]}: {turn.seconds:.3f} s, bare loop "
                f"{turn.loop.seconds:.3f} s ({turn.seconds / turn.loop.seconds:.2f})"
            )
    return [*_one_figures(turns), _forget_figure(forgets)], gone


def _one_figures(turns: list[Turn]) -> list[Figure]:
    what = "recover after one request, workers warm, against the bare loop over the rebuilt steps; {}"
    ours, loops = [turn.seconds for turn in turns], [turn.loop.seconds for turn in turns]
    worst = max(turns, key=lambda turn: turn.seconds / turn.loop.seconds)
    return [
        ratio("c.recover_one", what.format("median"), 1.15, ours, loops),
        Figure(
            "c.recover_one_worst",
            what.format("worst"),
            worst.seconds / worst.loop.seconds,
            "x",
            1.15,
            worst.seconds,
            worst.loop.seconds,
        ),
        ratio(
            "c.recover_one_cpu",
            what.format("processor time"),
            None,
            [turn.cpu for turn in turns],
            [turn.loop.cpu for turn in turns],
        ),
    ]


def _forget_figure(forgets: list[float]) -> Figure:
    what = "forget on a whole workspace, where several checkpoints go; median"
    return Figure("c.forget_before", what, median(forgets), "s", samples={"ours": forgets})


def measure_recover_together(rig: Rig, bare: BareLoops, gone: set[int]) -> list[Figure]:
    """Forget some records one by one, recover once; and, beside it, recover after each.

    Args:
        rig: Where; its trained workspace stays as it is.
        bare: The loops.
        gone: Rows that were forgotten before.

    Returns:
        The figures.
    """
    before = rig.layout.without(gone)
    hit, left = before.hit(rig.together), before.without(rig.together)
    turns, digest = [], ""
    for number in range(rig.setting.together_repeats):
        with rig.copied() as (path, workspace):
            for row in rig.together:
                workspace.forget(record_ids=[row])
            todo = [job(left, shard, first, rig.parent(path, shard, first)) for shard, first in hit.items()]
            turn = _turn(workspace, functools.partial(bare.train, todo), loop_first=number % 2 == 1)
            digest = workspace.state_digest()
            rig.assert_same_weights(path, turn.loop)
            turns.append(turn)
        rig.say(f"recover {len(rig.together)} together: {turn.seconds:.2f} s, bare loop {turn.loop.seconds:.2f} s")
    ours, single = [turn.seconds for turn in turns], _recover_each(rig, digest)
    made, expected = turns[-1].report.visits, left.visits(hit)
    what = f"{len(rig.together)} requests recovered together"
    return [
        Figure(
            "d.visits",
            f"record-visits of {what} less those of the union of their steps, computed from positions",
            abs(made - expected),
            "visits",
            0,
            made,
            expected,
        ),
        ratio(
            "d.recover_together",
            f"{what}, against the bare loop over the union",
            1.15,
            ours,
            [turn.loop.seconds for turn in turns],
        ),
        Figure(
            "d.against_separate",
            f"{what}, against as many separate recoveries",
            median(ours) / sum(single),
            "x",
            None,
            median(ours),
            sum(single),
            {"separate": single},
        ),
    ]


def _recover_each(rig: Rig, digest: str) -> list[float]:
    single = []
    with rig.copied() as (_, workspace):
        for row in rig.together:
            workspace.forget(record_ids=[row])
            single.append(seconds(functools.partial(workspace.recover, progress=False)))
        assert workspace.state_digest() == digest, "recovering together and one by one ended in different states"
    rig.say(f"recover {len(single)} one by one: {sum(single):.2f} s")
    return single


def _turn(workspace: Workspace, loop: Callable[[], BareRun], *, loop_first: bool) -> Turn:
    before = loop() if loop_first else None
    used, started = cpu(), time.perf_counter()
    report = workspace.recover(progress=False)
    took, used = time.perf_counter() - started, cpu() - used
    return Turn(took, used, report, before or loop())
