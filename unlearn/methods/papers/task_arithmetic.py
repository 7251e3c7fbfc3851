"""Task arithmetic: learn the examples to forget still better, and go the opposite way.

With theta' the weights after fine-tuning on D_f, the task vector is tau = theta' - theta, and the result
theta - lambda tau. Buffers, as the running statistics of batch normalisation, stay those of the trained model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Problem, Training, copied, fit, problem, require, training

CARD = MethodCard(
    name="task_arithmetic",
    title="Task arithmetic: a negated task vector",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "labels"),
    tasks=("classification", "regression"),
    citation="Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi & Farhadi 2023, Editing Models with Task "
    "Arithmetic, ICLR, arXiv:2212.04089",
    statement="The model moves away from where more training on the forgotten examples would lead. How far is decided "
    "by a factor nobody can set without a retrained model to compare with.",
    uses_retain=False,
    moves_towards_retraining=False,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten, the best factor: UA 5.15, RA 98.36, TA 91.49, MIA 10.91, "
            "average gap 1.62 (Kim, Han & Choe 2025, arXiv:2410.05583)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class TaskArithmeticConfig(Training):
    """How to fine-tune on the examples to forget; see `Training`.

    Attributes:
        scale: The factor lambda of the task vector.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, "scale must be positive", self)


DEFAULTS = TaskArithmeticConfig()


def task_arithmetic(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: TaskArithmeticConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Subtract the task vector of the examples to forget.

    Args:
        model: The trained model; not changed.
        forget: Examples to forget.
        retain: Not used.
        config: How to fine-tune, and how far to go.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy, or mean squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    return moved(model, task_vector(model, posed, config, advance), -config.scale)


def task_vector(
    model: torch.nn.Module, posed: Problem, config: Training, advance: Advance | None = None
) -> list[torch.Tensor]:
    """What fine-tuning on the examples to forget adds to the weights.

    Args:
        model: The trained model; not changed.
        posed: The examples, and the loss.
        config: How to fine-tune.
        advance: Told of the examples visited.

    Returns:
        The difference of every parameter, in the order of `model.parameters()`.
    """
    tuned = copied(model)
    with training(tuned, config.seed) as rng:
        fit(tuned, posed.forget, posed.loss, config, rng, advance)
    pairs = zip(tuned.parameters(), model.parameters(), strict=True)
    return [(after - before).detach() for after, before in pairs]


def moved(model: torch.nn.Module, vector: list[torch.Tensor], factor: float) -> torch.nn.Module:
    """A copy of a model, some way along a vector.

    Args:
        model: The model; not changed.
        vector: One tensor a parameter.
        factor: How far.

    Returns:
        The copy.
    """
    student = copied(model)
    with torch.no_grad():
        for value, difference in zip(student.parameters(), vector, strict=True):
            value.add_(difference, alpha=factor)
    return student


METHOD = Method(CARD, task_arithmetic, TaskArithmeticConfig)
