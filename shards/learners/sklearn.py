"""A learner out of any estimator that follows scikit-learn's conventions.

The estimator is kept as a description in plain JSON (class reference and parameters), its fitted state as skops
bytes; neither needs pickle. Whatever would make the bits depend on something undeclared is fixed: missing
seeds are derived from the step, `n_jobs` is 1, and wall-clock times that searches record are set to zero.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np

from shards.digest import Json, canonical_json
from shards.errors import CodeError, ConfigurationError, DamageError, InputError
from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData, epoch_visits
from shards.learners.canonical import content_digest, name_of
from shards.task import Kind, Task

Mode = Literal["partial_fit", "refit"]

_BASE_ROOTS = ("numpy", "scipy", "sklearn")

_BUILTINS: Mapping[str, type] = {t.__name__: t for t in (bool, int, float, complex, str, bytes, object)}
"""Builtin types that estimators take as dtype parameters; nothing else of the standard library has a name."""

_STATE_CLASSES = (
    *("sklearn.", "numpy.dtype", "numpy.ndarray", "numpy.ma.", "numpy.random."),
    *("scipy.sparse.", "scipy.interpolate.", "scipy.spatial.", "scipy.stats."),
)
_STATE_BUILTINS = frozenset({"builtins.NoneType", "builtins.object", "builtins.bytes", "builtins.complex"})
_STATE_BUILTINS |= {
    "builtins.range",
    "builtins.frozenset",
    "collections.OrderedDict",
    "collections.defaultdict",
}

_UNPERSISTABLE = (TypeError, ValueError, AttributeError, RecursionError, NotImplementedError)
_DAMAGED = (*_UNPERSISTABLE, LookupError, ImportError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, init=False)
class SklearnLearner(Learner):
    """Trains a scikit-learn estimator on every shard.

    With `partial_fit` a step continues from its parent in mini-batches; with `refit` it fits a new estimator on
    all records so far and ignores its parent. The learner is a value: the estimator given is described, never
    kept, so changing it later changes nothing.

    Attributes:
        description: Canonical JSON text of the estimator and its parameters.
        mode: `"partial_fit"` or `"refit"`.
        epochs: E, nominal passes over the data; ignored by `refit`.
        batch_size: Records of one call of `partial_fit`; ignored by `refit`.
        trusted: Root packages, beside numpy, scipy and sklearn, whose classes may be built and loaded.
    """

    kernel: ClassVar[str] = "sklearn/1"
    libraries: ClassVar[tuple[str, ...]] = _BASE_ROOTS

    description: str
    mode: Mode
    epochs: int | float
    batch_size: int
    trusted: tuple[str, ...]

    def __init__(
        self,
        estimator: Any,
        *,
        mode: Literal["auto", "partial_fit", "refit"] = "auto",
        epochs: float = 5,
        batch_size: int = 64,
        trusted: tuple[str, ...] = (),
    ) -> None:
        """Describe an estimator.

        Args:
            estimator: An unfitted estimator. What it has learnt, if anything, is not taken over.
            mode: `"auto"` is `"partial_fit"` for estimators that have it, else `"refit"`.
            epochs: E, nominal passes over the data, positive.
            batch_size: Records of one call of `partial_fit`, at least 1.
            trusted: Root packages of third-party or own classes and functions, such as `("lightgbm",)`.

        Raises:
            ConfigurationError: If a parameter has no description or an option is out of range.
            CodeError: If a class or function cannot be found again by its name.
        """
        _check_options(mode, epochs, batch_size, trusted)
        roots = tuple(sorted(set(trusted)))
        description = describe(estimator, roots)
        rebuilt = build(description, roots)
        if describe(rebuilt, roots) != description:
            raise ConfigurationError(
                f"{type(estimator).__name__} changes its parameters when it is constructed, so it cannot be"
                " built again from them; store the arguments of __init__ unchanged, as scikit-learn asks"
            )
        can_continue = hasattr(rebuilt, "partial_fit")
        if mode == "partial_fit" and not can_continue:
            raise ConfigurationError(f"{type(estimator).__name__} has no partial_fit; use mode='refit'")
        resolved = mode if mode != "auto" else "partial_fit" if can_continue else "refit"
        object.__setattr__(self, "description", canonical_json(description).decode())
        object.__setattr__(self, "mode", resolved)
        object.__setattr__(self, "epochs", int(epochs) if float(epochs).is_integer() else float(epochs))
        object.__setattr__(self, "batch_size", int(batch_size))
        object.__setattr__(self, "trusted", roots)

    def estimator(self) -> Any:
        """A new unfitted estimator with the declared parameters."""
        return build(json.loads(self.description), self.trusted)

    def kinds(self) -> tuple[Kind, ...]:
        """Regression for a regressor, classification for anything else; `check` is stricter."""
        from sklearn.base import is_regressor

        return ("regression",) if is_regressor(self.estimator()) else ("classification",)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON, the resolved mode among them."""
        return {
            "estimator": json.loads(self.description),
            "mode": self.mode,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "trusted": list(self.trusted),
        }

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> SklearnLearner:
        """Build the learner again from `params()`.

        Args:
            params: As returned by `params()`, possibly read back from JSON.

        Returns:
            An equal learner.

        Raises:
            ConfigurationError: If the description names something outside numpy, scipy, sklearn and its own
                trusted packages, or a name that does not exist.
        """
        options = dict(params)
        trusted = tuple(options.pop("trusted", ()))
        _check_trusted(trusted)
        return cls(build(options.pop("estimator"), trusted), trusted=trusted, **options)

    def code(self) -> tuple[str, ...]:
        """References to the classes and functions of other packages than numpy, scipy and sklearn."""
        return tuple(sorted({r for r in _references(json.loads(self.description)) if _root(r) not in _BASE_ROOTS}))

    def check(self, task: Task) -> None:
        """Refuse a task the estimator cannot be trained on, and an estimator that cannot be stored.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit and what would.
        """
        from sklearn.base import is_classifier, is_regressor

        estimator = self.estimator()
        name = type(estimator).__name__
        fits = is_classifier if task.kind == "classification" else is_regressor
        try:
            fitting = fits(estimator)
        except AttributeError as error:
            raise ConfigurationError(
                f"{name} does not say whether it classifies; derive it from sklearn.base.BaseEstimator"
            ) from error
        if not fitting:
            wanted = "a classifier" if task.kind == "classification" else "a regressor"
            raise ConfigurationError(f"{name} is not {wanted}, which a {task.kind} task needs; use one that is")
        _check_features(task)
        _check_target(task, estimator)
        _dump(estimator, self.trusted, _functions(json.loads(self.description)))

    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits of a step: ceil(2 E records / (R + 1)) for `partial_fit`, one each for `refit`.

        Args:
            records: Records in slices 1..r, at least 1.
            n_slices: R, the declared number of slices of a batch.

        Returns:
            At least 1.
        """
        return records if self.mode == "refit" else epoch_visits(Fraction(self.epochs), records, n_slices)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step.

        Args:
            parent: State after the previous step, or None; ignored by `refit`.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            `"skops"`: uint8, the bytes of the fitted estimator; `"content"`: uint8 `[32]`, its canonical
            digest. The skops bytes of equal states may differ; their canonical digests do not.

        Raises:
            ConfigurationError: If the fitted estimator holds something that cannot be stored.
            DamageError: If the parent cannot be loaded.
        """
        X = _inputs(data.features, context.task)
        y = _targets(data.target, context.task)
        fixed = _fixed_params(self.estimator(), context)
        if self.mode == "partial_fit":
            fitted = self._continue(parent, X, y, fixed, context)
        else:
            fitted = _fit(self.estimator().set_params(**fixed), X, y, context)
        _stop_clocks(fitted)
        stored, digest = _dump(fitted, self.trusted, _functions(json.loads(self.description)))
        return {
            "skops": np.frombuffer(stored, dtype=np.uint8).copy(),
            "content": np.frombuffer(bytes.fromhex(digest), dtype=np.uint8).copy(),
        }

    def predictor(self, state: State, task: Task) -> Predictor:
        """Load a state once, ready to predict.

        Args:
            state: As returned by `train_step`.
            task: What is predicted.

        Returns:
            For classification, features to probabilities `[n, classes]`, zero for classes that the shard has
            never seen, or one-hot predictions if the estimator has no probabilities; for regression, features
            to `[n, *target shape]`. Both float64.

        Raises:
            DamageError: If the state cannot be loaded.
        """
        estimator = self._load(state)

        def probabilities(features: Features) -> np.ndarray:
            X = _inputs(features, task)
            result = np.zeros((len(X), len(task.classes)))
            if not len(X):
                return result
            if not hasattr(estimator, "predict_proba"):
                result[np.arange(len(X)), np.asarray(estimator.predict(X)).astype(np.int64)] = 1.0
                return result
            result[:, np.asarray(estimator.classes_, dtype=np.int64)] = estimator.predict_proba(X)
            return result

        def values(features: Features) -> np.ndarray:
            X = _inputs(features, task)
            shape = (len(X), *task.target.shape)
            found = estimator.predict(X) if len(X) else np.empty(shape)
            return np.asarray(found, dtype=np.float64).reshape(shape)

        return probabilities if task.kind == "classification" else values

    def content_digest(self, state: State) -> str:
        """Canonical digest of a state, computed from the loaded estimator, not read from the state.

        Args:
            state: As returned by `train_step`.

        Returns:
            Hex digest; for a sound state, its `"content"`.

        Raises:
            DamageError: If the state cannot be loaded.
        """
        return content_digest(self._load(state))

    def _load(self, state: State) -> Any:
        from sklearn.dummy import DummyClassifier

        if "skops" not in state:
            raise DamageError(f"this state holds {sorted(state)}, not 'skops': it is of another learner")
        description = json.loads(self.description)
        estimator = _loads(state["skops"].tobytes(), self.trusted, _functions(description))
        expected = type(build(description, self.trusted))
        if type(estimator) is not expected and not (self.mode == "refit" and type(estimator) is DummyClassifier):
            raise DamageError(
                f"the stored estimator is a {type(estimator).__name__}, not a {expected.__name__}; it was not"
                " used: rebuild the step"
            )
        return estimator

    def _continue(
        self, parent: State | None, X: Any, y: np.ndarray, fixed: dict[str, int], context: StepContext
    ) -> Any:
        estimator = self.estimator() if parent is None else self._load(parent)
        estimator.set_params(**fixed)
        classes = _class_argument(context.task)
        order = _visit_order(len(y), context)
        for start in range(0, len(order), self.batch_size):
            window = order[start : start + self.batch_size]
            estimator.partial_fit(_rows(X, window), y[window], **classes)
            context.progress(start + len(window))
        return estimator


