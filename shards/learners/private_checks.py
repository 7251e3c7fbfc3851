"""Refuse a PrivateTorchLearner that could not keep its promise, before anything is trained.

The proof needs one record's part in a step to be bounded whatever the other records are. So a record's gradient must
depend on no other record; what changes in training other than by noisy gradients must not be in the state; and what is
declared must make sense.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.dp_sgd import per_record_gradients
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.torch_parts import loss_function
from shards.learners.torch_tensors import feature_tensor, target_tensor
from shards.task import Task

if TYPE_CHECKING:
    import torch

    from shards.learners.private_torch import PrivateTorchLearner

PER_RECORD_LOSSES = (
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "multi_margin_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
)
"""Names in `torch.nn.functional` of losses that are means of one loss a record."""

_PROBES = 3


def canonical_count(value: object, name: str, learner: str) -> int:
    """A number of something as an int.

    Args:
        value: What was given, perhaps a numpy integer.
        name: Of the option.
        learner: Whose it is.

    Returns:
        At least 1.

    Raises:
        ConfigurationError: If it is no positive integer.
    """
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1:
        raise ConfigurationError(f"{learner}: {name} is {value!r}: give a positive integer")
    return count


def check_declared(learner: PrivateTorchLearner) -> None:
    """Refuse numbers that cannot be.

    Args:
        learner: The configuration.

    Raises:
        ConfigurationError: Naming the first one.
    """
    who = type(learner).__name__
    if not (math.isfinite(learner.noise_multiplier) and learner.noise_multiplier > 0):
        raise ConfigurationError(
            f"{who}: noise_multiplier is {learner.noise_multiplier!r}: without noise nothing is private; give a finite "
            "number above 0, or use TorchLearner"
        )
    if learner.clip_norm is None:
        raise ConfigurationError(f"{who}: clip_norm is None: without clipping no noise is enough")
    if learner.batch_size > learner.records:
        raise ConfigurationError(
            f"{who}: batch_size is {learner.batch_size} of {learner.records} declared records: a record cannot be in a "
            "batch with a probability above 1; declare a smaller batch"
        )
    if not 0 < learner.delta * learner.records < 1:
        raise ConfigurationError(
            f"{who}: delta is {learner.delta!r} with {learner.records} records: it must be above 0 and below 1 / "
            f"records = {1 / learner.records:.2g}, since publishing one record at random keeps to that"
        )
    if learner.loss is not None and learner.loss not in PER_RECORD_LOSSES:
        raise ConfigurationError(
            f"{who}: loss {learner.loss!r} is not known to be a mean of one loss a record, which clipping needs: "
            f"choose one of {', '.join(PER_RECORD_LOSSES)}"
        )


def check_installed() -> None:
    """Refuse to go on without Opacus.

    Raises:
        ConfigurationError: Saying what to install.
    """
    try:
        importlib.import_module("opacus")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"PrivateTorchLearner: {error.name!r} is not installed: pip install 'sisa-unlearn[dp]'"
        ) from error


def check_module(learner: PrivateTorchLearner, module: torch.nn.Module, task: Task) -> None:
    """Refuse a module in which records are not each by themselves; what it was given is in training mode then.

    Beside Opacus's rules, three made-up records are tried: when one of them changes or is taken away, the gradients of
    the others must not change, and all of them must have the gradient of the mean loss as their mean.

    Args:
        learner: Names the loss.
        module: To be trained.
        task: What is predicted from what.

    Raises:
        ConfigurationError: With what does not fit and what would.
    """
    from opacus.validators import ModuleValidator  # type: ignore[import-untyped]

    who = type(learner).__name__
    module.train()
    for error in ModuleValidator.validate(module, strict=False):
        raise ConfigurationError(
            f"{who}: {learner.module!r} cannot be trained privately: {_first_sentence(error)} Replace batch "
            "normalisation by torch.nn.GroupNorm or LayerNorm; opacus.validators.ModuleValidator.fix does it"
        )
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    try:
        first, mean = _probe(learner, module, task, [0, 1, 2])
        second, _ = _probe(learner, module, task, [3, 1, 2])
        with _without_dropout(module):
            third, fourth = (_probe(learner, module, task, rows)[0] for rows in ([0, 1, 2], [1, 2]))
    except NotImplementedError as error:
        raise ConfigurationError(
            f"{who}: {learner.module!r} has a layer whose gradients Opacus cannot tell apart by record: "
            f"{_first_sentence(error)} Use layers without buffers"
        ) from error
    check_unchanged(learner, module, buffers)
    for name, whole in mean.items():
        one, other, with_it, without = first[name], second[name], third[name], fourth[name]
        if one is None or other is None or whole is None or with_it is None or without is None:
            raise ConfigurationError(
                f"{who}: the loss does not depend on parameter {name!r} of {learner.module!r}: freeze it "
                "(requires_grad=False) or leave it out"
            )
        scale = 1e-4 * (1 + float(one.abs().max()))
        if max(float((a[1:] - b).abs().max()) for a, b in ((one, other[1:]), (with_it, without))) > scale:
            raise ConfigurationError(
                f"{who}: in {learner.module!r} the gradient of one record with respect to {name!r} depends on the "
                "other records of its batch, so clipping each bounds nothing: leave out what mixes records, such as "
                "statistics over a batch or their number; for dropout, take torch.nn.Dropout"
            )
        if float((one.mean(0) - whole).abs().max()) > scale:
            raise ConfigurationError(
                f"{who}: gradients by record with respect to {name!r} of {learner.module!r} do not add up to the "
                "gradient: use plain layers of torch.nn, and each parameter in its own layer's forward"
            )


def check_unchanged(learner: PrivateTorchLearner, module: torch.nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """Refuse buffers that training changed: no noise was added to them, and they would be published.

    Args:
        learner: Names the module.
        module: After training.
        before: Its buffers before.

    Raises:
        ConfigurationError: Naming the buffer.
    """
    for name, value in module.named_buffers():
        if name not in before or not value.equal(before[name]):
            raise ConfigurationError(
                f"{type(learner).__name__}: training changed the buffer {name!r} of {learner.module!r} without noise: "
                "leave out what keeps statistics of the data"
            )


def check_finite(learner: PrivateTorchLearner, module: torch.nn.Module) -> None:
    """Refuse weights that are not finite.

    Args:
        learner: Names the module.
        module: After training.

    Raises:
        FloatingPointError: Naming a parameter.
    """
    broken = [name for name, value in module.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        raise FloatingPointError(
            f"{type(learner).__name__}: parameter {broken[0]!r} is not finite: lower optimizer_args['lr'], and make "
            "sure that no feature or target is NaN or infinite"
        )


@contextmanager
def _without_dropout(module: torch.nn.Module) -> Iterator[None]:
    """Let no unit drop out: masks fall to places in a batch, so they change when a record is taken away.

    Which mask falls to whom is secret, and each is as likely for every record, whatever others there are.
    """
    import torch

    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
    layers = [layer for layer in module.modules() if isinstance(layer, (*kinds, torch.nn.AlphaDropout))]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def _probe(
    learner: PrivateTorchLearner, module: torch.nn.Module, task: Task, rows: list[int]
) -> tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]:
    """Gradients of some made-up records, of which the fourth is the first with other features; dropout falls alike."""
    features, rng = {}, np.random.default_rng(0)
    for name, schema in task.features.items():
        values = rng.normal(size=(_PROBES + 1, *schema.shape))
        if np.dtype(schema.dtype).kind != "f":
            values = (
                np.abs(values) if np.dtype(schema.dtype) == np.uint8 else np.zeros_like(values)
            )  # indices: none but 0
        features[name] = feature_tensor(values[rows].astype(schema.dtype), learner.input_dtype, None)
    if task.kind == "classification":
        target: np.ndarray = np.arange(_PROBES) % len(task.classes)
    else:
        target = rng.normal(size=(_PROBES, *task.target.shape))
    given = [row % _PROBES for row in rows]
    with generators_kept():
        seed_generators(0)
        return per_record_gradients(
            module, features, target_tensor(target[given], module, task), loss_function(learner.plain, task)
        )


def _first_sentence(error: object) -> str:
    """The first sentence of a message of Opacus, which go on for paragraphs."""
    text = str(error).strip("[]'\"").split(". ")[0].split("\n")[0]
    return text.rstrip(".") + "."
