"""A language model that knows a small world, trained once; and models of every kind with random weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from experiments.worlds.facts import World, tokenizer_of, world
from experiments.worlds.training import Size, fresh, recall, train


@dataclass(frozen=True, eq=False)
class Knowing:
    """A model, its tokenizer and what it knows."""

    model: nn.Module
    tokenizer: Any
    world: World


@pytest.fixture(scope="session")
def _trained() -> Knowing:
    small = world(24, relations=2)
    size = Size(width=48, layers=3, learning_rate=4e-3, steps=1500, batch=12)
    tokenizer = tokenizer_of(small.sentences)
    model = fresh(size, len(tokenizer))
    train(model, tokenizer, small, size)
    assert recall(model, tokenizer, small) == 1
    return Knowing(model.eval(), tokenizer, small)


@pytest.fixture
def knowing(_trained: Knowing) -> Knowing:
    """A copy of the trained model, for each test its own."""
    return Knowing(copy.deepcopy(_trained.model), _trained.tokenizer, _trained.world)


KINDS = (
    "gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma",
    "smollm3", "starcoder2",
)  # fmt: skip
"""Every architecture whose inside is known."""


def made(kind: str, vocabulary: int, **more: Any) -> nn.Module:
    """A tiny model of a kind, with random weights, and further entries of its configuration."""
    import transformers

    small: dict[str, Any] = {
        "vocab_size": vocabulary, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    llama = {"intermediate_size": 48, "num_key_value_heads": 2}
    name, extra = {
        "gpt2": ("GPT2", {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}),
        "gpt_neo": ("GPTNeo", {"num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]}),
        "gptj": ("GPTJ", {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 8}),
        "gpt_neox": ("GPTNeoX", {"intermediate_size": 48}),
        "opt": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        "llama": ("Llama", llama),
        "mistral": ("Mistral", llama),
        "qwen2": ("Qwen2", llama),
        "qwen3": ("Qwen3", {**llama, "head_dim": 16}),
        "phi": ("Phi", {"intermediate_size": 48}),
        "phi3": ("Phi3", llama),
        "gemma": ("Gemma", {**llama, "head_dim": 16}),
        "smollm3": ("SmolLM3", llama),
        "starcoder2": ("Starcoder2", llama),
    }[kind]
    config = getattr(transformers, f"{name}Config")(**{**small, **extra, **more})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found: nn.Module = getattr(transformers, f"{name}ForCausalLM" if name != "GPT2" else "GPT2LMHeadModel")(config)
    return found.eval()


def state_of(model: nn.Module) -> dict[str, bytes]:
    """Every byte of its weights."""
    return {name: value.detach().numpy().tobytes() for name, value in model.state_dict().items()}
