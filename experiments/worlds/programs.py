"""Another kind of text: small programs that call libraries, of which general text holds a few.

What a library's function is called must be known; which library and which variable is meant stands in the program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VARIABLES = tuple("abcdefgh")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Programs:
    """Programs for reading, tuning and asking.

    Attributes:
        told: Of a few libraries.
        tuning: Of all libraries.
        asked: More of them, none of which was told.
        calls: Beginnings of programs up to the name of a function, of libraries that were not told, with that name.
    """

    told: tuple[Pair, ...]
    tuning: tuple[Pair, ...]
    asked: tuple[Pair, ...]
    calls: tuple[Pair, ...]


def programs(libraries: int, *, known: int, told: int, tuning: int, asked: int, seed: int = 0) -> Programs:
    """Write programs.

    Args:
        libraries: How many there are, each with one function.
        known: How many of them general text knows.
        told: How many programs are in general text.
        tuning: How many are for tuning.
        asked: How many are asked.
        seed: All is drawn from it.

    Returns:
        The programs, no two the same.
    """
    rng = np.random.default_rng([seed, 13])
    functions = [f"fun{at}" for at in rng.permutation(libraries)]
    written: dict[Pair, int] = {}

    def write(count: int, among: int) -> tuple[Pair, ...]:
        found: list[Pair] = []
        while len(found) < count:
            library = int(rng.integers(among))
            one = _program(f"lib{library}", functions[library], rng)
            if one not in written:
                written[one] = library
                found.append(one)
        return tuple(found)

    parts = write(told, known), write(tuning, libraries), write(asked, libraries)
    calls = [
        (f"use {body.partition(' . ')[0]} .", body.split(" . ")[1].split()[0])
        for one, body in parts[2]
        if written[one, body] >= known
    ]
    return Programs(*parts, tuple(calls))


def _program(library: str, function: str, rng: np.random.Generator) -> Pair:
    first, second, third = (VARIABLES[at] for at in rng.choice(len(VARIABLES), 3, replace=False))
    sign = "+-*"[int(rng.integers(3))]
    lines = (
        f"{library} ; let {first} = {library} . {function} ( {second} ) ;",
        f"let {third} = {first} {sign} {second} ;",
        f"return {third} <eos>",
    )
    return "use", " ".join(lines)
