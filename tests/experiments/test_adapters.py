"""Adapters in shards with almost no work; and the published model that they stand on."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.adapters.model import PADDING, classifier
from experiments.adapters.run import BENCHMARK, DATA, LOST
from experiments.worlds.stories import BEGIN, StoriesTokenizer, load_model

STORIES = DATA / "stories260K"

pytestmark = pytest.mark.skipif(not STORIES.is_dir(), reason=f"needs the published model in {STORIES}")


@pytest.fixture(scope="module")
def tokenizer() -> StoriesTokenizer:
    return StoriesTokenizer.load(STORIES / "tok512.bin", 512)


def test_the_published_model_tells_its_story(tokenizer: StoriesTokenizer) -> None:
    # As llama2.c's own test has it at temperature 0.
    told = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she"
    model = load_model(STORIES / "stories260K.bin")
    said = model.generate(torch.tensor([[BEGIN]]), max_new_tokens=60, do_sample=False, pad_token_id=PADDING)
    assert tokenizer.decode(said[0].tolist()).startswith(told)
    assert sum(map(torch.numel, model.parameters())) == 260_032


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes((STORIES / "stories260K.bin").read_bytes()[:-4])
    with pytest.raises(ValueError, match="its header says"):
        load_model(tmp_path / "m.bin")


@pytest.mark.parametrize("text", ["One day", "Naïve 日本 cost $3 \t\n", ""])
def test_texts_come_back(tokenizer: StoriesTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_best_pair_is_joined_first(tmp_path: Path) -> None:
    pieces = [b"?"] * 259 + [b" ", b"a", b"b", b"ab", b"ba", b" a"]
    scores = [0.0] * 262 + [1.0, 3.0, 2.0]
    written = b"".join(struct.pack("<fi", s, len(p)) + p for s, p in zip(scores, pieces, strict=True))
    (tmp_path / "t.bin").write_bytes(struct.pack("<i", 2) + written)
    found = StoriesTokenizer.load(tmp_path / "t.bin", len(pieces))
    assert [found.pieces[token] for token in found.encode("aba")[1:]] == [b" a", b"ba"]
    assert [found.pieces[token] for token in found.encode("ab")[1:]] == [b" a", b"b"]


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = classifier(3, vocab_size=20, **sizes).eval()
    x = torch.tensor([[1, 4, 7, 2]])
    padded = torch.nn.functional.pad(x, (0, 3), value=PADDING)
    torch.testing.assert_close(model(padded), model(x))
    assert not torch.allclose(model(torch.nn.functional.pad(x, (0, 3), value=5)), model(x))


@pytest.mark.slow
def test_every_figure_is_there_and_forgetting_is_exact(tmp_path: Path) -> None:
    setting = BENCHMARK.setting(quick=True)
    training = {**setting["training"], "epochs": 1}
    figures = {
        figure.name: figure
        for figure in BENCHMARK.measure({**setting, "records": 120, "training": training}, tmp_path, lambda _: None)
    }
    for kind in ("adapters", "head", "whole"):
        assert figures[f"{kind}.shards.exact"].value == 1
        assert 0 < figures[f"{kind}.shards.visits_share"].value < 1
        assert 0.1 < figures[f"{kind}.one.accuracy"].value < 1
    share = [figures[f"{kind}.shards.checkpoint"].value for kind in ("head", "adapters", "whole")]
    assert share == sorted(share)
    assert share[-1] == 1
    assert figures["adapters.lost"].at_most == LOST
    assert np.isfinite([figure.value for figure in figures.values()]).all()
