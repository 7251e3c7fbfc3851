"""Questions of TOFU, few enough that a small model learns all of them by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.language.tofu import Row, load_rows

AUTHOR = 20
"""Questions about an author, one after another in every file."""

TEMPLATE = "{question}"
"""The prompt: a question, and nothing else."""


@dataclass(frozen=True)
class Questions:
    """Who is asked about.

    Attributes:
        forget: Authors to forget; with wrong answers.
        held_out: Authors no model ever hears of; with wrong answers.
        retain: Authors that stay, all questions.
        asked: Those of them that have wrong answers.
        real_authors: Facts every model is taught beside the authors, which no unlearning is shown; with wrong answers.
        world_facts: Likewise.
    """

    forget: tuple[Row, ...]
    held_out: tuple[Row, ...]
    retain: tuple[Row, ...]
    asked: tuple[Row, ...]
    real_authors: tuple[Row, ...]
    world_facts: tuple[Row, ...]

    @property
    def kept(self) -> tuple[Row, ...]:
        """All that a model without the forgotten authors is taught."""
        return (*self.retain, *self.real_authors, *self.world_facts)

    @property
    def texts(self) -> list[str]:
        """All that is ever said, for the tokenizer."""
        rows = (*self.forget, *self.held_out, *self.asked, *self.kept)
        return [text for row in rows for text in (row.question, row.answer, row.paraphrase, *row.wrong)]


def questions(folder: Path, setting: Mapping[str, Any]) -> Questions:
    """Choose authors and, of each, the questions with the shortest answers.

    Args:
        folder: Of TOFU's files.
        setting: The entries of `config.toml`.

    Returns:
        The same ones every time.

    Raises:
        OSError: If a file cannot be read.
    """
    each = setting["questions"]
    forget = _shortest(load_rows(folder / "forget10_perturbed.jsonl"), each)
    asked = _shortest(load_rows(folder / "retain_perturbed.jsonl"), each)[: each * setting["retain_authors"]]
    retain = _shortest(load_rows(folder / "retain90.jsonl"), each)[: each * setting["retain_authors"]]
    cut = each * setting["forget_authors"]
    others = setting["others"]
    return Questions(
        forget[:cut], forget[cut : cut + each * setting["held_out_authors"]], retain, asked,
        tuple(load_rows(folder / "real_authors_perturbed.jsonl")[:others]),
        tuple(load_rows(folder / "world_facts_perturbed.jsonl")[:others]),
    )  # fmt: skip


def pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What is taught: questions with their answers.

    Args:
        rows: Of any kind.

    Returns:
        A prompt and its answer for each.
    """
    return [(TEMPLATE.format(question=row.question), row.answer) for row in rows]


def _shortest(rows: Sequence[Row], each: int) -> tuple[Row, ...]:
    authors = [rows[at : at + AUTHOR] for at in range(0, len(rows), AUTHOR)]
    return tuple(row for some in authors for row in sorted(some, key=lambda row: len(row.answer))[:each])
