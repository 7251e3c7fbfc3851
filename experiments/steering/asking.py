"""Ask models that are steered, or not: recall, perplexity, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from unlearn.language.decoding.proxy import Steered
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.text import encode, filler_of, pad

Pair = tuple[str, str]
Model = nn.Module | Steered


def recall(model: Model, tokenizer: Any, asked: Sequence[Pair]) -> float:
    """Share of answers that a model gives, teacher-forced.

    Args:
        model: It, steered or not.
        tokenizer: Its tokenizer.
        asked: Prompts with answers.

    Returns:
        In [0, 1].
    """
    logits, ids, wanted = _read(model, tokenizer, asked)
    return float(((logits.argmax(-1) == ids) | ~wanted).all(1).double().mean())


def perplexity(model: Model, tokenizer: Any, asked: Sequence[Pair]) -> float:
    """Of the answers' tokens.

    Args:
        model: It, steered or not.
        tokenizer: Its tokenizer.
        asked: Prompts with answers.

    Returns:
        At least 1.
    """
    logits, ids, wanted = _read(model, tokenizer, asked)
    each = logits.double().log_softmax(-1).gather(2, ids[..., None])[..., 0]
    return math.exp(-float(each[wanted].mean()))


def texts(
    model: Model, tokenizer: Any, prompts: Sequence[str], length: int, *, samples: int = 0, seed: int = 0
) -> list[list[str]]:
    """What a model says after prompts.

    Args:
        model: It, steered or not.
        tokenizer: Its tokenizer.
        prompts: All of as many tokens.
        length: At most so many new tokens.
        samples: So many texts are drawn for each prompt; 0: the one of which each token is the likeliest.
        seed: They are drawn from it.

    Returns:
        For each prompt its texts, up to their ends.
    """
    ids = torch.stack([encode(tokenizer, prompt).ids for prompt in prompts])
    options: dict[str, Any] = {"max_new_tokens": length, "pad_token_id": tokenizer.pad_token_id}
    options |= {"do_sample": True, "top_k": 0} if samples else {"do_sample": False}
    each = max(1, samples)
    ids = ids.repeat_interleave(each, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(model, Steered):
            found = model.generate(ids, **options)
        else:
            with frozen(model):
                found = model.generate(ids, attention_mask=torch.ones_like(ids), **options)  # type: ignore[operator]
    said = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in found[:, ids.shape[1] :]]
    return [said[at : at + each] for at in range(0, len(said), each)]


def _read(model: Model, tokenizer: Any, asked: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits `[n, T, vocabulary]`, the ids `[n, T]` that follow, and which of them are answers."""
    padded = pad([encode(tokenizer, *pair) for pair in asked], filler_of(tokenizer))
    if isinstance(model, Steered):
        logits = model.logits(padded.ids, padded.mask)
    else:
        with frozen(model), torch.no_grad():
            logits = logits_of(model, padded.ids, padded.mask)
    return logits[:, :-1], padded.ids[:, 1:], padded.answers[:, 1:]
