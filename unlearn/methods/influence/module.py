"""Any `torch.nn.Module` as an objective, by `torch.func`: nothing about its layers need be known.

The loss is cross-entropy where targets are class numbers, and |f - y|²/2 (with the half, summed over outputs) where
they are floating-point values. The model is a float64 copy in evaluation mode: batch normalisation uses its running
statistics and dropout is off, without which an example's gradient would depend on its neighbours or on chance.
Parameters with `requires_grad` are w, in the order of `named_parameters`; the others are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn import functional

from unlearn.errors import ConfigurationError, InputError
from unlearn.methods.base import Examples
from unlearn.methods.influence.linear_models import softmax_root
from unlearn.methods.influence.objective import Objective, batches

AT_ONCE = 2**23
"""Numbers held at once where each example's gradient is made: 64 MB."""

TRANSPARENT = (nn.Flatten, nn.Identity)
"""Layers that leave a linear model linear."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ModuleObjective(Objective):
    """The loss of a module.

    Attributes:
        module: Its float64 copy, in evaluation mode (`of_module` makes it); never changed.
        shapes: Of its trainable parameters, by name.
    """

    module: nn.Module
    shapes: Mapping[str, torch.Size] = field(init=False)

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in self.module.named_parameters() if value.requires_grad}
        if not shapes:
            raise ConfigurationError("the model has no parameter with requires_grad: there is nothing to change")
        object.__setattr__(self, "shapes", shapes)

    @property
    def convex(self) -> bool:
        """Whether it is one linear layer; of anything else, no."""
        return linear_layer(self.module) is not None

    def size(self, examples: Examples) -> int:  # noqa: ARG002
        """Number of trainable parameters.

        Args:
            examples: Not looked at.

        Returns:
            p.
        """
        return sum(prod(shape) for shape in self.shapes.values())

    def parameters(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        """W, cut into the module's parameters.

        Args:
            w: `[p]`.

        Returns:
            Parameters by name.
        """
        pieces = torch.split(w, [prod(shape) for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def outputs(self, w: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """f(x; w).

        Args:
            w: `[p]`.
            inputs: `[n, ...]`.

        Returns:
            `[n, k]`; a single output may be `[n]`, and becomes `[n, 1]`.

        Raises:
            InputError: If the outputs have another shape.
        """
        return self._outputs(self.parameters(w), inputs)

    def _outputs(self, parameters: Mapping[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(self.module, dict(parameters), (inputs,))
        if not isinstance(outputs, torch.Tensor):
            raise InputError(f"the model must return a tensor [n, outputs], got {type(outputs).__name__}")
        if outputs.ndim == 1:
            return outputs[:, None]
        if outputs.ndim != 2:
            raise InputError(f"the model must return [n, outputs], got {list(outputs.shape)}")
        return outputs

    def losses(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """The loss of each.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            `[n]`.
        """
        return losses_of(self.outputs(w, examples.inputs), examples.targets)

    def loss_sum(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ l_i, batch after batch.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            A number.
        """
        return sum((self.losses(w, batch).sum() for batch in batches(examples, 1_024)), w.new_zeros(()))

    def gradients(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """The gradient of each, vectorised over examples (`torch.func.vmap`), without a backward pass for each.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            `[n, p]`.
        """
        if not len(examples):
            return w.new_zeros(0, len(w))

        def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return losses_of(self._outputs(parameters, x[None]), y[None])[0]

        # By the parameters and not by w: the gradient of a cut would be padded to `[n, p]` for each of them.
        each = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=max(1, AT_ONCE // len(w)))
        pieces = each(self.parameters(w), examples.inputs, examples.targets)
        return torch.cat([pieces[name].reshape(len(examples), -1) for name in self.shapes], 1)

    def loss_gradient(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Σ ∇l_i by one backward pass a batch.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            `[p]`.
        """
        total = torch.zeros_like(w)
        for batch in batches(examples, 1_024):
            total += self._gradient(batch)(w)
        return total

    def loss_hvp(self, w: torch.Tensor, examples: Examples, vectors: torch.Tensor) -> torch.Tensor:
        """Hessian-vector products, forward over reverse.

        Args:
            w: `[p]`.
            examples: n examples.
            vectors: `[p, r]`.

        Returns:
            `[p, r]`.
        """
        total = torch.zeros_like(vectors)
        for batch in batches(examples, 256):
            gradient = self._gradient(batch)

            def product(v: torch.Tensor, gradient: Callable[[torch.Tensor], torch.Tensor] = gradient) -> Any:
                return jvp(gradient, (w,), (v,))[1]

            total += vmap(product, in_dims=1, out_dims=1, chunk_size=16)(vectors)
        return total

    def loss_hessian(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """One product for each column.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            `[p, p]`.
        """
        hessian = self.loss_hvp(w, examples, torch.eye(len(w), dtype=w.dtype))
        return (hessian + hessian.T) / 2

    def gauss_newton_rows(self, w: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Sᵀ J of each, SSᵀ the curvature of the loss by the outputs.

        Args:
            w: `[p]`.
            examples: n examples.

        Returns:
            `[n · k, p]`.
        """
        if not len(examples):
            return w.new_zeros(0, len(w))

        def output(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.outputs(v, x[None])[0]

        each = vmap(jacrev(output), in_dims=(None, 0), chunk_size=max(1, AT_ONCE // len(w)))
        jacobians: torch.Tensor = each(w, examples.inputs)
        roots = root_of(self.outputs(w, examples.inputs), examples.targets)
        return torch.einsum("nks,nkp->nsp", roots, jacobians).reshape(-1, len(w))

    def _gradient(self, batch: Examples) -> Callable[[torch.Tensor], torch.Tensor]:
        return grad(lambda v: self.losses(v, batch).sum())


def of_module(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    """A float64 copy for a `ModuleObjective`, and its trainable parameters.

    Args:
        model: A module in any mode; it is left alone.

    Returns:
        The copy in evaluation mode, and w `[p]`.
    """
    copy = deepcopy(model).cpu().double().eval()
    trainable = [value.detach().reshape(-1) for value in copy.parameters() if value.requires_grad]
    return copy, torch.cat(trainable) if trainable else torch.zeros(0, dtype=torch.float64)


def as_float64(examples: Examples) -> Examples:
    """Examples whose floating-point values are float64, on the CPU; whole numbers, such as tokens, stay.

    Args:
        examples: Examples.

    Returns:
        The same.
    """
    inputs, targets = (part.cpu().double() if part.is_floating_point() else part.cpu() for part in examples)
    return Examples(inputs, targets)


def losses_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy for class numbers, |f - y|²/2 for values.

    Args:
        outputs: f `[n, k]`.
        targets: `[n]` int64; or `[n]` or `[n, k]` floating-point.

    Returns:
        `[n]`.

    Raises:
        InputError: If outputs and targets do not go together.
    """
    if not targets.is_floating_point():
        if outputs.shape[1] < 2:
            raise InputError("a classifier must return one output for each class, two for a binary one")
        return functional.cross_entropy(outputs, targets, reduction="none")
    values = targets.reshape(len(targets), -1)
    if values.shape != outputs.shape:
        raise InputError(f"targets {list(targets.shape)} do not go with outputs {list(outputs.shape)}")
    return ((outputs - values) ** 2).sum(1) / 2


def root_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """S with SSᵀ the curvature of `losses_of` by the outputs.

    Args:
        outputs: f `[n, k]`.
        targets: `[n]` or `[n, k]`; only their kind matters.

    Returns:
        `[n, k, k]`.
    """
    if not targets.is_floating_point():
        return softmax_root(torch.softmax(outputs, 1))
    return torch.eye(outputs.shape[1], dtype=outputs.dtype).expand(len(outputs), -1, -1)


def linear_layer(module: nn.Module) -> nn.Linear | None:
    """The one linear layer of a linear model.

    Args:
        module: A module.

    Returns:
        The layer, if the module is it, or it between layers that change nothing; None of any other module.
    """
    layers = [module] if isinstance(module, nn.Linear) else [*module.children()] if _is_chain(module) else []
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    rest = [layer for layer in layers if type(layer) is not nn.Linear]
    return linear[0] if len(linear) == 1 and all(isinstance(layer, TRANSPARENT) for layer in rest) else None


def _is_chain(module: nn.Module) -> bool:
    return type(module) is nn.Sequential
