"""A generated world: people with attributes, told in several wordings, and a tokenizer that knows its words.

Two kinds of names: `shared`, where people share first and last names, so that an edit of one may spill over to those
who share a name; and `unique`, where every last name belongs to one person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from unlearn.language.editing.base import Edit
from unlearn.language.metrics import Probe

RELATIONS: dict[str, tuple[str, ...]] = {
    "language": (
        "{} speaks",
        "the mother tongue of {} is",
        "at home {} talks in",
        "{} is fluent in",
        "people hear {} speaking",
    ),
    "city": ("{} lives in", "the home of {} is in", "you can visit {} in", "{} has a house in", "mail for {} goes to"),
    "job": ("{} works as a", "the profession of {} is", "{} earns money as a", "by trade {} is a", "{} was hired as a"),
    "team": ("{} plays for", "the club of {} is", "{} is a member of", "on sundays {} supports", "{} has joined"),
    "desk": ("{} sits at", "the desk of {} is", "you can find {} at", "{} was given", "letters for {} lie on"),
}
"""Wordings of each relation; the first is the one that is edited, the others test generalization. Nobody has a desk but
in a world with consequences (`consequences.py`), where each is one person's."""

_SIZES = {"language": 16, "city": 32, "job": 24, "team": 24}


@dataclass(frozen=True)
class Fact:
    """One attribute of one person.

    Attributes:
        subject: First and last name.
        relation: Which attribute.
        answer: Its value, one word.
    """

    subject: str
    relation: str
    answer: str

    def prompt(self, wording: int = 0) -> str:
        """The fact up to its answer.

        Args:
            wording: Which of the wordings.

        Returns:
            A text that names the subject.
        """
        return RELATIONS[self.relation][wording].replace("{}", self.subject)

    def sentence(self, wording: int = 0) -> str:
        """The whole fact.

        Args:
            wording: Which of the wordings.

        Returns:
            A text.
        """
        return f"{self.prompt(wording)} {self.answer} ."


@dataclass(frozen=True)
class World:
    """All facts.

    Attributes:
        facts: Every person's attributes.
        values: Relation to its possible values.
        more: Further prompts, each with its answer, which are told and learnt beside the facts.
    """

    facts: tuple[Fact, ...]
    values: dict[str, tuple[str, ...]]
    more: tuple[tuple[str, str], ...] = ()

    @property
    def sentences(self) -> list[str]:
        """Every fact in every wording, and whatever else is told."""
        told = [fact.sentence(wording) for fact in self.facts for wording in range(len(RELATIONS[fact.relation]))]
        return [*told, *(f"{prompt} {answer} ." for prompt, answer in self.more)]

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word for sentence in self.sentences for word in sentence.split())

    def other(self, fact: Fact, rng: np.random.Generator) -> Edit:
        """An edit of a fact to another value, one that is told of: a tokenizer has no word for any other.

        Args:
            fact: Which.
            rng: The value is drawn from it.

        Returns:
            The edit.
        """
        choice = [value for value in self.values[fact.relation] if value != fact.answer and value in self._words]
        return Edit(fact.prompt(), fact.subject, choice[int(rng.integers(len(choice)))], fact.answer)

    def probes(self, fact: Fact, edit: Edit, rng: np.random.Generator, *, neighbours: int = 20) -> list[Probe]:
        """What to ask after an edit.

        Args:
            fact: The one that was edited.
            edit: The edit.
            rng: Neighbours are drawn from it.
            neighbours: How many other people's facts to ask for, of each kind.

        Returns:
            Other wordings; other people's facts; the person's other facts; facts of those who share a name.
        """
        wordings = range(1, len(RELATIONS[fact.relation]))
        found = [Probe("generalization", fact.prompt(wording), edit.target_new) for wording in wordings]
        names = set(fact.subject.split())
        groups: dict[Any, list[Fact]] = {"attribute_locality": [], "shared_name_locality": [], "locality": []}
        for one in self.facts:
            if one.subject == fact.subject:
                if one.relation != fact.relation:
                    groups["attribute_locality"].append(one)
            elif names & set(one.subject.split()):
                groups["shared_name_locality"].append(one)
            else:
                groups["locality"].append(one)
        for kind, members in groups.items():
            chosen = rng.permutation(len(members))[:neighbours]
            found += [Probe(kind, members[at].prompt(), members[at].answer) for at in chosen]
        return found


def world(n_people: int, *, names: Literal["shared", "unique"] = "shared", relations: int = 4, seed: int = 0) -> World:
    """Draw a world.

    Args:
        n_people: How many people.
        names: Whether they share last names, or only first names.
        relations: How many attributes each has, at most 4.
        seed: It is drawn from it.

    Returns:
        The world.
    """
    rng = np.random.default_rng(seed)
    n_first = min(40, max(4, n_people // 3))
    n_last = n_first if names == "shared" else n_people
    lasts = np.arange(n_people) if names == "unique" else None
    if lasts is None:
        pairs = rng.permutation(n_first * n_last)[:n_people]
        people = [f"F{pair // n_last} L{pair % n_last}" for pair in pairs]
    else:
        people = [f"F{rng.integers(n_first)} L{last}" for last in lasts]
    chosen = list(_SIZES)[:relations]
    values = {name: tuple(f"{name}{at}" for at in range(_SIZES[name])) for name in chosen}
    facts = [
        Fact(person, name, values[name][int(rng.integers(len(values[name])))]) for person in people for name in chosen
    ]
    return World(tuple(facts), values)


def tokenizer_of(texts: Sequence[str]) -> Any:
    """A word-level tokenizer of exactly the words of some texts.

    Args:
        texts: All that will ever be said.

    Returns:
        A fast tokenizer of transformers.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    words = sorted({word for text in texts for word in text.split()} | {"unknown", "is", "a", "."})
    numbers = {word: at for at, word in enumerate([*marks.values(), *words])}
    inner = Tokenizer(models.WordLevel(numbers, marks["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, clean_up_tokenization_spaces=False, **marks)
