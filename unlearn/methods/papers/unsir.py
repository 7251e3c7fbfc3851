r"""UNSIR: noise that a class finds hardest impairs it, and a pass over the records that stay repairs the rest.

For each class c of the forget set, inputs N are learnt that maximise its loss,

\[ \min_N\; -\ell(f(N), c) + \lambda \tfrac1k \sum_i \|N_i\|^2. \]

Impair: train on the noise with label c, among the retain set. Repair: train on the retain set alone. No forgotten
record is looked at, only which classes they have. It is made to forget whole classes: where a class keeps records in
the retain set, these are impaired as well, and it is up to the repair to bring them back.

[Tarun, Chundawat, Mandal & Kankanhalli 2023, Fast Yet Effective Machine Unlearning, IEEE Transactions on Neural
Networks and Learning Systems, arXiv:2111.08947]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unlearn.methods.base import Advance, Examples, Guarantee, Method, MethodCard
from unlearn.methods.training import Loss, Training, copied, fit, problem, require, training

CARD = MethodCard(
    name="unsir",
    title="UNSIR: impair with error-maximising noise, then repair",
    guarantee=Guarantee.EMPIRICAL,
    needs=("forget set", "retain set", "labels"),
    tasks=("classification",),
    citation="Tarun, Chundawat, Mandal & Kankanhalli 2023, Fast Yet Effective Machine Unlearning, IEEE Transactions on "
    "Neural Networks and Learning Systems, arXiv:2111.08947",
    statement="For whole classes: the model is spoilt on the forgotten classes and trained again on all others. The "
    "forgotten records themselves are not looked at, and nothing is promised about what is still known of them.",
    uses_retain=True,
    moves_towards_retraining=False,
)


@dataclass(frozen=True, kw_only=True)
class UNSIRConfig(Training):
    r"""Settings; `epochs` of impairing, and as many of repairing.

    Attributes:
        repair_learning_rate: Of the repair; `learning_rate` is that of impairing.
        noise_size: k: noise inputs of each class.
        noise_steps: Steps of Adam to learn them.
        noise_learning_rate: Of these.
        noise_penalty: \(\lambda\).
        noise_share: So many noise inputs, with repetition, for each example of the retain set when impairing.
    """

    epochs: int = 1
    learning_rate: float = 0.02
    repair_learning_rate: float = 0.01
    noise_size: int = 64
    noise_steps: int = 40
    noise_learning_rate: float = 0.1
    noise_penalty: float = 0.1
    noise_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.repair_learning_rate > 0, "repair_learning_rate must be positive", self)
        require(self.noise_size >= 1 and self.noise_steps >= 0, "noise_size must be at least 1, noise_steps 0", self)
        require(self.noise_learning_rate > 0, "noise_learning_rate must be positive", self)
        require(self.noise_penalty >= 0 and self.noise_share > 0, "noise_penalty must be >= 0, noise_share > 0", self)


DEFAULTS = UNSIRConfig()


def unsir(
    model: torch.nn.Module,
    forget: Any,
    retain: Any,
    config: UNSIRConfig = DEFAULTS,
    *,
    advance: Advance | None = None,
) -> torch.nn.Module:
    """Impair, then repair.

    Args:
        model: A classifier that returns logits; only read.
        forget: Examples to forget; only their classes and the shape of their inputs matter.
        retain: Examples that stay.
        config: The settings.
        advance: Told of the examples visited.

    Returns:
        The new model.
    """
    posed = problem(CARD, model, forget, retain)
    student = copied(model)
    repairing = replace(config, learning_rate=config.repair_learning_rate)
    with training(student, config.seed) as rng:
        noise = error_maximising_noise(model, posed.forget, config, posed.loss, rng)
        among = _mixed(posed.retain, noise, max(1, round(config.noise_share * len(posed.retain))))
        for how, data in ((config, among), (repairing, posed.retain)):
            fit(student, data, posed.loss, how, rng, advance)
    return student


def error_maximising_noise(
    model: torch.nn.Module, forget: Examples, config: UNSIRConfig, loss: Loss, rng: torch.Generator
) -> Examples:
    """Learn the noise of all classes at once; each has a loss of its own, so none depends on the others.

    Args:
        model: Only read; evaluated as in inference.
        forget: Its classes, and the shape of its inputs.
        config: The settings.
        loss: Mean over a batch.
        rng: On the CPU; noise starts from a standard normal.

    Returns:
        `noise_size` inputs of each class.
    """
    frozen = copied(model).eval().requires_grad_(False)
    targets = torch.unique(forget.targets).repeat_interleave(config.noise_size)
    start = torch.randn((len(targets), *forget.inputs.shape[1:]), generator=rng, dtype=torch.float64)
    noise = start.to(forget.inputs).requires_grad_()
    adam = torch.optim.Adam([noise], config.noise_learning_rate)
    for _ in range(config.noise_steps):
        adam.zero_grad()
        size = noise.square().flatten(1).sum(dim=1).mean()
        (config.noise_penalty * size - loss(frozen(noise), targets)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return Examples(noise.detach(), targets)


def _mixed(retain: Examples, noise: Examples, count: int) -> Examples:
    rows = torch.arange(count, device=noise.inputs.device) % len(noise)
    return Examples(torch.cat([retain.inputs, noise.inputs[rows]]), torch.cat([retain.targets, noise.targets[rows]]))


METHOD = Method(CARD, unsir, UNSIRConfig)
