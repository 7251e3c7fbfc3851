"""Names of the classes and functions that an estimator's description may use: of trusted packages only."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from shards.errors import CodeError, ConfigurationError
from shards.learners.canonical import name_of

BASE_ROOTS = ("numpy", "scipy", "sklearn")
"""Root packages that need no trust declared."""

_REDUCTIONS = frozenset({"clip", "max", "mean", "median", "min", "nan_to_num", "prod", "quantile", "std", "sum", "var"})
"""Functions of numpy, beside its ufuncs, that can only compute."""


def check_trusted(trusted: object) -> None:
    """Refuse root packages that are no names, or that could run anything.

    Args:
        trusted: What was given.

    Raises:
        ConfigurationError: If it is no tuple or list of names of packages outside the standard library.
    """
    if not isinstance(trusted, tuple | list):
        raise ConfigurationError(f'trusted is {trusted!r}; use a list of root packages, such as ["lightgbm"]')
    for root in trusted:
        if not isinstance(root, str) or not root.isidentifier():
            raise ConfigurationError(f"trusted has {root!r}; use names of root packages, such as 'lightgbm'")
        if root in sys.stdlib_module_names or root in {"__main__", "__mp_main__"}:
            raise ConfigurationError(f"trusted has {root!r}, which cannot be trusted: it can run anything")


def trusted_reference(value: Any, trusted: tuple[str, ...], where: str) -> str:
    """The reference of a class or function, proven to lead back to it.

    Args:
        value: A class or function.
        trusted: Root packages allowed beside numpy, scipy and sklearn.
        where: Where it is used, for messages.

    Returns:
        `"package.module:qualname"`.

    Raises:
        ConfigurationError: If its package is not trusted.
        CodeError: If no other process could find it by that name.
    """
    reference = name_of(value)
    if reference is None or "<" in reference or reference.startswith(("__main__:", "__mp_main__:")):
        raise CodeError(
            f"{where} uses {reference}, which another process cannot find; define it at the top level of a"
            " module in a file, and add the root package of that module to trusted=(...)"
        )
    _check_root(reference, trusted, where)
    if resolve_trusted(reference, trusted) != value:
        raise CodeError(f"{where} uses {reference}, but that name leads to something else; give it a name of its own")
    return reference


def root_of(reference: str) -> str:
    """Root package of a reference, or of a dotted name."""
    return reference.partition(":")[0].partition(".")[0]


def _check_root(reference: str, trusted: tuple[str, ...], where: str) -> None:
    """Refuse a reference into a package that is not trusted."""
    root = root_of(reference)
    if root in BASE_ROOTS or root in trusted:
        return
    if root in sys.stdlib_module_names:
        raise CodeError(
            f"{where} uses {reference} of the standard library, which is never resolved; wrap it in a"
            " function of a module of your own"
        )
    raise ConfigurationError(
        f"{where} uses {reference}, which is not trusted; if you trust its package, give the learner the option "
        f'trusted=["{root}"]'
    )


def resolve_trusted(reference: str, trusted: tuple[str, ...]) -> Any:
    """The class or function of a reference, both of whose ends lie in a trusted package.

    Args:
        reference: `"package.module:qualname"`.
        trusted: Root packages allowed beside numpy, scipy and sklearn.

    Returns:
        The class or function.

    Raises:
        ConfigurationError: If the reference, or what it leads to, is of a package that is not trusted, or is
            neither class nor function.
        CodeError: If it leads nowhere, into a script or into the standard library.
    """
    _check_root(reference, trusted, "the description")
    module_name, _, qualname = reference.partition(":")
    if "__main__" in module_name.split("."):
        raise CodeError(f"{reference} is in a script, whose import would run it; move it into a module")
    try:
        found: Any = importlib.import_module(module_name)
        for i, part in enumerate(qualname.split(".")):
            if i and not isinstance(found, type):
                raise ConfigurationError(f"{reference} leads through something that is not a class")
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise CodeError(f"{reference} cannot be found ({error}); install the package or correct the name") from error
    own = name_of(found)
    if own is None:
        raise ConfigurationError(f"{reference} is neither a class nor a function, so it is not used")
    # A trusted module that imports os offers os.system as well: where the thing is defined counts.
    _check_root(own, trusted, reference)
    if root_of(own) in BASE_ROOTS and not _is_harmless(found, own):
        raise ConfigurationError(
            f"{reference} is a function that a description may not name, since some of its package read files or "
            "execute text: call it in a function of your own module, and trust that"
        )
    return found


def _is_harmless(found: Any, own: str) -> bool:
    """Whether calling a class or function of numpy, scipy or sklearn can only compute."""
    scores = own.startswith(("sklearn.metrics.", "sklearn.feature_selection."))
    return isinstance(found, type | np.ufunc) or scores or (own.partition(":")[0] == "numpy" and own[6:] in _REDUCTIONS)
