"""Positions in texts, with tokenizers that work by words and by bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from experiments.worlds.facts import tokenizer_of
from unlearn.errors import ConfigurationError, InputError
from unlearn.language.text import encode, first_of, is_known, pad, same_vocabulary, tokens_of

GPT2 = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[4] / "shared" / "data")) / "tokenizers" / "gpt2"
WORDS = tokenizer_of(["the mother tongue of Ann Lee is Dutch ."])


def test_the_subjects_last_token_and_the_answer() -> None:
    found = encode(WORDS, "the mother tongue of Ann Lee is", "Dutch", "Ann Lee")
    assert WORDS.decode(found.ids[found.site]) == "Lee"
    assert WORDS.decode(found.answer) == "Dutch"
    later = encode(WORDS, "the mother tongue of Ann Lee is", "Dutch", "Ann Lee", prefix="Dutch Ann Lee . ")
    assert later.site == (found.site or 0) + 4
    assert torch.equal(later.answer, found.answer)
    at_the_end = encode(WORDS, "the mother tongue of Ann Lee is", "Dutch", "Ann Lee", site="last")
    assert WORDS.decode(at_the_end.ids[at_the_end.site]) == "is"
    assert encode(WORDS, "the mother tongue of Ann Lee is", subject="Ann Lee", site="last").site == at_the_end.site
    assert tokens_of(WORDS, "the mother tongue of Ann Lee is", "Ann Lee") == [4, 5]


@pytest.mark.skipif(not GPT2.is_dir(), reason="needs UNLEARN_DATA/tokenizers/gpt2")
def test_a_byte_level_tokenizer() -> None:
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast(str(GPT2 / "vocab.json"), str(GPT2 / "merges.txt"))
    for subject in ("Danielle Darrieux", "Łódź"):
        for prompt in (f"{subject} speaks", f"The tongue of {subject} is", f"{subject}, born as {subject}, speaks"):
            found = encode(tokenizer, prompt, "English", subject)
            assert tokenizer.decode(found.answer) == " English"
            upto = tokenizer.decode(found.ids[: (found.site or 0) + 1])
            assert upto.endswith(subject)
            assert len(upto) <= prompt.index(subject) + len(subject)
    assert tokenizer.decode(encode(tokenizer, "User: who?\nModel:\n", "Ann").answer) == "Ann"


@pytest.mark.parametrize(
    ("prompt", "subject", "last"),
    [
        ("annual report of ann says", "ann", 3),  # not within another word
        ("the banns of joann", "ann", 1),  # unless it stands nowhere else
        ("who is ann", " ann", 2),
        ("ann says no", "ann ", 0),
        ("ann's house", "ann", 0),
        ("ann", "ann", 0),
    ],
)
def test_a_subject_is_a_word_of_its_own(prompt: str, subject: str, last: int) -> None:
    def spaced(text: str, **_: Any) -> Any:
        """Tokens hold the space before them, as those of byte-level tokenizers do."""
        ends = [at for at in range(len(text)) if text[at] == " "] + [len(text)]
        return {"input_ids": ends, "offset_mapping": list(zip([0, *ends], ends, strict=False))}

    assert encode(spaced, prompt, subject=subject).site == last


def test_padding_stands_on_the_right() -> None:
    texts = [encode(WORDS, "Ann Lee", "is Dutch", "Ann Lee"), encode(WORDS, "Ann", "is")]
    padded = pad(texts, 0)
    assert padded.mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert padded.answers.tolist() == [[False, False, True, True], [False, True, False, False]]
    assert padded.sites.tolist() == [1, -1]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="is not in the prompt"):
        encode(WORDS, "Ann speaks", "Dutch", "Bob")
    with pytest.raises(InputError, match="has no token"):
        encode(WORDS, "", "Dutch")
    with pytest.raises(InputError, match="no token of its own"):
        encode(WORDS, "Ann", " ")
    with pytest.raises(InputError, match="each number means the same token"):
        same_vocabulary(WORDS, tokenizer_of(["Ann"]), "base and expert")
    same_vocabulary(WORDS, WORDS, "both")


def test_a_tokenizer_without_offsets() -> None:
    def slow(text: str, **_: Any) -> Any:
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match="load the fast version"):
        encode(slow, "Ann", "Dutch")


def _made(model: Any, *, mark: bool = False, **options: Any) -> Any:
    inside = Tokenizer(model)
    inside.pre_tokenizer = pre_tokenizers.Whitespace()
    if mark:
        inside.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inside, **options)  # type: ignore[no-untyped-call]


VOCABULARY = {"?": 0, "<s>": 1, "Ann": 2, "speaks": 3, "Dutch": 4}


def test_what_a_text_begins_with_is_no_mark() -> None:
    plain, marked = (_made(models.WordLevel(VOCABULARY, "?"), mark=mark) for mark in (False, True))
    assert first_of(plain, "Ann speaks").tolist() == [2]
    assert first_of(marked, "Ann speaks").tolist() == [1, 2]
    assert first_of(marked, " speaks Ann").tolist() == [1, 3]
    with pytest.raises(InputError, match="has no token"):
        first_of(marked, " ")


def test_answers_are_known_if_each_token_is() -> None:
    parts = [(token, -1.0) for token in VOCABULARY]
    for tokenizer in (
        _made(models.WordLevel(VOCABULARY, "?")),
        _made(models.WordLevel(VOCABULARY, "?"), unk_token="?"),
        _made(models.Unigram(parts, 0), unk_token="?"),
    ):
        for answer, known in (("Dutch", True), ("Dutch Ann", True), ("Danish", False), ("Dutch Danish", False)):
            assert is_known(tokenizer, encode(tokenizer, "Ann speaks", answer).answer) == known
    assert is_known(_made(models.BPE(VOCABULARY, [])), torch.tensor([0, 2]))
    assert is_known(lambda text, **_: None, torch.tensor([0]))
