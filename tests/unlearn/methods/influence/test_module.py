"""Derivatives of modules against loops and plain autograd; linear modules against closed forms."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.unlearn.methods.influence.cases import binary, close, network, several, values
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import EmpiricalFisher, GaussNewton, Hessian
from unlearn.methods.influence.linear_models import Softmax
from unlearn.methods.influence.module import ModuleObjective, losses_of, of_module
from unlearn.methods.influence.objective import L2
from unlearn.methods.influence.problem import problem_of

PENALTY = L2(total=0.3, per_example=0.01)

TASKS = {"classification": (several, 3), "regression": (values, 1)}


def objective_of(task: str) -> tuple[ModuleObjective, Examples, torch.Tensor]:
    make, outputs = TASKS[task]
    module, w = of_module(network(4, outputs))
    return ModuleObjective(l2=PENALTY, module=module), make(23, 4), w


def loop_gradients(module: nn.Module, examples: Examples) -> torch.Tensor:
    """One backward pass for each example."""
    rows = []
    for x, y in zip(*examples, strict=True):
        module.zero_grad()
        outputs = module(x[None])
        loss = ((outputs[:, 0] - y) ** 2).sum() / 2
        if not y.is_floating_point():
            loss = functional.cross_entropy(outputs, y[None])
        loss.backward()
        rows.append(torch.cat([value.grad.flatten().clone() for value in module.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("task", TASKS)
def test_vectorised_gradients_are_those_of_a_loop(task: str) -> None:
    objective, examples, w = objective_of(task)
    wanted = loop_gradients(deepcopy(objective.module), examples)
    assert close(objective.gradients(w, examples), wanted, 1e-13)
    assert close(objective.loss_gradient(w, examples), wanted.sum(0), 1e-13)
    assert objective.gradients(w, examples.take(slice(0))).shape == (0, len(w))


@pytest.mark.parametrize("task", TASKS)
def test_curvature_is_that_of_automatic_differentiation(task: str) -> None:
    objective, examples, w = objective_of(task)
    value = lambda v: objective.losses(v, examples).sum() + PENALTY.strength(23) / 2 * (v @ v)  # noqa: E731
    hessian = torch.autograd.functional.hessian(value, w)
    curvature = Hessian(objective, w, examples)
    assert close(curvature.dense(), hessian, 1e-12)
    block = torch.randn(len(w), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert close(curvature.matvec(block), hessian @ block, 1e-12)

    outputs = objective.outputs(w, examples.inputs)
    jacobian = torch.autograd.functional.jacobian(lambda v: objective.outputs(v, examples.inputs), w)
    bend = torch.ones(23, 1, 1, dtype=torch.float64)
    if task == "classification":
        p = torch.softmax(outputs, 1)
        bend = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    wanted = torch.einsum("nap,nab,nbq->pq", jacobian, bend, jacobian)
    wanted += PENALTY.strength(23) * torch.eye(len(w), dtype=torch.float64)
    newton = GaussNewton(objective, w, examples)
    assert close(newton.dense(), wanted, 1e-12)
    assert close(newton.matvec(block), wanted @ block, 1e-12)
    gradients = loop_gradients(deepcopy(objective.module), examples)
    fisher = gradients.T @ gradients + PENALTY.strength(23) * torch.eye(len(w), dtype=torch.float64)
    assert close(EmpiricalFisher(objective, w, examples).dense(), fisher, 1e-12)
    assert not close(wanted, hessian, 1e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_module_becomes_a_linear_model_with_the_same_derivatives(bias: bool) -> None:
    examples = several(31, 4)
    images = Examples(examples.inputs.reshape(31, 2, 2).float(), examples.targets)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=bias))
    problem = problem_of(model, images.take(slice(4)), images.take(slice(4, None)), PENALTY)
    assert isinstance(problem.objective, Softmax)
    module, w = of_module(model)
    general = ModuleObjective(l2=PENALTY, module=module)
    assert general.convex
    given = Examples(images.inputs.double(), images.targets).take([*range(4, 31), *range(4)])
    assert torch.allclose(problem.objective.value(problem.w, problem.data), general.value(w, given), rtol=1e-13)
    # The two number their parameters differently: compare what a step along the gradient makes of the model.
    step = problem.model_of(problem.w - 0.1 * problem.objective.gradient(problem.w, problem.data))
    other = general.parameters(w - 0.1 * general.gradient(w, given))
    for name, value in step.named_parameters():
        assert torch.allclose(value.double(), other[name], atol=1e-6)
        assert value.dtype == torch.float32


def test_the_model_is_left_alone_and_its_copy_keeps_dtype_and_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2)).train()
    before = deepcopy(model.state_dict())
    examples = binary(20, 4)
    problem = problem_of(model, examples.take(slice(3)), examples.take(slice(3, None)), L2(total=1.0))
    gradients = problem.objective.gradients(problem.w, problem.data)
    assert torch.equal(gradients, problem.objective.gradients(problem.w, problem.data))  # No dropout.
    changed = problem.model_of(problem.w + 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert changed.training
    for name, value in changed.named_parameters():
        assert torch.allclose(value, before[name] + 1.0)
        assert value.dtype == torch.float32
    assert torch.equal(changed[1].running_mean, before["1.running_mean"])


def test_frozen_parameters_are_constants() -> None:
    model = network(4, 2)
    model[0].requires_grad_(False)
    examples = binary(20, 4)
    problem = problem_of(model, examples.take(slice(3)), examples.take(slice(3, None)), L2())
    assert len(problem.w) == 12
    assert not problem.objective.convex
    assert torch.equal(problem.model_of(problem.w + 1)[0].weight, model[0].weight)
    with pytest.raises(ConfigurationError, match="nothing to change"):
        ModuleObjective(module=of_module(model.requires_grad_(False))[0])


def test_what_is_wrong_with_a_problem_is_said() -> None:
    model, examples = network(4, 2), binary(20, 4)
    some, rest = examples.take(slice(3)), examples.take(slice(3, None))
    with pytest.raises(InputError, match="retain is empty"):
        problem_of(model, examples, examples.take(slice(0)), L2())
    with pytest.raises(InputError, match="no examples of one model"):
        problem_of(model, Examples(some.inputs[:, :2], some.targets), rest, L2())
    with pytest.raises(InputError, match="inputs have 4 values, and the model takes 3"):
        problem_of(nn.Linear(3, 2), some, rest, L2())
    with pytest.raises(InputError, match="from 0 to 0, one for each output"):
        problem_of(network(4, 1), some, rest, L2())
    with pytest.raises(InputError, match="two for a binary one"):
        losses_of(torch.zeros(2, 1), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"a tensor \[n, outputs\], got tuple"):
        problem_of(nn.LSTM(4, 2), some, rest, L2())
    with pytest.raises(InputError, match=r"must return \[n, outputs\], got \[1, 4, 1\]"):
        problem_of(nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Linear(1, 1)), some, rest, L2())
    for wide in (model, nn.Linear(4, 2)):
        with pytest.raises(InputError, match=r"targets \[9\] do not go with outputs \[9, 2\]"):
            problem_of(wide, values(3, 4), values(9, 4), L2())
    two = Examples(some.inputs, some.inputs[:, :2])
    with pytest.raises(InputError, match=r"targets \[3, 2\] do not go with outputs \[3, 1\]"):
        problem_of(nn.Linear(4, 1), two, two, L2())
    problem = problem_of(model, some, rest, L2())
    with pytest.raises(ConfigurationError, match="has no square root"):
        Hessian(problem.objective, problem.w, problem.data).rows(problem.forget)
