"""Masked small gradients: which weights are drawn afresh, by sorting; and the first step, by hand."""

from __future__ import annotations

import torch

from tests.unlearn.methods.small import images, network, perceptron, points, weights
from unlearn.methods import MaskedSmallGradientsConfig, masked_small_gradients
from unlearn.methods.papers.masked_small_gradients import small_gradients

LOSS = torch.nn.functional.cross_entropy


def test_the_smallest_differences_of_gradients_in_convolutions_are_chosen() -> None:
    forget, retain, model = images(8), images(8, seed=2), network().eval()
    (LOSS(model(retain.inputs), retain.targets) - LOSS(model(forget.inputs), forget.targets)).backward()
    weight = model[0].weight
    order = sorted(range(weight.numel()), key=lambda at: abs(weight.grad.flatten()[at].item()))
    masks = small_gradients(network(), forget, retain, LOSS, 0.3)
    assert list(masks) == ["0.weight"]
    assert set(masks["0.weight"].flatten().nonzero().flatten().tolist()) == set(order[: round(0.3 * weight.numel())])


def test_without_convolutions_all_linear_layers_but_the_last_are_meant() -> None:
    assert list(small_gradients(perceptron(), points(8), points(8, seed=2), LOSS, 0.5)) == ["0.weight"]


def test_weights_that_were_kept_learn_at_a_tenth() -> None:
    forget, retain = points(8), points(20, seed=2)
    how = {"epochs": 1, "batch_size": 20, "weight_decay": 0.0, "momentum": 0.0, "share": 0.0}
    slow, fast = (
        weights(
            masked_small_gradients(
                perceptron(),
                forget,
                retain,
                MaskedSmallGradientsConfig(learning_rate=rate, kept_factor=factor, **how),  # type: ignore[arg-type]
            )
        )
        for rate, factor in ((0.1, 0.1), (0.1, 1.0))
    )
    before = weights(perceptron())
    torch.testing.assert_close(slow["0.weight"] - before["0.weight"], 0.1 * (fast["0.weight"] - before["0.weight"]))
    torch.testing.assert_close(slow["2.weight"], fast["2.weight"])


def test_all_of_a_layer_may_be_drawn_afresh_and_no_hook_is_left() -> None:
    config = MaskedSmallGradientsConfig(share=1.0, learning_rate=1e-12)
    first, second = (masked_small_gradients(perceptron(seed), points(8), points(20, seed=2), config) for seed in (0, 1))
    # What the layer was does not matter any more; its deviation is that of Kaiming: sqrt(2 / 8 outputs).
    torch.testing.assert_close(first[0].weight, second[0].weight, rtol=0, atol=1e-9)  # type: ignore[index]
    assert 0.3 < first[0].weight.std().item() < 0.7  # type: ignore[index]
    assert not first.get_parameter("0.weight")._backward_hooks
