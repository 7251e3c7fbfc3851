"""Base, antiexpert, expert and directly tuned base, and how far steering goes from the first towards the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from experiments.steering.asking import Model
from unlearn.language.decoding.proxy import ProxyTuner

Measure = Callable[[Model], Mapping[str, float]]
"""What is to be known of a model, by name."""


@dataclass(frozen=True, eq=False)
class Models:
    """All that steering needs, and what it is compared with.

    Attributes:
        base: The one that is steered.
        antiexpert: The small one before tuning.
        expert: The small one after it.
        direct: The base model, tuned itself.
    """

    base: nn.Module
    antiexpert: nn.Module
    expert: nn.Module
    direct: nn.Module

    def steered(self, alpha: float = 1.0) -> ProxyTuner:
        """The base model, steered."""
        return ProxyTuner(self.base, self.expert, self.antiexpert, alpha)


def swept(models: Models, alphas: Sequence[float], measure: Measure) -> dict[str, Any]:
    """Measure all of them, and the steered one for every alpha.

    Args:
        models: All four.
        alphas: How far.
        measure: What is to be known of each.

    Returns:
        What was measured, by model; of the steered one by alpha.
    """
    alone = {name: dict(measure(model)) for name, model in vars(models).items()}
    return alone | {"steered": {str(alpha): dict(measure(models.steered(alpha))) for alpha in alphas}}


def gap(found: Mapping[str, Any], alpha: float, name: str) -> float | None:
    """How much of the change that tuning the base model directly makes steering makes.

    Args:
        found: As `swept` makes it.
        alpha: How far it is steered.
        name: Of the figure.

    Returns:
        1: all of it; None if tuning changes nothing.
    """
    before, after = found["base"][name], found["direct"][name]
    return None if before == after else (found["steered"][str(alpha)][name] - before) / (after - before)
