"""Make models forget: sharded training, deletion requests, proofs and audits."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unlearn.errors import UnlearnError

if TYPE_CHECKING:
    from unlearn.edit_verification import verify_edit
    from unlearn.estimator import SISAClassifier, SISARegressor
    from unlearn.facts import Fact
    from unlearn.frames import to_frame
    from unlearn.verification import verify
    from unlearn.workspace import Workspace

__all__ = [
    "Fact",
    "SISAClassifier",
    "SISARegressor",
    "UnlearnError",
    "Workspace",
    "to_frame",
    "verify",
    "verify_edit",
]

_HOMES = {
    "Fact": "unlearn.facts",
    "SISAClassifier": "unlearn.estimator",
    "SISARegressor": "unlearn.estimator",
    "Workspace": "unlearn.workspace",
    "to_frame": "unlearn.frames",
    "verify": "unlearn.verification",
    "verify_edit": "unlearn.edit_verification",
}
"""Where each public name lives; its module is imported when the name is first asked for."""

_PARTS = ("audit", "checks", "emulation", "language", "methods", "report")
"""Parts inside, which are imported likewise."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that `import unlearn` costs next to nothing."""
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
