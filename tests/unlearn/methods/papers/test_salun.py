"""SalUn: the mask by sorting, masked-out weights to the last bit, and labels that are wrong."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.small import images, network, weights
from unlearn.methods import SalUnConfig, salun
from unlearn.methods.papers.salun import saliency_mask

LOSS = torch.nn.functional.cross_entropy


def test_the_mask_has_the_largest_gradients_of_all_layers_together() -> None:
    forget, model = images(8), network().eval()
    LOSS(model(forget.inputs), forget.targets).backward()
    entries = sorted(
        ((abs(g), name, at) for name, v in model.named_parameters() for at, g in enumerate(v.grad.flatten().tolist())),
        reverse=True,
    )
    wanted = {(name, at) for _, name, at in entries[: round(0.3 * len(entries))]}
    mask = saliency_mask(network(), forget, LOSS, 0.3)
    assert {(name, at) for name, v in mask.items() for at in v.flatten().nonzero().flatten().tolist()} == wanted


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_outside_the_mask_stay_equal_to_the_last_bit(optimizer: str) -> None:
    # With momentum and weight decay, which move weights whose gradient is zero.
    config = SalUnConfig(epochs=3, batch_size=5, share=0.4, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    forget, retain = images(8), images(20, seed=2)
    mask = saliency_mask(network(), forget, LOSS, config.share)
    before, after = weights(network()), weights(salun(network(), forget, retain, config))
    for name, value in before.items():
        assert torch.equal(after[name][~mask[name]], value[~mask[name]])
    moved = sum(int((after[name] != value).sum()) for name, value in before.items())
    assert moved > 0.9 * sum(int(part.sum()) for part in mask.values())


def test_the_forget_set_is_answered_wrongly_and_the_rest_rightly() -> None:
    forget, retain = images(8), images(40, seed=2)
    done = salun(network().eval(), forget, retain, SalUnConfig(epochs=60, batch_size=8, share=0.8, learning_rate=0.05))
    assert (done(forget.inputs).argmax(dim=1) == forget.targets).double().mean() <= 0.5
    assert (done(retain.inputs).argmax(dim=1) == retain.targets).double().mean() >= 0.7
