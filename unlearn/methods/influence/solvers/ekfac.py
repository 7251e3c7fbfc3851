"""K-FAC and EK-FAC (Martens and Grosse 2015; George et al. 2018), by curvlinops: one Kronecker product a layer.

Each linear or convolutional layer's Gauss-Newton block is taken for A (x) S, A of its inputs and S of its output
gradients; EK-FAC measures the eigenvalues anew in the Kronecker eigenbasis. Different layers do not interact. The
residual against the true Gauss-Newton matrix is measured with every solve and is large (a third is usual): good enough
to rank records, not to remove them. The penalty and the damping are added to the eigenvalues exactly.

Needs the extra `influence`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from unlearn.errors import ConfigurationError
from unlearn.methods.base import Examples
from unlearn.methods.influence.curvature import Curvature, GaussNewton, as_block
from unlearn.methods.influence.module import ModuleObjective
from unlearn.methods.influence.objective import batches
from unlearn.methods.influence.solvers.base import Inverse, Solution, Solver, residual


@dataclass(frozen=True)
class EKFAC(Solver):
    """A Kronecker approximation of `GaussNewton`.

    Attributes:
        approximation: "ekfac", or "kfac" without the corrected eigenvalues.
        batch_size: Examples a pass.
    """

    approximation: Literal["ekfac", "kfac"] = "ekfac"
    batch_size: int = 256

    def fit(self, curvature: Curvature) -> EKFACInverse:
        """Estimate the factors.

        Args:
            curvature: A `GaussNewton` matrix of a `ModuleObjective`, every parameter of whose model is trainable and in
                a linear or convolutional layer.

        Returns:
            What solves.

        Raises:
            ConfigurationError: If it is something else, has nothing added to the diagonal, or curvlinops is missing.
        """
        objective = curvature.objective
        if not isinstance(objective, ModuleObjective) or not isinstance(curvature, GaussNewton):
            raise ConfigurationError("EKFAC approximates the GaussNewton matrix of a ModuleObjective, and nothing else")
        if not curvature.shift:
            raise ConfigurationError("EKFAC needs a penalty or damping: its factors are singular without")
        _check(objective.module)
        library = _curvlinops()
        kinds: dict[str, Any] = {"ekfac": library.EKFACLinearOperator, "kfac": library.KFACLinearOperator}
        regression = curvature.examples.task == "regression"
        module = _at(objective, curvature.w)
        operator = kinds[self.approximation](
            module,
            (nn.MSELoss if regression else nn.CrossEntropyLoss)(reduction="sum"),
            list(module.parameters()),
            [_pair(batch) for batch in batches(curvature.examples, self.batch_size)],
            fisher_type=library.FisherType.TYPE2,
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        half = 2.0 if regression else 1.0  # nn.MSELoss has no half in front.
        inverse = library.KFACInverseLinearOperator(operator, damping=half * curvature.shift, use_exact_damping=True)
        return EKFACInverse(curvature, inverse, half)


@dataclass(frozen=True, eq=False)
class EKFACInverse(Inverse):
    """Solves with the factors.

    Attributes:
        curvature: The Gauss-Newton matrix they stand for.
        operator: curvlinops' inverse.
        scale: Its curvature is so many times ours.
    """

    curvature: Curvature
    operator: Any
    scale: float

    def solve(self, vectors: torch.Tensor) -> Solution:
        """Multiply by the inverse of the approximation.

        Args:
            vectors: v, `[p]` or `[p, r]`.

        Returns:
            x with its residual by the matrix that was approximated.
        """
        v = as_block(vectors, self.curvature.size)
        x = self.scale * (self.operator @ v)
        return Solution(x.reshape(vectors.shape), residual(self.curvature, x, v))


def _check(module: nn.Module) -> None:
    for name, value in module.named_parameters():
        if not value.requires_grad:
            raise ConfigurationError(f"EKFAC: parameter {name} is frozen; use ConjugateGradient")
    for name, layer in module.named_modules():
        if next(layer.parameters(recurse=False), None) is not None and type(layer) not in {nn.Linear, nn.Conv2d}:
            raise ConfigurationError(
                f"EKFAC knows nn.Linear and nn.Conv2d, and {name} is {type(layer).__name__}: use ConjugateGradient"
            )


def _at(objective: ModuleObjective, w: torch.Tensor) -> nn.Module:
    """A copy with these parameters: curvlinops hooks into the layers."""
    module = deepcopy(objective.module)
    with torch.no_grad():
        for name, value in objective.parameters(w).items():
            module.get_parameter(name).copy_(value)
    return module


def _pair(batch: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Values as `[n, outputs]`, as nn.MSELoss needs them."""
    values = batch.targets.is_floating_point()
    return batch.inputs, batch.targets.reshape(len(batch), -1) if values else batch.targets


def _curvlinops() -> ModuleType:
    try:
        return import_module("curvlinops")
    except ImportError:
        raise ConfigurationError("EKFAC needs curvlinops: pip install 'sisa-unlearn[influence]'") from None
