from __future__ import annotations

import pytest
import torch

from shards.errors import ConfigurationError
from shards.learners.modules import cnn, mlp


def test_mlp_equals_the_same_layers_by_hand() -> None:
    torch.manual_seed(3)
    module = mlp((2, 3), 4, hidden=(5, 7), activation="tanh", input_scale=0.5)
    torch.manual_seed(3)
    by_hand = torch.nn.ModuleList([torch.nn.Linear(6, 5), torch.nn.Linear(5, 7), torch.nn.Linear(7, 4)])
    x = torch.randn(9, 2, 3)
    hidden = x.flatten(1) * 0.5
    for layer in by_hand[:-1]:
        hidden = torch.tanh(layer(hidden))
    assert torch.equal(module(x), by_hand[-1](hidden))


def test_mlp_without_hidden_layer_is_linear() -> None:
    module = mlp((3,), 2, hidden=())
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    zero = module(torch.zeros(1, 3))
    torch.testing.assert_close(module(x + y) - zero, (module(x) - zero) + (module(y) - zero))


def test_mlp_takes_integers_and_bytes() -> None:
    module = mlp((3,), 2)
    x = torch.tensor([[1, 2, 3]])
    assert torch.equal(module(x), module(x.float()))
    assert torch.equal(module(x.to(torch.uint8)), module(x.float()))


@pytest.mark.parametrize("factory", [mlp, cnn])
def test_dropout_works_in_training_only(factory) -> None:  # type: ignore[no-untyped-def]
    module = factory((8, 8), 3, dropout=0.5)
    x = torch.randn(2, 8, 8)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    assert not any(isinstance(m, torch.nn.Dropout) for m in factory((8, 8), 3, dropout=0.0))


def test_cnn_equals_functional_by_hand() -> None:
    module = cnn((2, 9, 5), 3, channels=(4, 6), hidden=7, dropout=0.0, input_scale=0.25)
    w = list(module.parameters())
    x = torch.randn(5, 2, 9, 5)
    h = x * 0.25
    for k in (0, 2):
        h = torch.nn.functional.max_pool2d(torch.relu(torch.nn.functional.conv2d(h, w[k], w[k + 1], padding=1)), 2)
    h = torch.relu(h.flatten(1) @ w[4].T + w[5])
    torch.testing.assert_close(module(x), h @ w[6].T + w[7])


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 2, 3), (1, 1), (3, 1, 17), (7, 1)])
def test_cnn_takes_images_of_every_size(shape: tuple[int, ...]) -> None:
    module = cnn(shape, 3, channels=(4, 4, 4, 4), hidden=5)
    assert module(torch.randn(2, *shape)).shape == (2, 3)
    assert module(torch.zeros(0, *shape)).shape == (0, 3)


def test_no_channel_axis_means_one_channel() -> None:
    torch.manual_seed(1)
    flat = cnn((6, 6), 2, dropout=0.0)
    torch.manual_seed(1)
    deep = cnn((1, 6, 6), 2, dropout=0.0)
    x = torch.randn(3, 6, 6)
    assert torch.equal(flat(x), deep(x[:, None]))


@pytest.mark.parametrize(
    ("factory", "arguments", "word"),
    [
        (mlp, {"activation": "sine"}, "relu"),
        (mlp, {"hidden": [0]}, "hidden"),
        (mlp, {"hidden": [2.5]}, "hidden"),
        (mlp, {"dropout": 1.0}, "dropout"),
        (mlp, {"input_scale": float("nan")}, "input_scale"),
        (mlp, {"n_outputs": 0}, "n_outputs"),
        (cnn, {"channels": []}, "channels"),
        (cnn, {"channels": [0]}, "channels"),
        (cnn, {"input_shape": (4,)}, "mlp"),
        (cnn, {"hidden": 0}, "hidden"),
    ],
)
def test_arguments_out_of_range(factory, arguments, word: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match=word):
        factory(**({"input_shape": (4, 4), "n_outputs": 2} | arguments))
