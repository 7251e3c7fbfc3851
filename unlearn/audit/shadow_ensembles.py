"""Shadow models of an ensemble of shards: each is one, trained on half of some subjects, spread anew.

An ensemble of S states that each saw a part is sure of its records in another way than one model of all of them; so a
shadow of it is an ensemble as well. It lives in memory for as long as it is asked, and nothing of it is stored: what
people's records were trained into must not outlive them unknown. States are trained in one step, as with one slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shards.digest import derive_seed
from shards.ensemble import Member, combine, merged
from shards.errors import ConfigurationError
from shards.learners.base import Features, Learner, State, StepContext, StepData
from shards.learners.merging import MergeLearner
from shards.task import Task
from unlearn.audit.shadows import Progress, half_splits, model_seed


@dataclass(frozen=True)
class Recipe:
    """How the served model was made.

    Attributes:
        learner: What every shard trains.
        task: What is predicted.
        aggregation: How shards are joined, one of `shards.ensemble.AGGREGATIONS`.
        n_shards: S.
    """

    learner: Learner
    task: Task
    aggregation: str
    n_shards: int


def joint_outputs(
    recipe: Recipe, states: Mapping[int, State], records: Mapping[int, int], asked: Features
) -> np.ndarray:
    """What states say together.

    Args:
        recipe: How they were made and are joined.
        states: Of each shard that has one.
        records: How many records each was trained on.
        asked: Features, prepared by the learner.

    Returns:
        `[n, classes]` float64.

    Raises:
        ConfigurationError: If states are to be merged that cannot be.
    """
    learner, task = recipe.learner, recipe.task
    members = [
        Member(shard, records[shard], learner.predictor(state, task), state) for shard, state in sorted(states.items())
    ]
    if recipe.aggregation != "sum":
        return combine(members, recipe.aggregation, asked)
    if not isinstance(learner, MergeLearner):
        raise ConfigurationError(f"states of {type(learner).__name__} cannot be merged: use another aggregation")
    return learner.predictor(merged(members, learner), task)(asked)


def shadow_outputs(
    recipe: Recipe,
    data: StepData,
    subjects: np.ndarray,
    models: int,
    seed: int,
    asked: Features,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train shadow ensembles, one state at a time, and ask each.

    Args:
        recipe: How they are made.
        data: Records to train on, m of them.
        subjects: `[m]` int64 number of each record's subject, from 0: subjects stay whole, in halves and in shards.
        models: How many, even.
        seed: Of halves, places and trainings.
        asked: Features of the n records that are asked for, prepared by the learner.
        progress: Told after each state.

    Returns:
        `[models, n, classes]` float64 of what they say, and `[models, m]` bool: the model was trained on the record.

    Raises:
        ConfigurationError: If the number of models is odd.
    """
    halves = half_splits(models, int(subjects.max()) + 1, seed)
    said = []
    for number, half in enumerate(halves):
        places = shadow_places(recipe.n_shards, halves.shape[1], seed, number)
        states, sizes = {}, {}
        for shard in range(recipe.n_shards):
            rows = np.flatnonzero(half[subjects] & (places[subjects] == shard))
            if len(rows):
                states[shard] = _state(recipe, _taken(data, rows), shard, model_seed(seed, number))
                sizes[shard] = len(rows)
            if progress is not None:
                progress(number * recipe.n_shards + shard + 1, models * recipe.n_shards)
        said.append(joint_outputs(recipe, states, sizes, asked))
    return np.stack(said), halves[:, subjects]


def shadow_places(n_shards: int, subjects: int, seed: int, number: int) -> np.ndarray:
    """Where a shadow model puts subjects, whether or not it is trained on them.

    Args:
        n_shards: S.
        subjects: How many.
        seed: Of all models.
        number: Of this one.

    Returns:
        `[subjects]` int64.
    """
    rng = np.random.default_rng(derive_seed("audit", "shadow places", seed, number))
    places: np.ndarray = rng.integers(0, n_shards, subjects)
    return places


def _state(recipe: Recipe, data: StepData, shard: int, seed: int) -> State:
    visits = recipe.learner.visits(len(data), 1)
    return recipe.learner.train_step(None, data, StepContext(recipe.task, seed, shard, 0, visits))


def _taken(data: StepData, rows: np.ndarray) -> StepData:
    return StepData({name: array[rows] for name, array in data.features.items()}, data.target[rows], data.tokens[rows])
