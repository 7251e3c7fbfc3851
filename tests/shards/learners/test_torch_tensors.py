from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import user_modules
from torch_cases import CONTEXT, DATA, TASK, N, X, classification, learner, regression, take, weights

from shards.digest import digest_arrays
from shards.errors import ConfigurationError, InputError
from shards.learners.visits import windows

rng = np.random.default_rng(1)


# --- features -------------------------------------------------------------------------------------------------


def test_standardize_equals_numpy() -> None:
    x = (X * [1, 10, 100, 1, 1, 1] + [0, 0, 1e4, 0, 0, 0]).astype(np.float32)
    x[:, 5] = 0.1
    data, task = replace(DATA, features={"x": x}), classification({"x": x})
    mean, std = x.astype(np.float64).mean(0), x.astype(np.float64).std(0)
    std[5] = 1.0
    ours = learner(standardize=True)
    state = ours.train_step(None, data, CONTEXT)
    np.testing.assert_allclose(state["standardize/mean"], mean, rtol=1e-14)
    np.testing.assert_allclose(state["standardize/std"], std, rtol=1e-10)

    scaled = (x.astype(np.float64) - state["standardize/mean"]) / state["standardize/std"]
    plain = learner().train_step(None, replace(DATA, features={"x": scaled}), CONTEXT)
    assert digest_arrays(weights(state)) == digest_arrays(weights(plain))
    np.testing.assert_array_equal(
        ours.predictor(state, task)({"x": x}), learner().predictor(plain, TASK)({"x": scaled})
    )
    # The next step computes its own, from its own records.
    later = ours.train_step(state, take(data, slice(0, 9)), CONTEXT)
    np.testing.assert_allclose(later["standardize/mean"], x[:9].astype(np.float64).mean(0), rtol=1e-14)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e9 + 0.7])
def test_standardize_leaves_the_scale_of_a_constant_alone(constant: float) -> None:
    x = X.copy()
    x[:, 2] = constant
    state = learner(standardize=True).train_step(None, replace(DATA, features={"x": x}), CONTEXT)
    assert state["standardize/std"][2] == 1.0


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", ">f4", "float64", "<f4"])
def test_features_are_cast_without_warnings(dtype: str) -> None:
    x = (np.abs(X) * 3).astype(dtype)
    x.setflags(write=False)
    data = replace(DATA, features={"x": x})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = learner().train_step(None, data, CONTEXT)
        ours = learner().predictor(state, classification({"x": x}))({"x": x})
    as_float = x.astype(np.float32)
    expected = learner().train_step(None, replace(DATA, features={"x": as_float}), CONTEXT)
    assert digest_arrays(state) == digest_arrays(expected)
    np.testing.assert_array_equal(ours, learner().predictor(expected, TASK)({"x": as_float}))


def test_own_dtype_is_kept() -> None:
    state = learner("user_modules:double", input_dtype=None).train_step(None, DATA, CONTEXT)
    assert state["module/0.weight"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16"])
@pytest.mark.parametrize("input_dtype", [None, "float32"])
def test_embedding_of_integers(dtype: str, input_dtype: str | None) -> None:
    words = rng.integers(0, 11, (N, 4)).astype(dtype)
    task = classification({"words": words})
    ours = learner("user_modules:Embedding", input_dtype=input_dtype)
    ours.check(task)
    state = ours.train_step(None, replace(DATA, features={"words": words}), replace(CONTEXT, task=task))
    module = user_modules.Embedding(3)
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    expected = module(torch.tensor(words.astype(np.int64))).double().softmax(1).detach().numpy()
    np.testing.assert_array_equal(ours.predictor(state, task)({"words": words}), expected)


def test_two_features_are_passed_by_name() -> None:
    features = {"word": rng.integers(0, 11, N), "dense": X}
    task = classification(features)
    ours = learner("user_modules:TwoFeatures")
    ours.check(task)
    state = ours.train_step(None, replace(DATA, features=features), replace(CONTEXT, task=task))
    module = user_modules.TwoFeatures({"dense": (6,)}, 3)
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    dense = torch.tensor(X, dtype=torch.float32)
    expected = module(dense=dense, word=torch.tensor(features["word"])).double().softmax(1).detach().numpy()
    np.testing.assert_array_equal(ours.predictor(state, task)(features), expected)
    for option in ({"standardize": True}, {"transform": "user_modules:keep"}):
        with pytest.raises(ConfigurationError, match="one feature"):
            replace(ours, input_dtype="float32", **option).check(classification({"a": X, "b": X}))


def test_bfloat16_and_tied_weights_survive_in_arrays() -> None:
    state = learner("user_modules:half", input_dtype="bfloat16").train_step(None, DATA, CONTEXT)
    bits = state["module:bfloat16/0.weight"]
    assert bits.dtype == np.uint16
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(values) > 0).all()
    assert (np.abs(values) < 10).all()

    ours = learner("user_modules:Tied", optimizer_args={"lr": 0.5})
    first = ours.train_step(None, DATA, CONTEXT)
    second = ours.train_step(first, DATA, replace(CONTEXT, position=1))
    np.testing.assert_array_equal(second["module/encoder.weight"], second["module/decoder.weight"])
    np.testing.assert_array_equal(second["module/first.weight"], first["module/first.weight"])
    assert not np.array_equal(second["module/encoder.weight"], first["module/encoder.weight"])


