"""What shards train. `as_learner` turns what people have into a learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Learner

READY_MADE = ("mlp", "cnn")
"""Names of ready-made torch modules."""


def as_learner(what: Any, options: Mapping[str, Json] | None = None) -> Learner:
    """Turn a learner, an estimator, a module factory or its name into a learner.

    Args:
        what: A `Learner` as it is; a scikit-learn estimator; a class or function that makes a
            `torch.nn.Module`, or its reference `"package.module:function"`; `"mlp"` or `"cnn"`.
        options: Further arguments of the `SklearnLearner` or `TorchLearner` that is made.

    Returns:
        The learner.

    Raises:
        ConfigurationError: If it is none of these, or a learner that is given options.
    """
    given = dict(options or {})
    if isinstance(what, Learner):
        if given:
            raise ConfigurationError(f"{type(what).__name__} is complete: set {', '.join(given)} where it is made")
        return what
    if isinstance(what, type) and issubclass(what, Learner):
        return what(**given)
    if isinstance(what, str):
        return _from_reference(what, given)
    if hasattr(what, "get_params") and hasattr(what, "fit"):
        from shards.learners.sklearn import SklearnLearner

        return SklearnLearner(what, **given)
    if isinstance(what, Callable):  # type: ignore[arg-type]
        from shards.learners.torch import TorchLearner

        return TorchLearner(what, **given)
    raise ConfigurationError(
        f"a {type(what).__name__} is not a learner: give a Learner, a scikit-learn estimator, or a torch module's "
        'class or factory, for example "package.module:function"'
    )


def _from_reference(text: str, options: dict[str, Json]) -> Learner:
    from shards.learners.torch import TorchLearner

    if text in READY_MADE:
        return TorchLearner(text, **options)
    if ":" not in text:
        raise ConfigurationError(
            f'{text!r} is neither a ready-made module ({", ".join(READY_MADE)}) nor a reference "package.module:name"'
        )
    from shards.code import resolve

    found = resolve(text)
    if isinstance(found, Learner) or (isinstance(found, type) and issubclass(found, Learner)):
        return as_learner(found, options)
    if not isinstance(found, type) and hasattr(found, "get_params") and hasattr(found, "fit"):
        return as_learner(found, options)
    return TorchLearner(text, **options)
