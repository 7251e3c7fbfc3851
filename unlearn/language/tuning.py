"""Unlearn question and answer pairs by tuning a language model with one of the losses, or by a task vector.

The model it is given stays as it is. What comes back has guarantee `empirical`, and nothing more: `relearning` and
`quantisation` look for what was only hidden.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language import losses
from unlearn.language.exact import Descent
from unlearn.language.hooks import anatomy, frozen, logits_of, outputs_seen
from unlearn.language.lora import Lora, trainable
from unlearn.language.relearning import Pair, negative_likelihood, padded_pairs, relearnt
from unlearn.language.text import Padded

Loss = Literal["ga", "npo", "simnpo", "dpo", "idk", "rmu", "undial", "whp"]
"""What is minimised on the pairs to forget."""

Keep = Literal["nothing", "likelihood", "divergence"]
"""What is minimised on the pairs to retain: GradDiff is `ga` with `likelihood`, KL is `ga` with `divergence`."""


@dataclass(frozen=True)
class Tuning:
    """How to tune.

    Attributes:
        loss: What is minimised on the pairs to forget.
        keep: What is minimised on the pairs to retain.
        keep_weight: How much that counts.
        learning_rate: Of AdamW.
        epochs: Passes over the pairs to forget.
        batch: Pairs of each kind a step.
        beta: Inverse temperature of NPO, SimNPO and DPO.
        gamma: Margin of SimNPO; by how much UNDIAL lowers a logit, which needs it positive.
        other_answer: What is to be said instead, for `dpo` and `idk`.
        layer: Whose hidden states RMU drives away.
        scale: How far.
        alpha: How much less WHP lets be said what the reinforced model says louder.
        reinforcement: Steps of training, on all pairs to forget together, that make the reinforced model of WHP.
        seed: Order and directions come from it.
    """

    loss: Loss = "npo"
    keep: Keep = "likelihood"
    keep_weight: float = 1.0
    learning_rate: float = 1e-4
    epochs: int = 10
    batch: int = 16
    beta: float = 0.1
    gamma: float = 0.0
    other_answer: str = "unknown"
    layer: int = 0
    scale: float = 20.0
    alpha: float = 5.0
    reinforcement: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        positive = (self.learning_rate, self.epochs, self.batch, self.beta, self.reinforcement)
        if not all(value > 0 for value in positive):
            raise InputError(f"learning_rate, epochs, batch, beta and reinforcement must be positive, got {self}")
        for name, value, known in (("loss", self.loss, tuple(_FORGET)), ("keep", self.keep, ("nothing", *_KEEP))):
            if value not in known:
                raise InputError(f"there is no {name} {value!r}: choose one of {', '.join(known)}")
        if not self.keep_weight >= 0:
            raise InputError(
                f"keep_weight must not be negative, got {self.keep_weight}: it would unlearn what is to stay"
            )
        if self.loss == "undial" and not self.gamma > 0:
            raise InputError(f"undial lowers a logit by gamma, and by {self.gamma} nothing is unlearnt: give 10, say")


@dataclass(frozen=True, eq=False)
class _Step:
    """What the loss of a step is computed from: models, pairs, and what RMU drives away and where to."""

    model: nn.Module
    before: nn.Module
    reinforced: nn.Module
    forget: Padded
    others: Padded
    watched: nn.Module
    direction: torch.Tensor
    config: Tuning


def tuned(
    model: nn.Module,
    tokenizer: Any,
    forget: Sequence[Pair],
    retain: Sequence[Pair],
    config: Tuning | None = None,
    *,
    lora: Lora | None = None,
) -> nn.Module:
    """Unlearn pairs.

    Args:
        model: A causal language model; stays as it is.
        tokenizer: Its fast tokenizer.
        forget: Pairs to forget, at least one.
        retain: Pairs to retain; none, if `keep` is `nothing`.
        config: How; None: NPO with the likelihood of what is retained.
        lora: Adapters that are tuned instead of all weights, and merged at the end; None: all weights are.

    Returns:
        A new model, in the mode of the one given.

    Raises:
        ConfigurationError: If the model's inside must be known, and is not, or peft is not installed.
        InputError: If there is nothing to forget or, with something to keep, to retain; if a pair is in both; or if the
            loss is not finite.
    """
    config = Tuning() if config is None else config
    _check(forget, retain, config)
    found = copy.deepcopy(model)
    device = next(found.parameters()).device
    rng = torch.Generator().manual_seed(config.seed)
    watched, width = _watched(found, config)
    direction = torch.rand(width, generator=rng).to(device)
    direction = direction / direction.norm()
    reinforced = _reinforced(model, tokenizer, forget, config, lora)
    with trainable(found, lora, config.seed) as parameters:
        descent = Descent(parameters, config.learning_rate, longest=1.0)
        for chosen, kept in _batches(forget, retain, config, rng):
            others = [(prompt, config.other_answer) for prompt, _ in chosen]
            step = _Step(
                found, model, reinforced, padded_pairs(tokenizer, chosen, device),
                padded_pairs(tokenizer, others, device), watched, direction, config,
            )  # fmt: skip
            loss = _FORGET[config.loss](step)
            if config.keep != "nothing":
                loss = loss + config.keep_weight * _KEEP[config.keep](step, padded_pairs(tokenizer, kept, device))
            if not math.isfinite(loss.item()):
                raise InputError(f"the loss is {loss.item()}: take a smaller learning_rate than {config.learning_rate}")
            descent.step(loss)
    found.zero_grad(set_to_none=True)
    return found


def _batches(
    forget: Sequence[Pair], retain: Sequence[Pair], config: Tuning, rng: torch.Generator
) -> Iterator[tuple[list[Pair], list[Pair]]]:
    """All pairs to forget, in a new order for each pass, and as many as a batch holds of those to retain."""
    for _ in range(config.epochs):
        order = torch.randperm(len(forget), generator=rng).tolist()
        for at in range(0, len(order), config.batch):
            drawn = torch.randint(max(1, len(retain)), (config.batch,), generator=rng).tolist()
            yield [forget[row] for row in order[at : at + config.batch]], [retain[row] for row in drawn if retain]


def negated(
    model: nn.Module,
    tokenizer: Any,
    forget: Sequence[Pair],
    *,
    scale: float = 1.0,
    learning_rate: float = 1e-4,
    steps: int = 20,
    lora: Lora | None = None,
) -> nn.Module:
    r"""Task vectors: go the way back that further training on the pairs to forget would go on.

    \(\theta - \alpha (\theta_\mathrm{more} - \theta)\), where \(\theta_\mathrm{more}\) was trained further on them.
    Ilharco et al., *Editing models with task arithmetic*, ICLR 2023 (arXiv 2212.04089).

    Args:
        model: A causal language model; stays as it is.
        tokenizer: Its fast tokenizer.
        forget: Pairs to forget, at least one.
        scale: alpha: how far.
        learning_rate: Of the further training.
        steps: Of it, on all pairs together.
        lora: Adapters that are trained instead of all weights; None: all weights are.

    Returns:
        A new model.

    Raises:
        InputError: If there is nothing to forget.
    """
    found = relearnt(model, tokenizer, forget, learning_rate=learning_rate, steps=steps, lora=lora)
    with torch.no_grad():
        for more, before in zip(found.parameters(), model.parameters(), strict=True):
            more.copy_(before - scale * (more - before))
    return found


def _check(forget: Sequence[Pair], retain: Sequence[Pair], config: Tuning) -> None:
    if not forget:
        raise InputError("no pairs to forget are given")
    if config.keep != "nothing" and not retain:
        raise InputError(f"keep={config.keep!r} needs pairs to retain; or say keep='nothing'")
    both = set(forget) & set(retain)
    if both:
        raise InputError(f"{len(both)} pairs are to be forgotten and retained, for instance {min(both)!r}")


def _watched(model: nn.Module, config: Tuning) -> tuple[nn.Module, int]:
    """The block whose hidden states RMU drives away, and their width; for other losses nothing of the kind."""
    if config.loss != "rmu":
        return model, 1
    body = anatomy(model)
    return body.block(config.layer), body.down(config.layer).sizes[0]


def _reinforced(
    model: nn.Module, tokenizer: Any, forget: Sequence[Pair], config: Tuning, lora: Lora | None
) -> nn.Module:
    """The model trained further on what is to be forgotten; itself, where no loss asks for it."""
    if config.loss != "whp":
        return model
    return relearnt(model, tokenizer, forget, learning_rate=config.learning_rate, steps=config.reinforcement, lora=lora)


def _likelihood(model: nn.Module, asked: Padded) -> torch.Tensor:
    return losses.log_likelihood(logits_of(model, asked.ids, asked.mask), asked.ids, asked.answers)


def _past(step: _Step, asked: Padded) -> torch.Tensor:
    with frozen(step.before), torch.no_grad():
        return _likelihood(step.before, asked)


def _logits_without(model: nn.Module, asked: Padded) -> torch.Tensor:
    """Logits without a gradient."""
    with frozen(model), torch.no_grad():
        return logits_of(model, asked.ids, asked.mask)


def _rmu(step: _Step) -> torch.Tensor:
    with outputs_seen(step.watched) as seen:
        logits_of(step.model, step.forget.ids, step.forget.mask)
    return losses.rmu(seen[0], step.forget.mask, step.direction, step.config.scale)


def _dpo(step: _Step) -> torch.Tensor:
    return losses.dpo(
        _likelihood(step.model, step.others), _past(step, step.others),
        _likelihood(step.model, step.forget), _past(step, step.forget), step.config.beta,
    )  # fmt: skip


def _undial(step: _Step) -> torch.Tensor:
    asked = step.forget
    return losses.undial(
        logits_of(step.model, asked.ids, asked.mask), _logits_without(step.before, asked), asked.ids,
        asked.answers, step.config.gamma,
    )  # fmt: skip


def _whp(step: _Step) -> torch.Tensor:
    asked = step.forget
    return losses.whp(
        logits_of(step.model, asked.ids, asked.mask), _logits_without(step.before, asked),
        _logits_without(step.reinforced, asked), asked.answers, step.config.alpha,
    )  # fmt: skip


def _divergence(step: _Step, kept: Padded) -> torch.Tensor:
    return losses.divergence(logits_of(step.model, kept.ids, kept.mask), _logits_without(step.before, kept), kept.mask)


_FORGET: dict[Loss, Callable[[_Step], torch.Tensor]] = {
    "ga": lambda step: losses.gradient_ascent(_likelihood(step.model, step.forget), step.forget.answers.sum(1)),
    "npo": lambda step: losses.npo(_likelihood(step.model, step.forget), _past(step, step.forget), step.config.beta),
    "simnpo": lambda step: losses.simnpo(
        _likelihood(step.model, step.forget), step.forget.answers.sum(1), step.config.beta, step.config.gamma
    ),
    "dpo": _dpo,
    "idk": lambda step: negative_likelihood(step.model, step.others),
    "rmu": _rmu,
    "undial": _undial,
    "whp": _whp,
}

_KEEP: dict[str, Callable[[_Step, Padded], torch.Tensor]] = {
    "likelihood": lambda step, kept: negative_likelihood(step.model, kept),
    "divergence": _divergence,
}
