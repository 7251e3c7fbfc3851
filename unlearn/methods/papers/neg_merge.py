"""NegMerge: many task vectors of the examples to forget, merged where all agree on the sign, and negated.

With tau_1 ... tau_K the task vectors of fine-tunings under different hyper-parameters, the merged one is their mean
where all K have the same sign and zero elsewhere; the result is theta - lambda tau. So nothing has to be chosen among
the fine-tunings, and weights on which they disagree, which others need, stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.papers.task_arithmetic import TaskArithmeticConfig, moved, task_vector
from unlearn.methods.training import Loss, problem, require

CARD = MethodCard(
    name="neg_merge",
    title="NegMerge: merged task vectors of one sign, negated",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "labels"),
    tasks=("classification", "regression"),
    citation="Kim, Han & Choe 2025, NegMerge: Sign-Consensual Weight Merging for Machine Unlearning, ICML, "
    "arXiv:2410.05583",
    statement="The model moves away from where more training on the forgotten examples would lead, in the weights on "
    "which several such trainings agree. How far is decided by a factor nobody can set without a retrained model.",
    uses_retain=False,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class NegMergeConfig(TaskArithmeticConfig):
    """How to fine-tune on the examples to forget; see `Training`, and `TaskArithmeticConfig` for `scale`.

    Attributes:
        learning_rates: One fine-tuning each, all with seeds of their own; `learning_rate` is not used.
    """

    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.learning_rates) >= 2, "learning_rates must be two or more", self)


DEFAULTS = NegMergeConfig()


def neg_merge(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: NegMergeConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Subtract what several task vectors of the examples to forget agree on.

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
    vectors = [
        task_vector(model, posed, replace(config, learning_rate=rate, seed=config.seed + place), advance)
        for place, rate in enumerate(config.learning_rates)
    ]
    return moved(model, [merged(torch.stack(values)) for values in zip(*vectors, strict=True)], -config.scale)


def merged(values: torch.Tensor) -> torch.Tensor:
    """The mean where all have one sign, zero elsewhere.

    Args:
        values: `[K, ...]`.

    Returns:
        `[...]`.
    """
    agreed = (values > 0).all(dim=0) | (values < 0).all(dim=0)
    return torch.where(agreed, values.mean(dim=0), torch.zeros_like(values[0]))


METHOD = Method(CARD, neg_merge, NegMergeConfig)
