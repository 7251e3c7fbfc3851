"""A shard trains a multilayer perceptron, forward and backward written out: small networks without a framework's cost.

For a network of a few hundred units, most of a training step in a general framework is not arithmetic but recording,
dispatching and allocating. Here a step is its matrix products and little else, and workers load numpy and scipy alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Joined, Learner, Predictor, State, StepContext, StepData, epoch_visits
from shards.learners.joined import Dense, JoinedDense
from shards.learners.limits import check_sizes, check_target_sizes
from shards.learners.mlp_network import ACTIVATIONS, Network, count_parameters, first_parameters, layers_of
from shards.learners.mlp_rules import Adam, Momentum, PlainSGD, Rule
from shards.learners.schedules import SCHEDULES
from shards.learners.torch_settings import canonical_batch_size, canonical_epochs
from shards.learners.torch_tensors import Scaling, count_records, moments
from shards.learners.visits import count_windows, windows
from shards.task import Kind, Task

if TYPE_CHECKING:
    import torch

OPTIMIZERS = ("sgd", "adam")

_LARGEST_TARGET = 1e19
"""Its square is finite in float32."""
_PREDICT_CHUNK = 1024
_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class MLPLearner(Learner):
    """Minibatch training of fully connected layers in float32, by cross-entropy or by squared error.

    All features of a record, numbers of any dtype, are one row of inputs.

    Attributes:
        hidden: Widths of the hidden layers; none makes it softmax or linear regression.
        activation: `"relu"` or `"tanh"`.
        optimizer: `"sgd"` or `"adam"`.
        learning_rate: Positive.
        momentum: Of `"sgd"`, in [0, 1).
        weight_decay: Weight of half the squared norm of all parameters, at least 0.
        schedule: None, or a name in `SCHEDULES`: how the learning rate falls within one step.
        epochs: E, nominal passes over the data: an int, a float, or a fraction such as `"7/2"`.
        batch_size: Records a minibatch.
        shuffle: Visit the records of each pass in a fresh order; otherwise in canonical order.
        carry_optimizer: Keep what the optimiser has in the state and go on with it in the next step.
        standardize: Subtract the mean and divide by the standard deviation of the records of the step, kept in the
            state.

    Raises:
        ConfigurationError: If a value is out of its range.
    """

    hidden: tuple[int, ...] = (128,)
    _: KW_ONLY
    activation: str = "relu"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str | None = None
    epochs: int | float | str | Fraction = 20
    batch_size: int = 16
    shuffle: bool = True
    carry_optimizer: bool = False
    standardize: bool = False

    kernel: ClassVar[str] = "mlp/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    def __post_init__(self) -> None:
        """Bring every value to its one canonical form, so that equal learners have equal keys."""
        widths = self.hidden if isinstance(self.hidden, list | tuple) else (None,)
        if not all(isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in widths):
            raise ConfigurationError(f"MLPLearner: hidden is {self.hidden!r}: give positive widths, or none")
        object.__setattr__(self, "hidden", tuple(widths))
        for name, choices in (("activation", ACTIVATIONS), ("optimizer", OPTIMIZERS), ("schedule", (None, *SCHEDULES))):
            if getattr(self, name) not in choices:
                shown = ", ".join(str(choice) for choice in choices)
                raise ConfigurationError(f"MLPLearner: {name} is {getattr(self, name)!r}: choose one of {shown}")
        rate = _number("learning_rate", self.learning_rate, "a positive number", lambda v: v > 0)
        object.__setattr__(self, "learning_rate", rate)
        momentum = _number("momentum", self.momentum, "a number of at least 0 and below 1", lambda v: 0 <= v < 1)
        object.__setattr__(self, "momentum", momentum)
        decay = _number("weight_decay", self.weight_decay, "a number of at least 0", lambda v: v >= 0)
        object.__setattr__(self, "weight_decay", decay)
        if self.optimizer == "adam" and momentum:
            raise ConfigurationError("MLPLearner: momentum is for optimizer 'sgd': Adam has its own")
        for name in ("shuffle", "carry_optimizer", "standardize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"MLPLearner: {name} is {getattr(self, name)!r}: give True or False")
        object.__setattr__(self, "epochs", canonical_epochs(self.epochs, "MLPLearner"))
        object.__setattr__(self, "batch_size", canonical_batch_size(self.batch_size, "MLPLearner"))

    def kinds(self) -> tuple[Kind, ...]:
        """Both kinds of task."""
        return ("classification", "regression")

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        values: dict[str, Json] = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, "hidden": list(self.hidden)}

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> MLPLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def code(self) -> tuple[str, ...]:
        """None: it runs no code of the user's."""
        return ()

    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits of a step; see `epoch_visits`."""
        return epoch_visits(Fraction(str(self.epochs)), records, n_slices)

    def check(self, task: Task) -> None:
        """Refuse features that are no numbers.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: Naming them.
        """
        wrong = [n for n, schema in task.features.items() if schema.dtype == "str" or _kind(schema.dtype) not in "biuf"]
        if wrong:
            raise ConfigurationError(
                f"MLPLearner takes numbers, and {', '.join(wrong)} is none: encode it by a public rule first"
            )

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what would be infinite in 32 bits, as a feature or a squared error."""
        check_sizes(features, task, "float32", standardize=self.standardize)
        check_target_sizes(_LARGEST_TARGET, target, task)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step: a pure function of its arguments within one numeric environment.

        Args:
            parent: State after the previous step, or None for the first.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            The new state: `"weights/0"` `[inputs, outputs]` and `"biases/0"` `[outputs]`, float32, and so on;
            `"standardize/mean"` and `"standardize/std"` `[inputs]` float64; `"optimizer/…"`.

        Raises:
            ConfigurationError: If the parent state does not fit.
            FloatingPointError: If loss or parameters are not finite at the end.
        """
        sizes = self._sizes(context.task)
        vector = first_parameters(sizes, context.seed("module")) if parent is None else _vector_of(parent, sizes)
        rule = self._rule(vector, sizes)
        if parent is not None and self.carry_optimizer:
            rule.go_on(_within(parent, "optimizer/"))
        scaling = moments(_all(data.features)) if self.standardize else None
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            last = self._minibatches(vector, rule, _Inputs(data.features, sizes[0], scaling), data.target, context)
        if not (math.isfinite(last) and np.isfinite(vector).all()):
            raise FloatingPointError(
                f"MLPLearner: the loss or a parameter is not finite after {context.visits} record-visits of shard "
                f"{context.shard}, step {context.position}: lower learning_rate, or standardize the features; make "
                "sure that no feature or target is NaN or infinite"
            )
        state = _state_of(vector, sizes)
        if scaling is not None:
            state |= {"standardize/mean": scaling[0], "standardize/std": scaling[1]}
        if self.carry_optimizer:
            state |= {f"optimizer/{name}": value for name, value in rule.state().items()}
        return state

    def predictor(self, state: State, task: Task) -> Predictor:
        """Make a state ready to predict.

        Args:
            state: What `train_step` gave, perhaps read back from a file.
            task: What is predicted.

        Returns:
            Features to softmax probabilities `[n, classes]` or targets `[n, *target shape]`, float64.

        Raises:
            ConfigurationError: If the state does not fit.
        """
        scaling = (state["standardize/mean"], state["standardize/std"]) if self.standardize else None
        sizes = self._sizes(task)
        return _Prediction(_vector_of(state, sizes), sizes, self.activation, scaling, task)

    def join(self, members: Sequence[Predictor], task: Task) -> Joined:
        """Make several shards' networks one; see `JoinedDense`.

        Args:
            members: What `predictor` gave.
            task: What is predicted.

        Returns:
            What says the same to rounding.
        """
        return JoinedDense([member.dense() for member in members if isinstance(member, _Prediction)], task)

    def as_module(self, members: Sequence[Predictor], task: Task) -> torch.nn.Module:
        """Make several shards' networks one torch module; see `Learner.as_module`."""
        from shards.learners.torch_modules import dense_module

        return dense_module([member.dense() for member in members if isinstance(member, _Prediction)], task)

    def _sizes(self, task: Task) -> tuple[int, ...]:
        inputs = sum(math.prod(schema.shape) for schema in task.features.values())
        outputs = len(task.classes) if task.kind == "classification" else math.prod(task.target.shape)
        return (inputs, *self.hidden, outputs)

    def _rule(self, vector: np.ndarray, sizes: tuple[int, ...]) -> Rule:
        if self.optimizer == "adam":
            return Adam(vector, sizes, self.weight_decay)
        if self.momentum:
            return Momentum(vector, sizes, self.weight_decay, self.momentum)
        return PlainSGD(vector, self.weight_decay)

    def _minibatches(
        self, vector: np.ndarray, rule: Rule, inputs: _Inputs, target: np.ndarray, context: StepContext
    ) -> float:
        """Make the visits of a step; changes the parameters in place, and returns the loss of the last minibatch."""
        rows = self.batch_size + 1
        network = Network(vector, self._sizes(context.task), self.activation, rows)
        losses = _cross_entropy if context.task.kind == "classification" else _squared_error
        wanted = target if context.task.kind == "classification" else _flat(target).astype(np.float32)
        factor = None if self.schedule is None else SCHEDULES[self.schedule]
        total = count_windows(context.visits, self.batch_size)
        seed = partial(context.seed, "pass") if self.shuffle else None
        done, told, rate, loss = 0, time.monotonic(), self.learning_rate, math.nan
        for k, window in enumerate(windows(len(target), context.visits, self.batch_size, seed)):
            if factor is not None:
                rate = self.learning_rate * factor(k, total)
            x = inputs.of(window, rows)
            output = network.forward(x)
            # In place: what was the output becomes the gradient by it.
            is_last = k == total - 1
            loss = losses(output, wanted[window], is_last)
            rule.update(network, x, output, rate)
            done += len(window)
            now = time.monotonic()
            if now - told >= _PROGRESS_SECONDS:
                context.progress(done)
                told = now
        context.progress(done)
        return loss


