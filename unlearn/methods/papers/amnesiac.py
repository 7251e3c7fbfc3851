r"""Amnesiac unlearning: what the batches with forgotten records did to the weights, while training, is subtracted.

\[ w_u = w_T - \sum_{t:\, B_t \cap D_f \ne \emptyset} (w_{t} - w_{t-1}). \]

Training must have been recorded:

    recorder = Recorder(model)
    for batch in ...:
        with recorder.step(batch.ids):
            ...
            optimizer.step()

which costs the memory of one model for each batch recorded; where it is known who may ask to be forgotten, give
`watched` and other batches are left out. What later batches did depends on the earlier ones and stays, as do running
statistics of batch normalisation: the result is not the model that would have been trained without those batches. As
the paper proposes, some epochs on the retain set may repair what was lost with the other records of these batches.

[Graves, Nagisetty & Ganesh 2021, Amnesiac Machine Learning, AAAI, arXiv:2010.10981]
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from unlearn.errors import InputError
from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard, examples
from unlearn.methods.importance import Weights
from unlearn.methods.training import Loss, Training, copied, fit, problem, training

CARD = MethodCard(
    name="amnesiac",
    title="Amnesiac unlearning",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels", "training trajectory"),
    tasks=("classification", "regression"),
    citation="Graves, Nagisetty & Ganesh 2021, Amnesiac Machine Learning, AAAI, arXiv:2010.10981",
    statement="What was learnt in every step that saw a forgotten record is taken back, and the model is trained a "
    "little more on the other records. What later steps learnt on top of it remains.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, eq=False)
class Update:
    """What one step did.

    Attributes:
        ids: Of the records in its batch.
        change: Weights after minus weights before it.
    """

    ids: frozenset[Hashable]
    change: Weights


class Trajectory(Protocol):
    """What is known of a training: a `Recorder`, or whatever keeps its steps elsewhere."""

    def updates_with(self, forget: Examples) -> Iterable[Update]:
        """The steps whose batch had any of these records; InputError where that is not known."""
        ...


class Recorder:
    """Records the steps of a training.

    Args:
        model: What is trained.
        watched: Batches with none of these ids are not kept; None: all are.
    """

    def __init__(self, model: torch.nn.Module, watched: Collection[Hashable] | None = None) -> None:
        self._model = model
        self._watched = None if watched is None else frozenset(watched)
        self._seen: set[Hashable] = set()
        self._updates: list[Update] = []

    @contextmanager
    def step(self, ids: Collection[Hashable]) -> Iterator[None]:
        """Record the step made in this block; one that raises is not recorded.

        Args:
            ids: Of the records in the batch.

        Yields:
            Nothing.
        """
        known = frozenset(ids)
        if self._watched is not None and not known & self._watched:
            yield
            return
        before = {name: value.detach().clone() for name, value in self._model.named_parameters()}
        yield
        after = dict(self._model.named_parameters())
        self._updates.append(Update(known, {name: after[name].detach() - before[name] for name in before}))
        self._seen |= known if self._watched is None else known & self._watched

    def updates_with(self, forget: Examples) -> list[Update]:
        """The steps whose batch had any of these records.

        Args:
            forget: Examples with ids.

        Returns:
            The steps, in order.

        Raises:
            InputError: If a record was in no recorded batch, or there are no ids.
        """
        if forget.ids is None:
            raise InputError("steps are looked up by record: give Examples with the ids under which they were recorded")
        wanted = frozenset(forget.ids)
        missing = wanted - self._seen
        if missing:
            raise InputError(
                f"{len(missing)} of {len(wanted)} records to forget are in no recorded batch: record the whole "
                f"training, watching all that may be forgotten, under the same ids"
            )
        return [update for update in self._updates if update.ids & wanted]


@dataclass(frozen=True, kw_only=True)
class AmnesiacConfig(Training):
    """How to train on the retain set afterwards; see `Training`."""

    epochs: int = 1


DEFAULTS = AmnesiacConfig()


def amnesiac(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: AmnesiacConfig = DEFAULTS,
    *,
    trajectory: Trajectory | None = None,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Take the steps back.

    Args:
        model: As it was at the end of the recorded training; only read.
        forget: `Examples` to forget, with the ids under which they were recorded.
        retain: Examples that stay; looked at by the repair alone.
        config: The settings.
        trajectory: The record of the training.
        loss: Mean over a batch, for the repair; None: cross-entropy, or the squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.

    Raises:
        InputError: If there is no record, or it does not fit.
    """
    posed = problem(CARD, model, forget, retain, loss)
    if trajectory is None:
        raise InputError("amnesiac takes recorded steps back: give trajectory, a Recorder that was there in training")
    student = without(model, trajectory.updates_with(examples(forget, "forget")))
    with training(student, config.seed) as rng:
        fit(student, posed.retain, posed.loss, config, rng, advance)
    return student


@torch.no_grad()
def without(model: torch.nn.Module, updates: Iterable[Update]) -> torch.nn.Module:
    """A copy without what some steps did.

    Args:
        model: Only read.
        updates: The steps.

    Returns:
        The copy.
    """
    student = copied(model)
    weights = dict(student.named_parameters())
    for update in updates:
        for name, change in update.change.items():
            weights[name].sub_(change)
    return student


METHOD = Method(CARD, amnesiac, AmnesiacConfig)