# --- the description of an estimator, in JSON -----------------------------------------------------


def describe(value: Any, trusted: tuple[str, ...] = (), where: str = "the estimator") -> Json:
    """Describe an estimator or one of its parameters in JSON.

    None, booleans, integers, finite floats, strings and lists stand for themselves; everything else is an
    object with the kind as its key: `{"estimator": "module:name", "params": {...}}`,
    `{"reference": "module:name"}`, `{"tuple": [...]}`, `{"dict": [[key, value], ...]}`, `{"float": "nan"}`,
    `{"ndarray": [dtype, shape, data]}`, `{"scalar": [dtype, data]}`, `{"slice": [start, stop, step]}`,
    `{"dtype": "<f8"}`, `{"builtin": "float"}`.

    Args:
        value: Estimator, parameter, or part of one.
        trusted: Root packages allowed beside numpy, scipy and sklearn.
        where: What is being described, for messages.

    Returns:
        A JSON value from which `build` makes an equal object.

    Raises:
        ConfigurationError: If there is no description for a value of this type, or its package is not trusted.
        CodeError: If a class or function cannot be found again by its name.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind is list:
        return [describe(item, trusted, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"tuple": [describe(item, trusted, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is dict:
        pairs = [(describe(k, trusted, where), describe(v, trusted, f"{where}[{k!r}]")) for k, v in value.items()]
        return {"dict": [list(pair) for pair in pairs]}
    if kind is slice:
        return {"slice": [describe(part, trusted, where) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, (np.generic, np.ndarray, np.dtype)):
        return _describe_numpy(value, trusted, where)
    if isinstance(value, type) and _BUILTINS.get(value.__name__) is value:
        return {"builtin": value.__name__}
    if name_of(value) is not None:
        return {"reference": _reference(value, trusted, where)}
    if callable(getattr(value, "get_params", None)):
        return _describe_estimator(value, trusted)
    raise ConfigurationError(_no_description(value, where))


def build(description: Json, trusted: tuple[str, ...] = ()) -> Any:
    """Make the object of a description.

    Args:
        description: As returned by `describe`.
        trusted: Root packages allowed beside numpy, scipy and sklearn.

    Returns:
        A new object.

    Raises:
        ConfigurationError: If the description is malformed, or names something that does not exist, is not
            trusted, or belongs to the standard library.
    """
    if description is None or isinstance(description, (bool, int, float, str)):
        return description
    if isinstance(description, list):
        return [build(item, trusted) for item in description]
    if not isinstance(description, dict):
        raise ConfigurationError(f"an estimator's description cannot hold a {type(description).__name__}")
    if set(description) == {"estimator", "params"}:
        return _build_estimator(description, trusted)
    if len(description) != 1:
        raise ConfigurationError(f"unknown keys {sorted(description)} in an estimator's description")
    ((kind, content),) = description.items()
    try:
        return _build_tagged(kind, content, trusted)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigurationError(f"malformed {kind!r} in an estimator's description: {error}") from error


def _describe_numpy(value: Any, trusted: tuple[str, ...], where: str) -> Json:
    dtype = value if isinstance(value, np.dtype) else value.dtype
    if dtype.names is not None or dtype.kind in "TV" or (dtype.hasobject and not isinstance(value, np.ndarray)):
        raise ConfigurationError(f"{where} has the numpy dtype {dtype}, which has no description; use a plain dtype")
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if dtype.hasobject:
        items = [describe(item, trusted, where) for item in value.reshape(-1).tolist()]
        return {"ndarray": ["|O", list(value.shape), items]}
    little = np.asarray(value).astype(dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    if isinstance(value, np.generic):
        return {"scalar": [little.dtype.str, data]}
    return {"ndarray": [little.dtype.str, list(value.shape), data]}


def _describe_estimator(value: Any, trusted: tuple[str, ...]) -> Json:
    from sklearn.frozen import FrozenEstimator

    name = type(value).__name__
    if isinstance(value, FrozenEstimator):
        raise ConfigurationError(
            "a FrozenEstimator carries what it learnt, which a description cannot; apply it to the data before"
            " ingest, or put the unfrozen estimator into the learner"
        )
    reference = _reference(type(value), trusted, name)
    params = value.get_params(deep=False)
    return {
        "estimator": reference,
        "params": {k: describe(params[k], trusted, f"{name}.{k}") for k in sorted(params)},
    }


def _no_description(value: Any, where: str) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        return f"{where} is a {kind}, whose state moves with every use; pass an int seed, or None to derive one"
    return (
        f"{where} is a {kind}, which cannot be described in JSON; use numbers, strings, arrays, estimators, or"
        " a function or class at the top level of a module"
    )


def _reference(value: Any, trusted: tuple[str, ...], where: str) -> str:
    """The reference of a class or function, proven to lead back to it."""
    reference = name_of(value)
    if reference is None or "<" in reference or reference.startswith(("__main__:", "__mp_main__:")):
        raise CodeError(
            f"{where} uses {reference}, which another process cannot find; define it at the top level of a"
            " module in a file, and add the root package of that module to trusted=(...)"
        )
    _check_root(reference, trusted, where)
    if _resolve(reference, trusted) != value:
        raise CodeError(f"{where} uses {reference}, but that name leads to something else; give it a name of its own")
    return reference


def _root(reference: str) -> str:
    return reference.partition(":")[0].partition(".")[0]


def _check_root(reference: str, trusted: tuple[str, ...], where: str) -> None:
    root = _root(reference)
    if root in _BASE_ROOTS or root in trusted:
        return
    if root in sys.stdlib_module_names:
        raise CodeError(
            f"{where} uses {reference} of the standard library, which is never resolved; wrap it in a"
            " function of a module of your own"
        )
    raise ConfigurationError(f"{where} uses {reference}, which is not trusted; pass trusted=({root!r},) to allow it")


def _resolve(reference: str, trusted: tuple[str, ...]) -> Any:
    """The class or function of a reference, both of whose ends lie in a trusted package."""
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
    return found


def _build_estimator(description: dict[str, Json], trusted: tuple[str, ...]) -> Any:
    reference, params = description["estimator"], description["params"]
    if not isinstance(reference, str) or not isinstance(params, dict):
        raise ConfigurationError("malformed 'estimator' in an estimator's description")
    cls = _resolve(reference, trusted)
    if not isinstance(cls, type) or not callable(getattr(cls, "get_params", None)):
        raise ConfigurationError(f"{reference} is no estimator: it has no get_params")
    return cls(**{name: build(value, trusted) for name, value in params.items()})


def _build_tagged(kind: str, content: Json, trusted: tuple[str, ...]) -> Any:
    match kind:
        case "reference":
            return _resolve(content, trusted)
        case "builtin":
            return _BUILTINS[content]
        case "float":
            return float(content)
        case "tuple":
            return tuple(build(item, trusted) for item in content)
        case "dict":
            return {build(key, trusted): build(value, trusted) for key, value in content}
        case "slice":
            return slice(*(build(part, trusted) for part in content))
        case "dtype":
            return np.dtype(content)
        case "scalar":
            return np.frombuffer(base64.b64decode(content[1]), dtype=np.dtype(content[0]))[0]
        case "ndarray":
            return _build_array(*content, trusted=trusted)
        case _:
            raise ConfigurationError(f"unknown kind {kind!r} in an estimator's description")


def _build_array(dtype: str, shape: list[int], data: Json, *, trusted: tuple[str, ...]) -> np.ndarray:
    if dtype != "|O":
        return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
    result = np.empty(len(data), dtype=object)
    for i, item in enumerate(data):
        result[i] = build(item, trusted)
    return result.reshape(shape)


def _references(description: Json) -> Iterator[str]:
    if isinstance(description, list):
        for item in description:
            yield from _references(item)
    elif isinstance(description, dict):
        if "estimator" in description:
            yield description["estimator"]
            for value in description["params"].values():
                yield from _references(value)
        elif "reference" in description:
            yield description["reference"]
        else:
            yield from _references(list(description.values()))


def _functions(description: Json) -> frozenset[str]:
    """Dotted names of everything the description refers to."""
    return frozenset(reference.replace(":", ".") for reference in _references(description))


# --- options and tasks ----------------------------------------------------------------------------


def _check_options(mode: str, epochs: float, batch_size: int, trusted: tuple[str, ...]) -> None:
    if mode not in {"auto", "partial_fit", "refit"}:
        raise ConfigurationError(f"mode is {mode!r}; use 'auto', 'partial_fit' or 'refit'")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
        raise ConfigurationError(f"epochs is {epochs!r}; use a positive number")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size!r}; use a positive integer")
    _check_trusted(trusted)


def _check_trusted(trusted: object) -> None:
    if not isinstance(trusted, tuple):
        raise ConfigurationError(f"trusted is {trusted!r}; use a tuple of root packages, such as ('lightgbm',)")
    for root in trusted:
        if not isinstance(root, str) or not root.isidentifier():
            raise ConfigurationError(f"trusted has {root!r}; use names of root packages, such as 'lightgbm'")
        if root in sys.stdlib_module_names or root in {"__main__", "__mp_main__"}:
            raise ConfigurationError(f"trusted has {root!r}, which cannot be trusted: it can run anything")


def _check_features(task: Task) -> None:
    if not task.features:
        raise ConfigurationError("the task declares no features; declare at least one")
    if list(task.features) == ["x"]:
        return
    wide = [name for name, schema in task.features.items() if schema.shape]
    if wide:
        raise ConfigurationError(
            f"features {wide} of a table have more than one value per record; a table takes one value per"
            " column: split them into columns, or use a single feature named 'x'"
        )


def _check_target(task: Task, estimator: Any) -> None:
    from sklearn.utils import get_tags

    name = type(estimator).__name__
    if task.kind == "classification":
        if len(task.classes) < 2:
            raise ConfigurationError(f"the task declares {len(task.classes)} classes; declare at least two")
        if task.target.shape:
            raise ConfigurationError(f"the target has shape {task.target.shape}; a class index is a scalar")
        return
    if len(task.target.shape) > 1:
        raise ConfigurationError(f"the target has shape {task.target.shape}; flatten it to one axis")
    if task.target.shape and not get_tags(estimator).target_tags.multi_output:
        raise ConfigurationError(
            f"{name} predicts one number and the target has {task.target.shape[0]}; wrap it in"
            " sklearn.multioutput.MultiOutputRegressor"
        )


# --- data in scikit-learn's shape -----------------------------------------------------------------


def _inputs(features: Features, task: Task) -> Any:
    """Feature matrix `[n, prod(shape)]` for the single feature `"x"`, else a DataFrame; never a view."""
    missing = [name for name in task.features if name not in features]
    if missing:
        raise InputError(f"features {missing} are missing; pass all of {list(task.features)}")
    if list(task.features) == ["x"]:
        values = np.asarray(features["x"])
        width = math.prod(task.features["x"].shape)
        return _plain(values, task.features["x"].dtype).reshape(len(values), width)
    import pandas as pd

    columns = {name: _plain(features[name], schema.dtype) for name, schema in task.features.items()}
    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})


def _plain(values: Any, dtype: str) -> np.ndarray:
    # Text as objects: the width of numpy's text dtype would depend on the longest text of the call.
    return np.array(values, dtype=object) if dtype == "str" else np.array(values, copy=True, order="C")


def _targets(target: np.ndarray, task: Task) -> np.ndarray:
    return np.array(target, dtype=np.int64 if task.kind == "classification" else np.float64)


def _rows(X: Any, index: np.ndarray) -> Any:
    return X[index] if isinstance(X, np.ndarray) else X.iloc[index]


# --- training -------------------------------------------------------------------------------------


def _fixed_params(estimator: Any, context: StepContext) -> dict[str, int]:
    """Values for every seed that is not declared and every number of threads."""
    fixed: dict[str, int] = {}
    params = estimator.get_params(deep=True)
    for name, value in sorted(params.items()):
        owner_name, _, last = name.rpartition("__")
        owner = params.get(owner_name, estimator)
        if last == "random_state" and value is None:
            fixed[name] = context.seed("estimator", name) % (2**32 - 1)
        elif last == "n_jobs" and not (value is None and type(owner).__module__.startswith("sklearn.")):
            # None already means 1 in scikit-learn, some of whose estimators warn if it is spelt out; elsewhere
            # it often means all cores.
            fixed[name] = 1
    return fixed


def _class_argument(task: Task) -> dict[str, np.ndarray]:
    return {"classes": np.arange(len(task.classes))} if task.kind == "classification" else {}


def _visit_order(records: int, context: StepContext) -> np.ndarray:
    """Indices of the records in the order of their visits `[visits]`: permutation after permutation, cut."""
    passes = -(-context.visits // records)
    orders = [np.random.Generator(np.random.PCG64(context.seed("pass", k))).permutation(records) for k in range(passes)]
    return np.concatenate(orders)[: context.visits]


def _fit(estimator: Any, X: Any, y: np.ndarray, context: StepContext) -> Any:
    from sklearn.dummy import DummyClassifier

    if context.task.kind == "classification" and (y == y[0]).all():
        # Many classifiers refuse a single class; there is only one answer to give.
        estimator = DummyClassifier(strategy="constant", constant=int(y[0]))
    estimator.fit(X, y)
    context.progress(len(y))
    return estimator


def _stop_clocks(value: Any) -> None:
    """Set the times that searches measure to zero, in place: a state must not depend on the wall clock."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _stop_clocks(item)
    elif isinstance(value, dict):
        _stop_clocks(list(value.values()))
    elif callable(getattr(value, "get_params", None)) and not isinstance(value, type):
        if hasattr(value, "refit_time_"):
            value.refit_time_ = 0.0
        for name, column in (getattr(value, "cv_results_", None) or {}).items():
            if name.endswith(("_fit_time", "_score_time")):
                column[...] = 0.0
        _stop_clocks(vars(value))


