"""The norm of each record's gradient, against one backward pass a record."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlearn.audit.attacks.gradient_norm import gradient_norm_score
from unlearn.errors import InputError


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 4)
    )


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 1, 6, 6, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1, 2])


def by_hand(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    net.eval()
    found = []
    for row in range(len(x)):
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(x[row : row + 1]), y[row : row + 1]).backward()
        squares = [float(p.grad.double().square().sum()) for p in net.parameters() if p.grad is not None]
        found.append(-(sum(squares) ** 0.5))
    return found


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_equals_one_backward_pass_a_record(chunk: int) -> None:
    net, (x, y) = module(), data()
    assert gradient_norm_score(net, x, y, chunk=chunk) == pytest.approx(by_hand(module(), x, y), rel=1e-5)


def test_the_module_is_left_as_it_was() -> None:
    net, (x, y) = module(), data()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradient_norm_score(net, x, y)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_do_not_count() -> None:
    net, (x, y) = module(), data()
    net[0].requires_grad_(False)
    assert (gradient_norm_score(net, x, y) > gradient_norm_score(module(), x, y)).all()
    net.requires_grad_(False)
    with pytest.raises(InputError, match="0 parameters are trained"):
        gradient_norm_score(net, x, y)


def test_a_fitted_record_scores_higher() -> None:
    net, (x, y) = module(), data()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net.eval()
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[:4]), y[:4]).backward()
        optimizer.step()
    scores = gradient_norm_score(net, x, y)
    assert scores[:4].min() > scores[4:].max()


def test_another_loss_and_bad_numbers() -> None:
    net, (x, y) = module(), data()
    doubled = gradient_norm_score(net, x, y, loss=lambda out, y: 2 * torch.nn.functional.cross_entropy(out, y))
    assert doubled == pytest.approx(2 * gradient_norm_score(net, x, y), rel=1e-5)
    with pytest.raises(InputError, match="7 records, 6 labels"):
        gradient_norm_score(net, x, y[:6])
    x[0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        gradient_norm_score(net, x, y)
    assert np.isfinite(doubled).all()
