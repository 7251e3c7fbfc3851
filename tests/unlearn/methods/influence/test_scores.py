"""Scores against exact leave-one-out retraining."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unlearn.methods.influence.cases import CASES, binary, close, fitted, pearson, threes_and_eights, values
from unlearn.errors import InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic, SquaredLoss
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import L2, Objective, split
from unlearn.methods.influence.scores import group_influence, influence, leave_one_out, self_influence
from unlearn.methods.influence.solvers import Cholesky, ConjugateGradient, Woodbury


def retrained(objective: Objective, examples: Examples, w: torch.Tensor, removed: list[int]) -> torch.Tensor:
    _, kept = split(examples, torch.tensor(removed))
    return minimise(objective, kept, w).w


@pytest.mark.parametrize("name", CASES)
def test_scores_are_the_derivative_by_the_record_s_weight(name: str) -> None:
    """Finite differences: the record leaves by a ten-thousandth, as that share of its gradient in the linear term."""
    objective, examples, w = fitted(name, L2(total=1.0, per_example=0.01))
    tests = CASES[name].examples(45, 4).take(slice(40, 45))
    inverse = Cholesky().fit(Hessian(objective, w, examples))
    target = lambda v: objective.losses(v, tests)  # noqa: E731
    scores = influence(objective, w, examples, target, inverse)
    assert scores.values.shape == (40, 5)
    share = 1e-4
    for row in (0, 7):
        record = examples.take(slice(row, row + 1))
        moved = minimise(
            type(objective)(**vars(objective) | {"linear": -share * objective.removal(w, record)}),
            examples,
            w,
            tolerance=0.0,
        ).w
        wanted = (target(moved) - target(w)) / share
        assert close(scores.values[row], wanted, 1e-3)
    own = self_influence(objective, w, examples, inverse)
    removals = objective.gradients(w, examples) + 0.01 * w
    assert close(own.values[:, 0], (removals @ torch.linalg.inv(inverse.curvature.dense()) * removals).sum(1), 1e-11)
    assert "positive: removing" in scores.sign


def test_leave_one_out_of_least_squares_is_exact_and_in_sign_and_scale() -> None:
    examples = values(50, 4)
    objective = SquaredLoss(l2=L2(total=2.0))
    w = minimise(objective, examples, torch.zeros(4, dtype=torch.float64)).w
    cache = Woodbury().fit(Hessian(objective, w, examples))
    weights = leave_one_out(objective, w, examples, lambda v: v, cache)  # The change of every weight.
    for row in (0, 20, 49):
        assert close(weights.values[row], retrained(objective, examples, w, [row]) - w, 1e-10)
    groups = [[0, 1, 2], [5, 40]]
    joint = group_influence(objective, w, [examples.take(group) for group in groups], lambda v: v, cache)
    for values_, group in zip(joint.values, groups, strict=True):
        assert close(values_, retrained(objective, examples, w, group) - w, 1e-10)
    additive = influence(objective, w, examples, lambda v: v, cache).values
    assert not close(additive[[0, 1, 2]].sum(0), joint.values[0], 1e-2)


def test_a_record_that_memorises_its_label_influences_itself_most() -> None:
    examples = binary(60, 3)
    flipped = Examples(examples.inputs, examples.targets.clone())
    far = int((examples.inputs.norm(dim=1)).argmax())
    flipped.targets[far] = 1 - flipped.targets[far]
    objective = BinaryLogistic(l2=L2(total=1.0))
    w = minimise(objective, flipped, torch.zeros(3, dtype=torch.float64)).w
    scores = self_influence(objective, w, flipped, Cholesky().fit(Hessian(objective, w, flipped)))
    assert int(scores.values.argmax()) == far


@pytest.mark.parametrize(
    ("l2", "records", "least"),
    [
        (1e-3, 12, 0.999),
        pytest.param(1e-3, 150, 0.999, marks=pytest.mark.slow),
        pytest.param(1e-4, 150, 0.997, marks=pytest.mark.slow),
    ],
)
def test_influence_is_leave_one_out_on_digits(l2: float, records: int, least: float) -> None:
    objective, train, test, w = threes_and_eights(l2)
    assert isinstance(objective, BinaryLogistic)
    curvature = Hessian(objective, w, train)
    chosen = np.random.default_rng(2).choice(len(train), 150, replace=False)[:records].tolist()
    losses = lambda v: objective.losses(v, test).mean(0, keepdim=True)  # noqa: E731
    cache = Woodbury().fit(curvature)
    scores = influence(objective, w, train, losses, Cholesky().fit(curvature))
    truth = torch.stack([losses(retrained(objective, train, w, [row])) - losses(w) for row in chosen])
    assert pearson(scores.values[chosen], truth) > least
    corrected = leave_one_out(objective, w, train.take(chosen), losses, cache)
    assert pearson(corrected.values, truth) > 0.99
    assert float((corrected.values - truth).norm()) < float((scores.values[chosen] - truth).norm())
    iterative = influence(objective, w, train, losses, ConjugateGradient(tolerance=1e-10).fit(curvature))
    assert close(iterative.values, scores.values, 1e-8)
    assert iterative.residual is not None
    assert iterative.residual < 1e-9


@pytest.mark.parametrize(
    ("m", "published"),
    [(10, 3.7e-3), pytest.param(1, 3.2e-3, marks=pytest.mark.slow), pytest.param(100, 2.0e-2, marks=pytest.mark.slow)],
)
def test_a_cached_removal_on_digits_is_direct_newton_and_as_near_retraining_as_it_should(
    m: int, published: float
) -> None:
    objective, train, _, w = threes_and_eights(1e-3)
    cache = Woodbury().fit(Hessian(objective, w, train))
    gone, kept = split(train, torch.from_numpy(np.random.default_rng(1).permutation(800)[:m]))
    delta = objective.removal(w, gone)
    step = cache.solve_without(gone, delta).x
    assert close(step, Cholesky().fit(Hessian(objective, w, kept)).solve(delta).x, 1e-12)
    exact = minimise(objective, kept, w + step).w
    assert float((w + step - exact).norm() / (w - exact).norm()) <= published


def test_a_record_that_alone_determines_a_direction_cannot_be_left_out() -> None:
    examples = Examples(torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    objective, w = SquaredLoss(), torch.ones(3, dtype=torch.float64)
    cache = Woodbury().fit(Hessian(objective, w, examples))
    with pytest.raises(InputError, match="leverage 1"):
        leave_one_out(objective, w, examples, lambda v: v, cache)


def test_a_forget_set_that_is_no_subset_is_refused() -> None:
    examples = values(5, 2)
    with pytest.raises(InputError, match="no position 5 among 5"):
        split(examples, torch.tensor([0, 5]))
    with pytest.raises(InputError, match="no position -1 among 5"):
        split(examples, torch.tensor([-1]))
    with pytest.raises(InputError, match="a position twice"):
        split(examples, torch.tensor([1, 2, 1]))
    with pytest.raises(InputError, match=r"must be int64 \[m\]"):
        split(examples, torch.tensor([True, False, True, False, False]))
