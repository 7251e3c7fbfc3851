"""One original model, what is to be forgotten of it, the models retrained without that, and how a result is judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from experiments.approximate.cases import Case
from unlearn.audit.attacks.base import own_class
from unlearn.audit.metrics import Outcome, divergence, gaps
from unlearn.errors import InputError
from unlearn.methods import METHODS
from unlearn.methods.base import Examples
from unlearn.methods.papers.amnesiac import Recorder
from unlearn.methods.training import Descent, Training, copied, outputs_of, passes, steps_in, training

LOSS = torch.nn.functional.cross_entropy

OTHER_SEED = 1000
"""Added to a seed for the second retrained model, which tells what another training alone changes."""

FIGURES = ("ua", "ra", "ta", "mia", "gap", "kl", "time")
"""What is measured of a model: percent, but for KL (nats) and the ratio of times."""


def train(
    network: torch.nn.Module, data: Examples, config: Training, record: Callable[[torch.nn.Module], Recorder] | None
) -> tuple[torch.nn.Module, Recorder | None]:
    """Train a network from nothing.

    Args:
        network: Untrained; only read.
        data: Examples.
        config: How.
        record: Makes a recorder of the steps, which changes none of them; None: nothing is recorded.

    Returns:
        The trained network, and what was recorded.
    """
    student = copied(network)
    recorder = None if record is None else record(student)
    with training(student, config.seed) as rng:
        descent = Descent(student, config, config.epochs * steps_in(data, config.batch_size))
        for batch in passes(data, config, rng):
            if recorder is None:
                descent.step(LOSS(student(batch.inputs), batch.targets), len(batch))
            else:
                with recorder.step(batch.ids or ()):
                    descent.step(LOSS(student(batch.inputs), batch.targets), len(batch))
    return student, recorder


def timed(action: Callable[[], torch.nn.Module]) -> tuple[torch.nn.Module, float]:
    """What it gives, and the processor time that it took in seconds."""
    started = time.process_time()
    return action(), time.process_time() - started


@dataclass(frozen=True, eq=False)
class Lab:
    """One seed of one case; models are made when first asked for.

    Attributes:
        case: The data.
        seed: Of the original training.
        forgotten: `[n]` bool: what is to be forgotten.
        attacked: At most so many members, and as many others, to fit the attack on.
        base: A lab of the same case and seed, whose original this one shares; None: it makes its own.
    """

    case: Case
    seed: int
    forgotten: np.ndarray
    attacked: int
    base: Lab | None = None

    @cached_property
    def forget(self) -> Examples:
        """Examples to forget."""
        return self.case.train.take(torch.from_numpy(np.flatnonzero(self.forgotten)))

    @cached_property
    def retain(self) -> Examples:
        """Examples that stay."""
        return self.case.train.take(torch.from_numpy(np.flatnonzero(~self.forgotten)))

    @cached_property
    def test(self) -> Examples:
        """Examples of the classes that stay, which no model sees."""
        left = torch.unique(self.retain.targets)
        return self.case.test.take(torch.isin(self.case.test.targets, left))

    @cached_property
    def original(self) -> torch.nn.Module:
        """Trained on everything."""
        if self.base is not None:
            return self.base.original
        return train(self.case.network(self.seed), self.case.train, self.case.training(self.seed), None)[0]

    def recorded(self) -> Recorder:
        """The steps of the original training that saw something to forget; not kept, since they are large."""
        watched = self.forget.ids or ()
        network, how = self.case.network(self.seed), self.case.training(self.seed)
        recorder = train(network, self.case.train, how, lambda student: Recorder(student, watched))[1]
        assert recorder is not None
        return recorder

    @cached_property
    def retrained(self) -> tuple[torch.nn.Module, float]:
        """Trained on what stays, under the same seed; and the processor time."""
        return self._trained(self.seed)

    @cached_property
    def retrained_again(self) -> tuple[torch.nn.Module, float]:
        """The same under another seed."""
        return self._trained(self.seed + OTHER_SEED)

    def _trained(self, seed: int) -> tuple[torch.nn.Module, float]:
        # Whatever is made when first asked for, and what torch loads in its first training, is not to be timed.
        data, network, how, _ = self.retain, self.case.network(seed), self.case.training(seed), self.original
        return timed(lambda: train(network, data, how, None)[0])

    @cached_property
    def reference(self) -> Outcome:
        """What the retrained model does."""
        return self.outcome(*self.retrained)

    def outcome(self, model: torch.nn.Module, seconds: float) -> Outcome:
        """What a model does on the three sets.

        Args:
            model: The model.
            seconds: That it took to make.

        Returns:
            Right or wrong of each record, and whether the attack calls the forgotten ones non-members.
        """
        sets = (self.forget, self.retain, self.test)
        said = [probabilities(model, data) for data in sets]
        right = [p.argmax(axis=1) == data.targets.numpy() for p, data in zip(said, sets, strict=True)]
        sure = [own_class(p, data.targets.numpy()) for p, data in zip(said, sets, strict=True)]
        called = called_members(sure[0], sure[1], sure[2], self.attacked)
        return Outcome(right[0], right[1], right[2], ~called, max(seconds, 1e-9))

    def judge(self, model: torch.nn.Module, seconds: float) -> dict[str, float]:
        """All figures of a model.

        Args:
            model: The model.
            seconds: Processor time that it took to make.

        Returns:
            A figure for each of `FIGURES`.
        """
        found = self.outcome(model, seconds)
        compared = gaps(found, self.reference)
        ours, theirs = (probabilities(which, self.forget) for which in (model, self.retrained[0]))
        kl = divergence(ours, theirs).kl.value
        assert compared.average_gap.value is not None
        assert kl is not None
        four = {name: 100 * value for name, value in compared.unlearned.items()}
        return four | {"gap": 100 * compared.average_gap.value, "kl": kl, "time": seconds / self.reference.seconds}


def options(method: str, lab: Lab) -> dict[str, Any]:
    """What a method needs beside model, forget set and retain set.

    Args:
        method: Its name.
        lab: The original training.

    Returns:
        Further arguments.
    """
    needs = METHODS[method].card.needs
    found: dict[str, Any] = {}
    if "training trajectory" in needs:
        found["trajectory"] = lab.recorded()
    if "held-out set" in needs:
        found["held_out"] = lab.case.held_out
    return found


def probabilities(model: torch.nn.Module, data: Examples) -> np.ndarray:
    """Class probabilities in evaluation mode.

    Args:
        model: A classifier that returns logits.
        data: n examples.

    Returns:
        `[n, classes]` float64.

    Raises:
        InputError: If one is not finite: weights may have grown so large, finite as they are.
    """
    found = torch.softmax(outputs_of(model, data.inputs).double(), dim=1)
    if not bool(torch.isfinite(found).all()):
        raise InputError("the outputs are not finite any more")
    return np.asarray(found.numpy())


def called_members(forget: np.ndarray, retain: np.ndarray, test: np.ndarray, most: int) -> np.ndarray:
    """SalUn's attack: a support-vector machine tells members from others by their confidence in the true class.

    It is fitted on records that stay, as members, and test records, as many of each, and asked about the forgotten
    ones. Confidence alone: the modified entropy of the code that is mostly used for this has errors.

    Args:
        forget: `[n]` confidence of forgotten records.
        retain: `[m]` of records that stay.
        test: `[k]` of test records.
        most: Fit on at most so many of each, the first ones.

    Returns:
        `[n]` bool.
    """
    from sklearn.svm import SVC

    count = min(len(retain), len(test), most)
    machine = SVC(C=3, gamma="auto", kernel="rbf")
    machine.fit(np.concatenate([retain[:count], test[:count]])[:, None], np.arange(2 * count) < count)
    return np.asarray(machine.predict(forget[:, None]), dtype=np.bool_)
