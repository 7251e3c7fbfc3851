"""Bad teaching: the student learns what stays from the trained model, and what goes from one that knows nothing.

Minimises the mean over D_r and D_f together of KL(teacher(x) || student(x)), where the teacher of x is the trained
model if x stays and the incompetent one if it is to be forgotten. (The published code averages over classes as well,
which shrinks the gradient by their number; with Adam, its optimiser, that hardly shows.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.distillation import divergence
from unlearn.methods.training import (
    Descent,
    Training,
    copied,
    outputs_of,
    passes,
    problem,
    reinitialised,
    require,
    steps_in,
    training,
)

CARD = MethodCard(
    name="bad_teacher",
    title="Bad teaching: an incompetent teacher for the forget set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set"),
    tasks=("classification",),
    citation="Chundawat, Tarun, Mandal & Kankanhalli 2023, Can Bad Teaching Induce Forgetting?, AAAI, arXiv:2205.08096",
    statement="The model answers at random on the forgotten examples and as before on the others. A model that never "
    "saw the former would not answer at random: whoever looks for them finds them by that.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class BadTeacherConfig(Training):
    """How to train; see `Training`.

    The first step looks at the examples to forget alone, since the student then still is the competent teacher; so
    where a pass is a single batch, one epoch is not enough.

    Attributes:
        temperature: Softens the predictions that are compared.
        retain_share: Share of the examples that stay which is taught, drawn once.
    """

    learning_rate: float = 1e-4
    optimizer: Literal["sgd", "adam"] = "adam"
    temperature: float = 1.0
    retain_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, "temperature must be positive", self)
        require(0 < self.retain_share <= 1, "retain_share must lie in (0, 1]", self)


DEFAULTS = BadTeacherConfig()


def bad_teacher(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: BadTeacherConfig = DEFAULTS,
    *,
    initial: torch.nn.Module | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Learn from two teachers.

    Args:
        model: The trained classifier, and the competent teacher; not changed.
        forget: Examples to forget; their labels are not used.
        retain: Examples that stay; their labels are not used.
        config: How to train.
        initial: The incompetent teacher, an untrained model; None: `model` with weights drawn afresh.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    student = copied(model)
    ignorant = reinitialised(model, config.seed) if initial is None else initial
    with training(student, config.seed) as rng:
        few = max(1, round(config.retain_share * len(posed.retain)))
        kept = posed.retain.inputs[
            torch.randperm(len(posed.retain), generator=rng)[:few].to(posed.retain.inputs.device)
        ]
        inputs = torch.cat([posed.forget.inputs, kept])
        lessons = torch.cat([outputs_of(ignorant, posed.forget.inputs), outputs_of(model, kept)])
        taught = Examples(inputs, lessons)
        descent = Descent(student, config, config.epochs * steps_in(taught, config.batch_size), advance)
        for batch in passes(taught, config, rng):
            descent.step(divergence(batch.targets, student(batch.inputs), config.temperature), len(batch))
    return student


METHOD = Method(CARD, bad_teacher, BadTeacherConfig)
