"""Boundary shrink and expand: labels by brute force, and a shadow class that leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import N_CLASSES, perceptron, points, weights
from unlearn.errors import InputError
from unlearn.methods import BoundaryExpandConfig, BoundaryShrinkConfig, boundary_expand, boundary_shrink
from unlearn.methods.base import Examples
from unlearn.methods.papers.boundary_shrink import nearest_wrong_classes

LOSS = torch.nn.functional.cross_entropy


def trained() -> torch.nn.Sequential:
    model, data = perceptron(), points(200, seed=3)
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(100):
        sgd.zero_grad()
        LOSS(model(data.inputs), data.targets).backward()
        sgd.step()
    return model


@pytest.mark.parametrize("bound", [0.01, 0.5])  # too short to cross a boundary, and long enough
def test_the_nearest_wrong_class_is_the_best_of_all_wrong_ones(bound: float) -> None:
    model, forget = trained(), points(20)
    found = nearest_wrong_classes(model, forget, bound, LOSS).tolist()
    step = 1e-6
    crossed = 0
    for row in range(20):
        x, y = forget.inputs[row], int(forget.targets[row])
        shifts = step * torch.eye(5, dtype=torch.float64)
        up, down = (LOSS(model(x + sign * shifts), torch.full((5,), y), reduction="none") for sign in (1, -1))
        there = model(x + bound * (up - down).sign())
        crossed += int(there.argmax()) != y
        assert found[row] == max((c for c in range(N_CLASSES) if c != y), key=lambda c: there[c].item())
    assert (crossed == 0) == (bound == 0.01)


def test_shrinking_moves_the_forget_set_into_those_classes() -> None:
    model, forget = trained(), points(12)
    wanted = nearest_wrong_classes(model, forget, 0.1, LOSS)
    done = boundary_shrink(model, forget, None, BoundaryShrinkConfig(epochs=300, learning_rate=0.1))
    assert torch.equal(done(forget.inputs).argmax(dim=1), wanted)
    assert (model(forget.inputs).argmax(dim=1) == forget.targets).all()


def test_one_step_of_expanding_is_that_of_a_wider_network_by_hand() -> None:
    model, forget = trained(), points(12)
    config = BoundaryExpandConfig(epochs=1, learning_rate=0.3, batch_size=12, seed=7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        drawn = torch.nn.Linear(8, N_CLASSES + 1).double()
    last = torch.nn.Linear(8, N_CLASSES + 1).double()
    with torch.no_grad():
        last.weight.copy_(torch.cat([model[2].weight, drawn.weight[N_CLASSES:]]))
        last.bias.copy_(torch.cat([model[2].bias, drawn.bias[N_CLASSES:]]))
    model.zero_grad()
    LOSS(last(torch.tanh(model[0](forget.inputs))), torch.full((12,), N_CLASSES)).backward()
    after = weights(boundary_expand(model, forget, None, config))
    assert after["2.weight"].shape == (N_CLASSES, 8)
    wanted = {
        "0.weight": model[0].weight - 0.3 * model[0].weight.grad,
        "0.bias": model[0].bias - 0.3 * model[0].bias.grad,
        "2.weight": (last.weight - 0.3 * last.weight.grad)[:N_CLASSES],
        "2.bias": (last.bias - 0.3 * last.bias.grad)[:N_CLASSES],
    }
    for name, value in wanted.items():
        torch.testing.assert_close(after[name], value.detach(), rtol=1e-12, atol=1e-14)


def test_a_bare_linear_layer_is_widened_and_another_last_layer_refused() -> None:
    forget = points(8)
    assert boundary_expand(torch.nn.Linear(5, N_CLASSES).double(), forget).weight.shape == (N_CLASSES, 5)  # type: ignore[union-attr]
    odd = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ZeroPad1d((0, 1))).double()
    with pytest.raises(InputError, match="widens the last"):
        boundary_expand(odd, Examples(forget.inputs, forget.targets))
