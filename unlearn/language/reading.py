"""Read a growing text with a model, and let it go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import nn

from unlearn.language.calls import CACHES, cache_of
from unlearn.language.hooks import logits_of, read_logits
from unlearn.language.text import encode, filler_of


class Reader:
    """Reads a growing text with one model; what was read is cached, where the model can."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # Found once: to go through them at every token would cost a small model a good part of it.
        self._modules = tuple(model.modules())
        self._cache: Any = None
        # What the argument and the result are called depends on the version of transformers.
        taken = signature(model.forward).parameters
        self._name = next((name for name in CACHES if name in taken), None)
        # Models without attention cache one state, and multiply every new token by all of a mask they are given.
        attends = hasattr(getattr(model, "config", None), "num_attention_heads")
        self._recurrent = bool(getattr(model, "_is_stateful", False)) and not attends

    def next(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits of what comes after all ids.

        Args:
            ids: `[n, T]` int64; those of the last call, and one more each.
            mask: `[n, T]`, 0 where there is padding, which stands on the left.

        Returns:
            `[n, vocabulary]`.
        """
        with self._evaluating(), torch.no_grad():
            if self._name is None:
                return logits_of(self._model, ids, None if bool(mask[:, 0].all()) else mask)[:, -1]
            positions = (mask.long().cumsum(1) - 1).clamp(min=0)
            new = slice(None) if self._cache is None else slice(-1, None)
            options = {
                "attention_mask": mask[:, new] if self._recurrent else mask,
                "position_ids": positions[:, new],
                self._name: self._cache,
            }
            said = self._model(ids[:, new], use_cache=True, **options)
            self._cache = cache_of(said)  # none from some: they read all anew
            return read_logits(said)[:, -1]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout; the model is as before afterwards."""
        training = [module for module in self._modules if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


def greedy(
    model: nn.Module, tokenizer: Any, prompts: Sequence[str], lengths: Sequence[int], *, batch: int = 64
) -> list[str]:
    """Let a model go on, always with the likeliest token.

    Args:
        model: A causal language model; if prompts differ in length, one that takes a mask.
        tokenizer: Its fast tokenizer.
        prompts: What it is given.
        lengths: After each, at most so many tokens; fewer, if the end of the text comes first.
        batch: So many at a time, of like length.

    Returns:
        What it says, without the prompts.
    """
    texts = [encode(tokenizer, prompt).ids for prompt in prompts]
    order = sorted(range(len(texts)), key=lambda at: (len(texts[at]), lengths[at]))
    said = [""] * len(texts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        found = _continued(model, tokenizer, [texts[row] for row in rows], [lengths[row] for row in rows])
        for row, ids in zip(rows, found, strict=True):
            kept = ids[: lengths[row]].tolist()
            end = kept.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in kept else len(kept)
            said[row] = str(tokenizer.decode(kept[:end]))
    return said


def _continued(model: nn.Module, tokenizer: Any, texts: Sequence[torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
    """`[n, longest]` ids after texts that are padded on the left; after its own length, a row's mean nothing."""
    device = next(model.parameters()).device
    width = max(len(text) for text in texts)
    ids = torch.full((len(texts), width), filler_of(tokenizer), device=device)
    mask = torch.zeros((len(texts), width), dtype=torch.int64, device=device)
    for row, text in enumerate(texts):
        ids[row, width - len(text) :] = text.to(device)
        mask[row, width - len(text) :] = 1
    reader = Reader(model)
    wanted = torch.tensor(lengths, device=device)
    for step in range(max(lengths)):
        ids = torch.cat([ids, reader.next(ids, mask).argmax(-1, keepdim=True)], 1)
        # Who has enough waits for the others without going on: its text may fill the model's window already.
        mask = torch.cat([mask, (step + 1 < wanted)[:, None].to(mask)], 1)
    return ids[:, width:]