# --- states ---------------------------------------------------------------------------------------


def _dump(estimator: Any, trusted: tuple[str, ...], declared: frozenset[str]) -> tuple[bytes, str]:
    """Bytes of an estimator, and the canonical digest of what comes out of those bytes."""
    import skops.io

    name = type(estimator).__name__
    try:
        stored = skops.io.dumps(estimator)
        refused = _refused(stored, trusted, declared)
    except _UNPERSISTABLE as error:
        raise ConfigurationError(f"{name} cannot be stored without pickle: {error}; use another estimator") from error
    if refused:
        others = sorted({_root(t) for t in refused} - set(sys.stdlib_module_names) - set(_BASE_ROOTS) - set(trusted))
        hint = f"pass trusted={tuple(others)!r} if you trust them" if others else "keep them out of the estimator"
        raise ConfigurationError(f"{name} cannot be stored: loading it would need {', '.join(refused)}; {hint}")
    try:
        # Of the estimator read back, so that it is the digest of every later reading too.
        return stored, content_digest(_loads(stored, trusted, declared))
    except DamageError as error:
        raise ConfigurationError(
            f"{name} cannot be read back once stored without pickle: {error}; use another estimator"
        ) from error


def _loads(stored: bytes, trusted: tuple[str, ...], declared: frozenset[str]) -> Any:
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
    if module.partition(".")[0] not in (*_BASE_ROOTS, *trusted):
        return False
    try:
        found = _resolve(f"{module}:{last}", trusted)
    except ConfigurationError:
        return False
    own = str(name_of(found)).replace(":", ".")
    if not isinstance(found, type):
        return own.startswith("sklearn.metrics.")
    return own.startswith(_STATE_CLASSES) or _root(own) in trusted or issubclass(found, np.generic)
