"""Code as a user would write it, referred to by the tests as `"user_modules:name"`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from torch import nn


def make(inputs: int = 6, outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def double(inputs: int = 6, outputs: int = 3) -> nn.Module:
    return make(inputs, outputs).double()


def half(inputs: int = 6, outputs: int = 3) -> nn.Module:
    return make(inputs, outputs).bfloat16()


def batchnorm(input_shape: Sequence[int], n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_outputs))


def dropout(n_outputs: int, rate: float = 0.5) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(rate), nn.Linear(8, n_outputs))


def numpy_noise() -> nn.Module:
    """Starts from numpy's and Python's generators, and draws from torch's in forward, always."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.shift = random.random() + float(np.random.rand())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.shift + torch.rand(len(x), 3)

    return Noisy()


class Embedding(nn.Module):
    """Words `[n, 4]` int64 to logits."""

    def __init__(self, n_outputs: int, words: int = 11) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 5)
        self.head = nn.Linear(5, n_outputs)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(words).mean(1))


class TwoFeatures(nn.Module):
    """An image-like and an integer feature, by name."""

    def __init__(self, input_shape: dict[str, Sequence[int]], n_outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 5)
        self.dense = nn.Linear(input_shape["dense"][0], 5)
        self.head = nn.Linear(5, n_outputs)

    def forward(self, *, dense: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
        return self.head(self.dense(dense) + self.table(word))


class Tied(nn.Module):
    """Encoder and decoder share a weight; the first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 3).requires_grad_(False)
        self.encoder = nn.Linear(3, 3)
        self.decoder = nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(torch.tanh(self.encoder(self.first(x))))


def doubled(in_place: bool) -> nn.Module:
    """Doubles its input, where it lies or in a copy."""

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.mul_(2) if in_place else x * 2)

    return Doubled()


class Dyadic(nn.Module):
    """A linear model that starts from powers of two, and remembers what it drew when it was made and when called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -0.25]))
        self.bias = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("made", torch.randint(2**31, (2,)))
        self.register_buffer("called", torch.zeros(0, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.called = torch.cat([self.called, torch.randint(2**31, (1,))])
        return (x * self.weight).sum(1) + self.bias


def lazy() -> nn.Module:
    return nn.LazyLinear(3)


def frozen() -> nn.Module:
    return nn.Linear(6, 3).requires_grad_(False)


def no_module() -> str:
    return "no module"


def halves(k: int, n: int, low: float = 0.5) -> float:
    return 1.0 if 2 * k < n else low


def not_finite(k: int, n: int) -> float:
    return float("nan")


def focal(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    loss = torch.nn.functional.cross_entropy(output, target, reduction="none")
    return ((1 - torch.exp(-loss)) * loss).mean()


def per_record(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(output, target, reduction="none")


class PlainSGD(torch.optim.Optimizer):
    """Remembers a Python number and a bfloat16 tensor."""

    def __init__(self, params: object, lr: float) -> None:
        super().__init__(params, {"lr": lr})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                memory = self.state[p]
                memory["count"] = memory.get("count", 0) + 1
                memory["mean"] = (memory.get("mean", torch.zeros_like(p)) * 0.5 + p.grad).bfloat16()
                p -= group["lr"] * memory["mean"].float() / memory["count"] ** 0.5


def jitter(record: torch.Tensor, size: float = 0.1) -> torch.Tensor:
    record += size * (torch.rand_like(record) + random.random() + float(np.random.rand()))
    return record


def make_jitter(*, size: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda record: jitter(record, size)


def add_one(record: torch.Tensor) -> torch.Tensor:
    record += 1
    return record


def keep(record: torch.Tensor) -> torch.Tensor:
    """Draws, and changes nothing."""
    torch.rand(7)
    random.random()
    np.random.rand()
    return record


class Recorder(RegressorMixin, BaseEstimator):
    """Learns nothing but which records it was shown, in which pieces and under which seeds."""

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> Recorder:
        self.seen_ = X if not hasattr(self, "seen_") else np.concatenate([self.seen_, X])
        self.sizes_ = [*getattr(self, "sizes_", []), len(X)]
        self.seeds_ = [*getattr(self, "seeds_", []), self.random_state]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


def embedding(inputs: int, outputs: int, layers: int = 3) -> nn.Module:
    """Wide enough that a batch is multiplied in another order than a single record."""
    widths = [inputs, *[257] * (layers - 1), outputs]
    steps = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), *steps, nn.Dropout(0.5))
