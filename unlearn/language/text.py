"""Text to tokens: at which of them a fact is edited, and which are the answer.

Positions come from the offsets a fast tokenizer gives, so neither leading spaces nor word-level vocabularies matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from unlearn.errors import ConfigurationError, InputError

Site = Literal["subject_last", "last"]
"""At which token of a prompt a fact is edited: the last one of its subject, or the last one of all."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A prompt followed by an answer.

    Attributes:
        ids: `[T]` int64.
        start: Where the answer begins.
        site: Position of the token at which it is edited; None: it names no subject.
    """

    ids: torch.Tensor
    start: int
    site: int | None

    @property
    def answer(self) -> torch.Tensor:
        """`[T - start]` token ids of the answer."""
        return self.ids[self.start :]


@dataclass(frozen=True, eq=False)
class Padded:
    """Several texts side by side, padded on the right.

    Attributes:
        ids: `[n, T]` int64.
        mask: `[n, T]` int64, 0 where there is padding.
        answers: `[n, T]` bool: tokens of the answers.
        sites: `[n]` int64: positions of the tokens at which they are edited; -1: none.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor
    sites: torch.Tensor

    def to(self, device: torch.device) -> Padded:
        """The same elsewhere.

        Args:
            device: Where.

        Returns:
            All tensors there.
        """
        return Padded(*(part.to(device) for part in (self.ids, self.mask, self.answers, self.sites)))


def encode(
    tokenizer: Any,
    prompt: str,
    answer: str = "",
    subject: str | None = None,
    *,
    prefix: str = "",
    site: Site = "subject_last",
) -> Encoded:
    """Tokenize a prompt and its answer as one text.

    Args:
        tokenizer: A fast tokenizer of transformers, or whatever takes `return_offsets_mapping=True` as they do.
        prompt: The prompt; holds the subject, if there is one.
        answer: What follows it; a space is put between where no white space is.
        subject: Whose last token is looked for, at its first occurrence in the prompt that is no part of another word;
            spaces around it do not count. None: no token is.
        prefix: Stands before all.
        site: Which token is looked for where there is a subject.

    Returns:
        The tokens.

    Raises:
        ConfigurationError: If the tokenizer gives no offsets.
        InputError: If the subject is not in the prompt, or a part has no token of its own.
    """
    before = f"{prefix}{prompt}"
    gap = "" if not answer or before[-1:].isspace() or answer[0].isspace() else " "
    ids, offsets = _tokens(tokenizer, f"{before}{gap}{answer}")
    start = next((at for at, (_, end) in enumerate(offsets) if end > len(before)), len(ids)) if answer else len(ids)
    if answer and start == len(ids):
        raise InputError(f"the answer {answer!r} has no token of its own after {prompt!r}")
    if start == 0:
        raise InputError(f"the prompt {prompt!r} has no token")
    if subject is None:
        return Encoded(torch.tensor(ids), start, None)
    ends = _of(subject, prompt, len(prefix), offsets)[-1]
    return Encoded(torch.tensor(ids), start, ends if site == "subject_last" else start - 1)


def tokens_of(tokenizer: Any, prompt: str, subject: str) -> list[int]:
    """Where a subject stands in a prompt.

    Args:
        tokenizer: As for `encode`.
        prompt: The prompt.
        subject: Its first occurrence is taken, as by `encode`.

    Returns:
        Positions of its tokens, at least one, in order.

    Raises:
        ConfigurationError: If the tokenizer gives no offsets.
        InputError: If the subject is not in the prompt, or has no token of its own.
    """
    return _of(subject, prompt, 0, _tokens(tokenizer, prompt)[1])


def first_of(tokenizer: Any, text: str) -> torch.Tensor:
    """What a text begins with.

    Args:
        tokenizer: As for `encode`.
        text: It.

    Returns:
        `[n]` int64: the first token that stands for something in it, after a mark of the beginning, if the tokenizer
        adds one.

    Raises:
        ConfigurationError: If the tokenizer gives no offsets.
        InputError: If the text has no token.
    """
    ids, offsets = _tokens(tokenizer, text)
    at = next((at for at, (start, end) in enumerate(offsets) if end > start), None)
    if at is None:
        raise InputError(f"the text {text!r} has no token")
    return torch.tensor(ids[: at + 1])


