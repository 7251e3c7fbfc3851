"""Contexts: the same prompt after different beginnings, so that an edit holds wherever its subject is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unlearn.language.editing.base import Edit, Task
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.text import Encoded, Site, encode, first_of


@dataclass(frozen=True)
class Contexts:
    """Which beginnings stand before a prompt.

    Attributes:
        lengths: How many tokens each of the sampled beginnings has, without a mark of the beginning; none: the prompt
            is used alone.
        top_k: Tokens are drawn among the so many likeliest.
        separator: Stands between the beginning and the prompt.
        seed: Draws come from it.
    """

    lengths: tuple[int, ...] = (5,) * 10 + (10,) * 10
    top_k: int = 5
    separator: str = ". "
    seed: int = 0


def prefixes(task: Task, contexts: Contexts) -> list[str]:
    """Beginnings, written by the model itself from the first tokens of the user's texts.

    Args:
        task: What the editor was given.
        contexts: How many and how long.

    Returns:
        The empty one, then the sampled ones; the empty one alone if there are no texts to begin from.
    """
    if not task.texts or not contexts.lengths:
        return [""]
    rng = torch.Generator().manual_seed(contexts.seed)
    found = [""]
    with frozen(task.model), torch.no_grad():
        for length in contexts.lengths:
            text = task.texts[int(torch.randint(len(task.texts), (), generator=rng))]
            ids = first_of(task.tokenizer, text).to(task.device)
            whole = _continued(task, ids, length + len(ids) - 1, contexts.top_k, rng)
            found.append(_written(task, whole) + contexts.separator)
    return found


def in_contexts(
    task: Task, beginnings: Sequence[str], edit: Edit, answer: str = "", site: Site = "subject_last"
) -> list[Encoded]:
    """The prompt of an edit after each of the beginnings.

    Args:
        task: What the editor was given.
        beginnings: As `prefixes` returns them.
        edit: Whose prompt.
        answer: What follows it; none: the prompt alone.
        site: At which token it is edited.

    Returns:
        One text for each beginning.
    """
    return [
        encode(task.tokenizer, edit.prompt, answer, edit.subject, prefix=prefix, site=site) for prefix in beginnings
    ]


def _continued(task: Task, ids: torch.Tensor, length: int, top_k: int, rng: torch.Generator) -> torch.Tensor:
    while len(ids) < length:
        logits = logits_of(task.model, ids[None])[0, -1].cpu()
        values, tokens = logits.topk(min(top_k, len(logits)))
        drawn = torch.multinomial(values.softmax(0), 1, generator=rng)
        ids = torch.cat([ids, tokens[drawn].to(ids.device)])
    return ids


def _written(task: Task, ids: torch.Tensor) -> str:
    tokenizer: Any = task.tokenizer
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=True))
