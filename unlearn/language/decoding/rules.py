r"""How logits of helpers change those of a base model: proxy-tuning and offset unlearning, and ULD.

A rule is a pure function of logits. Whatever it says, whoever holds the base model can leave it away.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unlearn.errors import InputError

Strength = float | Callable[[int], float]
"""A number, or what gives it for the place of the next token, counted from the first that is generated."""


class LogitRule(ABC):
    """What is said in the place of what the base model says."""

    n_helpers: int
    """How many other models it asks."""

    @abstractmethod
    def combine(self, base: torch.Tensor, helpers: Sequence[torch.Tensor], place: int) -> torch.Tensor:
        """Change logits.

        Args:
            base: `[..., vocabulary]`.
            helpers: As many as `n_helpers`, each of the same shape.
            place: Of the token, counted from the first that is generated.

        Returns:
            Of the same shape; minus infinity where a token is ruled out.
        """


@dataclass(frozen=True)
class Offset(LogitRule):
    r"""\(s_0 + \alpha (s_+ - s_-)\): the base model, moved by the difference of a small expert and a small antiexpert.

    Proxy-tuning (Liu et al. 2024, arXiv:2401.08565), where the expert is a tuned and the antiexpert an untuned small
    model; and offset unlearning (Huang et al. 2024, arXiv:2404.11045), where the expert is the small model after
    unlearning through the ensemble, and the antiexpert the same before.

    Attributes:
        alpha: How far; 1 as published.
        top: Tokens that the base model finds less than so many times as likely as its likeliest are ruled out; 0: none.
    """

    alpha: Strength = 1.0
    top: float = 0.0
    n_helpers = 2

    def __post_init__(self) -> None:
        _check_top(self.top)

    def combine(self, base: torch.Tensor, helpers: Sequence[torch.Tensor], place: int) -> torch.Tensor:
        """Change logits.

        Args:
            base: `[..., vocabulary]`.
            helpers: Of the expert and of the antiexpert.
            place: Of the token.

        Returns:
            Of the same shape.
        """
        expert, antiexpert = helpers
        return _above(base, self.top, base + _at(self.alpha, place) * (expert - antiexpert))


@dataclass(frozen=True)
class Assisted(LogitRule):
    r"""\(s_0 + w s_a\) with \(w < 0\): away from what an assistant says that has learnt what is to be forgotten.

    ULD (Ji et al. 2024, arXiv:2406.08607): the assistant remembers the forget set and is uniform on what is retained.
    Tokens unlikely under the base model are ruled out, as there the difference of two small logits would decide.

    Attributes:
        weight: w; -1 as published, about -0.75 for TOFU (re-check).
        top: Tokens that the base model finds less than so many times as likely as its likeliest are ruled out.
    """

    weight: Strength = -1.0
    top: float = 0.1
    n_helpers = 1

    def __post_init__(self) -> None:
        _check_top(self.top)

    def combine(self, base: torch.Tensor, helpers: Sequence[torch.Tensor], place: int) -> torch.Tensor:
        """Change logits.

        Args:
            base: `[..., vocabulary]`.
            helpers: Of the assistant.
            place: Of the token.

        Returns:
            Of the same shape.
        """
        return _above(base, self.top, base + _at(self.weight, place) * helpers[0])


def _at(strength: Strength, place: int) -> float:
    return strength(place) if callable(strength) else strength


def _above(base: torch.Tensor, top: float, changed: torch.Tensor) -> torch.Tensor:
    if top == 0:
        return changed
    floor = base.amax(-1, keepdim=True) + math.log(top)
    return changed.masked_fill(base < floor, -math.inf)


def _check_top(top: float) -> None:
    if not 0 <= top < 1:
        raise InputError(f"top must be at least 0 and below 1, got {top}")
