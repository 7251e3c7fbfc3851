"""Successive removals against retraining after every one."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.influence.cases import CASES, binary, values
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic, SquaredLoss
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import L2, split
from unlearn.methods.influence.solvers import Cholesky
from unlearn.methods.influence.stream import RemovalStream, Work


@pytest.mark.parametrize("distance", [1e-1, 1e-6])
def test_every_state_lies_within_its_bound_and_the_bound_within_what_was_stated(distance: float) -> None:
    examples = binary(300, 5)
    objective = BinaryLogistic(l2=L2(total=3.0))
    stream = RemovalStream(objective, torch.zeros(5, dtype=torch.float64), examples, distance=distance)
    optimum, works, gone = stream.w, [], torch.zeros(0, dtype=torch.int64)
    for step in torch.randperm(300, generator=torch.Generator().manual_seed(0))[:240].reshape(80, 3):
        removal = stream.remove(step)
        gone = torch.cat([gone, step])
        _, kept = split(examples, gone)
        optimum = minimise(objective, kept, optimum, tolerance=0.0).w
        assert float((removal.w - optimum).norm()) <= removal.distance + 1e-12
        assert removal.distance <= distance
        assert torch.equal(removal.w, stream.w)
        works.append(removal.work)
    assert torch.equal(stream.remaining, torch.tensor(sorted(set(range(300)) - set(gone.tolist()))))
    assert Work.CORRECTED in works
    assert Work.REFRESHED in works
    assert (Work.UPDATED in works) == (distance > 1e-2)


def test_least_squares_never_needs_more_than_rank_m_changes() -> None:
    examples = values(200, 4)
    objective = SquaredLoss(l2=L2(total=1.0))
    stream = RemovalStream(objective, torch.zeros(4, dtype=torch.float64), examples, distance=1e-9)
    for row in range(150):
        assert stream.remove(torch.tensor([row])).work is Work.UPDATED
    wanted = minimise(objective, examples.take(slice(150, None)), torch.zeros(4, dtype=torch.float64)).w
    assert float((stream.w - wanted).norm()) < 1e-11


def test_a_leverage_near_one_rebuilds_the_inverse() -> None:
    examples = values(40, 3)
    examples.inputs[7] *= 1e4
    objective = SquaredLoss(l2=L2(total=1.0))
    stream = RemovalStream(objective, torch.zeros(3, dtype=torch.float64), examples, distance=1e-6)
    assert stream.remove(torch.tensor([7])).work is Work.REFRESHED
    _, kept = split(examples, torch.tensor([7]))
    wanted = minimise(objective, kept, stream.w).w
    assert float((stream.w - wanted).norm()) < 1e-10


def test_what_was_removed_cannot_be_removed_again() -> None:
    stream = RemovalStream(
        SquaredLoss(l2=L2(total=1.0)), torch.zeros(3, dtype=torch.float64), values(20, 3), distance=1e-6
    )
    stream.remove(torch.tensor([4]))
    with pytest.raises(InputError, match="position 4 was removed before"):
        stream.remove(torch.tensor([3, 4]))
    with pytest.raises(InputError, match="no position 20 among 20"):
        stream.remove(torch.tensor([20]))
    with pytest.raises(InputError, match="twice"):
        stream.remove(torch.tensor([5, 5]))
    stream.remove(torch.tensor([3]))
    assert stream.remaining.tolist() == [0, 1, 2, *range(5, 20)]


def test_what_cannot_be_kept_is_not_promised() -> None:
    start, examples = torch.zeros(3, dtype=torch.float64), binary(50, 3)
    with pytest.raises(ConfigurationError, match="below what float64 can tell"):
        RemovalStream(BinaryLogistic(l2=L2(total=1.0)), start, examples, distance=1e-18)
    with pytest.raises(ConfigurationError, match="finite number above 0"):
        RemovalStream(BinaryLogistic(l2=L2(total=1.0)), start, examples, distance=0.0)
    with pytest.raises(ConfigurationError, match="no change of low rank"):
        RemovalStream(BinaryLogistic(l2=L2(per_example=1.0)), start, examples, distance=1e-3)


@pytest.mark.parametrize("name", ["logistic", "squared"])
def test_hessians_differ_by_no_more_than_the_bend_allows(name: str) -> None:
    """The inequality that the bound rests on: e^-τ H(w) ≤ H(w + s) ≤ e^τ H(w)."""
    objective, examples = CASES[name].objective(L2(total=0.5)), CASES[name].examples(60, 4)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.3, 3.0):
        w, s = torch.randn(2, 4, dtype=torch.float64, generator=generator)
        factor = Cholesky().fit(Hessian(objective, w, examples)).factor
        other = Hessian(objective, w + scale * s, examples).dense()
        half = torch.linalg.solve_triangular(factor, other, upper=False)
        ratios = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.T, upper=False))
        t = objective.bend_log_slope * float((examples.inputs @ (scale * s)).abs().max())
        assert -t - 1e-12 <= float(ratios.log().min()) <= float(ratios.log().max()) <= t + 1e-12
