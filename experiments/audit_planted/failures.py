"""Ways to fail at unlearning, each as the states it leaves in service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from shards.learners.base import State, StepContext, StepData
from shards.learners.mlp import MLPLearner
from shards.task import Task
from shards.train import ShardRecords
from unlearn import Workspace

States = Mapping[int, State]


@dataclass(frozen=True, eq=False)
class Story:
    """A workspace of two slices before and after an honest deletion, and what was deleted.

    Attributes:
        learner: What it trains.
        task: What it predicts.
        root_seed: Of the workspace.
        n_slices: R.
        first: Shard to the state after the first slice, before the deletion.
        before: Shard to the state that was served before it.
        after: Shard to the state that honest recovery served.
        left: Shard to the records left, all slices.
        gone: Shard to the records deleted.
        rng: For choices.
    """

    learner: MLPLearner
    task: Task
    root_seed: int
    n_slices: int
    first: States
    before: States
    after: States
    left: Mapping[int, StepData]
    gone: Mapping[int, StepData]
    rng: np.random.Generator

    def context(self, shard: int, position: int, visits: int) -> StepContext:
        """Of a step of a shard."""
        return StepContext(self.task, self.root_seed, shard, position, visits)

    def step(self, shard: int, parent: State | None, position: int, data: StepData) -> State:
        """Train as the recipe would."""
        visits = self.learner.visits(len(data), self.n_slices)
        return self.learner.train_step(parent, data, self.context(shard, position, visits))

    def tune(self, shard: int, parent: State, data: StepData, epochs: int = 1) -> State:
        """Train so many passes over some records."""
        return self.learner.train_step(parent, data, self.context(shard, 99, epochs * len(data)))

    def untrained(self, shard: int) -> State:
        """The state that training starts from: what steps of no size leave."""
        still = replace(self.learner, learning_rate=1e-30)
        return still.train_step(None, self.left[shard], self.context(shard, 0, 1))


def served(workspace: Workspace, position: int | None = None) -> dict[int, State]:
    """Shard to the state it serves, or to that of a position."""
    site = workspace._site
    steps = site.ledger.served()[1] if position is None else site.ledger.steps().values()
    return {
        step.shard: dict(site.folder(step.shard).load(step.key).state)
        for step in steps
        if position is None or step.position == position
    }


def stored(workspace: Workspace) -> dict[int, StepData]:
    """Shard to its records, as its steps see them."""
    site, found = workspace._site, {}
    for shard in range(site.declaration.n_shards):
        files = site.slice_files(shard, site.ledger.slices(shard))
        found[shard] = ShardRecords(site.folder(shard), files, len(files) - 1).up_to(len(files) - 1)
    return found


def joined(*parts: StepData) -> StepData:
    """Records one after another."""
    return StepData(
        {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.tokens for part in parts]),
    )


def nothing_done(story: Story) -> States:
    """The model as it was."""
    return story.before


def one_shard_kept(story: Story) -> States:
    """One shard was not trained again."""
    shard = int(story.rng.integers(len(story.after)))
    return {**story.after, shard: story.before[shard]}


def late_checkpoint(story: Story) -> States:
    """Recovery went on from the checkpoint after the first slice, whoever was forgotten of it."""
    return {shard: story.step(shard, story.first[shard], 1, data) for shard, data in story.left.items()}


def kept_optimizer(story: Story) -> States:
    """Training started over with fresh parameters, and with what the optimiser had kept."""
    found = {}
    for shard, data in story.left.items():
        momentum = {name: value for name, value in story.before[shard].items() if name.startswith("optimizer/")}
        found[shard] = story.step(shard, {**story.untrained(shard), **momentum}, 1, data)
    return found


def last_layer_reset(story: Story) -> States:
    """The last layer started over, then one pass over what is left."""
    found = {}
    for shard, data in story.left.items():
        fresh = story.untrained(shard)
        last = (f"weights/{len(story.learner.hidden)}", f"biases/{len(story.learner.hidden)}", "optimizer/velocity")
        state = {name: fresh[name] if name in last else value for name, value in story.before[shard].items()}
        found[shard] = story.tune(shard, state, data)
    return found


def suppressed(story: Story) -> States:
    """The deleted records were given every class alike, so that outputs on them are flat."""
    classes = len(story.task.classes)
    found = {}
    for shard, gone in story.gone.items():
        flat = StepData(
            {name: np.repeat(array, classes, axis=0) for name, array in gone.features.items()},
            np.tile(np.arange(classes), len(gone)),
            np.repeat(gone.tokens, classes, axis=0),
        )
        found[shard] = story.tune(shard, story.before[shard], joined(story.left[shard], flat), 2)
    return found


def labels_flipped(story: Story) -> States:
    """Two passes over all records, the deleted ones with wrong labels."""
    classes = len(story.task.classes)
    found = {}
    for shard, gone in story.gone.items():
        wrong = (gone.target + story.rng.integers(1, classes, len(gone))) % classes
        found[shard] = story.tune(shard, story.before[shard], joined(story.left[shard], replace(gone, target=wrong)), 2)
    return found


def fine_tuned(story: Story) -> States:
    """One pass over what is left."""
    return {shard: story.tune(shard, story.before[shard], data) for shard, data in story.left.items()}


FAILURES: dict[str, Callable[[Story], States]] = {
    "nothing_done": nothing_done,
    "one_shard_kept": one_shard_kept,
    "late_checkpoint": late_checkpoint,
    "kept_optimizer": kept_optimizer,
    "last_layer_reset": last_layer_reset,
    "suppressed": suppressed,
    "labels_flipped": labels_flipped,
    "fine_tuned": fine_tuned,
}
"""Every failure by name."""