@dataclass(frozen=True, eq=False)
class _Prediction:
    """A network that predicts.

    Attributes:
        vector: All parameters, float32.
        sizes: Inputs, hidden widths, outputs.
        activation: Between layers.
        scaling: Mean and standard deviation to standardise with, or None.
        task: What is predicted.
    """

    vector: np.ndarray
    sizes: tuple[int, ...]
    activation: str
    scaling: Scaling | None
    task: Task

    def __call__(self, features: Features) -> np.ndarray:
        """Softmax probabilities `[n, classes]` or targets `[n, *target shape]`, float64."""
        task, n = self.task, count_records(features, self.task)
        result = np.empty((n, self.sizes[-1]), dtype=np.float64)
        rows = min(n, _PREDICT_CHUNK)
        inputs = _Inputs(features, self.sizes[0], self.scaling)
        network = Network(self.vector, self.sizes, self.activation, rows)
        for start in range(0, n, _PREDICT_CHUNK):
            window = np.arange(start, min(n, start + _PREDICT_CHUNK))
            result[window] = network.forward(inputs.of(window, rows))
        if task.kind == "regression":
            return result.reshape(n, *task.target.shape)
        return _softmax(result)

    def dense(self) -> Dense:
        """Its layers, to be joined with others'."""
        return Dense(layers_of(self.vector, self.sizes), self.activation, self.scaling)


