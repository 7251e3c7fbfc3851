"""A published language model in the format of llama2.c, such as stories260K, for transformers; and its tokenizer.

The format is a header of seven int32, then the weights in float32, without names. Rotary positions turn neighbouring
numbers there, and halves of a head in transformers: rows of the query and key matrices change places.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BEGIN, BYTES = 1, 3
"""Id of what a text begins with, and of the byte zero: the 256 bytes follow each other."""

TURNED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")
"""Weights whose outputs rotate with the position."""


def load_model(path: Path) -> LlamaForCausalLM:
    """Read a model.

    Args:
        path: The file.

    Returns:
        The model, in evaluation mode, float32.

    Raises:
        ValueError: If the file has another length than its header says.
    """
    data = path.read_bytes()
    width, hidden, layers, heads, kv_heads, words, length = struct.unpack_from("<7i", data)
    config = LlamaConfig(
        vocab_size=abs(words),
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=words > 0,
        bos_token_id=BEGIN,
        eos_token_id=BEGIN,
    )
    size = width // heads
    shapes = {
        "model.embed_tokens.weight": (abs(words), width),
        "input_layernorm.weight": (layers, width),
        "self_attn.q_proj.weight": (layers, width, width),
        "self_attn.k_proj.weight": (layers, kv_heads * size, width),
        "self_attn.v_proj.weight": (layers, kv_heads * size, width),
        "self_attn.o_proj.weight": (layers, width, width),
        "post_attention_layernorm.weight": (layers, width),
        "mlp.gate_proj.weight": (layers, hidden, width),
        "mlp.down_proj.weight": (layers, width, hidden),
        "mlp.up_proj.weight": (layers, hidden, width),
        "model.norm.weight": (width,),
        "rotary": (2, length, size // 2),  # follows from the rest
    }
    if words < 0:
        shapes["lm_head.weight"] = (abs(words), width)
    expected = 28 + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data):,} bytes, its header says {expected:,}: it is no such model")
    state, at = {}, 28
    for name, shape in shapes.items():
        value = np.frombuffer(data, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += value.nbytes
        if name in TURNED:
            value = value.reshape(layers, -1, size // 2, 2, width).swapaxes(2, 3).reshape(shape)
        state |= {key: torch.from_numpy(part.copy()) for key, part in _by_layer(name, value)}
    del state["rotary"]
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval()


@dataclass(frozen=True)
class StoriesTokenizer:
    """Byte pairs, joined by score: the best pair first, until none is in the vocabulary.

    Attributes:
        pieces: Each id's bytes.
        scores: Each id's score.
    """

    pieces: Sequence[bytes]
    scores: Sequence[float] = field(repr=False)

    @classmethod
    def load(cls, path: Path, words: int) -> StoriesTokenizer:
        """Read a vocabulary.

        Args:
            path: The file.
            words: How many ids there are.

        Returns:
            The tokenizer.
        """
        data, at, pieces, scores = path.read_bytes(), 4, [], []
        for _ in range(words):
            score, length = struct.unpack_from("<fi", data, at)
            at += 8
            pieces.append(data[at : at + length])
            scores.append(score)
            at += length
        return cls(tuple(pieces), tuple(scores))

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """Bytes to id; those of single bytes written as `<0x41>` are not among them."""
        return {piece: number for number, piece in reversed(list(enumerate(self.pieces)))}

    def encode(self, text: str) -> list[int]:
        """Ids of a text.

        Args:
            text: Any text; a space is put in front of it.

        Returns:
            Ids, the first being that of the beginning.
        """
        tokens: list[int] = []
        for letter in f" {text}":
            data = letter.encode()
            found = self.ids.get(data)
            tokens += [found] if found is not None else [BYTES + byte for byte in data]
        while True:
            pairs = [
                (self.scores[joined], -at)
                for at in range(len(tokens) - 1)
                if (joined := self.ids.get(self._piece(tokens[at]) + self._piece(tokens[at + 1]))) is not None
            ]
            if not pairs:
                return [BEGIN, *tokens]
            at = -max(pairs)[1]
            tokens[at : at + 2] = [self.ids[self._piece(tokens[at]) + self._piece(tokens[at + 1])]]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some ids, without what it begins with."""
        data = b"".join(self._piece(token) for token in tokens if token != BEGIN)
        return data.decode(errors="replace").removeprefix(" ")

    def _piece(self, token: int) -> bytes:
        return bytes([token - BYTES]) if BYTES <= token < BYTES + 256 else self.pieces[token]


def _by_layer(name: str, value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What transformers calls it, layer by layer."""
    if name.startswith(("model.", "lm_head.", "rotary")):
        yield name, value
    else:
        yield from ((f"model.layers.{layer}.{name}", value[layer]) for layer in range(len(value)))
