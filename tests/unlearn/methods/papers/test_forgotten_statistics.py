"""What is to be forgotten leaves no trace in the statistics of batch normalisation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.unlearn.methods.small import images, network
from unlearn.methods import boundary_expand, boundary_shrink, jit, salun
from unlearn.methods.base import Examples
from unlearn.methods.papers.salun import SalUnConfig

Result = Callable[[Examples], torch.nn.Module]


@pytest.mark.parametrize("method", [boundary_shrink, boundary_expand, jit])
def test_methods_that_see_the_forget_set_alone_change_no_statistics(method: Callable[..., torch.nn.Module]) -> None:
    before, after = network()[1], method(network(), images(12)).get_submodule("1")
    assert torch.equal(after.running_mean, before.running_mean)  # type: ignore[arg-type]
    assert torch.equal(after.running_var, before.running_var)  # type: ignore[arg-type]
    assert int(after.num_batches_tracked) == int(before.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_salun_counts_the_batches_of_what_stays() -> None:
    done = salun(network(), images(12), images(40, seed=2), SalUnConfig(epochs=3, batch_size=10))
    assert int(done.get_submodule("1").num_batches_tracked) == 1 + 3 * 4  # type: ignore[arg-type]
