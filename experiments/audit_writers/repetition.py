"""One workspace of writers: trained, asked to forget, audited, and audited again with every failure planted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit_planted.failures import FAILURES, Story, served, stored
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import log_as_built, plant
from experiments.audit_planted.run import by_shard, learner
from experiments.audit_writers.momentum import wear
from experiments.audit_writers.people import Writers
from shards.placement import place_subjects
from unlearn import Workspace, verify
from unlearn.errors import VerificationError
from unlearn.request import Request

LEVEL = 0.05
"""Of every audit."""


@dataclass(frozen=True)
class Seen:
    """What one audit said.

    Attributes:
        refuted: Its verdict.
        p_value: Of it.
        advantage: Mean advantage of the own shard.
        everywhere: Least advantage in all shards that it would have found, or None.
        one_shard: The same in one shard.
        members: Mean advantage of writers who stay.
        power_one_shard: How often it expects to find one shard that was kept.
        power_all_shards: How often it expects to find that all were.
    """

    refuted: bool
    p_value: float
    advantage: float
    everywhere: float | None
    one_shard: float | None
    members: float
    power_one_shard: float
    power_all_shards: float


@dataclass(frozen=True)
class Repetition:
    """What was found in one workspace.

    Attributes:
        audits: `NAME:K` to the audit with K writers; `momentum:P`, after P passes from a kept momentum, with all. Where
            the K were all in one shard there is none: it would be refused.
        attacked: `NAME` to verdict and p-value of the audit by attacks, with all.
        replayed: `NAME` to whether training every step again finds that the states are others.
        distances: P to how far a kept momentum has moved the parameters (`Worn`).
    """

    audits: dict[str, Seen] = field(default_factory=dict)
    attacked: dict[str, tuple[bool, float]] = field(default_factory=dict)
    replayed: dict[str, bool] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Repetition:
        """Read `to_json`."""
        found = json.loads(text)
        audits = {name: Seen(**seen) for name, seen in found["audits"].items()}
        attacked = {name: (bool(refuted), float(p)) for name, (refuted, p) in found["attacked"].items()}
        return cls(audits, attacked, found["replayed"], found["distances"])


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
        key, (shards, slices) = (
            self.workspace._site.keys.placement,
            (self.setting["n_shards"], self.setting["n_slices"]),
        )
        if len(np.unique(place_subjects(key, sorted(set(presented.subjects)), shards, slices)[0])) < 2:
            return
        audit = self.workspace.audit(presented, alpha=LEVEL, permutations=self.setting["permutations"])
        least, yardstick = audit.detectable, audit.yardstick
        assert yardstick is not None, "nobody stays"
        self.found.audits[name] = Seen(
            audit.verdict == "refuted",
            audit.p_value,
            audit.test.advantage,
            least.everywhere,
            least.one_shard,
            yardstick.advantage,
            yardstick.power_one_shard,
            yardstick.power_all_shards,
        )

    def look(self, name: str, *, replay: bool) -> None:
        """Audit with few and with many writers, by attacks with all, and perhaps train again."""
        for number in self.setting["presented"]:
            self.audit(f"{name}:{number}", number)
        audit = self.workspace.audit(
            self.data.records(self.gone, self.setting["images"]),
            attacks=self.setting["attacks"],
            held_out=self.data.records(self.held, self.setting["images"]),
            alpha=LEVEL,
            permutations=self.setting["permutations"],
        )
        assert audit.p_value is not None, "nobody is held out"
        self.found.attacked[name] = (audit.verdict == "refuted", audit.p_value)
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
