"""Serve the ensemble from memory, never a state that the workspace no longer stands for.

The ledger's generation is compared before and after every prediction, so that what another process forgot is
not served here either, not even by a prediction that was under way. A generation that moved on because a step
was added withdraws nothing, so it does not make a prediction void.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from operator import is_

import numpy as np

from shards.digest import Json
from shards.ensemble import Member, combine, combine_joined, merged
from shards.errors import DamageError
from shards.learners.base import Features, Joined, Predictor, State
from shards.learners.merging import MergeLearner
from shards.noise import system_normal
from shards.private_votes import PrivateVotes, vote_counts
from shards.records import check_features, is_dataset, make_features
from shards.task import Task
from unlearn.intake import is_table
from unlearn.ledger import BuiltStep
from unlearn.site import Site


class Server:
    """The ensemble in memory.

    Args:
        site: The workspace.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._generation = -1
        self._members: dict[int, tuple[str, Member]] = {}
        self._merged: State | None = None
        self._whole: Predictor | None = None
        self._together: tuple[list[Member], Joined | None] | None = None
        self._task: Task | None = None
        self._lock = threading.Lock()

    def outputs(self, features: Features) -> np.ndarray:
        """Predict with the state served now.

        Args:
            features: Feature name to array `[n, *shape]`, checked against the task.

        Returns:
            Class probabilities `[n, classes]` or targets `[n, ...]`, float64.

        Raises:
            DamageError: If the description says what no declaration can.
        """
        rule, learner = self._site.declaration.aggregation, self._site.learner
        features = learner.prepare(features, self._declared())
        if rule == "sum":
            if not isinstance(learner, MergeLearner):
                raise DamageError(f"the description of {self._site.path} merges states that cannot be: it was changed")
            return self._asked(lambda members: self._solved(members, learner)(features))
        return self._asked(lambda members: self._combined(members, rule, features))

    def _asked(self, join: Callable[[list[Member]], np.ndarray]) -> np.ndarray:
        """What the members say together, of a state that is still served when they have said it."""
        while True:
            with self._lock:
                self._refresh()
                generation = self._generation
                members = list(self._members.values())
            result = join([member for _, member in members])
            if self._site.ledger.generation() == generation or self._are_recorded({key for key, _ in members}):
                return result

    def _combined(self, members: list[Member], rule: str, features: Features) -> np.ndarray:
        """What these members say, at once where their learner can; joined once for as long as they serve."""
        with self._lock:
            known = self._together if self._serve(members) else None
        if known is None:
            in_order = sorted(members, key=lambda member: member.shard)
            predictors = [member.predict for member in in_order]
            known = in_order, self._site.learner.join(predictors, self._site.task()) if predictors else None
            with self._lock:
                # Not if something was withdrawn meanwhile: nothing of it may stay in memory.
                if self._serve(members):
                    self._together = known
        in_order, joined = known
        return combine(members, rule, features) if joined is None else combine_joined(in_order, joined, rule, features)

    def _solved(self, members: list[Member], learner: MergeLearner) -> Predictor:
        """The model of these members' records; solved once for as long as they are the ones that serve."""
        with self._lock:
            known, state = (self._whole, self._merged) if self._serve(members) else (None, None)
        if known is not None:
            return known
        together = merged(members, learner) if state is None else state
        found = learner.predictor(together, self._site.task())
        with self._lock:
            # Not if something was withdrawn meanwhile: nothing of it may stay in memory.
            if self._serve(members):
                self._merged, self._whole = together, found
        return found

    def _serve(self, members: list[Member]) -> bool:
        """Whether these are the members that serve now."""
        serving = [member for _, member in self._members.values()]
        return len(serving) == len(members) and all(map(is_, serving, members))

    def labels(self, features: Features, votes: PrivateVotes) -> np.ndarray:
        """Publish labels by a noisy vote, and count them.

        Args:
            features: Feature name to array `[n, *shape]`, checked against the task.
            votes: The noise and the budget.

        Returns:
            `[n]` int64, indices of classes.

        Raises:
            BudgetSpentError: If so many more may not be published; none is.
        """
        features = self._site.learner.prepare(features, self._declared())
        counts = self._asked(lambda members: vote_counts([member.predict(features) for member in members]))
        # Durable before anything is handed out: a crash must not give answers for nothing.
        self._site.ledger.publish(len(counts), votes.spend)
        return votes.labels(counts, system_normal)

    def _declared(self) -> Task:
        return self._site.task() if self._task is None else self._task

    def snapshot(self) -> tuple[list[Member], list[BuiltStep]]:
        """What is served now.

        Returns:
            The members, in the order of their shards, and the steps whose states they have.
        """
        while True:
            with self._lock:
                self._refresh()
                generation, members = self._generation, dict(self._members)
            found, steps = self._site.ledger.served()
            if found == generation:
                return [members[step.shard][1] for step in steps], list(steps)

    def stands(self, steps: Sequence[BuiltStep]) -> bool:
        """Whether none of these steps was withdrawn since."""
        return self._are_recorded({step.key for step in steps})

    def _are_recorded(self, keys: set[str]) -> bool:
        """Whether none of these states was withdrawn, only others added: training must not hold predictions up."""
        ledger = self._site.ledger
        made = {item.key for item in ledger.approximations().values()}
        return keys <= made | {step.key for step in ledger.steps().values()}

    def task(self) -> Task | None:
        """The declared task; where something serves, the one that it serves, since that never changes.

        Returns:
            The task, or None before the first batch.

        Raises:
            DamageError: If the ledger's description of it is none.
        """
        known = self._task
        return known if known is not None or self._site.ledger.task() is None else self._site.task()

    def _refresh(self) -> None:
        while self._site.ledger.generation() != self._generation:
            generation, steps = self._site.ledger.served()
            # Drop first: whatever happens next, no state is kept that is not served any more.
            current = {step.shard: step.key for step in steps}
            self._whole = self._together = None
            self._withdraw([shard for shard, (key, _) in self._members.items() if current.get(shard) != key])
            try:
                for step in steps:
                    if step.shard not in self._members:
                        self._admit(step, self._load(step))
            except FileNotFoundError as error:
                if self._site.ledger.generation() == generation:
                    raise DamageError(
                        f"a checkpoint of {self._site.path} is missing: run `unlearn recover`, which builds it again"
                    ) from error
                continue  # destroyed by a request between the two reads
            self._task = self._site.task() if steps else None
            self._generation = generation
            return  # even if it was overtaken: that is looked at after predicting

    def _withdraw(self, shards: Sequence[int]) -> None:
        """Serve without some members: nothing of them stays in memory, even if this is interrupted."""
        if not shards:
            return
        learner, together = self._site.learner, self._merged
        self._merged = None
        gone = [self._members.pop(shard)[1].state for shard in shards]
        if together is not None and self._members:
            assert isinstance(learner, MergeLearner)  # noqa: S101 - nothing else is merged
            self._merged = learner.without(together, gone)

    def _admit(self, step: BuiltStep, member: Member) -> None:
        """Serve with one member more."""
        learner, together = self._site.learner, self._merged
        self._merged = None
        self._members[step.shard] = (step.key, member)
        if together is not None:
            assert isinstance(learner, MergeLearner)  # noqa: S101 - nothing else is merged
            self._merged = learner.merge([together, member.state])

    def _load(self, step: BuiltStep) -> Member:
        checkpoint = self._site.folder(step.shard).load(step.key)
        if checkpoint.header.commitment != step.commitment:
            raise DamageError(
                f"the checkpoint of shard {step.shard} is not the one that was recorded: run `unlearn recover`"
            )
        learner, state = self._site.learner, checkpoint.state
        kept = state if self._site.declaration.aggregation == "sum" else {}
        return Member(step.shard, step.records, learner.predictor(state, self._site.task()), kept)


