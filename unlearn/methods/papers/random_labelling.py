"""Random labels: go on training on everything, the examples to forget under labels drawn at random.

Each example to forget gets one label for good, drawn evenly from the classes that are not its own. (Published code
differs here: some draws anew in every pass, some from all classes, so that one in C labels stays true.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Training, copied, fit, problem, training

CARD = MethodCard(
    name="random_labels",
    title="Fine-tuning with random labels on the forget set",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification",),
    citation="Golatkar, Achille & Soatto 2020, Eternal Sunshine of the Spotless Net, CVPR, arXiv:1911.04933 (as the "
    "baseline Random Labels)",
    statement="The model learns to err on the forgotten examples, more than one that never saw them, which would be "
    "right about most: whoever looks for them finds them by that.",
    uses_retain=True,
    moves_towards_retraining=False,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten: UA 7.61, RA 99.67, TA 92.83, MIA 37.36, average gap 7.15 "
            "(Fan et al. 2024, arXiv:2310.12508, Table 1; re-check)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class RandomLabelsConfig(Training):
    """How to train; see `Training`."""


DEFAULTS = RandomLabelsConfig()


def random_labels(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: RandomLabelsConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Go on training on everything, the examples to forget under random wrong labels.

    Args:
        model: The trained classifier; not changed.
        forget: Examples to forget.
        retain: Examples that stay.
        config: How to train.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    with training(student, config.seed) as rng:
        wrong = wrong_labels(posed.forget.targets, posed.outputs[0], rng)
        inputs = torch.cat([posed.forget.inputs, posed.retain.inputs])
        mixed = Examples(inputs, torch.cat([wrong, posed.retain.targets]))
        fit(student, mixed, posed.loss, config, rng, advance)
    return student


def wrong_labels(targets: torch.Tensor, classes: int, rng: torch.Generator) -> torch.Tensor:
    """Draw for each example one of the classes it is not of, all equally likely.

    Args:
        targets: `[n]` class numbers.
        classes: How many there are.
        rng: On the CPU.

    Returns:
        `[n]` class numbers, int64, on the device of the targets.
    """
    shift = torch.randint(1, classes, (len(targets),), generator=rng)
    return (targets + shift.to(targets.device)) % classes


METHOD = Method(CARD, random_labels, RandomLabelsConfig)
