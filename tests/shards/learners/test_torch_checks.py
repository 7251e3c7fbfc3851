from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch_cases import CONTEXT, DATA, TASK, X, classification, learner, regression

from shards.errors import ConfigurationError
from shards.learners.torch import TorchLearner
from shards.task import FieldSchema, Task


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": -1.0}, "epochs"),
        ({"epochs": float("nan")}, "epochs"),
        ({"epochs": "1/0"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_norm": float("inf")}, "clip_norm"),
        ({"clip_norm": "1"}, "clip_norm"),
        ({"shuffle": 1}, "shuffle"),
        ({"input_dtype": "int8"}, "float32"),
        ({"module_args": {"f": print}}, "module_args"),
        ({"module_args": {"f": float("nan")}}, "module_args"),
        ({"optimizer_args": [1]}, "optimizer_args"),
        ({"schedule": "zigzag"}, "cosine"),
        ({"module": "transformer"}, "mlp"),
        ({"transform": "flip"}, "package.module:name"),
        ({"module": 3}, "module"),
    ],
)
def test_bad_values_are_refused_at_construction(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        TorchLearner(**({"module": "mlp"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"optimizer": "Addam"}, "AdamW"),
        ({"optimizer": "LBFGS"}, "AdamW"),
        ({"optimizer": "torch.optim:LBFGS"}, "closure"),
        ({"optimizer": "user_modules:no_module"}, "optimizer"),
        ({"optimizer_args": {"lr": -1}}, "optimizer_args"),
        ({"optimizer_args": {"speed": 1}}, "optimizer_args"),
        ({"loss": "crossentropy"}, "cross_entropy"),
        ({"loss": "mse_loss"}, "mse_loss"),
        ({"loss": "user_modules:per_record"}, "without axes"),
        ({"loss": "user_modules:missing"}, "missing"),
        ({"schedule": "user_modules:not_finite"}, "finite"),
        ({"schedule": "cosine", "schedule_args": {"speed": 1}}, "schedule_args"),
        ({"transform": "user_modules:jitter", "transform_args": {"speed": 1}}, "transform_args"),
        ({"transform": "user_modules:no_module"}, "function of a record"),
        ({"module": "user_modules:missing"}, "missing"),
        ({"module": "missing_module:make"}, "missing_module"),
        ({"module_args": {"depth": 3}}, "module_args"),
        ({"module": "mlp", "module_args": {"n_outputs": 4}}, "n_outputs"),
        ({"module": "torchvision.models:resnet18", "module_args": {"num_classes": 4}}, "num_classes"),
        ({"module": "torchvision.models:resnet18", "module_args": {"weights": "DEFAULT"}}, "IMAGENET1K_V1"),
    ],
)
def test_bad_parts_are_refused_by_check(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        TorchLearner(**({"module": "user_modules:make"} | settings)).check(TASK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "settings", "word"),
    [
        (replace(TASK, features={"x": FieldSchema((), "str")}), {}, "text"),
        (replace(TASK, features={"x": FieldSchema((6,), "<U3")}), {}, "text"),
        (replace(TASK, features={"x": FieldSchema((6,), "<c8")}), {}, "complex64"),
        (replace(TASK, features={}), {}, "no feature"),
        (replace(TASK, classes=(1,)), {}, "two classes"),
        (replace(TASK, target=FieldSchema((2,), "<i8")), {}, "one class a record"),
        (replace(TASK, features={"x": FieldSchema((6,), "<i8")}), {"standardize": True}, "floating"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(task: Task, settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        learner(**settings).check(task)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_loss_that_would_broadcast_class_indices_is_refused(classes: int) -> None:
    task = classification({"x": X}, classes)
    with pytest.raises(ConfigurationError, match="mse_loss"):
        learner(module_args={"outputs": classes}, loss="mse_loss").check(task)


@pytest.mark.parametrize(
    ("module", "word"), [("lazy", "Lazy"), ("frozen", "unfrozen"), ("no_module", "must return a torch.nn.Module")]
)
def test_modules_that_cannot_be_trained_are_refused(module: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        learner(f"user_modules:{module}").train_step(None, DATA, CONTEXT)


def test_a_wrong_number_of_outputs_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_classes"):
        learner(module_args={"outputs": 4}).train_step(None, DATA, CONTEXT)
    task = regression(X, (3,))
    with pytest.raises(ConfigurationError, match=r"\(16, 3\)"):
        learner(module_args={"outputs": 1}).train_step(
            None, replace(DATA, target=X[:, :3]), replace(CONTEXT, task=task)
        )


def test_a_state_of_another_module_is_refused() -> None:
    state = learner().train_step(None, DATA, CONTEXT)
    with pytest.raises(ConfigurationError, match="does not fit"):
        learner("mlp").predictor(state, TASK)


def test_divergence_is_an_error_with_advice() -> None:
    with pytest.raises(FloatingPointError, match="lower optimizer_args"):
        learner(optimizer_args={"lr": 1e38}).train_step(None, DATA, CONTEXT)
    x = X.copy()
    x[3, 3] = np.nan
    with pytest.raises(FloatingPointError, match="shard 2, step 0"):
        learner().train_step(None, replace(DATA, features={"x": x}), CONTEXT)
