"""A request to change what a language model says of some facts, and where it stands. Pure.

It is no request to forget: no record is named, removed or destroyed by it, and its guarantee is never more than
empirical (decision 0034).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shards.digest import Json, canonical_json, digest_parts
from unlearn.errors import InputError, UnlearnError

EDIT_ID = re.compile("edit-[0-9a-f]{16}")
"""What a request to edit is called."""

STAGE = "edited"
"""Of the one receipt that it gets."""

LANGUAGE_MODEL = "language model"
"""Kind of the artefacts that can be edited: folders with a configuration, a fast tokenizer and safetensors."""

NOT_MADE = {
    "unreliable": "the edited model would not give every new answer",
    "destroyed": "the edit would destroy the model: its perplexity on the texts rises too far",
    "not finite": "the model's logits are not finite before any edit",
    "no model": "the folder holds no language model that can be edited",
    "changed": "the model is not the one any more that it was accepted for",
    "retired": "the model was retired meanwhile",
    "there already": "there is something at the output folder already",
    "editor": "the editor cannot make this edit",
    "failed": "the worker that made it failed",
}
"""Why an edit was not made: what the log says, to what the register says. Lines are added, and never changed."""


class EditState(StrEnum):
    """Where a request to edit stands.

    Attributes:
        SUBMITTED: Accepted and durable; the model says what it said.
        EDITED: The edited model is written and registered.
        RECEIPTED: Its receipt is issued; nothing is left to be done.
        NOT_APPLIED: The edit was not made, and nothing was changed; `EditRequest.failure` says why.
    """

    SUBMITTED = "submitted"
    EDITED = "edited"
    RECEIPTED = "receipted"
    NOT_APPLIED = "not applied"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing is left to be done."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[EditState, frozenset[EditState]] = {
    EditState.SUBMITTED: frozenset({EditState.EDITED, EditState.NOT_APPLIED}),
    EditState.EDITED: frozenset({EditState.RECEIPTED}),
    EditState.RECEIPTED: frozenset(),
    EditState.NOT_APPLIED: frozenset(),
}
"""From each state, the states a request to edit may move to."""


def check_move(before: EditState, after: EditState) -> None:
    """Refuse a move the table does not hold.

    Args:
        before: The state the request is in.
        after: The state it is to move to.

    Raises:
        UnlearnError: If the table has no such move.
    """
    if after not in TRANSITIONS[before]:
        raise UnlearnError(f"a request to edit cannot move from {before} to {after}")


@dataclass(frozen=True)
class Fact:
    """What a language model shall say of somebody from now on.

    Attributes:
        prompt: Names the subject; the answer follows it.
        subject: As it stands in the prompt.
        new: What is to follow.
        rephrasings: Other prompts after which the new answer is to follow too; these are asked, and not edited.

    Raises:
        InputError: If the prompt does not name the subject, or a part is empty or cannot be written as UTF-8.
    """

    prompt: str
    subject: str
    new: str
    rephrasings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in (self.prompt, self.subject, self.new, *self.rephrasings):
            if not isinstance(part, str) or not part.strip():
                raise InputError(f"a part of the fact {self.to_json()!r} is empty or no text; nothing was changed")
        try:
            canonical_json(self.to_json())
        except UnicodeEncodeError as error:
            raise InputError("a fact must be text that can be written as UTF-8; nothing was changed") from error
        if self.subject not in self.prompt:
            raise InputError(
                f"the subject {self.subject!r} is not in the prompt {self.prompt!r}: a prompt must name its subject, "
                "spelt as it is given; nothing was changed"
            )

    def to_json(self) -> Json:
        """Prompt, subject, new answer and rephrasings, in a list."""
        return [self.prompt, self.subject, self.new, *self.rephrasings]

    def commitment(self, opening: bytes) -> str:
        """Salted digest of the fact.

        Args:
            opening: The submitter's secret.

        Returns:
            Hex.
        """
        return digest_parts("fact", [opening, canonical_json(self.to_json())])


def parse_fact(text: str) -> Fact:
    """Read a fact from one line.

    Args:
        text: `PROMPT|SUBJECT|NEW`, with any number of rephrasings after that; a bar that is part of a text is doubled.

    Returns:
        The fact, without blanks around its parts.

    Raises:
        InputError: If it has fewer than three parts, or is no fact.
    """
    parts = [part.strip() for part in _split(text)]
    if len(parts) < 3:
        raise InputError(
            f"{text!r} is not PROMPT|SUBJECT|NEW, such as 'Ada lives in|Ada|Paris': write || for a bar in a text; "
            "nothing was changed"
        )
    return fact_from(parts)


def fact_from(parts: Json) -> Fact:
    """The fact that `Fact.to_json` wrote.

    Args:
        parts: Prompt, subject, new answer and rephrasings.

    Returns:
        The fact.
    """
    prompt, subject, new, *rephrasings = parts
    return Fact(prompt, subject, new, tuple(rephrasings))


def _split(text: str) -> Iterator[str]:
    """Parts between single bars; of three bars in a row, the first two are one of the text."""
    found = re.findall(r"\|\||\||[^|]+", text)
    part = ""
    for piece in found:
        if piece == "|":
            yield part
            part = ""
        else:
            part += "|" if piece == "||" else piece
    yield part


def texts_commitment(opening: bytes, texts: Sequence[str]) -> str:
    """Salted digest of the texts that an editor was given.

    Args:
        opening: The submitter's secret.
        texts: The texts, in order.

    Returns:
        Hex.
    """
    return digest_parts("texts", [opening, canonical_json(list(texts))])


@dataclass(frozen=True)
class Asked:
    """How often a model gave an answer, and how often it was asked.

    Attributes:
        given: Whole answers given, each token the likeliest one after those before it.
        asked: Prompts.
    """

    given: int
    asked: int

    @property
    def pair(self) -> list[Json]:
        """Both numbers."""
        return [self.given, self.asked]


@dataclass(frozen=True)
class Measured:
    """What an edited model was found to say, read back from the folder it was written to.

    Attributes:
        reliability: Prompts of the facts, after which the new answer follows.
        generalization: Rephrasings, after which it follows as well.
        locality: Texts that name no edited subject, cut before their last word, after which the likeliest token is the
            one it was before the edit.
    """

    reliability: Asked
    generalization: Asked
    locality: Asked

    def to_json(self) -> dict[str, Json]:
        """Each as two numbers: given, and asked."""
        return {name: item.pair for name, item in vars(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Measured:
        """What `to_json` wrote."""
        return cls(**{name: Asked(*value[name]) for name in MEASURES})


MEASURES = ("reliability", "generalization", "locality")
"""Names of what is measured."""


@dataclass(frozen=True)
class EditRequest:
    """A request to edit as the workspace knows it: commitments, and no fact.

    Attributes:
        id: Name of the request, given by the workspace.
        state: Where it stands.
        reason: Why, in the words of whoever submitted it.
        idempotency_key: The submitter's own key, or None.
        facts: Salted digest of each fact; see `opening`.
        texts: Salted digest of the texts the editor was given.
        artefact: Id of the language model to edit.
        output: Folder the edited model is written to.
        editor: Name of the editor.
        config: Its configuration, in full.
        weights: Salted digest of the model before the edit.
        submitted_at: When it became durable, UTC.
        edited_at: When the edited model was registered, UTC; None before.
        made: Id of the edited model; None before.
        weights_after: Salted digest of it; None before.
        measured: What was measured of it; None before.
        failure: Why the edit was not made; empty unless it was not.
        opening: Given once, to whoever submitted it, and kept nowhere: with it and the facts anybody can check that a
            receipt is about exactly these facts. None whenever the request is read from the workspace.
    """

    id: str
    state: EditState
    reason: str
    idempotency_key: str | None
    facts: tuple[str, ...]
    texts: str
    artefact: str
    output: str
    editor: str
    config: Mapping[str, Json]
    weights: str
    submitted_at: datetime
    edited_at: datetime | None = None
    made: str | None = None
    weights_after: str | None = None
    measured: Measured | None = None
    failure: str = ""
    opening: str | None = None

    @property
    def guarantee(self) -> str | None:
        """What holds of the edited model: `"empirical"`; None as long as there is none."""
        return None if self.edited_at is None else "empirical"
