"""Weight updates against exact retraining."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from tests.unlearn.methods.influence.cases import binary, close, network, several, values
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import GaussNewton, Hessian
from unlearn.methods.influence.diagnostics import StepSizeWarning, condition_number, diagnose
from unlearn.methods.influence.infinitesimal_jackknife import InfinitesimalJackknifeConfig, infinitesimal_jackknife
from unlearn.methods.influence.newton import minimise
from unlearn.methods.influence.newton_update import NewtonConfig, newton
from unlearn.methods.influence.objective import L2, split
from unlearn.methods.influence.problem import problem_of
from unlearn.methods.influence.projective_residual import ProjectiveResidualConfig, projective_residual
from unlearn.methods.influence.solvers import Cholesky, ConjugateGradient
from unlearn.methods.influence.warnecke import (
    WarneckeFirstOrderConfig,
    WarneckeSecondOrderConfig,
    warnecke_first_order,
    warnecke_second_order,
    without_features,
)

PENALTY = L2(total=0.4, per_example=0.02)

EXACT = {"l2": PENALTY, "damping": 0.0, "solver": Cholesky()}

FORGET, RETAIN = slice(6), slice(6, None)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in model.parameters()])


def trained(model: nn.Module, examples: Examples) -> nn.Module:
    """A linear model at its optimum, in float64."""
    problem = problem_of(model.double(), examples.take(slice(0)), examples, PENALTY)
    return problem.model_of(minimise(problem.objective, problem.retain, problem.w).w)


LINEAR = {
    "softmax": (lambda: nn.Linear(4, 3), several),
    "squared": (lambda: nn.Linear(4, 1), values),
}


@pytest.fixture(params=LINEAR)
def convex(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Examples, nn.Module]:
    """Name, model, data, and the model retrained without what is to be forgotten."""
    make, data = LINEAR[request.param]
    examples = data(60, 4)
    return request.param, trained(make(), examples), examples, trained(make(), examples.take(RETAIN))


UPDATES: dict[str, tuple[Callable[..., nn.Module], Any]] = {
    "infinitesimal jackknife": (infinitesimal_jackknife, InfinitesimalJackknifeConfig(**EXACT)),
    "newton": (newton, NewtonConfig(**EXACT)),
    "newton, 3 steps": (newton, NewtonConfig(**EXACT, steps=3)),
    "projective residual": (projective_residual, ProjectiveResidualConfig(l2=PENALTY, damping=0.0)),
    "warnecke, first order": (warnecke_first_order, WarneckeFirstOrderConfig(l2=PENALTY)),
    "warnecke, second order": (warnecke_second_order, WarneckeSecondOrderConfig(**EXACT)),
}


@pytest.mark.parametrize("update", UPDATES)
def test_updates_move_towards_retraining_and_as_near_as_they_should(convex: Any, update: str) -> None:
    name, model, examples, retrained = convex
    function, config = UPDATES[update]
    before = deepcopy(model.state_dict())
    changed = function(model, examples.take(FORGET), examples.take(RETAIN), config)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    left = float((flat(changed) - flat(retrained)).norm() / (flat(model) - flat(retrained)).norm())
    newtons = {"newton", "warnecke, second order", "newton, 3 steps", "projective residual"}
    # For squared loss a Newton step is exact, and six removed inputs span all five directions.
    bound = (
        1e-10
        if name == "squared" and update in newtons
        else {
            "infinitesimal jackknife": 0.5,
            "newton": 0.1,
            "newton, 3 steps": 1e-6,
            "projective residual": 0.1,
            "warnecke, first order": 0.999,
            "warnecke, second order": 0.1,
        }[update]
    )
    assert left < bound


@pytest.mark.parametrize("update", UPDATES)
def test_default_configurations_move_a_default_model_towards_retraining(update: str) -> None:
    """What the method cards claim, without a word of the penalty."""
    examples = several(60, 4)
    model, retrained = trained(nn.Linear(4, 3), examples), trained(nn.Linear(4, 3), examples.take(RETAIN))
    function, config = UPDATES[update]
    changed = function(model.float(), examples.take(FORGET), examples.take(RETAIN), type(config)())
    assert (flat(changed) - flat(retrained)).norm() < (flat(model) - flat(retrained)).norm()
    assert changed.weight.dtype == torch.float32


@pytest.mark.parametrize("update", UPDATES)
def test_what_cannot_be_removed_is_refused(update: str) -> None:
    model, examples = nn.Linear(4, 3), several(30, 4)
    function, config = UPDATES[update]
    for forget, retain, message in (
        (examples.take(slice(0)), examples, "nothing to forget"),
        (examples, examples.take(slice(0)), "retain is empty"),
        (Examples(examples.inputs, examples.targets + 1), examples, "class numbers from 0 to 2"),
        (examples.inputs, examples, "must be a pair"),
        (Examples(examples.inputs[:, :2], examples.targets), examples, "no examples of one model"),
    ):
        with pytest.raises(InputError, match=message):
            function(model, forget, retain, config)
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module, got str"):
        function("model", examples, examples, config)
    dataset = TensorDataset(*examples)
    assert function(model, Subset(dataset, range(3)), Subset(dataset, range(3, 30)), config) is not model


def test_newton_on_a_model_that_is_no_optimum_leaves_its_gradient_as_it_was() -> None:
    examples = values(60, 4)
    model = nn.Linear(4, 1).double()
    changed = newton(model, examples.take(FORGET), examples.take(RETAIN), NewtonConfig(**EXACT))
    all_of_it = problem_of(model, examples.take(FORGET), examples.take(RETAIN), PENALTY)
    after = problem_of(changed, examples.take(FORGET), examples.take(RETAIN), PENALTY)
    assert close(
        after.objective.gradient(after.w, after.retain),
        all_of_it.objective.gradient(all_of_it.w, all_of_it.data),
        1e-10,
    )


def test_corrected_labels_and_features_reach_the_model_of_the_corrected_data() -> None:
    examples = values(60, 4)
    model = trained(nn.Linear(4, 1), examples)
    gone, kept = examples.take(FORGET), examples.take(RETAIN)
    for corrected in (Examples(gone.inputs, -gone.targets), without_features(gone, torch.tensor([1, 3]))):
        joined = Examples(torch.cat([kept.inputs, corrected.inputs]), torch.cat([kept.targets, corrected.targets]))
        retrained = trained(nn.Linear(4, 1), joined)
        config = WarneckeSecondOrderConfig(**EXACT, corrected=corrected)
        assert close(flat(warnecke_second_order(model, gone, kept, config)), flat(retrained), 1e-11)
        first = warnecke_first_order(model, gone, kept, WarneckeFirstOrderConfig(corrected=corrected))
        assert (flat(first) - flat(retrained)).norm() < (flat(model) - flat(retrained)).norm()
    assert without_features(gone, torch.tensor([1, 3]), 7.0).inputs[:, [1, 3]].unique().tolist() == [7.0]


def test_the_projection_changes_predictions_on_the_removed_and_nothing_across_them() -> None:
    examples = values(60, 4)
    model, retrained = trained(nn.Linear(4, 1), examples), trained(nn.Linear(4, 1), examples.take(slice(2, None)))
    config = ProjectiveResidualConfig(l2=PENALTY, damping=0.0)
    changed = projective_residual(model, examples.take(slice(2)), examples.take(slice(2, None)), config)
    assert torch.allclose(changed(examples.inputs[:2]), retrained(examples.inputs[:2]), atol=1e-12)
    assert not torch.allclose(changed(examples.inputs[2:4]), retrained(examples.inputs[2:4]), atol=1e-4)
    removed = torch.nn.functional.pad(examples.inputs[:2], (0, 1), value=1.0)
    across = torch.linalg.svd(removed).Vh[2:]
    assert (across @ (flat(changed) - flat(model))).norm() < 1e-12


@pytest.mark.filterwarnings("ignore::unlearn.methods.influence.diagnostics.StepSizeWarning")
def test_an_update_of_a_network_approximates_and_is_no_closed_form() -> None:
    examples = binary(80, 4)
    model = network(4, 2).double()
    gone, kept = examples.take(FORGET), examples.take(RETAIN)
    config = NewtonConfig(l2=L2(total=5.0), solver=ConjugateGradient(tolerance=1e-12), damping=0.0)
    changed = newton(model, gone, kept, config)
    problem = problem_of(model, gone, kept, L2(total=5.0))
    matrix = GaussNewton(problem.objective, problem.w, kept).dense()
    wanted = problem.w + torch.linalg.solve(matrix, problem.objective.removal(problem.w, gone))
    assert close(flat(changed), wanted, 1e-9)


def test_a_step_too_far_is_warned_of() -> None:
    examples = binary(30, 4)
    separable = Examples(examples.inputs * 30, examples.targets)
    model = network(4, 2).double()
    with pytest.warns(StepSizeWarning, match="of the gradient it was to remove"):
        infinitesimal_jackknife(
            model,
            separable.take(slice(15)),
            separable.take(slice(15, None)),
            InfinitesimalJackknifeConfig(damping=1e-9),
        )


def test_a_diagnosis_measures_what_is_left() -> None:
    examples = values(40, 3)
    gone, kept = split(examples, torch.tensor([3, 7]))
    problem = problem_of(trained(nn.Linear(3, 1), examples), gone, kept, PENALTY)
    optimum = minimise(problem.objective, problem.retain, problem.w).w
    exact = diagnose(problem.objective, problem.w, optimum, problem.forget, problem.retain)
    assert exact.left < 1e-9
    assert exact.warning is None
    assert exact.gradient_before == pytest.approx(
        float(problem.objective.gradient(problem.w, problem.retain).norm()), rel=1e-6
    )
    half = diagnose(problem.objective, problem.w, (problem.w + optimum) / 2, problem.forget, problem.retain)
    assert half.left == pytest.approx(0.5)
    assert half.step_norm == pytest.approx(exact.step_norm / 2)
    none = diagnose(problem.objective, problem.w, problem.w - (optimum - problem.w), problem.forget, problem.retain)
    assert none.warning is not None
    assert "leaves 200%" in none.warning


def test_the_condition_number_is_that_of_the_matrix() -> None:
    examples = values(40, 5)
    problem = problem_of(nn.Linear(5, 1), examples.take(FORGET), examples.take(RETAIN), PENALTY)
    curvature = Hessian(problem.objective, problem.w, problem.retain)
    wanted = float(torch.linalg.cond(curvature.dense()))
    assert condition_number(curvature, Cholesky().fit(curvature)) == pytest.approx(wanted, rel=1e-3)


def test_what_is_wrong_with_configurations_is_said() -> None:
    examples = binary(20, 4)
    with pytest.raises(InputError, match="is for linear models"):
        projective_residual(network(4, 2), examples, examples, ProjectiveResidualConfig())
    with pytest.raises(ConfigurationError, match="curvature must be one of"):
        NewtonConfig(curvature="diagonal")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="steps must be at least 1"):
        NewtonConfig(steps=0)
    for config in (InfinitesimalJackknifeConfig, ProjectiveResidualConfig):
        with pytest.raises(ConfigurationError, match="damping must be"):
            config(damping=-1.0)
    with pytest.raises(ConfigurationError, match="rate must be"):
        WarneckeFirstOrderConfig(rate=0.0)
    with pytest.raises(ConfigurationError, match="tolerance must lie"):
        ConjugateGradient(tolerance=1.0)
