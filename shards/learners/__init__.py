"""What shards train. `as_learner` turns what people have into a learner."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from operator import attrgetter
from typing import Any

from shards.digest import Json
from shards.errors import CodeError, ConfigurationError
from shards.learners.base import Learner

_CLASSES = {
    "mlp": "shards.learners.mlp:MLPLearner",
    "ridge": "shards.learners.ridge:RidgeLearner",
    "knn": "shards.learners.neighbours:NeighboursLearner",
    "lda": "shards.learners.discriminant:LDALearner",
    "gaussian_nb": "shards.learners.naive_bayes:GaussianNBLearner",
    "multinomial_nb": "shards.learners.naive_bayes:MultinomialNBLearner",
    "random_trees": "shards.learners.random_trees:RandomTreesLearner",
}

NAMES = ("cnn", "logistic", "sgd", *_CLASSES)
"""Short names of learners, here and on the command line."""


def as_learner(what: Any, options: Mapping[str, Json] | None = None) -> Learner:
    """Turn a learner, an estimator, a module factory, or the name of one, into a learner.

    Args:
        what: A `Learner`; a scikit-learn estimator; a class or function that makes a `torch.nn.Module`; the class
            of a learner or estimator; a reference `"package.module:name"` to any of these; or one of `NAMES`: `"mlp"`
            (`MLPLearner`), `"cnn"` (a torch module), `"logistic"` and `"sgd"` (scikit-learn's `LogisticRegression`
            and logistic `SGDClassifier`), or a learner whose shards make one exact model: `"ridge"`, `"lda"`,
            `"gaussian_nb"`, `"multinomial_nb"`, `"knn"`, `"random_trees"`.
        options: Further arguments of the learner that is made.

    Returns:
        The learner.

    Raises:
        ConfigurationError: If it is none of these, or does not take the options.
        CodeError: If there is no learner of that name, or a reference leads nowhere.
    """
    given = dict(options or {})
    if isinstance(what, str):
        found = _named(what)
        # A factory stays the name it was given as: that is what a recipe can hold.
        what = found if _is_learner(found) or _is_estimator(found) else what
    if isinstance(what, Learner):
        if given:
            raise ConfigurationError(f"{type(what).__name__} is complete: set {', '.join(given)} where it is made")
        return what
    try:
        kind, of = _kind_of(what)
        _check_names(kind, of, given)
        made: Learner = kind(*of, **given)
    except TypeError as error:
        # Learners check values themselves; an argument that is missing is refused by Python's own call.
        raise ConfigurationError(f"the learner does not take these options: {error}") from error
    return made


def _kind_of(what: Any) -> tuple[Any, tuple[Any, ...]]:
    """The class of the learner that is made of something, and what comes before its options."""
    if _is_learner(what):
        return what, ()
    if _is_estimator(what):
        from shards.learners.sklearn import SklearnLearner

        return SklearnLearner, (what() if isinstance(what, type) else what,)
    if isinstance(what, str) or callable(what):
        from shards.learners.torch import TorchLearner

        return TorchLearner, (what,)
    raise ConfigurationError(
        f"a {type(what).__name__} is not a learner: give a Learner, a scikit-learn estimator, or a torch module's "
        'class or factory, for example "package.module:function"'
    )


def _check_names(kind: Any, of: tuple[Any, ...], options: Mapping[str, Json]) -> None:
    """Refuse options that a learner does not have, with those that it has."""
    known = list(signature(kind).parameters.values())[len(of) :]
    if any(item.kind is Parameter.VAR_KEYWORD for item in known):
        return
    names = [item.name for item in known]
    for name in options:
        if name not in names:
            raise ConfigurationError(
                f"the learner does not take these options: {kind.__name__} has no {name!r}{_instead(of, name, names)} "
                f"It has {', '.join(names)}"
            )


def _instead(of: tuple[Any, ...], name: str, names: list[str]) -> str:
    """What to do in place of an option that there is not."""
    if of and _is_estimator(of[0]) and name in of[0].get_params():
        return f": it is a parameter of {type(of[0]).__name__}, to be set where that is made, in a file of yours."
    near = get_close_matches(name, names, 1)
    return f": did you mean {near[0]}?" if near else "."


def _named(text: str) -> Any:
    """What a name or a reference stands for."""
    if text == "cnn":
        return text
    if text == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000)
    if text == "sgd":
        from sklearn.linear_model import SGDClassifier

        return SGDClassifier(loss="log_loss")
    module, colon, path = _CLASSES.get(text, text).partition(":")
    if not colon or not module or not path or module.startswith("."):
        raise CodeError(f"there is no learner {text!r}: {_meant(text)}")
    try:
        return attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise CodeError(
            f"{text!r} leads nowhere ({error}): check the name, and that its file can be imported from here"
        ) from error


def _meant(name: str) -> str:
    """What somebody may have meant by a name that is none."""
    package, _, last = name.rpartition(".")
    near = [f"{package}:{last}"] if package and ":" not in name else get_close_matches(name, NAMES, 1)
    said = "".join(f"did you mean {meant}? " for meant in near)
    return f"{said}Give one of {', '.join(NAMES)}, or package.module:name"


def _is_learner(found: Any) -> bool:
    return isinstance(found, Learner) or (isinstance(found, type) and issubclass(found, Learner))


def _is_estimator(found: Any) -> bool:
    return hasattr(found, "get_params") and hasattr(found, "fit")
