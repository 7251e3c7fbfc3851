"""Every registered method, held to the contract and to its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from unlearn.checks import method_checks
from unlearn.methods import METHODS

ARGUMENTS: dict[str, dict[str, Any]] = {}
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
    ran = {name: {check for check, _ in method_checks(method)} for name, method in METHODS.items()}
    assert set.intersection(*ran.values()) == set.union(*ran.values()) - {
        "exact_owes_nothing",
        "moves_towards_retraining",
    }
