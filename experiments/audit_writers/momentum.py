"""What is left of a kept momentum, the longer training goes on from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.audit_planted.failures import States, Story
from shards.learners.base import State

_PARAMETERS = ("weights/", "biases/")


@dataclass(frozen=True, eq=False)
class Worn:
    """Training that started over, but for the momentum, and went on for some passes.

    Attributes:
        states: Shard to what that gives.
        distance: How far its parameters are from those of the same training without the momentum, over how far these
            have come from where both started; mean over shards. 0: nothing is left of it.
    """

    states: States
    distance: float


def wear(story: Story, passes: float) -> Worn:
    """Start over with fresh parameters and the momentum that is kept, and train on what is left.

    Args:
        story: A deletion.
        passes: Over the records left, in each shard.

    Returns:
        The states.
    """
    states, distances = {}, []
    for shard, data in story.left.items():
        context = story.context(shard, 98, max(1, round(passes * len(data))))
        start = story.untrained(shard)
        kept, still = (
            {
                **start,
                **{name: form(value) for name, value in story.before[shard].items() if name.startswith("optimizer/")},
            }
            for form in (np.asarray, np.zeros_like)
        )
        states[shard] = story.learner.train_step(kept, data, context)
        honest = story.learner.train_step(still, data, context)
        distances.append(_apart(states[shard], honest) / _apart(honest, start))
    return Worn(states, float(np.mean(distances)))


def _apart(one: State, other: State) -> float:
    """Euclidean distance of the parameters."""
    return float(np.sqrt(sum(((one[name] - other[name]) ** 2).sum() for name in one if name.startswith(_PARAMETERS))))