def is_known(tokenizer: Any, answer: torch.Tensor) -> bool:
    """Whether an answer's tokens say what it is: none stands for whatever the tokenizer does not know.

    Args:
        tokenizer: Its tokenizer.
        answer: `[n]` token ids.

    Returns:
        True where the tokenizer knows no such token.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        # A tokenizer that was loaded from its file alone says so only here.
        inside = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        token = getattr(inside, "unk_token", None)
        unknown = inside.token_to_id(token) if inside is not None and token else None
    return unknown is None or not bool((answer == unknown).any())


def pad(texts: Sequence[Encoded], filler: int) -> Padded:
    """Put texts side by side.

    Args:
        texts: At least one.
        filler: Token id in the place of what is missing.

    Returns:
        All of them, padded on the right.
    """
    longest = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), longest), filler)
    mask = torch.zeros((len(texts), longest), dtype=torch.int64)
    answers = torch.zeros((len(texts), longest), dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = text.ids
        mask[row, : len(text.ids)] = 1
        answers[row, text.start : len(text.ids)] = True
    return Padded(ids, mask, answers, torch.tensor([-1 if text.site is None else text.site for text in texts]))


def filler_of(tokenizer: Any) -> int:
    """A token id to pad with: its value never matters, since padding stands after what is read.

    Args:
        tokenizer: It.

    Returns:
        The padding token, or else the end-of-text token, or else 0.
    """
    for name in ("pad_token_id", "eos_token_id"):
        found = getattr(tokenizer, name, None)
        if isinstance(found, int):
            return found
    return 0


def same_vocabulary(first: Any, second: Any, what: str) -> None:
    """Refuse two tokenizers that number tokens differently.

    Args:
        first: A tokenizer.
        second: Another.
        what: They belong to, in a message.

    Raises:
        InputError: If a token has another number, or is missing, in one of them.
    """
    ours, theirs = first.get_vocab(), second.get_vocab()
    if ours != theirs:
        differing = next(token for token in {*ours, *theirs} if ours.get(token) != theirs.get(token))
        raise InputError(
            f"the tokenizers of {what} differ, for instance in {differing!r} ({ours.get(differing)} and "
            f"{theirs.get(differing)}): logits can be combined only where each number means the same token"
        )


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    try:
        found = tokenizer(text, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise ConfigurationError(
            f"{type(tokenizer).__name__} does not say where tokens stand in the text: load the fast version "
            "(AutoTokenizer.from_pretrained(…, use_fast=True))"
        ) from error
    ids, offsets = list(found["input_ids"]), [(int(start), int(end)) for start, end in found["offset_mapping"]]
    # A mark of the end, which some tokenizers add, is no part of what is said; one of the beginning stays.
    while ids and offsets[-1][0] == offsets[-1][1]:
        ids.pop()
        offsets.pop()
    return ids, offsets


def _of(subject: str, prompt: str, shift: int, offsets: Sequence[tuple[int, int]]) -> list[int]:
    name = subject.strip()
    found_at = [at for at in range(len(prompt)) if prompt.startswith(name, at)]
    if not name or not found_at:
        raise InputError(f"the subject {subject!r} is not in the prompt {prompt!r}: a prompt must name its subject")
    at = next((at for at in found_at if _apart(prompt, at, at + len(name))), found_at[0])
    end = shift + at + len(name)
    found = [place for place, (start, stop) in enumerate(offsets) if start < end and stop > shift + at]
    if not found:
        raise InputError(f"the subject {subject!r} has no token of its own in {prompt!r}")
    return found


def _apart(text: str, start: int, end: int) -> bool:
    """Whether a part of a text is no part of a word: "Ann" of "Ann's", not of "annual"."""
    joined = (text[start - 1 : start] + text[start], text[end - 1] + text[end : end + 1])
    return not any(len(pair) == 2 and pair.isalnum() for pair in joined)
