"""One workspace of writers: trained, asked to forget, audited, and audited again with every failure planted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit_planted.failures import FAILURES, Story, served, stored
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import log_as_built, plant
from experiments.audit_planted.run import by_shard, learner
from experiments.audit_writers.momentum import wear
from experiments.audit_writers.people import Writers
from unlearn import Workspace, verify
from unlearn.audit.attack_audit import AttackAudit
from unlearn.audit.workspace_audit import AuditResult
from unlearn.errors import VerificationError
from unlearn.request import Request

LEVEL = 0.05
"""Of every audit."""


@dataclass(frozen=True)
class Repetition:
    """What was found in one workspace.

    Attributes:
        audits: `NAME:K` to the audit with K writers; `momentum:P`, after P passes from a kept momentum, with all.
        attacked: `NAME` to the audit by attacks, with all.
        replayed: `NAME` to whether training every step again finds that the states are others.
        distances: P to how far a kept momentum has moved the parameters (`Worn`).
    """

    audits: dict[str, AuditResult] = field(default_factory=dict)
    attacked: dict[str, AttackAudit] = field(default_factory=dict)
    replayed: dict[str, bool] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all audits of one workspace share.

    Attributes:
        workspace: It, recovered.
        request: The deletion.
        data: Images.
        gone: Writers that were forgotten.
        held: Writers that never came.
        setting: The entries of `config.toml`.
        found: Filled by the audits.
    """

    workspace: Workspace
    request: Request
    data: Writers
    gone: np.ndarray
    held: np.ndarray
    setting: Mapping[str, Any]
    found: Repetition

    def audit(self, name: str, number: int) -> None:
        """Audit with some of the writers."""
        presented = self.data.records(self.gone[:number], self.setting["images"])
        self.found.audits[name] = self.workspace.audit(
            presented, alpha=LEVEL, permutations=self.setting["permutations"]
        )

    def look(self, name: str, *, replay: bool) -> None:
        """Audit with few and with many writers, by attacks with all, and perhaps train again."""
        for number in self.setting["presented"]:
            self.audit(f"{name}:{number}", number)
        self.found.attacked[name] = self.workspace.audit(
            self.data.records(self.gone, self.setting["images"]),
            attacks=self.setting["attacks"],
            held_out=self.data.records(self.held, self.setting["images"]),
            alpha=LEVEL,
            permutations=self.setting["permutations"],
        )
        if replay:
            self.found.replayed[name] = self._is_other()

    def _is_other(self) -> bool:
        """Verify the last receipt: the log and the files agree, and then training again tells whether the states do."""
        receipt, key = self.workspace.receipts(self.request.id)[-1], self.workspace.public_key
        verify(receipt, key, workspace=self.workspace)
        try:
            verify(receipt, key, workspace=self.workspace, replay=True)
        except VerificationError:
            return True
        return False


def repetition(data: Writers, setting: Mapping[str, Any], seed: int, folder: Path) -> Repetition:
    """Make one workspace and audit it.

    Args:
        data: Images.
        setting: The entries of `config.toml`.
        seed: Of everything that is drawn, the placement among it.
        folder: Where to make it.

    Returns:
        What was found.
    """
    rng = np.random.default_rng(seed)
    n, held = setting["writers"], setting["held_out"]
    drawn = rng.permutation(data.known)[: n + held]
    gone = drawn[: setting["deletions"]]
    workspace = Workspace.create(
        folder,
        learner(setting),
        n_shards=setting["n_shards"],
        n_slices=setting["n_slices"],
        classes=list(range(10)),
        random_state=seed,
        executor=Here(),
    )
    with closing(workspace):
        workspace.ingest(data.records(drawn[:n], setting["images"]))
        workspace.train(progress=False)
        before, first = served(workspace), served(workspace, 0)
        request = workspace.forget([f"writer-{one}" for one in gone])
        workspace.recover(progress=False)
        scene = _Scene(workspace, request, data, gone, drawn[n:], setting, Repetition())
        replay = seed < setting["replayed"]
        scene.look("honest", replay=replay)
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
            for name, failure in FAILURES.items():
                plant(workspace, failure(story))
                log_as_built(workspace)
                scene.look(name, replay=replay)
            for passes in setting["passes"]:
                worn = wear(story, passes)
                plant(workspace, worn.states)
                scene.audit(f"momentum:{passes:g}", len(gone))
                scene.found.distances[f"{passes:g}"] = worn.distance
    return scene.found
