"""Figures a and f: fit against the bare loop, and what of a fit is not training."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from experiments.bench.bare import BareLoops, BareRun, job
from experiments.bench.figures import Figure, ratio
from experiments.bench.machine import cpu
from experiments.bench.rig import Rig
from experiments.bench.shares import stopwatch
from shards.executors.local import close_workers
from shards.train import ShardRecords
from unlearn.building import BuildReport
from unlearn.site import Site


@dataclass(frozen=True)
class Fit:
    """One fit: seconds of its three calls, processor time of this process and the workers, report of the last."""

    create: float
    ingest: float
    train: float
    cpu: float
    report: BuildReport

    @property
    def seconds(self) -> float:
        """Wall time of all three."""
        return self.create + self.ingest + self.train


def measure_fit(rig: Rig, bare: BareLoops) -> list[Figure]:
    """Fit with fresh and with warm workers, each between two runs of the loop.

    Args:
        rig: Where; afterwards it has a trained workspace.
        bare: The loops.

    Returns:
        The figures.
    """
    layout = rig.layout
    whole = layout.hit(rows[0] for rows in layout.rows.values())
    jobs = [job(layout, shard, first, None) for shard, first in sorted(whole.items())]

    def loop() -> BareRun:
        run = bare.train(jobs)
        rig.say(f"fit: bare loop {run.seconds:.2f} s")
        return run

    cold: list[Fit] = []
    warm: list[Fit] = []
    loops = [loop()]
    for _ in range(rig.setting.fit_repeats):
        close_workers()
        for kind, fits in (("cold", cold), ("warm", warm)):
            fits.append(fit(rig))
            rig.say(f"fit: {kind} {fits[-1].seconds:.2f} s")
            loops.append(loop())
    for run in loops:
        rig.assert_same_weights(rig.trained, run)
    beside = [(a.seconds + b.seconds) / 2 for a, b in pairwise(loops)]
    beside_busy = [(a.busy + b.busy) / 2 for a, b in pairwise(loops)]
    beside_cpu = [(a.cpu + b.cpu) / 2 for a, b in pairwise(loops)]
    what = "Workspace.create + ingest + train, {}, against the bare loop on as many processes"
    return [
        ratio("a.fit_cold", what.format("workers started in it"), 1.0, [each.seconds for each in cold], beside[::2]),
        ratio("a.fit_warm", what.format("workers warm"), 0.4, [each.seconds for each in warm], beside[1::2]),
        ratio("a.fit_cpu", what.format("warm; processor time"), None, [each.cpu for each in warm], beside_cpu[1::2]),
        _accuracy(rig),
        *_shares(rig, warm, beside[1::2], beside_busy[1::2]),
    ]


def fit(rig: Rig) -> Fit:
    """Create, ingest and train once more."""
    shutil.rmtree(rig.trained, ignore_errors=True)
    used, clock = cpu(), [time.perf_counter()]
    workspace = rig.create(rig.trained)
    clock.append(time.perf_counter())
    workspace.ingest(rig.data.X, rig.data.y)
    clock.append(time.perf_counter())
    report = workspace.train(progress=False)
    clock.append(time.perf_counter())
    used = cpu() - used
    workspace.close()
    create, ingest, train = np.diff(clock).tolist()
    return Fit(create, ingest, train, used, report)


def _accuracy(rig: Rig) -> Figure:
    with rig.opened(rig.trained) as workspace:
        accuracy = float((workspace.predict(rig.data.X_test) == rig.data.y_test).mean())
    return Figure("a.accuracy", "test accuracy of the ensemble, to see that it learnt", accuracy, "share")


def _shares(rig: Rig, warm: Sequence[Fit], beside: Sequence[float], beside_busy: Sequence[float]) -> list[Figure]:
    """What of a warm fit is not training."""
    workers = rig.setting.workers
    whole = median(each.seconds for each in warm)
    idle = [1 - each.report.training_seconds / (workers * each.seconds) for each in warm]
    kernel = [each.report.training_seconds for each in warm]
    figures = [
        ratio("f.ingest", "ingest, against the whole bare loop", None, [each.ingest for each in warm], beside),
        ratio("f.kernel", "time in the steps themselves, summed over processes", None, kernel, beside_busy),
        Figure("f.not_training", "share of a warm fit in which workers do not train", median(idle), "share"),
    ]
    driver, busy, worker = _profile(rig)
    what = "driver: ledger, processor time, share of that of a warm fit"
    used = median(each.cpu for each in warm)
    figures.append(Figure("f.driver.ledger_cpu", what, busy["ledger"] / used, "share", ours=busy["ledger"]))
    for process, kinds, n in (("driver", driver, 1), ("worker", worker, workers)):
        for kind, value in kinds.items():
            what = f"{process}: {kind}, share of a warm fit" + (" (done again, per worker)" if n > 1 else "")
            name = f"f.{process}.{kind.replace(' ', '_')}"
            figures.append(Figure(name, what, value / n / whole, "share", ours=value / n))
    return figures


def _profile(rig: Rig) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Seconds by kind of work: of the driver in a fit, of its processor, and of workers around their training."""
    rig.say("fit: profile")
    with stopwatch(time.process_time) as busy, stopwatch() as driver:
        fit(rig)
    with rig.site(rig.trained) as site:
        slices = site.ledger.slices()
        files = [site.slice_files(shard, slices) for shard in range(rig.setting.n_shards)]
        with stopwatch() as worker:
            for shard, pieces in enumerate(files):
                ShardRecords(site.folder(shard), pieces, len(pieces) - 1).up_to(len(pieces) - 1)
        worker["checkpoints"] = _restage(site)
    return driver, busy, {kind: value for kind, value in worker.items() if value}


def _restage(site: Site) -> float:
    """Seconds that digesting and staging every checkpoint again takes."""
    total = 0.0
    for (shard, _), step in sorted(site.ledger.steps().items()):
        folder = site.folder(shard)
        checkpoint = folder.load(step.key)
        started = time.perf_counter()
        for _ in ("content", "payload"):
            site.learner.content_digest(checkpoint.state)
        staged = folder.stage(checkpoint.header, checkpoint.state)
        total += time.perf_counter() - started
        folder.discard_staged(staged)
    return total
