from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
import user_modules
from torch_cases import CONTEXT, DATA, TASK, N, X, learner, same

from shards.code import code_digest
from shards.digest import digest_arrays
from shards.environment import step_environment
from shards.errors import CodeError, ConfigurationError
from shards.learners.base import StepContext
from shards.learners.torch import TorchLearner
from shards.learners.visits import windows


def generators() -> str:
    state = np.random.get_state()
    return str((torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2:]))  # type: ignore[union-attr, index]


# --- the loop, against one written by hand --------------------------------------------------------------------


def by_hand(
    name: str,
    optimizer_args: dict[str, object],
    rate: object = None,
    context: StepContext = CONTEXT,
    clip: float | None = None,
) -> torch.nn.Module:
    torch.manual_seed(context.seed("module"))
    module = user_modules.make()
    optimizer = getattr(torch.optim, name)(module.parameters(), **optimizer_args)
    torch.manual_seed(context.seed("train"))
    passes = -(-context.visits // N)
    order = np.concatenate(
        [np.random.Generator(np.random.PCG64(context.seed("pass", k))).permutation(N) for k in range(passes)]
    )[: context.visits]
    starts = list(range(0, context.visits, 16))
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for k, start in enumerate(starts):
        if rate is not None:
            optimizer.param_groups[0]["lr"] = optimizer_args["lr"] * rate(k, len(starts))  # type: ignore[operator]
        rows = order[start : start + 16]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
    return module


def test_sgd_with_momentum_and_cosine_equals_a_loop_by_hand() -> None:
    args = {"lr": 0.2, "momentum": 0.9}
    expected = by_hand("SGD", args, lambda k, n: 0.1 + 0.9 * (1 + math.cos(math.pi * k / n)) / 2)
    ours = learner(optimizer_args=args, schedule="cosine", schedule_args={"final": 0.1})
    assert same(ours.train_step(None, DATA, CONTEXT), expected)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [("linear", lambda k, n: 1 - k / n), ("step", lambda k, n: 0.1 ** (3 * k // n)), ("user_modules:halves", None)],
)
def test_other_schedules_equal_a_loop_by_hand(schedule: str, rate: object) -> None:
    expected = by_hand("SGD", {"lr": 0.2}, rate or user_modules.halves)
    assert same(learner(optimizer_args={"lr": 0.2}, schedule=schedule).train_step(None, DATA, CONTEXT), expected)


def test_adam_equals_a_loop_by_hand() -> None:
    ours = learner(optimizer="Adam", optimizer_args={"lr": 0.01}).train_step(None, DATA, CONTEXT)
    assert same(ours, by_hand("Adam", {"lr": 0.01}))


def test_clipping_equals_a_loop_by_hand() -> None:
    ours = learner(clip_norm=0.05).train_step(None, DATA, CONTEXT)
    assert same(ours, by_hand("SGD", {"lr": 0.1}, clip=0.05))
    assert not same(ours, by_hand("SGD", {"lr": 0.1}))


def test_second_step_starts_from_the_parent_and_its_own_seeds() -> None:
    ours = learner(optimizer="Adam", optimizer_args={"lr": 0.01})
    first = ours.train_step(None, DATA, CONTEXT)
    second = ours.train_step(first, DATA, replace(CONTEXT, position=1))
    expected = by_hand("Adam", {"lr": 0.01})
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for window in windows(N, 100, 16, lambda k: replace(CONTEXT, position=1).seed("pass", k)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(expected(x[window]), y[window]).backward()
        optimizer.step()
    assert same(second, expected)


# --- purity ---------------------------------------------------------------------------------------------------

ALL_SORTS = [
    learner(),
    learner("user_modules:batchnorm", standardize=True, optimizer="AdamW", carry_optimizer=True),
    learner("user_modules:dropout", transform="user_modules:jitter", schedule="linear"),
    learner("user_modules:numpy_noise", optimizer="user_modules:PlainSGD", carry_optimizer=True),
    learner("user_modules:Tied", loss="user_modules:focal", epochs="7/2", shuffle=False, clip_norm=1),
    learner("user_modules:double", input_dtype="float64"),
    learner("user_modules:half", input_dtype="bfloat16"),
    learner("mlp", module_args={"hidden": (4,), "dropout": 0.2}, optimizer="Adagrad", carry_optimizer=True),
]


@pytest.mark.parametrize("ours", ALL_SORTS, ids=lambda ours: str(ours.module))
def test_a_step_is_a_pure_function(ours: TorchLearner) -> None:
    ours.check(TASK)
    parent = ours.train_step(None, DATA, CONTEXT)
    before, data_before = digest_arrays(parent), digest_arrays(DATA.features)
    torch.manual_seed(1)
    generators_before = generators()
    second = ours.train_step(parent, DATA, replace(CONTEXT, position=1))
    predict = ours.predictor(second, TASK)
    probabilities = predict(DATA.features)
    assert generators() == generators_before
    assert digest_arrays(parent) == before
    assert digest_arrays(DATA.features) == data_before

    torch.rand(3), random.random(), np.random.rand()
    again = TorchLearner.from_params(json.loads(json.dumps(ours.params())))
    assert again == ours
    assert hash(again) == hash(ours)
    frozen = {key: np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape) for key, value in parent.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = again.train_step(frozen, DATA, replace(CONTEXT, position=1))
    assert digest_arrays(third) == digest_arrays(second) != before
    np.testing.assert_array_equal(again.predictor(third, TASK)(DATA.features), probabilities)
    np.testing.assert_array_equal(predict(DATA.features), probabilities)


def test_the_callers_modes_do_not_matter() -> None:
    ours = learner()
    expected = digest_arrays(ours.train_step(None, DATA, CONTEXT))
    with torch.no_grad():
        assert digest_arrays(ours.train_step(None, DATA, CONTEXT)) == expected
    with torch.inference_mode():
        assert digest_arrays(ours.train_step(None, DATA, CONTEXT)) == expected


def test_generators_are_restored_after_an_error() -> None:
    before = generators()
    with pytest.raises(ConfigurationError):
        learner(module_args={"outputs": 5}).train_step(None, DATA, CONTEXT)
    assert generators() == before


def test_result_depends_on_seed_shard_and_position() -> None:
    states = [
        learner().train_step(None, DATA, context)
        for context in (CONTEXT, replace(CONTEXT, root_seed=6), replace(CONTEXT, shard=3), replace(CONTEXT, position=1))
    ]
    assert len({digest_arrays(state) for state in states}) == 4


def test_dropout_draws_from_the_seed_of_the_step() -> None:
    parent = learner("user_modules:dropout").train_step(None, DATA, CONTEXT)

    def trained(rate: float, position: int) -> str:
        ours = learner("user_modules:dropout", module_args={"rate": rate}, shuffle=False)
        return digest_arrays(ours.train_step(parent, DATA, replace(CONTEXT, position=position)))

    assert trained(0.5, 1) != trained(0.5, 2)
    assert trained(0.0, 1) == trained(0.0, 2)


def test_dropout_equals_a_loop_by_hand() -> None:
    ours = learner("user_modules:dropout", shuffle=False).train_step(None, DATA, CONTEXT)
    torch.manual_seed(CONTEXT.seed("module"))
    module = user_modules.dropout(3)
    torch.manual_seed(CONTEXT.seed("train"))
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for window in windows(N, 100, 16, None):
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x[window]), y[window]).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad, alpha=0.1)
    assert same(ours, module)


def test_progress_ends_with_all_visits_and_changes_nothing() -> None:
    told: list[int] = []

    def tell(visits: int) -> None:
        told.append(visits)
        torch.rand(1)

    expected = learner("user_modules:dropout").train_step(None, DATA, CONTEXT)
    state = learner("user_modules:dropout").train_step(None, DATA, replace(CONTEXT, progress=tell))
    assert told[-1] == 100
    assert digest_arrays(state) == digest_arrays(expected)


# --- carried optimisers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "args"),
    [("Adam", {"lr": 0.01}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("user_modules:PlainSGD", {"lr": 0.1})],
)
def test_carried_optimizer_equals_one_that_was_never_interrupted(optimizer: str, args: dict[str, float]) -> None:
    ours = learner(optimizer=optimizer, optimizer_args=args, carry_optimizer=True)
    state = None
    for position in range(3):
        state = ours.train_step(state, DATA, replace(CONTEXT, position=position))
    assert state is not None

    torch.manual_seed(CONTEXT.seed("module"))
    module = user_modules.make()
    make = user_modules.PlainSGD if ":" in optimizer else getattr(torch.optim, optimizer)
    memory = make(module.parameters(), **args)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(DATA.target)
    for position in range(3):
        context = replace(CONTEXT, position=position)
        for window in windows(N, 100, 16, lambda k, context=context: context.seed("pass", k)):  # type: ignore[misc]
            memory.zero_grad()
            torch.nn.functional.cross_entropy(module(x[window]), y[window]).backward()
            memory.step()
    assert same(state, module)
    fresh = learner(optimizer=optimizer, optimizer_args=args)
    state = None
    for position in range(3):
        state = fresh.train_step(state, DATA, replace(CONTEXT, position=position))
    assert not same(state, module)
    assert not any(key.startswith("optimizer") for key in state)


def test_what_an_optimizer_remembers_is_named_after_its_parameter() -> None:
    state = learner(optimizer="Adam", carry_optimizer=True).train_step(None, DATA, CONTEXT)
    assert state["optimizer/0.weight/exp_avg"].shape == (8, 6)
    assert state["optimizer/2.bias/step"] == 7
    state = learner(optimizer="user_modules:PlainSGD", optimizer_args={"lr": 0.1}, carry_optimizer=True).train_step(
        None, DATA, CONTEXT
    )
    assert state["optimizer:int/0.weight/count"] == 7
    assert state["optimizer:bfloat16/0.weight/mean"].dtype == np.uint16


# --- references -----------------------------------------------------------------------------------------------


def test_callables_become_references() -> None:
    ours = TorchLearner(
        user_modules.Embedding,
        optimizer=torch.optim.Adam,
        schedule=user_modules.halves,
        loss=user_modules.focal,
        transform=user_modules.make_jitter,
    )
    assert ours.module == "user_modules:Embedding"
    assert ours.optimizer == "torch.optim.adam:Adam"
    assert ours.code() == (
        "user_modules:Embedding",
        "user_modules:focal",
        "user_modules:halves",
        "user_modules:make_jitter",
    )
    assert TorchLearner("mlp").code() == ("shards.learners.modules:mlp",)
    assert TorchLearner("mlp", optimizer="torch.optim:Adam", loss="torch.nn.functional:nll_loss").code() == (
        "shards.learners.modules:mlp",
    )
    with pytest.raises(CodeError):
        TorchLearner(lambda: user_modules.make())
    with pytest.raises(ConfigurationError, match="speed"):
        TorchLearner.from_params({"module": "mlp", "speed": 1})


def test_the_version_of_torchvision_is_in_the_keys() -> None:
    ours = TorchLearner("torchvision.models:resnet18", transform="torchvision.transforms:RandomHorizontalFlip")
    assert ours.code() == ("torchvision.models:resnet18", "torchvision.transforms:RandomHorizontalFlip")
    code = code_digest(ours.code())
    assert dict(code.distributions) == {"torchvision": version("torchvision")}
    assert not code.modules
    assert step_environment("cpu", ours.kernel, code.distributions) != step_environment("cpu", ours.kernel, {})


def test_an_optimizer_by_reference_is_the_one_by_name() -> None:
    by_name = learner(optimizer="Adam").train_step(None, DATA, CONTEXT)
    by_class = learner(optimizer=torch.optim.Adam).train_step(None, DATA, CONTEXT)
    assert digest_arrays(by_name) == digest_arrays(by_class)


def test_params_are_the_learners_own() -> None:
    args = {"hidden": [4]}
    ours = TorchLearner("mlp", args)
    args["hidden"].append(5)
    ours.params()["module_args"]["hidden"].append(6)
    assert ours.module_args == {"hidden": [4]}
    assert TorchLearner("mlp", {"hidden": (4,)}) == ours


def test_a_learner_is_made_without_torch() -> None:
    code = (
        "import sys; from shards.learners.torch import TorchLearner as T; t = T('mlp', {'hidden': [3]}); "
        "assert T.from_params(t.params()) == t and t.code() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
