"""EK-FAC by curvlinops, where Kronecker products are exact and where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unlearn.methods.influence.cases import binary, close, network, several, values
from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import GaussNewton, Hessian
from unlearn.methods.influence.linear_models import BinaryLogistic
from unlearn.methods.influence.module import ModuleObjective, of_module
from unlearn.methods.influence.objective import L2
from unlearn.methods.influence.solvers import EKFAC, Cholesky

pytest.importorskip("curvlinops", reason="needs curvlinops, of the extra influence")


def curvature_of(model: nn.Module, examples: Examples, damping: float = 2.0) -> GaussNewton:
    module, w = of_module(model)
    return GaussNewton(ModuleObjective(module=module, l2=L2(total=0.5)), w, examples, damping)


def test_one_linear_layer_with_squared_loss_is_a_kronecker_product() -> None:
    curvature = curvature_of(nn.Linear(4, 1, bias=False), values(30, 4))
    v = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = Cholesky().fit(curvature).solve(v).x
    for approximation in ("ekfac", "kfac"):
        found = EKFAC(approximation=approximation, batch_size=7).fit(curvature).solve(v)
        assert close(found.x, wanted, 1e-10)
        assert found.residual is not None
        assert found.residual < 1e-10


def test_of_a_network_the_corrected_eigenvalues_come_nearer_and_the_residual_says_how_near() -> None:
    curvature = curvature_of(network(4, 3), several(80, 4))
    v = torch.randn(curvature.size, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = Cholesky().fit(curvature).solve(v).x
    errors = {}
    for approximation in ("ekfac", "kfac"):
        found = EKFAC(approximation=approximation).fit(curvature).solve(v)
        errors[approximation] = float((found.x - wanted).norm() / wanted.norm())
        assert found.residual is not None
        assert 0.01 < found.residual < 1
    assert errors["ekfac"] < errors["kfac"] < 0.7


def test_what_it_does_not_know_is_refused() -> None:
    examples = binary(20, 4)
    with pytest.raises(ConfigurationError, match="of a ModuleObjective, and nothing else"):
        EKFAC().fit(Hessian(BinaryLogistic(), torch.zeros(4, dtype=torch.float64), examples))
    normalised = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    with pytest.raises(ConfigurationError, match="1 is LayerNorm"):
        EKFAC().fit(curvature_of(normalised, examples))
    frozen = network(4, 2)
    frozen[0].requires_grad_(False)
    with pytest.raises(ConfigurationError, match=r"parameter 0\.weight is frozen"):
        EKFAC().fit(curvature_of(frozen, examples))
    module, w = of_module(network(4, 2))
    with pytest.raises(ConfigurationError, match="needs a penalty or damping"):
        EKFAC().fit(GaussNewton(ModuleObjective(module=module), w, examples))
