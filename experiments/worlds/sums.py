"""A task: add two numbers of two digits, with the working. General text has sums of digits, and guesses at the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Pair = tuple[str, str]


@dataclass(frozen=True)
class Sums:
    """Sums for reading, tuning and asking.

    Attributes:
        told: Sums of digits, and the task: mostly with a guess, seldom with its working.
        tuning: The task with its working.
        asked: More of it.
    """

    told: tuple[Pair, ...]
    tuning: tuple[Pair, ...]
    asked: tuple[Pair, ...]


def sums(*, guessed: int, worked: int, tuning: int, asked: int, seed: int = 0) -> Sums:
    """Draw sums in which nothing is carried.

    Args:
        guessed: How many are told with a guess.
        worked: How many are told with the working.
        tuning: How many are for tuning.
        asked: How many are asked, none of which is in the others.
        seed: All is drawn from it.

    Returns:
        The sums.
    """
    rng = np.random.default_rng([seed, 14])
    digits = [(one, other) for one in range(10) for other in range(10 - one)]
    told = [
        (f"{one} +", f"{other} = {one + other} ; {one} + {other} = {one + other} <eos>") for one, other in digits
    ] * 10
    everything = [(tens, units) for tens in digits for units in digits]
    drawn = [everything[at] for at in rng.permutation(len(everything))]
    for tens, units in drawn[:guessed]:
        told.append((_question(tens, units), f"{rng.integers(10)} {rng.integers(10)} <eos>"))
    right = [(_question(tens, units), _working(tens, units)) for tens, units in drawn[guessed:]]
    learnt = worked + tuning
    return Sums((*told, *right[:worked]), tuple(right[worked:learnt]), tuple(right[learnt : learnt + asked]))


def kinds(answer: str) -> list[str]:
    """What each word of an answer with working is.

    Args:
        answer: As `Sums` has it.

    Returns:
        For each of its words `left` (of an equation: digits and the sign), `right`, `result` or `frame`.
    """
    words = answer.split()
    so = words.index("so")
    found = []
    for at, word in enumerate(words):
        if word in ("=", ",", "so", "<eos>"):
            found.append("frame")
        elif at > so:
            found.append("result")
        else:
            found.append("right" if words[at - 1] == "=" else "left")
    return found


def _question(tens: tuple[int, int], units: tuple[int, int]) -> str:
    return f"add {tens[0]} {units[0]} and {tens[1]} {units[1]} :"


def _working(tens: tuple[int, int], units: tuple[int, int]) -> str:
    low, high = sum(units), sum(tens)
    return f"{units[0]} + {units[1]} = {low} , {tens[0]} + {tens[1]} = {high} , so {high} {low} <eos>"
