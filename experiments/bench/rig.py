"""What all measurements work on: the workload, the learner, and one trained workspace with copies of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from experiments.bench.bare import BareRun
from experiments.bench.workload import Data, Layout, Setting
from shards.executors.local import LocalExecutor
from shards.learners.mlp import MLPLearner
from unlearn import Workspace
from unlearn.declaration import make_secrets, read
from unlearn.ledger import Ledger
from unlearn.site import Site

ROUNDING = 5e-6
"""Torch multiplies in another order; a minibatch left out moves some weight by more."""


@dataclass(frozen=True, eq=False)
class Rig:
    """The things that are measured.

    Attributes:
        setting: What, and how often.
        data: The workload.
        folder: Where to work.
        say: Told what is under way, a line at a time.
    """

    setting: Setting
    data: Data
    folder: Path
    say: Callable[[str], None]

    @property
    def trained(self) -> Path:
        """The workspace that the last fit left behind."""
        return self.folder / "trained"

    @cached_property
    def layout(self) -> Layout:
        """Where every record of the data is placed."""
        return Layout.of(self.setting, make_secrets(self.setting.seed).placement)

    @cached_property
    def together(self) -> list[int]:
        """The rows that are forgotten together; they are spared before."""
        setting = self.setting
        chosen = np.random.default_rng(7).choice(setting.records, setting.together, replace=False)
        return [int(row) for row in chosen]

    def create(self, path: Path) -> Workspace:
        """Create an empty workspace."""
        setting = self.setting
        learner = MLPLearner(
            (setting.hidden,),
            activation="tanh",
            learning_rate=setting.learning_rate,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            shuffle=False,
        )
        return Workspace.create(
            path,
            learner,
            n_shards=setting.n_shards,
            n_slices=setting.n_slices,
            classes=list(range(setting.classes)),
            random_state=setting.seed,
            executor=LocalExecutor(setting.workers),
        )

    @contextmanager
    def opened(self, path: Path) -> Iterator[Workspace]:
        """Open a workspace for a while."""
        workspace = Workspace.open(path, executor=LocalExecutor(self.setting.workers))
        yield workspace
        workspace.close()

    @contextmanager
    def copied(self) -> Iterator[tuple[Path, Workspace]]:
        """Open a copy of the trained workspace for a while."""
        path = self.folder / "copy"
        shutil.copytree(self.trained, path)
        os.sync()  # lest writing it out disturbs what is measured next
        with self.opened(path) as workspace:
            yield path, workspace
        shutil.rmtree(path)

    @contextmanager
    def site(self, path: Path) -> Iterator[Site]:
        """Look into a workspace."""
        ledger = Ledger.open(path / "ledger.db")
        yield Site(path, *read(path), ledger)
        ledger.close()

    def parent(self, path: Path, shard: int, position: int) -> Path | None:
        """The checkpoint that a step starts from, or None for the first."""
        with self.site(path) as site:
            keys = {where[1]: step.key for where, step in site.ledger.steps(shard).items() if where[1] < position}
            return site.folder(shard).checkpoint(keys[max(keys)]) if keys else None

    def assert_same_weights(self, path: Path, loop: BareRun) -> None:
        """The loop must have made the very steps that we made: every checkpoint holds its weights, but for rounding."""
        assert loop.weights, "the bare loop trained nothing"
        with self.site(path) as site:
            steps = site.ledger.steps()
            for where, file in loop.weights.items():
                ours, theirs = site.folder(where[0]).load(steps[where].key).state, load_file(file)
                assert ours.keys() == theirs.keys()
                for name, value in theirs.items():
                    np.testing.assert_allclose(ours[name], value, rtol=0, atol=ROUNDING, err_msg=f"{where} {name}")
