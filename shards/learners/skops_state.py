"""A fitted estimator as skops bytes and back, with an allow-list of what such bytes may name."""

from __future__ import annotations

import json
import sys
import zipfile
import zlib
from typing import Any

import numpy as np

from shards.errors import ConfigurationError, DamageError
from shards.learners.canonical import content_digest, name_of
from shards.learners.trusted import BASE_ROOTS, resolve_trusted, root_of

_STATE_CLASSES = (
    *("sklearn.", "numpy.dtype", "numpy.ndarray", "numpy.ma.", "numpy.random."),
    # Not scipy.stats: its distributions execute text when they are restored.
    *("scipy.sparse.", "scipy.interpolate.", "scipy.spatial."),
)
_STATE_BUILTINS = frozenset(
    {
        *("builtins.NoneType", "builtins.object", "builtins.bytes", "builtins.complex", "builtins.range"),
        *("builtins.frozenset", "collections.OrderedDict", "collections.defaultdict"),
    }
)

_UNPERSISTABLE = (TypeError, ValueError, AttributeError, RecursionError, NotImplementedError)
_DAMAGED = (*_UNPERSISTABLE, LookupError, ImportError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def dump_estimator(estimator: Any, trusted: tuple[str, ...], declared: frozenset[str]) -> tuple[bytes, str]:
    """Bytes of an estimator, and the canonical digest of what comes out of those bytes.

    Args:
        estimator: Fitted or not.
        trusted: Root packages allowed beside numpy, scipy and sklearn.
        declared: Dotted names of the functions and classes that its description refers to.

    Returns:
        skops bytes, which may differ for equal estimators, and a hex digest, which does not.

    Raises:
        ConfigurationError: If it holds something that cannot be stored, or not be read back.
    """
    import skops.io

    name = type(estimator).__name__
    try:
        stored = skops.io.dumps(estimator)
        refused = _refused(stored, trusted, declared)
    except _UNPERSISTABLE as error:
        raise ConfigurationError(f"{name} cannot be stored without pickle: {error}; use another estimator") from error
    if refused:
        others = sorted({root_of(t) for t in refused} - set(sys.stdlib_module_names) - set(BASE_ROOTS) - set(trusted))
        trust = f"if you trust them, give the learner the option trusted={json.dumps(others)}"
        hint = trust if others else "keep them out of the estimator"
        raise ConfigurationError(f"{name} cannot be stored: loading it would need {', '.join(refused)}; {hint}")
    try:
        # Of the estimator read back, so that it is the digest of every later reading too.
        return stored, content_digest(load_estimator(stored, trusted, declared))
    except DamageError as error:
        raise ConfigurationError(
            f"{name} cannot be read back once stored without pickle: {error}; use another estimator"
        ) from error


def load_estimator(stored: bytes, trusted: tuple[str, ...], declared: frozenset[str]) -> Any:
    """The estimator of skops bytes, which may come from anywhere.

    Args:
        stored: The bytes.
        trusted: Root packages allowed beside numpy, scipy and sklearn.
        declared: Dotted names of the functions and classes that the learner's description refers to.

    Returns:
        The estimator.

    Raises:
        DamageError: If the bytes are damaged, or name anything that is not allowed; then nothing of it is run.
    """
    import skops.io

    try:
        refused = _refused(stored, trusted, declared)
        if refused:
            raise DamageError(
                f"the stored estimator refers to {', '.join(refused)}, which this learner does not trust; it"
                " was not loaded: rebuild the step"
            )
        return skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))
    except _DAMAGED as error:
        raise DamageError(f"the stored estimator cannot be loaded ({error}); rebuild the step") from error


def _refused(stored: bytes, trusted: tuple[str, ...], declared: frozenset[str]) -> list[str]:
    """Names in skops bytes that are neither harmless by default nor allowed to this learner."""
    import skops.io

    return [name for name in skops.io.get_untrusted_types(data=stored) if not _allowed(name, trusted, declared)]


def _allowed(name: str, trusted: tuple[str, ...], declared: frozenset[str]) -> bool:
    """Whether a stored state may refer to a name."""
    # The package alone does not decide: numpy has functions that execute text, and the bytes may name a
    # function where a class belongs, to have it called. So classes only, of packages made of mere data
    # structures, and of the functions only the declared ones and scores.
    if name in _STATE_BUILTINS or name in declared:
        return True
    module, _, last = name.rpartition(".")
    if module.partition(".")[0] not in (*BASE_ROOTS, *trusted):
        return False
    try:
        found = resolve_trusted(f"{module}:{last}", trusted)
    except ConfigurationError:
        return False
    own = str(name_of(found)).replace(":", ".")
    if not isinstance(found, type):
        return own.startswith("sklearn.metrics.")
    return own.startswith(_STATE_CLASSES) or root_of(own) in trusted or issubclass(found, np.generic)
