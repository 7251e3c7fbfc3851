"""Train a small language model on a world until it knows every fact; kept in a folder, under what it was made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from experiments.worlds.facts import RELATIONS, World, tokenizer_of
from unlearn.language.hooks import logits_of
from unlearn.language.metrics import answered


@dataclass(frozen=True)
class Size:
    """A model and how it is trained.

    Attributes:
        kind: Architecture.
        width: Of hidden states.
        layers: Blocks.
        heads: Of attention.
        learning_rate: The largest, of AdamW; it rises for 100 steps and falls to a tenth by a cosine.
        steps: So many; training ends earlier once recall is complete.
        batch: Sequences a step.
        length: Tokens a sequence.
        seed: Of initial weights and order.
    """

    kind: Literal["gpt2", "llama"] = "gpt2"
    width: int = 128
    layers: int = 4
    heads: int = 4
    learning_rate: float = 2e-3
    steps: int = 3000
    batch: int = 24
    length: int = 40
    seed: int = 0


def knowing(
    world: World, size: Size, cache: Path | None = None, *, tokenizer: Any = None
) -> tuple[nn.Module, Any, float]:
    """A model that knows a world.

    Args:
        world: All facts.
        size: The model.
        cache: Folder in which trained models are kept; None: nowhere.
        tokenizer: A fast one of transformers; None: one that knows the world's words and nothing else.

    Returns:
        The model in evaluation mode, its tokenizer, and its recall: the share of facts known in all wordings.
    """
    said = [*world.sentences, *([] if tokenizer is None else [tokenizer.backend_tokenizer.to_str()])]
    tokenizer = tokenizer_of(world.sentences) if tokenizer is None else tokenizer
    model = fresh(size, len(tokenizer))
    path = None if cache is None else cache / f"{_name(said, size)}.safetensors"
    if path is not None and path.exists():
        from safetensors.torch import load_model

        load_model(model, path)
    else:
        train(model, tokenizer, world, size)
        if path is not None:
            from safetensors.torch import save_model

            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(model, str(path))
    return model.eval(), tokenizer, recall(model, tokenizer, world)


def fresh(size: Size, vocabulary: int) -> nn.Module:
    """A model with random weights.

    Args:
        size: Its shape.
        vocabulary: How many tokens there are.

    Returns:
        A causal language model of transformers.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    ends: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(size.seed)
        if size.kind == "gpt2":
            config = GPT2Config(
                vocab_size=vocabulary,
                n_positions=256,
                n_embd=size.width,
                n_layer=size.layers,
                n_head=size.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **ends,
            )
            return GPT2LMHeadModel(config)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                max_position_embeddings=256,
                hidden_size=size.width,
                intermediate_size=4 * size.width,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                num_key_value_heads=size.heads,
                tie_word_embeddings=True,
                **ends,
            )
        )


def train(model: nn.Module, tokenizer: Any, world: World, size: Size) -> int:
    """Train on all sentences, packed into sequences in an order drawn anew for each pass.

    Args:
        model: It; is changed.
        tokenizer: Its tokenizer.
        world: What to learn.
        size: How to train.

    Returns:
        How many steps it took.
    """
    rng = torch.Generator().manual_seed(size.seed)
    texts = [torch.tensor(tokenizer(text)["input_ids"]) for text in world.sentences]
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / 100, 0.1 + 0.45 * (1 + torch.tensor(step / size.steps * torch.pi).cos().item())),
    )
    model.train()
    step = 0
    while step < size.steps:
        stream = torch.cat([texts[at] for at in torch.randperm(len(texts), generator=rng)])
        rows = stream[: len(stream) // size.length * size.length].view(-1, size.length)
        for at in range(0, len(rows) - size.batch + 1, size.batch) or [0]:
            ids = rows[at : at + size.batch]
            loss = nn.functional.cross_entropy(logits_of(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0 and recall(model, tokenizer, world) == 1:
                return step
            if step == size.steps:
                break
    return step


def recall(model: nn.Module, tokenizer: Any, world: World) -> float:
    """Share of facts whose answer is the likeliest token after every wording, further prompts counted like facts.

    Args:
        model: It.
        tokenizer: Its tokenizer.
        world: All facts.

    Returns:
        In [0, 1].
    """
    pairs = [(fact.prompt(at), fact.answer) for fact in world.facts for at in range(len(RELATIONS[fact.relation]))]
    told = answered(model, tokenizer, [*pairs, *world.more], batch=512)
    wordings = len(pairs) // max(1, len(world.facts))
    facts = told[: len(pairs)].view(len(world.facts), wordings).all(1)
    return float(torch.cat([facts, told[len(pairs) :]]).double().mean())


def _name(said: list[str], size: Size) -> str:
    whole = json.dumps([said, asdict(size), torch.__version__], sort_keys=True)
    return f"{size.kind}-{size.width}x{size.layers}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
