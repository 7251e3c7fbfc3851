"""Teach a small model questions and answers from nothing; kept in a folder, under what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.worlds.training import Size, fresh
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode, filler_of, pad

Pair = tuple[str, str]


def taught(tokenizer: Any, pairs: Sequence[Pair], size: Size, cache: Path | None = None) -> nn.Module:
    """A model that was taught all answers.

    Args:
        tokenizer: Of all texts.
        pairs: Questions and answers.
        size: The model, and how it is trained; `batch` pairs a step, `length` is not used.
        cache: Folder in which trained models are kept; None: nowhere.

    Returns:
        The model in evaluation mode.
    """
    model = fresh(size, len(tokenizer))
    path = None if cache is None else cache / f"{_name(tokenizer, pairs, size)}.safetensors"
    if path is not None and path.exists():
        from safetensors.torch import load_model

        load_model(model, path)
    else:
        teach(model, tokenizer, pairs, size)
        if path is not None:
            from safetensors.torch import save_model

            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(model, str(path))
    return model.eval()


def teach(model: nn.Module, tokenizer: Any, pairs: Sequence[Pair], size: Size) -> None:
    """Train on the answers' tokens, pairs of like length side by side, batches in an order drawn anew for each pass.

    Args:
        model: It; is changed.
        tokenizer: Its tokenizer.
        pairs: Questions and answers.
        size: How to train.
    """
    rng = torch.Generator().manual_seed(size.seed)
    texts = [encode(tokenizer, *pair) for pair in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, size.learning_rate, size.steps, pct_start=min(0.1, 100 / size.steps)
    )
    model.train()
    step = 0
    while step < size.steps:
        shaken = torch.rand(len(texts), generator=rng) * 8
        order = sorted(range(len(texts)), key=lambda at: len(texts[at].ids) + float(shaken[at]))
        batches = [order[at : at + size.batch] for at in range(0, len(order), size.batch)]
        for at in torch.randperm(len(batches), generator=rng).tolist()[: size.steps - step]:
            padded = pad([texts[row] for row in batches[at]], filler_of(tokenizer))
            wanted = padded.answers[:, 1:]
            logits = logits_of(model, padded.ids, padded.mask)[:, :-1][wanted]
            loss = nn.functional.cross_entropy(logits, padded.ids[:, 1:][wanted])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1


def _name(tokenizer: Any, pairs: Sequence[Pair], size: Size) -> str:
    said = json.dumps([sorted(tokenizer.get_vocab().items()), pairs, asdict(size), torch.__version__])
    return f"tofu-{size.width}x{size.layers}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
