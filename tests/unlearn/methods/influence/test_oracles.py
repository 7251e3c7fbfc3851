"""Scores and curvature against other people's libraries, where they are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.influence import oracles
from tests.unlearn.methods.influence.cases import close, pearson
from unlearn.methods.influence import EKFAC, Curvature, EmpiricalFisher, GaussNewton, Hessian, ModuleObjective


@pytest.fixture(scope="module")
def trained() -> oracles.Softmax:
    return oracles.softmax()


@pytest.mark.parametrize("kind", ["explicit", "conjugate gradient"])
def test_dattri(trained: oracles.Softmax, kind: str) -> None:
    pytest.importorskip("dattri", reason="needs dattri, an oracle for scores")
    assert close(oracles.dattri_scores(trained, kind), oracles.our_scores(trained), 1e-6)


def test_kronfluence(trained: oracles.Softmax, tmp_path: Path) -> None:
    pytest.importorskip("kronfluence", reason="needs kronfluence, an oracle for scores")
    gradients = trained.objective.gradients(trained.w, trained.train)
    products = gradients @ trained.objective.gradients(trained.w, trained.test).T
    assert close(oracles.kronfluence_scores(trained, "identity", tmp_path / "identity"), products, 1e-5)
    theirs = oracles.kronfluence_scores(trained, "ekfac", tmp_path / "ekfac")
    # They draw the labels of the Fisher matrix, and ours are exact.
    ours = oracles.our_scores(trained, GaussNewton, EKFAC())
    assert pearson(ours, theirs) > 0.99
    assert close(theirs, ours, 0.2)
    assert pearson(oracles.our_scores(trained), theirs) > 0.95


@pytest.mark.parametrize("kind", [Hessian, GaussNewton, EmpiricalFisher])
def test_curvlinops(trained: oracles.Softmax, kind: type[Curvature]) -> None:
    pytest.importorskip("curvlinops", reason="needs curvlinops, of the extra influence")
    plain = ModuleObjective(module=trained.objective.module)
    assert close(oracles.curvlinops_matrix(trained, kind), kind(plain, trained.w, trained.train).dense(), 1e-12)