class _Inputs:
    """Rows of inputs, made when they are asked for: the records themselves are not copied.

    Args:
        features: Feature name to array `[n, *shape]`.
        width: Values of all features of a record together.
        scaling: Mean and standard deviation `[width]` to standardise with in float64, or None.
    """

    def __init__(self, features: Features, width: int, scaling: tuple[np.ndarray, np.ndarray] | None) -> None:
        self._blocks = [_flat(array) for array in features.values()]
        self._scaling = scaling
        self._width = width
        self._room: list[np.ndarray] = []
        self._x = np.empty((0, width), dtype=np.float32)
        self._is_plain = len(self._blocks) == 1 and self._blocks[0].dtype == np.float32 and scaling is None

    def of(self, window: np.ndarray, rows: int) -> np.ndarray:
        """The inputs of some records.

        Args:
            window: Their numbers.
            rows: How many there are at most, in any call.

        Returns:
            `[len(window), width]` float32, overwritten by the next call.
        """
        if len(self._x) < rows:
            self._x = np.empty((rows, self._width), dtype=np.float32)
            self._room = [np.empty((rows, block.shape[1]), dtype=block.dtype) for block in self._blocks]
        x, n = self._x[: len(window)], len(window)
        if self._is_plain:
            np.take(self._blocks[0], window, axis=0, out=x, mode="clip")  # "clip" writes where it is told to
            return x
        at = 0
        for block, room in zip(self._blocks, self._room, strict=True):
            values = np.take(block, window, axis=0, out=room[:n], mode="clip")
            if self._scaling is not None:
                part = slice(at, at + block.shape[1])
                values = (values.astype(np.float64) - self._scaling[0][part]) / self._scaling[1][part]
            x[:, at : at + block.shape[1]] = values
            at += block.shape[1]
        return x


