"""UNSIR: noise that the class finds hardest, by its closed form in a linear model; then impair and repair."""

from __future__ import annotations

import torch

from tests.unlearn.methods.small import N_CLASSES, perceptron, points
from unlearn.methods import UNSIRConfig, unsir
from unlearn.methods.base import Examples
from unlearn.methods.papers.unsir import error_maximising_noise

LOSS = torch.nn.functional.cross_entropy


def test_noise_is_stationary_for_its_objective() -> None:
    model, forget = perceptron(), points(8)
    config = UNSIRConfig(noise_size=3, noise_steps=3000, noise_learning_rate=0.01, noise_penalty=0.2)
    noise = error_maximising_noise(model, forget, config, LOSS, torch.Generator().manual_seed(0))
    assert noise.targets.tolist() == [c for c in range(N_CLASSES) for _ in range(3)]
    x = noise.inputs.clone().requires_grad_()
    # Each noise input by itself: minus its loss, and the penalty on its size.
    (0.2 * x.square().sum() - LOSS(model(x), noise.targets, reduction="sum")).backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-4
    start = error_maximising_noise(
        model, forget, UNSIRConfig(noise_size=3, noise_steps=0), LOSS, torch.Generator().manual_seed(0)
    )
    assert LOSS(model(noise.inputs), noise.targets) > LOSS(model(start.inputs), start.targets)


def test_a_class_is_forgotten_and_the_others_are_repaired() -> None:
    data = points(400, seed=3)
    model = perceptron()
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(150):
        sgd.zero_grad()
        LOSS(model(data.inputs), data.targets).backward()
        sgd.step()
    forget, retain = data.take(data.targets == 2), data.take(data.targets != 2)
    assert (model(forget.inputs).argmax(dim=1) == 2).double().mean() > 0.9
    done = unsir(model, forget, retain, UNSIRConfig(epochs=5, learning_rate=0.05, repair_learning_rate=0.05))
    assert (done(forget.inputs).argmax(dim=1) == 2).double().mean() < 0.2
    assert (done(retain.inputs).argmax(dim=1) == retain.targets).double().mean() > 0.9


def test_forgotten_inputs_themselves_do_not_matter() -> None:
    forget, retain = points(8), points(40, seed=2)
    others = Examples(forget.inputs + 5, forget.targets, forget.ids)
    first, second = (unsir(perceptron(), given, retain, UNSIRConfig(noise_steps=3)) for given in (forget, others))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
