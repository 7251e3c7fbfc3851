"""Every registered method, held to the contract and to its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from unlearn.checks import method_checks
from unlearn.methods import METHODS, DifferentialPrivacyConfig
from unlearn.methods.base import Examples
from unlearn.methods.dp import Training
from unlearn.methods.papers.amnesiac import Update


class _AnyTrajectory:
    """One step, which every record was in; what it did depends on the records asked about."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def updates_with(self, forget: Examples) -> list[Update]:
        size = 0.01 * float(forget.inputs.mean())
        change = {name: torch.full_like(value, size) for name, value in self._model.named_parameters()}
        return [Update(frozenset(), change)]


ARGUMENTS: dict[str, dict[str, Any]] = {
    "amnesiac": {"arguments": lambda model, forget, retain: {"trajectory": _AnyTrajectory(model)}},
    "certified_removal": {"network": torch.nn.Linear},
    "differential_privacy": {
        "config": DifferentialPrivacyConfig(training=Training(100.0, 1.0, 1), epsilon=100.0),
    },
    "projective_residual": {"network": torch.nn.Linear},
}
"""What `method_checks` has to be told of a method besides its defaults."""


def every_check() -> Iterator[Any]:
    for name, method in METHODS.items():
        for check, run in method_checks(method, **ARGUMENTS.get(name, {})):
            yield pytest.param(run, id=f"{name}-{check}")


@pytest.mark.parametrize("run", list(every_check()))
def test_method_conforms(run: Callable[[], None]) -> None:
    run()


def test_no_check_is_left_out_unseen() -> None:
    """Every check runs on some method, and all but those a card decides about on every one."""
    ran = {
        name: {check for check, _ in method_checks(method, **ARGUMENTS.get(name, {}))}
        for name, method in METHODS.items()
    }
    assert set.intersection(*ran.values()) == set.union(*ran.values()) - {
        "batch_normalisation",
        "depends_on_what_it_needs",
        "exact_owes_nothing",
        "moves_towards_retraining",
        "progress",
        "seeds_reproduce",
    }