# --- prediction -----------------------------------------------------------------------------------------------


def test_probabilities_equal_the_module_called_directly() -> None:
    ours = learner("user_modules:batchnorm")
    state = ours.train_step(None, DATA, CONTEXT)
    module = user_modules.batchnorm((6,), 3).eval()
    module.load_state_dict({k: torch.tensor(v) for k, v in weights(state).items()})
    x = rng.normal(size=(2500, 6))
    logits = module(torch.tensor(x, dtype=torch.float32)).detach().numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    probabilities = ours.predictor(state, TASK)({"x": x})
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert ours.predictor(state, TASK)({"x": x[:0]}).shape == (0, 3)


def test_prediction_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = torch.nn.Linear.forward
    predict = learner("user_modules:make").predictor(learner().train_step(None, DATA, CONTEXT), TASK)
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: (sizes.append(len(x)), forward(self, x))[1])
    predict({"x": rng.normal(size=(2500, 6))})
    assert sizes[::2] == [1024, 1024, 452]


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_regression_equals_a_loop_by_hand(shape: tuple[int, ...]) -> None:
    target = rng.normal(size=(N, *shape))
    task, outputs = regression(X, shape), math.prod(shape)
    ours = learner(module_args={"outputs": outputs}, shuffle=False, optimizer_args={"lr": 0.01})
    ours.check(task)
    context = replace(CONTEXT, task=task)
    state = ours.train_step(None, replace(DATA, target=target), context)

    torch.manual_seed(context.seed("module"))
    module = user_modules.make(outputs=outputs)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
    for window in windows(N, 100, 16, None):
        optimizer.zero_grad()
        difference = module(x[window]).reshape(len(window), *shape) - y[window]
        (difference**2).mean().backward()
        optimizer.step()
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(state[f"module/{name}"], value.numpy(), rtol=1e-4, atol=1e-6)
    predicted = ours.predictor(state, task)({"x": X})
    assert predicted.shape == (N, *shape)
    np.testing.assert_allclose(predicted, module(x).detach().numpy().reshape(N, *shape), rtol=1e-3, atol=1e-5)
    assert ours.predictor(state, task)({"x": X[:0]}).shape == (0, *shape)


def test_prediction_refuses_other_features() -> None:
    ours = learner()
    predict = ours.predictor(ours.train_step(None, DATA, CONTEXT), TASK)
    for features in ({"y": X}, {"x": X[:, :5]}, {"x": X, "y": X}):
        with pytest.raises(InputError):
            predict(features)


def test_prediction_never_changes_the_callers_array() -> None:
    x = X.astype(np.float32)
    ours = learner("torch.nn:ReLU", module_args={"inplace": True})
    before = x.copy()
    state = learner().train_step(None, replace(DATA, features={"x": x}), CONTEXT)
    learner().predictor(state, TASK)({"x": x})
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ConfigurationError, match="requires a gradient"):
        ours.train_step(None, DATA, CONTEXT)
