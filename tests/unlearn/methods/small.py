"""Small models and data for the tests of methods, in float64, so that rounding hides nothing."""

from __future__ import annotations

import torch

from unlearn.methods.base import Examples

N_CLASSES = 4


def network(seed: int = 0) -> torch.nn.Sequential:
    """A convolution, batch normalisation with statistics of its own, dropout and a linear layer; in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3, padding=1),
            torch.nn.BatchNorm2d(3),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.Flatten(),
            torch.nn.Linear(3 * 16, N_CLASSES),
        ).double()
        model(3 + torch.randn(64, 1, 4, 4, dtype=torch.float64))
    return model


def images(n: int, seed: int = 1) -> Examples:
    """Images `[n, 1, 4, 4]` of classes in turn."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 4, 4, generator=rng, dtype=torch.float64)
    y = torch.arange(n) % N_CLASSES
    return Examples(x + y[:, None, None, None] / 2, y, tuple(f"{seed}-{row}" for row in range(n)))


def perceptron(seed: int = 0) -> torch.nn.Sequential:
    """One hidden layer, for `points`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, N_CLASSES)).double()


def points(n: int, seed: int = 1) -> Examples:
    """Points `[n, 5]` around a corner for each class."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % N_CLASSES
    corners = 2 * torch.nn.functional.one_hot(y, 5).double()
    x = corners + 0.5 * torch.randn(n, 5, generator=rng, dtype=torch.float64)
    return Examples(x, y, tuple(f"{seed}-{row}" for row in range(n)))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}