def served_contents(site: Site) -> list[list[Json]]:
    """What every shard serves: shard, canonical digest of its state, records seen.

    Args:
        site: The workspace.

    Returns:
        One entry a serving shard, by shard.

    Raises:
        DamageError: If a checkpoint is missing, or is not the one that was recorded.
    """
    while True:
        generation, steps = site.ledger.served()
        try:
            headers = [site.folder(step.shard).header(step.key) for step in steps]
        except FileNotFoundError as error:
            if site.ledger.generation() == generation:
                raise DamageError(
                    f"a checkpoint of {site.path} is missing: run `unlearn recover`, which builds it again"
                ) from error
            continue  # destroyed by a request between the two reads
        for step, header in zip(steps, headers, strict=True):
            if header.commitment != step.commitment:
                raise DamageError(
                    f"the checkpoint of shard {step.shard} is not the one that was recorded: run `unlearn recover`"
                )
        return [[step.shard, header.content, step.records] for step, header in zip(steps, headers, strict=True)]


def prepare_features(X: object, task: Task) -> Features:
    """Turn what a user gives to predict into features that fit the declared task.

    Args:
        X: Array, mapping of arrays, table, or map-style torch dataset.
        task: The declared task.

    Returns:
        Feature name to array, in the order of the task.
    """
    if is_table(X):
        from shards.sources import features_from_table

        # By name where names are known, so that the order of columns, or columns beside them, do not matter.
        stacked = list(task.features) == ["x"]
        found = features_from_table(X, (task.columns or None) if stacked else list(task.features))
    elif is_dataset(X):
        from shards.sources import features_from_dataset

        found = make_features(features_from_dataset(X))
    else:
        found = make_features(X)
    return check_features(found, task.features)
