"""Task arithmetic and NegMerge against the linear algebra of fine-tuned weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from tests.unlearn.methods.toys import deep, plain, split
from unlearn.errors import ConfigurationError
from unlearn.methods import (
    FineTuneConfig,
    NegMergeConfig,
    TaskArithmeticConfig,
    fine_tune,
    neg_merge,
    task_arithmetic,
)
from unlearn.methods.papers.neg_merge import merged


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_fine_tuned_weights_are_mirrored(scale: float) -> None:
    forget, retain = split()
    model = deep()
    tuned = fine_tune(model, retain, forget, FineTuneConfig(batch_size=8))
    result = task_arithmetic(model, forget, retain, TaskArithmeticConfig(batch_size=8, scale=scale))
    for before, after, found in zip(model.parameters(), tuned.parameters(), result.parameters(), strict=True):
        assert torch.allclose(found, (1 + scale) * before - scale * after, atol=1e-14)
    assert all(torch.equal(*pair) for pair in zip(model.buffers(), result.buffers(), strict=True))


def test_signs_are_merged_as_by_enumeration() -> None:
    rows = list(itertools.product((-2.0, -1.0, 0.0, 3.0), repeat=3))
    expected = [sum(row) / 3 if all(x > 0 for x in row) or all(x < 0 for x in row) else 0.0 for row in rows]
    assert torch.allclose(merged(torch.tensor(rows).T), torch.tensor(expected))


def test_the_merged_vector_is_subtracted() -> None:
    forget, retain = split()
    config = NegMergeConfig(learning_rates=(0.01, 0.1), scale=1.5, seed=4, batch_size=8)
    model = plain()
    tuned = [
        fine_tune(model, retain, forget, FineTuneConfig(learning_rate=rate, seed=4 + place, batch_size=8))
        for place, rate in enumerate((0.01, 0.1))
    ]
    result = neg_merge(model, forget, retain, config)
    kept = 0
    for before, first, second, found in zip(
        *(list(each.parameters()) for each in (model, *tuned, result)), strict=True
    ):
        one, other = first - before, second - before
        agreed = one * other > 0
        kept += int((~agreed).sum())
        assert torch.allclose(found, before - 1.5 * torch.where(agreed, (one + other) / 2, 0.0), atol=1e-14)
    assert kept, "two vectors that agree everywhere show nothing"


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="scale must be positive"):
        TaskArithmeticConfig(scale=0)
    with pytest.raises(ConfigurationError, match="two or more"):
        replace(NegMergeConfig(), learning_rates=(0.1,))
