"""What a steered token costs, beside what its three models cost apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from experiments.worlds.training import Size, fresh
from unlearn.language.decoding.proxy import ProxyTuner
from unlearn.language.reading import Reader


def cost(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Measure three ways to make the same number of tokens, in turn, over and over; weights are random.

    Args:
        setting: `base` and `helper` (width and layers each), `vocabulary`, `tokens` and `runs`.

    Returns:
        Processor milliseconds a token, each the median of all runs: `steered`; `apart`, where each model generates
        alone, one after the other; `in_turn`, where each reads one token before the next does, with caches and
        nothing else around. And `ratio` and `ratio_in_turn`: the median of steered over these, run by run.
    """
    sizes = [setting["base"], setting["helper"], setting["helper"]]
    base, expert, antiexpert = (
        fresh(Size(width=width, layers=layers, seed=seed), setting["vocabulary"]).eval()
        for seed, (width, layers) in enumerate(sizes)
    )
    tuner = ProxyTuner(base, expert, antiexpert)
    ids = torch.tensor([[5, 6, 7, 8]])
    tokens = setting["tokens"]
    fixed = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    ways: dict[str, Callable[[], Any]] = {
        "steered": lambda: tuner.generate(ids, **fixed),
        "apart": lambda: [_alone(model, ids, fixed) for model in (base, expert, antiexpert)],
        "in_turn": lambda: in_turn((base, expert, antiexpert), ids, tokens),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(setting["runs"] + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            # The first run warms up.
            if run:
                spent[name].append((time.process_time() - started) * 1e3 / tokens)
    medians = {name: float(np.median(values)) for name, values in spent.items()}
    ratios = {
        key: float(np.median(np.divide(spent["steered"], spent[name])))
        for key, name in (("ratio", "apart"), ("ratio_in_turn", "in_turn"))
    }
    return {**setting, **medians, **ratios}


def in_turn(models: Sequence[torch.nn.Module], ids: torch.Tensor, tokens: int) -> list[torch.Tensor]:
    """Let models go on, a token each in turn.

    Args:
        models: All.
        ids: `[n, T]` int64.
        tokens: How many new ones.

    Returns:
        For each model `[n, T + tokens]`.
    """
    readers = [Reader(model) for model in models]
    texts = [ids] * len(models)
    for _ in range(tokens):
        texts = [
            torch.cat([text, reader.next(text, torch.ones_like(text)).argmax(-1, keepdim=True)], 1)
            for reader, text in zip(readers, texts, strict=True)
        ]
    return texts


def _alone(model: Any, ids: torch.Tensor, fixed: Mapping[str, Any]) -> Any:
    return model.generate(ids, attention_mask=torch.ones_like(ids), **fixed)
