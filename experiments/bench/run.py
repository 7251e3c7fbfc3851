"""The measurements in order. Ours and the baseline take turns within one run, so that both meet the same machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.bench.bare import BareLoops
from experiments.bench.figures import Figure
from experiments.bench.fit import measure_fit
from experiments.bench.floor import measure_floor
from experiments.bench.footprint import measure_memory, measure_start
from experiments.bench.forget import measure_forget
from experiments.bench.plain import measure_predict, measure_usual
from experiments.bench.recover import measure_recover_one, measure_recover_together
from experiments.bench.rig import Rig
from experiments.bench.workload import Setting, purchase
from shards.digest import Json
from shards.executors.local import close_workers


@dataclass(frozen=True)
class Result:
    """The figures by name, and the environment that the workers found."""

    figures: list[Figure]
    environment: Json


def measure(setting: Setting, folder: Path, say: Callable[[str], None]) -> Result:
    """Measure everything.

    Args:
        setting: What, and how often.
        folder: An empty folder on the disk to be measured; afterwards it holds what was made on the way.
        say: Told what is under way, a line at a time.

    Returns:
        The result.
    """
    say(f"drawing {setting.records:,} records of {setting.features} features")
    rig = Rig(setting, purchase(setting), folder, say)
    _load_torch()
    say(f"starting {setting.workers} bare loops")
    shared = folder / "bare"
    shared.mkdir()
    with BareLoops(setting, rig.data, shared) as bare:
        figures = measure_fit(rig, bare)
        ones, gone = measure_recover_one(rig, bare)
        figures += ones + measure_recover_together(rig, bare, gone)
    warm = next(figure.ours for figure in figures if figure.name == "a.fit_warm")
    figures += measure_usual(rig, warm or 0.0) + measure_predict(rig)
    forgets = measure_forget(rig, gone)
    used = next(figure for figure in forgets if figure.name == "b.forget_cpu")
    figures += measure_memory(rig) + forgets + measure_floor(rig, used) + measure_start(rig)
    close_workers()
    with rig.site(rig.trained) as site:
        environment = next(iter(site.ledger.environments().values()))
    return Result(sorted(figures, key=lambda figure: figure.name[0]), environment)


def _load_torch() -> None:
    """Ingest needs it in this process; imports are charged to neither side."""
    import torch

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
