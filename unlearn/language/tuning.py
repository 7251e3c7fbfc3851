"""Unlearn question and answer pairs by tuning a language model with one of the losses, and what relearning shows.

The model it is given stays as it is. What comes back has guarantee `empirical`, and nothing more: `relearnt` tunes it
on a few of the forgotten pairs, after which the others can be asked for, and `quantised` rounds its weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language import losses
from unlearn.language.hooks import anatomy, frozen, logits_of, outputs_seen
from unlearn.language.metrics import answer_log_probability, answered
from unlearn.language.text import Padded, encode, filler_of, pad

Pair = tuple[str, str]
"""A prompt and its answer."""

Loss = Literal["ga", "npo", "simnpo", "dpo", "idk", "rmu", "undial"]
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
        gamma: Margin of SimNPO; by how much UNDIAL lowers a logit.
        other_answer: What is to be said instead, for `dpo` and `idk`.
        layer: Whose hidden states RMU drives away.
        scale: How far.
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
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or self.epochs < 1 or self.batch < 1 or not self.beta > 0:
            raise InputError(f"learning_rate, epochs, batch and beta must be positive, got {self}")


@dataclass(frozen=True, eq=False)
class _Step:
    """What the loss of a step is computed from: the model, the one before, and the pairs to forget."""

    model: nn.Module
    before: nn.Module
    forget: Padded
    others: Padded
    direction: torch.Tensor
    config: Tuning


def tuned(
    model: nn.Module, tokenizer: Any, forget: Sequence[Pair], retain: Sequence[Pair], config: Tuning | None = None
) -> nn.Module:
    """Unlearn pairs.

    Args:
        model: A causal language model; stays as it is.
        tokenizer: Its fast tokenizer.
        forget: Pairs to forget, at least one.
        retain: Pairs to retain; none, if `keep` is `nothing`.
        config: How; None: NPO with the likelihood of what is retained.

    Returns:
        A new model, in the mode of the one given.

    Raises:
        InputError: If there is nothing to forget or, with something to keep, to retain; if a pair is in both; or if the
            loss is not finite.
    """
    config = Tuning() if config is None else config
    _check(forget, retain, config)
    found = copy.deepcopy(model)
    device = next(found.parameters()).device
    rng = torch.Generator().manual_seed(config.seed)
    direction = torch.rand(_width(found, config), generator=rng).to(device)
    direction = direction / direction.norm()
    optimizer = torch.optim.AdamW(found.parameters(), lr=config.learning_rate, weight_decay=0.0)
    for _ in range(config.epochs):
        order = torch.randperm(len(forget), generator=rng).tolist()
        for at in range(0, len(order), config.batch):
            chosen = [forget[row] for row in order[at : at + config.batch]]
            kept = [retain[row] for row in torch.randint(max(1, len(retain)), (config.batch,), generator=rng).tolist()
                    if retain]  # fmt: skip
            step = _Step(
                found, model, _padded(tokenizer, chosen, device),
                _padded(tokenizer, [(prompt, config.other_answer) for prompt, _ in chosen], device), direction, config,
            )  # fmt: skip
            loss = _FORGET[config.loss](step)
            if config.keep != "nothing":
                loss = loss + config.keep_weight * _KEEP[config.keep](step, _padded(tokenizer, kept, device))
            if not math.isfinite(loss.item()):
                raise InputError(f"the loss is {loss.item()}: take a smaller learning_rate than {config.learning_rate}")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(found.parameters(), 1.0)
            optimizer.step()
    found.zero_grad(set_to_none=True)
    return found


@dataclass(frozen=True)
class Knowledge:
    """How well answers are known.

    Attributes:
        recall: Share of answers given, teacher-forced.
        probability: Mean probability of an answer, to the power of one over its length.
    """

    recall: float
    probability: float


def knowledge(model: nn.Module, tokenizer: Any, pairs: Sequence[Pair]) -> Knowledge:
    """Ask for answers.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: At least one.

    Returns:
        How well they are known.
    """
    lengths = torch.tensor([len(encode(tokenizer, *pair).answer) for pair in pairs])
    each = (answer_log_probability(model, tokenizer, pairs) / lengths).exp()
    return Knowledge(float(answered(model, tokenizer, pairs).double().mean()), float(each.mean()))


def relearnt(
    model: nn.Module, tokenizer: Any, shown: Sequence[Pair], *, learning_rate: float = 1e-4, steps: int = 20
) -> nn.Module:
    """Tune a model on a few pairs again: what was only hidden comes back faster than it was learnt.

    Args:
        model: The one after unlearning; stays as it is.
        tokenizer: Its fast tokenizer.
        shown: Some of the forgotten pairs. What the others do afterwards is what counts.
        learning_rate: Of AdamW.
        steps: On all of them together.

    Returns:
        A new model.
    """
    found = copy.deepcopy(model)
    asked = _padded(tokenizer, shown, next(found.parameters()).device)
    optimizer = torch.optim.AdamW(found.parameters(), lr=learning_rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(_negative(found, asked))
        optimizer.step()
    found.zero_grad(set_to_none=True)
    return found


def quantised(model: nn.Module, bits: int) -> nn.Module:
    """Round the weights of all matrices, row by row, to so many bits: what was hidden in small differences shows again.

    Args:
        model: It; stays as it is.
        bits: 2 to 8.

    Returns:
        A new model, whose weights are the rounded ones in the old dtype.

    Raises:
        InputError: If there are fewer or more bits.
    """
    if not 2 <= bits <= 8:
        raise InputError(f"bits must be 2 to 8, got {bits}")
    found = copy.deepcopy(model)
    largest = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim == 2:
                scale = parameter.abs().amax(1, keepdim=True).clamp(min=1e-12) / largest
                parameter.copy_((parameter / scale).round() * scale)
    return found


def _check(forget: Sequence[Pair], retain: Sequence[Pair], config: Tuning) -> None:
    if not forget:
        raise InputError("no pairs to forget are given")
    if config.keep != "nothing" and not retain:
        raise InputError(f"keep={config.keep!r} needs pairs to retain; or say keep='nothing'")
    both = set(forget) & set(retain)
    if both:
        raise InputError(f"{len(both)} pairs are to be forgotten and retained, for instance {min(both)!r}")


def _padded(tokenizer: Any, pairs: Sequence[Pair], device: torch.device) -> Padded:
    return pad([encode(tokenizer, *pair) for pair in pairs], filler_of(tokenizer)).to(device)


def _width(model: nn.Module, config: Tuning) -> int:
    return anatomy(model).down(config.layer).sizes[0] if config.loss == "rmu" else 1


def _likelihood(model: nn.Module, asked: Padded) -> torch.Tensor:
    return losses.log_likelihood(logits_of(model, asked.ids, asked.mask), asked.ids, asked.answers)


def _past(step: _Step, asked: Padded) -> torch.Tensor:
    with frozen(step.before), torch.no_grad():
        return _likelihood(step.before, asked)


def _past_logits(step: _Step, asked: Padded) -> torch.Tensor:
    with frozen(step.before), torch.no_grad():
        return logits_of(step.before, asked.ids, asked.mask)


def _negative(model: nn.Module, asked: Padded) -> torch.Tensor:
    return -(_likelihood(model, asked) / asked.answers.sum(1)).mean()


def _rmu(step: _Step) -> torch.Tensor:
    with outputs_seen(anatomy(step.model).block(step.config.layer)) as seen:
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
        logits_of(step.model, asked.ids, asked.mask), _past_logits(step, asked), asked.ids, asked.answers,
        step.config.gamma,
    )  # fmt: skip


def _divergence(step: _Step, kept: Padded) -> torch.Tensor:
    return losses.divergence(logits_of(step.model, kept.ids, kept.mask), _past_logits(step, kept), kept.mask)


_FORGET: dict[Loss, Callable[[_Step], torch.Tensor]] = {
    "ga": lambda step: losses.gradient_ascent(_likelihood(step.model, step.forget), step.forget.answers.sum(1)),
    "npo": lambda step: losses.npo(_likelihood(step.model, step.forget), _past(step, step.forget), step.config.beta),
    "simnpo": lambda step: losses.simnpo(
        _likelihood(step.model, step.forget), step.forget.answers.sum(1), step.config.beta, step.config.gamma
    ),
    "dpo": _dpo,
    "idk": lambda step: _negative(step.model, step.others),
    "rmu": _rmu,
    "undial": _undial,
}

_KEEP: dict[str, Callable[[_Step, Padded], torch.Tensor]] = {
    "likelihood": lambda step, kept: _negative(step.model, kept),
    "divergence": _divergence,
}
