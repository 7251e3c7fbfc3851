"""The noise of Fisher forgetting has the deviation of its formula."""

from __future__ import annotations

import torch

from tests.unlearn.methods.small import images, network, weights
from unlearn.methods import FisherForgettingConfig, fisher_forgetting
from unlearn.methods.importance import fisher


def test_noise_over_its_deviation_is_standard_normal() -> None:
    forget, retain = images(4), images(30, seed=2)
    diagonal = fisher(network(), retain.inputs)
    drawn = []
    for seed in range(100):
        config = FisherForgettingConfig(noise=0.02, damping=1e-6, seed=seed)
        found = weights(fisher_forgetting(network(), forget, retain, config))
        for name, value in weights(network()).items():
            deviation = 0.02 / (diagonal[name] + 1e-6) ** 0.25
            drawn.append(((found[name] - value) / deviation).flatten())
    z = torch.cat(drawn)
    assert len(z) > 20_000
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert abs(z.var() - 1) < 4 * (2 / len(z)) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / len(z)) ** 0.5


def test_a_part_of_the_retain_set_is_drawn_by_the_seed() -> None:
    forget, retain = images(4), images(30, seed=2)

    def found(seed: int) -> torch.Tensor:
        config = FisherForgettingConfig(examples=5, seed=seed)
        return torch.cat([v.flatten() for v in weights(fisher_forgetting(network(), forget, retain, config)).values()])

    assert torch.equal(found(1), found(1))
    assert not torch.equal(found(1), found(2))


def test_without_noise_nothing_changes() -> None:
    same = fisher_forgetting(network(), images(4), images(9, seed=2), FisherForgettingConfig(noise=0))
    assert all(torch.equal(value, weights(same)[name]) for name, value in weights(network()).items())
