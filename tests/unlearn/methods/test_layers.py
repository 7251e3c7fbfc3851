"""The layers of networks written down by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unlearn.methods.toys import deep
from unlearn.methods.layers import freeze_all_but_last, layers


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2, affine=False)
        self.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Linear(2, 2), [[""]]),
        (deep(), [["0"], ["2", "3"], ["5"]]),
        (nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), [["0", "1"]]),
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), Residual(), nn.Flatten(), nn.Linear(2, 2)),
            [["0", "1"], ["1.first", "1.norm"], ["3"]],
        ),
        (nn.Sequential(nn.ReLU(), nn.Embedding(3, 2), nn.LayerNorm(2), nn.Dropout()), [["1", "2"]]),
        (nn.ReLU(), []),
    ],
    ids=["one", "three", "normalised first", "nested", "embedding", "none"],
)
def test_layers_are_those_written_down(model: nn.Module, expected: list[list[str]]) -> None:
    assert [[name for name, _ in layer] for layer in layers(model)] == expected


def test_only_the_last_learn_and_only_they_are_normalised_anew() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[2].bias.requires_grad_(False)
    names = [name for name, _ in freeze_all_but_last(model, 1)]
    assert names == ["2", "3"]
    assert [name for name, value in model.named_parameters() if value.requires_grad] == [
        "2.weight",
        "3.weight",
        "3.bias",
    ]
    assert [module.training for module in model] == [False, False, True, True, True]


def test_weights_that_two_layers_share_learn_if_one_does() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    freeze_all_but_last(model, 1)
    assert model[0].weight.requires_grad
    assert not model[0].bias.requires_grad
