"""Forget, contrast, strengthen: its losses by loops, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch

from tests.unlearn.methods.small import N_CLASSES, perceptron, points
from unlearn.methods import ForgetContrastConfig, forget_contrast
from unlearn.methods.papers.forget_contrast import contrast, from_uniform


def test_losses_are_their_formulas() -> None:
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(n, N_CLASSES, generator=rng, dtype=torch.float64) for n in (3, 5))
    p = torch.softmax(ours, dim=1)
    kl = [sum(math.log(1 / N_CLASSES / p[f, c].item()) for c in range(N_CLASSES)) / N_CLASSES for f in range(3)]
    assert from_uniform(ours).item() == pytest.approx(sum(kl) / 3, rel=1e-12)
    assert from_uniform(torch.full((2, N_CLASSES), 7.0)).item() == pytest.approx(0, abs=1e-6)
    wanted = 0.0
    for f in range(3):
        products = [math.exp(float(ours[f] @ theirs[r]) / 1.15) for r in range(5)]
        wanted -= sum(math.log(one / sum(products)) for one in products) / 15
    assert contrast(ours, theirs, 1.15).item() == pytest.approx(wanted, rel=1e-12)
    assert contrast(torch.zeros(3, N_CLASSES), theirs.float(), 1.15).item() == pytest.approx(math.log(5), rel=1e-6)


def test_the_forget_set_becomes_less_sure_and_the_rest_is_kept() -> None:
    data = points(200, seed=3)
    model = perceptron()
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(150):
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(data.inputs), data.targets).backward()
        sgd.step()
    forget, retain = data.take(data.targets == 1), data.take(data.targets != 1)
    config = ForgetContrastConfig(uniform_learning_rate=0.5, contrast_learning_rate=0.05, learning_rate=0.1)
    done = forget_contrast(model, forget, retain, config)

    def surely(which: torch.nn.Module) -> float:
        return torch.softmax(which(forget.inputs), dim=1).max(dim=1).values.mean().item()

    assert surely(done) < surely(model) - 0.2
    assert (done(retain.inputs).argmax(dim=1) == retain.targets).double().mean() > 0.9
