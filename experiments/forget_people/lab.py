"""A trained workspace of people's records, copies of it to forget in, and what its layout says that this costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.forget_people.data import People, scores
from shards.cost_realised import count_records, recovery_cost, training_cost
from shards.executors.local import LocalExecutor
from shards.learners.mlp import MLPLearner
from shards.placement import place_subjects
from unlearn import Workspace
from unlearn.building import BuildReport
from unlearn.declaration import make_secrets
from unlearn.errors import NotServingError


@dataclass(frozen=True)
class Forgotten:
    """What became of some people's requests.

    Attributes:
        people: How many asked.
        forget: Seconds until each request's people were out of all predictions, destroyed and receipted.
        recover: Seconds of all recoveries, wall time.
        training: Of that, seconds of training, summed over the workers.
        visits: Record-visits of all recoveries.
        reduced: Scores before the last recovery; empty if nobody served.
        recovered: Scores at the end.
    """

    people: int
    forget: tuple[float, ...]
    recover: float
    training: float
    visits: int
    reduced: Mapping[str, float]
    recovered: Mapping[str, float]


class Lab:
    """A workspace with all people's records, trained.

    Args:
        folder: Where to make it and copies of it.
        people: Whose records.
        setting: The entries of `config.toml`.
        options: Of these, the table of these people.
        n_shards: S.
        n_slices: R.
    """

    def __init__(
        self,
        folder: Path,
        people: People,
        setting: Mapping[str, Any],
        options: Mapping[str, Any],
        n_shards: int,
        n_slices: int,
    ) -> None:
        self.people, self.folder, self._setting = people, folder, setting
        self.n_shards, self.n_slices = n_shards, n_slices
        self._threshold: float | None = options.get("threshold")
        self.learner = MLPLearner(**{name: value for name, value in options.items() if name != "threshold"})
        folder.mkdir()
        workspace = Workspace.create(
            folder / "trained",
            self.learner,
            n_shards=n_shards,
            n_slices=n_slices,
            classes=people.classes,
            random_state=setting["seed"],
            executor=LocalExecutor(setting["workers"]),
        )
        workspace.ingest(people.x, people.y, subjects=people.subject.tolist())
        self.trained: BuildReport = workspace.train()
        self.scores = self._scores(workspace)
        workspace.close()
        cost = training_cost(self.records, n_slices, self.learner.budget)
        assert cost.visits == self.trained.visits, "the layout's cost is not that of the training"

    @cached_property
    def where(self) -> np.ndarray:
        """`[n, 2]` int64: shard and slice of every record."""
        key = make_secrets(self._setting["seed"]).placement
        return np.stack(place_subjects(key, self.people.subject.tolist(), self.n_shards, self.n_slices), axis=1)

    @cached_property
    def records(self) -> np.ndarray:
        """`[S, R]` int64: how many records each slice holds."""
        return count_records(self.n_shards, self.n_slices, self.where)

    @cached_property
    def _rows(self) -> Mapping[str, np.ndarray]:
        order = np.argsort(self.people.subject, kind="stable")
        names, first = np.unique(self.people.subject[order], return_index=True)
        return dict(zip(names.tolist(), np.split(order, first[1:]), strict=True))

    def rows(self, people: Sequence[str]) -> np.ndarray:
        """Rows of some people's records."""
        return np.concatenate([self._rows[person] for person in people])

    def together(self, people: Sequence[str]) -> int:
        """Record-visits of recovering from the requests of some people together, by the layout."""
        gone = self.where[self.rows(people)]
        return recovery_cost(self.records, gone, self.n_slices, self.learner.budget).visits

    def one_by_one(self, people: Sequence[str]) -> list[int]:
        """Record-visits of recovering from each request before the next, by the layout."""
        records, found = self.records, []
        for person in people:
            gone = self.where[self.rows([person])]
            found.append(recovery_cost(records, gone, self.n_slices, self.learner.budget).visits)
            records = records - count_records(self.n_shards, self.n_slices, gone)
        return found

    @contextmanager
    def copied(self) -> Iterator[Workspace]:
        """A copy of the trained workspace, for a while."""
        path = self.folder / "copy"
        shutil.copytree(self.folder / "trained", path)
        workspace = Workspace.open(path, executor=LocalExecutor(self._setting["workers"]))
        try:
            yield workspace
        finally:
            workspace.close()
            shutil.rmtree(path)

    def forget_together(self, requests: Sequence[Sequence[str]]) -> Forgotten:
        """Ask for all, then recover once.

        Args:
            requests: The people of each request.

        Returns:
            What it took.
        """
        with self.copied() as workspace:
            forget = tuple(_seconds_of_forgetting(workspace, people) for people in requests)
            reduced = self._scores(workspace)
            report = workspace.recover()
            return Forgotten(
                sum(len(people) for people in requests),
                forget,
                report.seconds,
                report.training_seconds,
                report.visits,
                reduced,
                self._scores(workspace),
            )

    def forget_one_by_one(self, people: Sequence[str], stops: Sequence[int]) -> list[Forgotten]:
        """Each asks and is recovered from before the next.

        Args:
            people: Who.
            stops: After so many, look.

        Returns:
            What it had taken by then, one for each stop.
        """
        forget: list[float] = []
        recover = training = 0.0
        visits, found = 0, []
        with self.copied() as workspace:
            for number, person in enumerate(people, 1):
                forget.append(_seconds_of_forgetting(workspace, [person]))
                reduced = self._scores(workspace) if number in stops else {}
                report = workspace.recover()
                recover += report.seconds
                training += report.training_seconds
                visits += report.visits
                if number in stops:
                    scored = self._scores(workspace)
                    found.append(Forgotten(number, tuple(forget), recover, training, visits, reduced, scored))
        return found

    def _scores(self, workspace: Workspace) -> Mapping[str, float]:
        try:
            said = workspace.predict_proba(self.people.test_x)
        except NotServingError:
            return {}
        return scores(said, self.people.test_y, self._threshold)


def _seconds_of_forgetting(workspace: Workspace, people: Sequence[str]) -> float:
    started = time.perf_counter()
    workspace.forget(subjects=people, reason="measured")
    return time.perf_counter() - started
