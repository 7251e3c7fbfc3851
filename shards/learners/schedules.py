"""Learning-rate schedules: pure functions of the minibatch's number within one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def cosine(k: int, n: int, final: float = 0.0) -> float:
    """Half a cosine from 1 down to `final`: final + (1 - final)(1 + cos(pi k / n)) / 2."""
    return final + (1 - final) * (1 + math.cos(math.pi * k / n)) / 2


def linear(k: int, n: int, final: float = 0.0) -> float:
    """A straight line from 1 down to `final`: 1 - (1 - final) k / n."""
    return 1 - (1 - final) * k / n


def step(k: int, n: int, gamma: float = 0.1, parts: int = 3) -> float:
    """A staircase of `parts` equal parts, each `gamma` times the one before: gamma^floor(k parts / n)."""
    return float(gamma ** (k * parts // n))


SCHEDULES: Mapping[str, Callable[..., float]] = {"cosine": cosine, "linear": linear, "step": step}
"""Schedules by short name: `(k, n, **args)` to the factor on the learning rate of minibatch k of n."""
