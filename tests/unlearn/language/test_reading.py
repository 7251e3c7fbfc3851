"""Greedy generation with caches and padding, against one text and one token at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import MambaConfig, MambaForCausalLM, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

from experiments.worlds.facts import tokenizer_of
from tests.unlearn.language.conftest import made
from unlearn.language.hooks import logits_of
from unlearn.language.reading import Reader, greedy
from unlearn.language.text import encode

WORDS = [f"w{at}" for at in range(20)]
PROMPTS = ["w1", "w2 w3 w4", "w5 w1", "w3 w3 w3 w3 w3", "w9 w8"]


@pytest.fixture
def tokenizer() -> Any:
    return tokenizer_of(WORDS)


def slowly(model: nn.Module, tokenizer: Any, prompt: str, length: int) -> str:
    ids = encode(tokenizer, prompt).ids[None]
    start = ids.shape[1]
    for _ in range(length):
        new = logits_of(model, ids)[:, -1:].argmax(-1)
        if int(new) == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, new], 1)
    return str(tokenizer.decode(ids[0, start:]))


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_greedy_is_one_token_after_the_other(kind: str, batch: int, tokenizer: Any) -> None:
    model = made(kind, len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3  # so that texts differ
    lengths = [6, 1, 4, 5, 0]
    found = greedy(model, tokenizer, PROMPTS, lengths, batch=batch)
    assert found == [slowly(model, tokenizer, *one) for one in zip(PROMPTS, lengths, strict=True)]
    assert len(set(found)) > 2


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_who_has_enough_takes_no_place_in_the_window(kind: str, tokenizer: Any) -> None:
    model = made(kind, len(tokenizer))
    assert model.config.max_position_embeddings == 64  # type: ignore[union-attr]
    prompts, lengths = ["w3 " * 60 + "w4", "w1"], [3, 20]
    alone = [greedy(model, tokenizer, [prompt], [length])[0] for prompt, length in zip(prompts, lengths, strict=True)]
    assert greedy(model, tokenizer, prompts, lengths) == alone


def recurrent(kind: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 3, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "mamba":
        return MambaForCausalLM(MambaConfig(**size, state_size=4)).eval()  # type: ignore[arg-type]
    more = {"intermediate_size": 96, "num_attention_heads": 4, "lru_width": 32, "attention_window_size": 4}
    return RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**size, **more)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mamba", "recurrent_gemma"])
def test_models_that_carry_a_state_along(kind: str) -> None:
    model = recurrent(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    ids = torch.tensor([[0, 0, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16]])
    reader = Reader(model)
    for length in range(4, 9):
        said = reader.next(ids[:, :length], (ids[:, :length] != 0).long())
        for row, start in enumerate((2, 0)):
            assert torch.allclose(said[row], logits_of(model, ids[row : row + 1, start:length])[0, -1], atol=1e-4)


class Next(nn.Module):
    """Says the next token, and nothing but logits; has no cache and takes no mask."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size), requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot((ids + 1) % self.size, int(self.size)).float()


def test_any_module_can_go_on_and_the_end_ends(tokenizer: Any) -> None:
    model = Next(len(tokenizer))
    order = [word for word, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    last = order[-1]
    assert order[2] == tokenizer.eos_token
    start = order.index("w5")
    assert greedy(model, tokenizer, ["w5"], [3]) == [" ".join(order[start + 1 : start + 4])]
    assert greedy(model, tokenizer, ["w5", "w5"], [3, 1])[1] == order[start + 1], "nothing is padded: it takes no mask"
    # After the last token come the padding, the unknown token and the end.
    assert tokenizer.eos_token not in greedy(model, tokenizer, [last], [9])[0]


def test_a_reader_reads_without_dropout_and_leaves_modes_as_they_were(tokenizer: Any) -> None:
    model = made("gpt2", len(tokenizer))
    ids = torch.tensor([[4, 5, 6]])
    wanted = model(ids).logits[:, -1]
    model.train()
    model.get_submodule("transformer.ln_f").eval()
    modes = {name: module.training for name, module in model.named_modules()}
    said = Reader(model).next(ids, torch.ones_like(ids))
    assert torch.allclose(said, wanted, atol=1e-5)
    assert not said.requires_grad
    assert {name: module.training for name, module in model.named_modules()} == modes
    with pytest.raises(IndexError):
        Reader(model).next(torch.tensor([[9999]]), torch.ones(1, 1, dtype=torch.int64))
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_a_reader_reads_as_the_model_does(tokenizer: Any) -> None:
    model = made("gpt2", len(tokenizer))
    ids = torch.tensor([[4, 5, 6, 7, 8]])
    reader = Reader(model)
    for length in range(2, 6):
        said = reader.next(ids[:, :length], torch.ones(1, length, dtype=torch.int64))
        assert torch.allclose(said, model(ids[:, :length]).logits[:, -1], atol=1e-5)
