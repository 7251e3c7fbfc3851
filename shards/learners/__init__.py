"""What shards train. `as_learner` turns what people have into a learner."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from shards.digest import Json
from shards.errors import CodeError, ConfigurationError
from shards.learners.base import Learner

READY_MADE = ("mlp", "cnn")
"""Names of ready-made networks: `MLPLearner`, and a torch module."""


def as_learner(what: Any, options: Mapping[str, Json] | None = None) -> Learner:
    """Turn a learner, an estimator, a module factory, or the name of one, into a learner.

    Args:
        what: A `Learner`; a scikit-learn estimator; a class or function that makes a `torch.nn.Module`; the class
            of a learner or estimator; a reference `"package.module:name"` to any of these; `"mlp"` or `"cnn"`.
        options: Further arguments of the learner that is made.

    Returns:
        The learner.

    Raises:
        ConfigurationError: If it is none of these, or does not take the options.
        CodeError: If a reference leads nowhere.
    """
    given = dict(options or {})
    if isinstance(what, str):
        found = what if what in READY_MADE else _referenced(what)
        # A factory stays the name it was given as: that is what a recipe can hold.
        what = found if _is_learner(found) or _is_estimator(found) else what
    if isinstance(what, Learner):
        if given:
            raise ConfigurationError(f"{type(what).__name__} is complete: set {', '.join(given)} where it is made")
        return what
    try:
        return _made(what, given)
    except TypeError as error:
        # Learners check values themselves; a name they do not have is refused by Python's own call.
        raise ConfigurationError(f"the learner does not take these options: {error}") from error


def _made(what: Any, options: dict[str, Json]) -> Learner:
    if _is_learner(what):
        made: Learner = what(**options)
        return made
    if _is_estimator(what):
        from shards.learners.sklearn import SklearnLearner

        return SklearnLearner(what() if isinstance(what, type) else what, **options)
    if what == "mlp":
        from shards.learners.mlp import MLPLearner

        return MLPLearner(**options)
    if isinstance(what, str) or callable(what):
        from shards.learners.torch import TorchLearner

        return TorchLearner(what, **options)
    raise ConfigurationError(
        f"a {type(what).__name__} is not a learner: give a Learner, a scikit-learn estimator, or a torch module's "
        'class or factory, for example "package.module:function"'
    )


def _referenced(text: str) -> Any:
    """What a reference leads to."""
    module, colon, path = text.partition(":")
    if not colon or not module or not path or module.startswith("."):
        raise CodeError(
            f'{text!r} is neither a ready-made network ({", ".join(READY_MADE)}) nor a reference "package.module:name"'
        )
    try:
        return attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise CodeError(
            f"{text!r} leads nowhere ({error}): check the name, and that its file can be imported from here"
        ) from error


def _is_learner(found: Any) -> bool:
    return isinstance(found, Learner) or (isinstance(found, type) and issubclass(found, Learner))


def _is_estimator(found: Any) -> bool:
    return hasattr(found, "get_params") and hasattr(found, "fit")
