"""Language models: edits that can be taken back, control while decoding, losses that unlearn, and what they are worth.

Everything works on any causal language model that maps token ids to logits, one of transformers among them; what a
method needs to know of the model's inside is in `hooks`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.language.decoding.proxy import ProxyTuner
    from unlearn.language.editing.base import Edit
    from unlearn.language.editing.locate import locate
    from unlearn.language.editing.registry import EDITORS, edit
    from unlearn.language.hooks import ARCHITECTURES, Architecture
    from unlearn.language.metrics import Probe, score_edit

__all__ = ["ARCHITECTURES", "EDITORS", "Architecture", "Edit", "Probe", "ProxyTuner", "edit", "locate", "score_edit"]

_HOMES = {
    "decoding.proxy": ("ProxyTuner",),
    "editing.base": ("Edit",),
    "editing.locate": ("locate",),
    "editing.registry": ("EDITORS", "edit"),
    "hooks": ("ARCHITECTURES", "Architecture"),
    "metrics": ("Probe", "score_edit"),
}
"""Which module has which names; it is imported when one is first asked for."""


_PARTS = (
    "decoding", "editing", "exact", "hooks", "lora", "losses", "metrics", "muse", "quantisation", "reading",
    "relearning", "requested", "text", "tofu", "tuning",
)  # fmt: skip
"""Parts inside, which are imported likewise."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that looking around costs next to nothing."""
    if name in _PARTS:
        return _loaded(name)
    for module, names in _HOMES.items():
        if name in names:
            return getattr(_loaded(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _loaded(home: str) -> ModuleType:
    from unlearn.errors import ConfigurationError

    try:
        return importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise ConfigurationError(
            f"this part of unlearn.language needs {error.name}: pip install 'sisa-unlearn[language]'"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
