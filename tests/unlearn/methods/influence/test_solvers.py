"""Solvers against a dense solve."""

from __future__ import annotations

import pytest
import torch

from tests.unlearn.methods.influence.cases import CASES, close, fitted
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import EmpiricalFisher, GaussNewton, Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic
from unlearn.methods.influence.objective import L2
from unlearn.methods.influence.solvers import (
    Arnoldi,
    Cholesky,
    ConjugateGradient,
    DivergedError,
    LiSSA,
    SingularCurvatureError,
    Solver,
    Woodbury,
    residual,
)

FITTED = L2(total=0.5)

EXACT: dict[str, tuple[Solver, float]] = {
    "cholesky": (Cholesky(), 1e-12),
    "woodbury": (Woodbury(), 1e-12),
    "conjugate gradient": (ConjugateGradient(tolerance=1e-12), 1e-10),
    "arnoldi of the whole space": (Arnoldi(iterations=4, kept=4), 1e-9),
    "lissa on all data": (LiSSA(depth=500, batch_size=40), 1e-4),
}


@pytest.mark.parametrize(
    ("name", "solver"),
    # The Krylov space of an eigenvalue that occurs four times, as softmax has, is not the whole space.
    [(name, solver) for name in CASES for solver in EXACT if not (name == "softmax" and solver.startswith("arnoldi"))],
)
def test_solvers_invert_the_hessian(name: str, solver: str) -> None:
    objective, examples, w = fitted(name, FITTED)
    curvature = Hessian(objective, w, examples)
    v = torch.randn(len(w), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    wanted = torch.linalg.solve(curvature.dense(), v)
    specification, tolerance = EXACT[solver]
    inverse = specification.fit(curvature)
    solution = inverse.solve(v)
    assert close(solution.x, wanted, tolerance)
    assert residual(curvature, solution.x, v) < 100 * tolerance
    if solution.residual is not None:
        assert solution.residual == residual(curvature, solution.x, v)
    assert close(inverse.solve(v[:, 0]).x, wanted[:, 0], tolerance)
    assert inverse.solve(v[:, 0]).x.shape == (len(w),)


def test_conjugate_gradient_reports_what_few_iterations_leave() -> None:
    objective, examples, w = fitted("softmax", FITTED)
    curvature = Hessian(objective, w, examples)
    v = torch.ones(len(w), dtype=torch.float64)
    v[0] = -3.0
    solution = ConjugateGradient(iterations=2).fit(curvature).solve(v)
    assert solution.iterations == 2
    assert solution.residual is not None
    assert solution.residual > 1e-6
    assert abs(solution.residual - float((curvature.dense() @ solution.x - v).norm() / v.norm())) < 1e-12


def test_conjugate_gradient_answers_zeros_with_zeros() -> None:
    objective, examples, w = fitted("logistic", FITTED)
    solution = ConjugateGradient().fit(Hessian(objective, w, examples)).solve(torch.zeros(4, 2, dtype=torch.float64))
    assert not solution.x.any()
    assert solution.residual == 0
    assert solution.iterations == 0


@pytest.mark.parametrize("kind", [Hessian, GaussNewton, EmpiricalFisher])
@pytest.mark.parametrize("name", CASES)
def test_a_cached_inverse_follows_removals_and_additions(name: str, kind: type[Hessian]) -> None:
    objective, examples, w = fitted(name, FITTED)
    cache = Woodbury().fit(kind(objective, w, examples))
    removed, kept = examples.take(slice(6)), examples.take(slice(6, None))
    v = torch.randn(len(w), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    direct = torch.linalg.solve(kind(objective, w, kept).dense(), v)
    assert close(cache.solve_without(removed, v).x, direct, 1e-12)
    assert close(cache.solve_without(removed, v[:, 0]).x, direct[:, 0], 1e-12)
    one_by_one = cache
    for row in range(6):
        one_by_one = one_by_one.without(examples.take(slice(row, row + 1)))
    assert close(one_by_one.solve(v).x, direct, 1e-12)
    assert close(cache.without(removed).including(removed).inverse, cache.inverse, 1e-12)
    rows = cache.curvature.rows(removed)
    assert close(cache.leverages(removed), (rows @ torch.linalg.inv(cache.curvature.dense()) @ rows.T).diag(), 1e-12)
    assert torch.equal(cache.inverse, Woodbury().fit(kind(objective, w, examples)).inverse)


def test_a_penalty_per_example_is_no_change_of_low_rank() -> None:
    objective, examples, w = fitted("logistic", L2(per_example=0.1))
    with pytest.raises(ConfigurationError, match="no change of low rank"):
        Woodbury().fit(Hessian(objective, w, examples))


def test_singular_curvature_is_refused() -> None:
    examples = CASES["logistic"].examples(40, 4)
    doubled = Examples(torch.cat([examples.inputs, examples.inputs[:, :1]], 1), examples.targets)
    curvature = Hessian(BinaryLogistic(), torch.zeros(5, dtype=torch.float64), doubled)
    for solver in (Cholesky(), Woodbury()):
        with pytest.raises(SingularCurvatureError, match="singular or not positive definite"):
            solver.fit(curvature)
    # One example in one dimension without a penalty: nothing remains that determines w.
    alone = Examples(examples.inputs[:1, :1], examples.targets[:1])
    cache = Woodbury().fit(Hessian(BinaryLogistic(), torch.zeros(1, dtype=torch.float64), alone))
    with pytest.raises(SingularCurvatureError, match="leverage reaches 1"):
        cache.without(alone)


def test_iterations_that_run_away_raise() -> None:
    objective, examples, w = fitted("logistic", FITTED)
    curvature = Hessian(objective, w, examples)
    with pytest.raises(DivergedError, match="ran away with scale"):
        LiSSA(depth=50_000, batch_size=1, probes=0, margin=0.51, seed=1).fit(curvature).solve(w)


def test_lissa_on_batches_comes_near_and_repeats() -> None:
    objective, examples, w = fitted("logistic", FITTED)
    curvature = Hessian(objective, w, examples)
    v = torch.ones(4, dtype=torch.float64)
    wanted = Cholesky().fit(curvature).solve(v).x
    solver = LiSSA(depth=400, batch_size=8, repeats=2)
    found = solver.fit(curvature).solve(v)
    assert close(found.x, wanted, 0.15)
    assert torch.equal(found.x, solver.fit(curvature).solve(v).x)


def test_arnoldi_of_a_few_directions_answers_the_leading_ones() -> None:
    objective, examples, w = fitted("logistic", FITTED)
    curvature = Hessian(objective, w, examples)
    values, vectors = torch.linalg.eigh(curvature.dense())
    inverse = Arnoldi(iterations=4, kept=2).fit(curvature)
    assert close(inverse.solve(vectors[:, 3]).x, vectors[:, 3] / values[3], 1e-10)
    least = inverse.solve(vectors[:, 0])
    assert least.x.norm() < 1e-10
    assert least.residual == pytest.approx(1.0)


def test_a_krylov_space_that_is_exhausted_ends() -> None:
    x = torch.eye(6, dtype=torch.float64)  # At w = 0 the Hessian is a multiple of I: the space has one dimension.
    examples = Examples(x, torch.tensor([0, 1] * 3))
    curvature = Hessian(BinaryLogistic(l2=FITTED), torch.zeros(6, dtype=torch.float64), examples)
    inverse = Arnoldi(iterations=6, kept=6).fit(curvature)
    assert inverse.values.tolist() == pytest.approx([0.75])


def test_right_hand_sides_must_fit() -> None:
    objective, examples, w = fitted("logistic", FITTED)
    curvature = Hessian(objective, w, examples)
    for solver, _ in EXACT.values():
        inverse = solver.fit(curvature)
        with pytest.raises(InputError, match=r"float64 \[4\] or \[4, r\]"):
            inverse.solve(torch.zeros(5, dtype=torch.float64))
        with pytest.raises(InputError, match=r"float64 \[4\] or \[4, r\]"):
            inverse.solve(torch.zeros(4))
        with pytest.raises(InputError, match="not all finite"):
            inverse.solve(w / 0)