def _cross_entropy(output: np.ndarray, classes: np.ndarray, is_asked: bool) -> float:
    """Logits to the gradient of the sum of the records' losses, in place; the mean loss, if it is asked for."""
    rows = np.arange(len(output))
    output -= output.max(axis=1, keepdims=True)
    right = output[rows, classes] if is_asked else None
    np.exp(output, out=output)
    total = output.sum(axis=1, keepdims=True)
    output /= total
    output[rows, classes] -= 1
    return math.nan if right is None else float((np.log(total[:, 0]) - right).mean())


def _squared_error(output: np.ndarray, target: np.ndarray, is_asked: bool) -> float:
    """Outputs to the gradient of the sum of the records' mean squared errors, in place; their mean, if asked for."""
    output -= target
    loss = float((output * output).mean()) if is_asked else math.nan
    output *= np.float32(2 / output.shape[1])
    return loss


def _softmax(logits: np.ndarray) -> np.ndarray:
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _flat(array: np.ndarray) -> np.ndarray:
    return np.reshape(array, (len(array), math.prod(array.shape[1:])))


def _all(features: Features) -> np.ndarray:
    blocks = [_flat(array) for array in features.values()]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def _state_of(vector: np.ndarray, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    state = dict[str, np.ndarray]()
    for number, layer in enumerate(layers_of(vector, sizes)):
        state |= {f"weights/{number}": layer.weights, f"biases/{number}": layer.biases}
    return state


def _vector_of(state: State, sizes: tuple[int, ...]) -> np.ndarray:
    vector = np.empty(count_parameters(sizes), dtype=np.float32)
    for number, layer in enumerate(layers_of(vector, sizes)):
        for name, room in ((f"weights/{number}", layer.weights), (f"biases/{number}", layer.biases)):
            value = state.get(name)
            if value is None or value.shape != room.shape or value.dtype != np.float32:
                found = "missing" if value is None else f"{value.dtype} {value.shape}"
                raise ConfigurationError(
                    f"MLPLearner: the state's {name!r} is {found}, and float32 {room.shape} is needed: the learner "
                    "or the data changed since it was trained"
                )
            room[...] = value
    return vector


def _within(state: State, group: str) -> Mapping[str, np.ndarray]:
    return {name.removeprefix(group): value for name, value in state.items() if name.startswith(group)}


def _kind(dtype: str) -> str:
    return np.dtype(dtype).kind


def _number(name: str, value: Any, wanted: str, fits: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not fits(value):
        raise ConfigurationError(f"MLPLearner: {name} is {value!r}: give {wanted}")
    return float(value)
