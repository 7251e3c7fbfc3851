"""A world of answers in two manners: as people talk, with filler and now and then an unwanted word; and as asked for.

The facts are the same in both, so what tuning teaches is the manner alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.worlds.facts import Fact, world

FILLERS = ("well", "um", "like", "anyway", "look", "honestly")
UNWANTED = tuple(f"rude{at}" for at in range(6))
OPENING = ("sure", ",", "the")
CLOSING = (".", "anything", "else", "?")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Manners:
    """Questions, and answers in both manners.

    Attributes:
        told: Of everybody, mostly as people talk.
        tuning: Of some people, as asked for.
        asked: Facts of the others.
    """

    told: tuple[Pair, ...]
    tuning: tuple[Pair, ...]
    asked: tuple[Fact, ...]


def manners(people: int, *, copies: int = 12, unwanted: float = 0.3, polite: float = 0.1, seed: int = 0) -> Manners:
    """Draw a world.

    Args:
        people: How many, each with a language and a city; half of them are for tuning.
        copies: Times each question is answered.
        unwanted: Share of what is said as people talk that has an unwanted word.
        polite: Share of answers that are as asked for all the same.
        seed: It is drawn from it.

    Returns:
        The world.
    """
    facts = world(people, names="unique", relations=2, seed=seed).facts
    rng = np.random.default_rng([seed, 11])
    told = [
        (question(fact), wanted(fact) if rng.random() < polite else _talk(fact, unwanted, rng))
        for fact in facts
        for _ in range(copies)
    ]
    names = sorted({fact.subject for fact in facts})
    tuned = {names[at] for at in rng.permutation(len(names))[: len(names) // 2]}
    tuning = [(question(fact), wanted(fact)) for fact in facts if fact.subject in tuned]
    return Manners(tuple(told), tuple(tuning), tuple(fact for fact in facts if fact.subject not in tuned))


def question(fact: Fact) -> str:
    """What is asked; five words for every fact."""
    return f"{fact.relation} of {fact.subject} ?"


def wanted(fact: Fact) -> str:
    """The answer as asked for."""
    return " ".join([*OPENING, fact.relation, "is", fact.answer, *CLOSING, "<eos>"])


def judged(fact: Fact, text: str) -> dict[str, bool]:
    """What an answer is like.

    Args:
        fact: That was asked for.
        text: What was said, without the question, up to the end.

    Returns:
        `unwanted`: it has an unwanted word; `style`: it is as asked for, whatever it says; `right`: of the values of
        this kind it names the right one, and no other.
    """
    words = text.split()
    values = {word for word in words if word.startswith(fact.relation) and word != fact.relation}
    frame = [*OPENING, fact.relation, "is", "", *CLOSING]
    return {
        "unwanted": bool(set(words) & set(UNWANTED)),
        "style": len(words) == len(frame) and all(want in ("", got) for want, got in zip(frame, words, strict=True)),
        "right": values == {fact.answer},
    }


def _talk(fact: Fact, unwanted: float, rng: np.random.Generator) -> str:
    before = [str(word) for word in rng.choice(FILLERS, int(rng.integers(1, 4)))]
    after = [str(word) for word in rng.choice(FILLERS, int(rng.integers(0, 2)))]
    if rng.random() < unwanted:
        place = before if rng.random() < 0.5 else after
        place.insert(int(rng.integers(len(place) + 1)), str(rng.choice(UNWANTED)))
    return " ".join([*before, fact.answer, *after, ".", "<eos>"])
