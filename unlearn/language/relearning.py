r"""Relearning: tune an unlearnt model on a few pairs, and see whether what it was not shown comes back.

Lynch, Guo, Ewart, Casper & Hadfield-Menell, *Eight methods to evaluate robust unlearning in LLMs*, 2024 (arXiv
2402.16835); Hu, Fu, Wu & Smith, *Unlearning or obfuscating? Jogging the memory of unlearned LLMs via benign
relearning*, 2025 (arXiv 2406.13356); recalled. The pairs shown are some of the forgotten ones, or only such as were to
stay. What comes back says nothing by itself, since forgotten pairs resemble one another: beside it belongs the same
for a model that was trained without them (`returned`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language import losses
from unlearn.language.exact import Descent
from unlearn.language.hooks import logits_of
from unlearn.language.lora import Lora, trainable
from unlearn.language.metrics import answer_log_probability, answered
from unlearn.language.text import Padded, encode, filler_of, pad

Pair = tuple[str, str]
"""A prompt and its answer."""


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
    model: nn.Module,
    tokenizer: Any,
    shown: Sequence[Pair],
    *,
    learning_rate: float = 1e-4,
    steps: int = 20,
    lora: Lora | None = None,
) -> nn.Module:
    """Tune a model on a few pairs again: what was only hidden comes back faster than it was learnt.

    Args:
        model: The one after unlearning; stays as it is.
        tokenizer: Its fast tokenizer.
        shown: Some of the forgotten pairs, or others. What is not shown is what counts.
        learning_rate: Of AdamW.
        steps: On all of them together.
        lora: Adapters that are tuned instead of all weights, and merged at the end; None: all weights are.

    Returns:
        A new model.

    Raises:
        InputError: If nothing is shown.
    """
    if not shown:
        raise InputError("no pairs are shown, so there is nothing to relearn from")
    found = copy.deepcopy(model)
    asked = padded_pairs(tokenizer, shown, next(found.parameters()).device)
    with trainable(found, lora) as parameters:
        descent = Descent(parameters, learning_rate)
        for _ in range(steps):
            descent.step(negative_likelihood(found, asked))
    found.zero_grad(set_to_none=True)
    return found


def returned(before: float, after: float, reference: float, reference_after: float) -> float:
    """How much more came back than a model that never knew would have learnt from the same.

    Args:
        before: Any score of the unlearnt model on what is not shown, such as `Knowledge.probability`.
        after: The same after relearning.
        reference: That of the model trained without the forgotten pairs.
        reference_after: The same after the same relearning.

    Returns:
        The difference of the two gains; about 0: nothing was hidden.
    """
    return (after - before) - (reference_after - reference)


def padded_pairs(tokenizer: Any, pairs: Sequence[Pair], device: torch.device) -> Padded:
    """Pairs side by side.

    Args:
        tokenizer: A fast tokenizer.
        pairs: At least one.
        device: Where they are read.

    Returns:
        All of them, padded on the right.
    """
    return pad([encode(tokenizer, *pair) for pair in pairs], filler_of(tokenizer)).to(device)


def negative_likelihood(model: nn.Module, asked: Padded) -> torch.Tensor:
    """What a model is taught pairs by: minus the mean log-probability of an answer's token, mean over pairs.

    Args:
        model: A causal language model.
        asked: The pairs.

    Returns:
        `[]`.
    """
    likelihood = losses.log_likelihood(logits_of(model, asked.ids, asked.mask), asked.ids, asked.answers)
    return -(likelihood / asked.answers.sum(1)).mean()
