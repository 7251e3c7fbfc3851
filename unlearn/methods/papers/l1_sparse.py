"""l1-sparse unlearning: fine-tune on the examples that stay under a penalty that prunes.

Minimises L(D_r; theta) + gamma_t |theta|_1, with gamma_t = gamma (1 - t/T) falling over the steps t of T, the schedule
the paper found best. A sparse model has less room for single examples. The subgradient of |theta| at zero is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import Descent, Loss, Training, copied, passes, problem, require, steps_in, training

CARD = MethodCard(
    name="l1_sparse",
    title="l1-sparse: fine-tuning with a penalty on the sum of absolute weights",
    guarantee=Guarantee.EMPIRICAL,
    needs=("retain set", "labels"),
    tasks=("classification", "regression"),
    citation="Jia, Liu, Ram, Yao, Liu, Liu, Sharma & Liu 2023, Model Sparsity Can Simplify Machine Unlearning, "
    "NeurIPS, arXiv:2304.04934",
    statement="The model goes on learning from the others, and small weights vanish, what was kept in them with it. "
    "Nothing says that the forgotten examples were kept there.",
    uses_retain=True,
    moves_towards_retraining=True,
    published=(
        (
            "CIFAR-10, ResNet-18, a random 10 % forgotten: UA 4.19, RA 97.74, TA 91.59, MIA 9.84, average gap 2.26 "
            "(Fan et al. 2024, arXiv:2310.12508, Table 1)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class L1SparseConfig(Training):
    """How to train; see `Training`.

    Attributes:
        gamma: Weight of the penalty at the start; it falls to zero in a straight line.
    """

    gamma: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma >= 0, "gamma must not be negative", self)


DEFAULTS = L1SparseConfig()


def l1_sparse(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: L1SparseConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Go on training on the examples that stay, under a penalty on the sum of absolute weights.

    Args:
        model: The trained model; not changed.
        forget: Examples to forget; only checked.
        retain: Examples that stay.
        config: How to train.
        loss: Mean over a batch, of outputs and targets; None: cross-entropy, or mean squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain, loss)
    student = copied(model)
    steps = config.epochs * steps_in(posed.retain, config.batch_size)
    with training(student, config.seed) as rng:
        learning = [value for value in student.parameters() if value.requires_grad]
        descent = Descent(student, config, steps, advance)
        for step, batch in enumerate(passes(posed.retain, config, rng)):
            size = torch.stack([value.abs().sum() for value in learning]).sum()
            gamma = config.gamma * (1 - step / steps)
            descent.step(posed.loss(student(batch.inputs), batch.targets) + gamma * size, len(batch))
    return student


METHOD = Method(CARD, l1_sparse, L1SparseConfig)
