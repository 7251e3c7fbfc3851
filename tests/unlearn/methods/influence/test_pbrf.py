"""The proximal Bregman response against closed forms, and scores of networks against it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unlearn.methods.influence.cases import binary, close, network, pearson, values
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import GaussNewton
from unlearn.methods.influence.linear_models import SquaredLoss
from unlearn.methods.influence.module import ModuleObjective, losses_of, of_module
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.objective import L2, split
from unlearn.methods.influence.pbrf import proximal_bregman_response, response_score
from unlearn.methods.influence.scores import influence
from unlearn.methods.influence.solvers import Cholesky


def test_of_ridge_regression_it_is_retraining() -> None:
    examples = values(40, 3)
    gone, kept = split(examples, torch.tensor([0, 5]))
    ridge = SquaredLoss(l2=L2(total=2.0))
    w = minimise(ridge, examples, torch.zeros(3, dtype=torch.float64)).w
    module, _ = of_module(nn.Linear(3, 1, bias=False))
    response = proximal_bregman_response(ModuleObjective(module=module), w, kept, gone, 2.0, tolerance=1e-12)
    # Half the penalty's pull at w is in neither: retraining minimises Λ|w|²/2, the response Λ|w - w_s|²/2, and at the
    # optimum both leave the same gradient.
    assert close(response.w, minimise(ridge, kept, w).w, 1e-9)


def test_it_minimises_the_divergences_as_written_in_the_paper() -> None:
    examples = binary(30, 3)
    gone, kept = split(examples, torch.tensor([2, 11]))
    module, w = of_module(network(3, 2))
    objective = ModuleObjective(module=module)
    response = proximal_bregman_response(objective, w, kept, gone, 0.5, tolerance=1e-9)
    everything = Examples(torch.cat([kept.inputs, gone.inputs]), torch.cat([kept.targets, gone.targets]))
    before = objective.outputs(w, everything.inputs).detach().requires_grad_()
    old = losses_of(before, everything.targets)
    (slopes,) = torch.autograd.grad(old.sum(), before)

    def proximal(v: torch.Tensor) -> torch.Tensor:
        outputs = objective.outputs(v, everything.inputs)
        divergence = losses_of(outputs, everything.targets) - old.detach() - (slopes * (outputs - before)).sum(1)
        return divergence.sum() - objective.losses(v, gone).sum() + 0.25 * ((v - w) ** 2).sum()

    at_start = torch.autograd.functional.jacobian(proximal, w).norm()
    assert torch.autograd.functional.jacobian(proximal, response.w).norm() < 1e-6 * at_start
    assert response.gradient_norm < 1e-6 * float(at_start)


def test_scores_of_a_network_approximate_it_and_not_retraining() -> None:
    examples = binary(60, 3)
    tests = binary(80, 3).take(slice(60, None))
    module, w = of_module(network(3, 2))
    objective = ModuleObjective(module=module)
    target = lambda v: objective.losses(v, tests).sum(0, keepdim=True)  # noqa: E731
    matrix = GaussNewton(objective, w, examples, damping=6.0)
    scores = influence(objective, w, examples, target, Cholesky().fit(matrix)).values
    rows = range(0, 60, 3)
    responses = []
    for row in rows:
        gone, kept = split(examples, torch.tensor([row]))
        response = proximal_bregman_response(objective, w, kept, gone, 6.0)
        responses.append(response_score(target, w, response))
    assert pearson(scores[list(rows)], torch.stack(responses)) > 0.98
    unrelated = influence(objective, w, examples.take(torch.arange(59, -1, -1)), target, Cholesky().fit(matrix)).values
    assert pearson(unrelated[list(rows)], torch.stack(responses)) < 0.5


def test_without_a_proximal_term_or_a_removal_there_is_no_response() -> None:
    examples = binary(10, 3)
    module, w = of_module(network(3, 2))
    objective = ModuleObjective(module=module)
    with pytest.raises(ConfigurationError, match="damping must be above 0"):
        proximal_bregman_response(objective, w, examples, examples.take(slice(1)), 0.0)
    with pytest.raises(InputError, match="removed is empty"):
        proximal_bregman_response(objective, w, examples, examples.take(slice(0)), 1.0)
