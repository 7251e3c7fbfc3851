r"""Selective synaptic dampening (SSD): weights that matter to the forget set far more than to all data are shrunk.

With diagonal importances \(F_f\) of the forget set and \(F\) of all data,

\[ w \leftarrow \min(\lambda F / F_f,\; 1)\, w \quad\text{where}\quad F_f > \alpha F. \]

Since all data include the forget set, \(F \ge F_f\, n_f / n\): for \(\alpha \ge n / n_f\) no weight can be chosen.
Where none is, that is an error, and not an unchanged model that would pass for one that forgot.

Nothing is trained. Importances are means of squared gradients of single examples, as the paper defines them. The
released code squares the gradient of each minibatch's mean loss instead, which is no Fisher information and depends on
the size of the batches: its \(\alpha\) and \(\lambda\) do not carry over.

[Foster, Schoepf & Brintrup 2024, Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening, AAAI,
arXiv:2308.07707]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Advance, Guarantee, Method, MethodCard
from unlearn.methods.importance import Weights, empirical_fisher
from unlearn.methods.training import Loss, copied, problem, require

CARD = MethodCard(
    name="ssd",
    title="Selective synaptic dampening",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification", "regression"),
    citation="Foster, Schoepf & Brintrup 2024, Fast Machine Unlearning Without Retraining Through Selective Synaptic "
    "Dampening, AAAI, arXiv:2308.07707",
    statement="Weights that matter much more to the forgotten records than to all others are shrunk. Nothing is "
    "promised about what the model still knows of them.",
    uses_retain=True,
    moves_towards_retraining=False,
    published=("alpha 10 and lambda 1 for a ResNet-18 (re-check), with importances of minibatches",),
)


@dataclass(frozen=True, kw_only=True)
class SSDConfig:
    r"""Settings.

    Attributes:
        selection: \(\alpha\): so many times as important to the forget set as to all data is a weight to be dampened.
        dampening: \(\lambda\): the smaller, the nearer to zero these weights come.
    """

    selection: float = 1.0
    dampening: float = 1.0

    def __post_init__(self) -> None:
        require(self.selection > 0 and self.dampening > 0, "selection and dampening must be positive", self)


DEFAULTS = SSDConfig()


def ssd(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: SSDConfig = DEFAULTS,
    *,
    loss: Loss | None = None,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Dampen.

    Args:
        model: The model; only read.
        forget: Examples to forget.
        retain: Examples that stay.
        config: The settings.
        loss: Mean over a batch; None: cross-entropy, or the squared error.
        advance: Told of the examples visited.

    Returns:
        The new model.

    Raises:
        ConfigurationError: If no weight is chosen.
    """
    posed = problem(CARD, model, forget, retain, loss)
    of_forget = empirical_fisher(model, posed.forget, posed.loss)
    of_retain = empirical_fisher(model, posed.retain, posed.loss)
    share = len(posed.forget) / (len(posed.forget) + len(posed.retain))
    of_all = {name: share * of_forget[name] + (1 - share) * of_retain[name] for name in of_forget}
    if advance is not None:
        advance(len(posed.forget) + len(posed.retain))
    factors = dampening_factors(of_forget, of_all, config)
    if all(bool((factor == 1).all()) for factor in factors.values()):
        raise ConfigurationError(
            f"no weight is shrunk: none is {config.selection} times as important to the forget set as to all data, or "
            f"dampening {config.dampening} leaves those that are; no weight ever is from {1 / share:.3g} times on"
        )
    dampened = copied(model)
    with torch.no_grad():
        for name, weight in dampened.named_parameters():
            if name in factors:
                weight.mul_(factors[name])
    return dampened


def dampening_factors(of_forget: Weights, of_all: Weights, config: SSDConfig) -> Weights:
    """What each weight is multiplied by; exactly 1 where it was not chosen.

    Args:
        of_forget: Importance to the forget set.
        of_all: Importance to all data.
        config: The settings.

    Returns:
        Factors in [0, 1].
    """
    found = {}
    for name, ours in of_forget.items():
        chosen = ours > config.selection * of_all[name]
        factor = (config.dampening * of_all[name] / ours).clamp(max=1)
        found[name] = torch.where(chosen, factor, torch.ones_like(factor))
    return found


METHOD = Method(CARD, ssd, SSDConfig)
