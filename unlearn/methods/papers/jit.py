r"""Just-in-time unlearning (JiT): the model is made insensitive around the records to forget, with them alone.

\[ \min_w\; \sum_{x \in D_f} \frac1N \sum_{j=1}^{N} \frac{\|f_w(x) - f_w(x + \xi_j)\|_2}{\|\xi_j\|_2},
\qquad \xi_j \sim N(0, \sigma^2 I). \]

No label, no retain set and no other model is needed. Both outputs are differentiated, as the formula says; a port of
the authors' code holds the second one fixed. Noise is not clipped to the range of the inputs.

[Foster, Fogarty, Schoepf, Oztireli & Brintrup 2024, Zero-Shot Machine Unlearning at Scale via Lipschitz Regularization,
arXiv:2402.01401]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.training import (
    Descent,
    Training,
    copied,
    passes,
    problem,
    require,
    statistics_kept,
    steps_in,
    training,
)

CARD = MethodCard(
    name="jit",
    title="Just-in-time unlearning by Lipschitz regularisation",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set",),
    tasks=("classification", "regression"),
    citation="Foster, Fogarty, Schoepf, Oztireli & Brintrup 2024, Zero-Shot Machine Unlearning at Scale via Lipschitz "
    "Regularization, arXiv:2402.01401",
    statement="The model is made to answer nearly the same all around each forgotten record. Records that stay are "
    "not used, so what is known of them may be lost; nothing is promised about what is still known of the others.",
    uses_retain=False,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class JiTConfig(Training):
    r"""Settings.

    Attributes:
        deviation: \(\sigma\), in units of the inputs.
        draws: N.
    """

    epochs: int = 1
    learning_rate: float = 3e-4
    deviation: float = 0.5
    draws: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.deviation > 0 and self.draws >= 1, "deviation must be positive, and draws at least 1", self)


DEFAULTS = JiTConfig()


def jit(
    model: torch.nn.Module,
    forget: Any,
    retain: Any = None,
    config: JiTConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Flatten the model around the forget set.

    Args:
        model: Only read.
        forget: Examples to forget; their targets are not looked at.
        retain: Not used.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    student = copied(model)
    with training(student, config.seed) as rng, statistics_kept(student):
        descent = Descent(student, config, config.epochs * steps_in(posed.forget, config.batch_size), advance)
        for batch in passes(posed.forget, config, rng):
            drawn = torch.randn((config.draws, *batch.inputs.shape), generator=rng, dtype=torch.float64)
            noise = (config.deviation * drawn).to(batch.inputs)
            descent.step(local_lipschitz(student, batch.inputs, noise), len(batch))
    return student


def local_lipschitz(model: torch.nn.Module, inputs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    r"""\(\sum_i \frac1N \sum_j \|f(x_i) - f(x_i + \xi_{ji})\| / \|\xi_{ji}\|\).

    Args:
        model: In whatever mode it is.
        inputs: `[n, ...]`.
        noise: `[N, n, ...]`.

    Returns:
        A scalar.
    """
    there: torch.Tensor = model((inputs + noise).flatten(0, 1))
    apart = model(inputs) - there.reshape(*noise.shape[:2], *there.shape[1:])
    ratios: torch.Tensor = apart.flatten(2).norm(dim=2) / noise.flatten(2).norm(dim=2)
    return ratios.mean(dim=0).sum()


METHOD = Method(CARD, jit, JiTConfig)
