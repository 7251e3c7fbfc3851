"""SCRUB: a student that obeys its teacher on what stays and disobeys it on what is to be forgotten.

With p the predictions of the trained model (the teacher) and q the student's, each of the first `ascents` epochs
climbs KL(p || q) on D_f batch by batch, and every epoch then descends gamma L(D_r) + alpha KL(p || q) on D_r. SCRUB+R
keeps the student of every epoch, and returns the one whose error on D_f comes nearest to the last one's error on
examples of the same kind that nobody trained on: as a model that never saw D_f would err on it.

Batches to forget pass through the running statistics of batch normalisation. (Published code: the repository's own
`scrub.py` hands its optimiser the weights of the model that the student was copied from, so that the student never
changes, and climbs in one epoch more than it says.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unlearn.errors import InputError
from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard, examples
from unlearn.methods.distillation import divergence
from unlearn.methods.training import (
    Descent,
    Loss,
    Problem,
    Training,
    batches,
    copied,
    outputs_of,
    problem,
    readied,
    require,
    statistics_kept,
    steps_in,
    training,
)

CITATION = (
    "Kurmanji, Triantafillou, Hayes & Triantafillou 2023, Towards Unbounded Machine Unlearning, NeurIPS, "
    "arXiv:2302.09880"
)

SCRUB = MethodCard(
    name="scrub",
    title="SCRUB: a student that disobeys its teacher on the forget set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification",),
    citation=CITATION,
    statement="The model departs from the old one on the forgotten examples and follows it on the others. It may err "
    "on the former more than a model that never saw them, and be found out by that: scrub_rewind tries to avoid it.",
    uses_retain=True,
    moves_towards_retraining=False,
)

SCRUB_REWIND = MethodCard(
    name="scrub_rewind",
    title="SCRUB+R: SCRUB, rewound to the error of an unseen example",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "held-out set", "labels"),
    tasks=("classification",),
    citation=CITATION,
    statement="The model errs on the forgotten examples about as often as on unseen ones. That is so on average over "
    "them: single ones may still be found out.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class ScrubConfig(Training):
    """How to train; see `Training`.

    The first ascent leads nowhere (but for dropout), since the student then still is the teacher. Later ones start
    from what the descent has changed, which is little for a model that fits its data, and each of their steps
    multiplies the distance: a forget set of a single batch needs many ascents, and a high learning rate forgets nothing
    or far too much.

    Attributes:
        ascents: Number of epochs, from the first, that climb on the forget set before they descend; at most `epochs`.
        alpha: Weight of the divergence from the teacher on what stays.
        gamma: Weight of the loss on what stays.
        temperature: Softens the predictions that are compared.
        forget_batch_size: The most examples a step of the climb looks at; fewer than `batch_size`, so that a small
            forget set has several steps an epoch. The authors' small experiments have 32 too (re-check).
    """

    ascents: int = 3
    alpha: float = 0.5
    gamma: float = 1.0
    temperature: float = 1.0
    forget_batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.ascents <= self.epochs, "ascents must lie between 1 and epochs", self)
        require(self.alpha >= 0 and self.gamma >= 0, "alpha and gamma must not be negative", self)
        require(self.temperature > 0, "temperature must be positive", self)
        require(self.forget_batch_size >= 1, "forget_batch_size must be at least 1", self)


DEFAULTS = ScrubConfig()


def scrub(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: ScrubConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Alternate between disobeying the trained model on what goes and obeying it on what stays.

    Args:
        model: The trained classifier, and the teacher; not changed.
        forget: Examples to forget; their labels are not used.
        retain: Examples that stay.
        config: How to train.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(SCRUB, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        for _ in _epochs(model, student, posed, config, rng, advance):
            pass
    return student


def scrub_rewind(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: ScrubConfig = DEFAULTS,
    *,
    held_out: Any,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """SCRUB, rewound to the epoch that errs on what goes as the last one errs on what nobody trained on.

    Args:
        model: The trained classifier, and the teacher; not changed.
        forget: Examples to forget.
        retain: Examples that stay.
        config: How to train.
        held_out: Examples that the model was not trained on, some of every class of the forget set; they are weighted
            so that classes are as frequent as there.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy.
        advance: Told of the examples visited.

    Returns:
        The student after one of the epochs; of equally good ones the latest.
    """
    posed = problem(SCRUB_REWIND, model, forget, retain, loss)
    unseen = readied(model, examples(held_out, "held_out"), "held_out", loss)
    weights = _weights(posed.forget.targets, unseen.targets)
    student = copied(model)
    students, errors = [], []
    with training(student, config.seed) as rng:
        for _ in _epochs(model, student, posed, config, rng, advance):
            students.append(copied(student))
            errors.append(float(_wrong(student, posed.forget).mean()))
    reference = float(_wrong(student, unseen) @ weights)
    nearest = min(range(config.epochs), key=lambda epoch: (abs(errors[epoch] - reference), -epoch))
    with torch.no_grad():
        student.load_state_dict(students[nearest].state_dict())
    return student


def _epochs(
    teacher: torch.nn.Module,
    student: torch.nn.Module,
    posed: Problem,
    config: ScrubConfig,
    rng: torch.Generator,
    advance: Advance | None,
) -> Iterator[None]:
    """Train the student, one epoch for each time it is asked."""
    # Targets are row numbers here: a batch then finds what its teacher says, and its labels.
    going, staying = (
        Examples(given.inputs, torch.arange(len(given), device=given.inputs.device))
        for given in (posed.forget, posed.retain)
    )
    disobeyed, obeyed = (outputs_of(teacher, given.inputs) for given in (going, staying))
    up, down = steps_in(going, config.forget_batch_size), steps_in(staying, config.batch_size)
    descent = Descent(student, config, config.ascents * up + config.epochs * down, advance)
    for epoch in range(config.epochs):
        with statistics_kept(student):
            for batch in batches(going, config.forget_batch_size, rng) if epoch < config.ascents else ():
                apart = divergence(disobeyed[batch.targets], student(batch.inputs), config.temperature)
                descent.step(-apart, len(batch))
        for batch in batches(staying, config.batch_size, rng):
            said = student(batch.inputs)
            apart = divergence(obeyed[batch.targets], said, config.temperature)
            learned = posed.loss(said, posed.retain.targets[batch.targets])
            descent.step(config.gamma * learned + config.alpha * apart, len(batch))
        yield


def _wrong(student: torch.nn.Module, given: Examples) -> torch.Tensor:
    """`[n]`: 1 where the prediction is wrong."""
    return (outputs_of(student, given.inputs).argmax(dim=1) != given.targets).double()


def _weights(forget: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
    """`[n]`: of each unseen example, so that classes weigh as in the forget set; they sum to 1."""
    weights = torch.zeros(len(unseen), dtype=torch.float64, device=unseen.device)
    for number, count in zip(*torch.unique(forget, return_counts=True), strict=True):
        here = unseen == number
        if not bool(here.any()):
            raise InputError(f"held_out has no example of class {int(number)}, which the forget set has: add some")
        weights[here] = float(count / len(forget)) / float(here.sum())
    return weights


SCRUB_METHOD = Method(SCRUB, scrub, ScrubConfig)
SCRUB_REWIND_METHOD = Method(SCRUB_REWIND, scrub_rewind, ScrubConfig)
