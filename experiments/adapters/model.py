"""The published model with a head for classes in place of the one for words."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

PADDING = 0
"""Id that no text has: the vocabulary can write every byte."""


class Classifier(nn.Module):
    """A language model's hidden states, averaged over a text, and a linear head on them."""

    def __init__(self, model: LlamaModel, n_outputs: int) -> None:
        """Put a head on a model.

        Args:
            model: The model.
            n_outputs: Classes.
        """
        super().__init__()
        self.model = model
        self.score = nn.Linear(model.config.hidden_size, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Token ids `[n, length]`, padded at the end, to logits `[n, classes]`."""
        there = (x != PADDING).unsqueeze(-1)
        # Padding comes last and attention looks back, so no word sees any of it.
        hidden = self.model(input_ids=x, use_cache=False).last_hidden_state
        return self.score((hidden * there).sum(1) / there.sum(1))


def classifier(n_outputs: int, **config: int | float) -> nn.Module:
    """Make it, with weights drawn at random.

    Args:
        n_outputs: Classes.
        **config: Of transformers' Llama.

    Returns:
        Module from token ids `[n, length]` int64 to logits `[n, classes]`.
    """
    return Classifier(LlamaModel(LlamaConfig(**config)), n_outputs)
