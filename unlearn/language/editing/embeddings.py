"""Texts as means of a model's own word embeddings: enough to say which texts are alike, and asks for no other model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from unlearn.errors import ConfigurationError
from unlearn.language.text import encode


def embedding_of(model: nn.Module) -> nn.Embedding:
    """The word embedding of a model.

    Args:
        model: A causal language model.

    Returns:
        What `get_input_embeddings` gives, or else the first embedding in it.

    Raises:
        ConfigurationError: If it has none.
    """
    get = getattr(model, "get_input_embeddings", None)
    found = get() if get is not None else next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
    if not isinstance(found, nn.Embedding):
        raise ConfigurationError(f"{type(model).__name__} has no word embedding to compare texts by")
    return found


def mean_embeddings(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """The mean embedding of each text's tokens.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        texts: At least one.

    Returns:
        `[n, d]`, each of length 1.
    """
    weight = embedding_of(model).weight.detach()
    means = [weight[encode(tokenizer, text).ids.to(weight.device)].mean(0) for text in texts]
    return nn.functional.normalize(torch.stack(means).float(), dim=1)
