r"""How much each weight matters to a set of examples: the diagonal of a Fisher information, example by example.

Squares are taken of the gradient of every single example and averaged afterwards, which `torch.func.vmap` does for many
examples at once. The square of the gradient of a minibatch's mean loss is another quantity: it shrinks with the size of
the batch, and gradients of opposite sign cancel in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch.func import functional_call, grad, vmap

from unlearn.methods.base import Examples
from unlearn.methods.training import Loss, copied, outputs_of

ENTRIES = 2**21
"""So many entries of gradients are held at once: 8 MiB in float32."""

Weights: TypeAlias = dict[str, torch.Tensor]
"""A tensor like each trainable parameter, by its name."""


def empirical_fisher(model: torch.nn.Module, data: Examples, loss: Loss) -> Weights:
    r"""\(\frac1n \sum_i (\nabla_w \ell(x_i, y_i))^2\), with the labels that the examples have.

    Args:
        model: Only read; evaluated as in inference: no dropout, and batch normalisation by its running statistics.
        data: n examples, one at least.
        loss: Of a batch; called with batches of one.

    Returns:
        The diagonal.
    """
    share = torch.full((len(data),), 1 / len(data), dtype=torch.float64)
    return _sum_of_squares(model, data, torch.arange(len(data)), share, loss)


def fisher(model: torch.nn.Module, inputs: torch.Tensor) -> Weights:
    r"""\(\frac1n \sum_i \sum_c p(c \mid x_i) (\nabla_w \ln p(c \mid x_i))^2\): labels come from the model itself.

    Args:
        model: A classifier that returns logits; only read; evaluated as in inference.
        inputs: `[n, ...]`.

    Returns:
        The diagonal.
    """
    p = torch.softmax(torch.cat([outputs_of(model, part) for part in torch.split(inputs, 512)]), dim=1)
    n, n_classes = p.shape
    # Every input once with each class, weighted by the probability that the model gives to it.
    rows = torch.arange(n).repeat_interleave(n_classes)
    labelled = Examples(inputs, torch.arange(n_classes, device=inputs.device).repeat(n))
    return _sum_of_squares(model, labelled, rows, p.flatten().double() / n, torch.nn.functional.cross_entropy)


def gradient(model: torch.nn.Module, data: Examples, loss: Loss) -> Weights:
    r"""\(\nabla_w \frac1n \sum_i \ell(x_i, y_i)\): of the mean over all examples, with its sign.

    Args:
        model: Only read; evaluated as in inference.
        data: n examples, one at least.
        loss: Mean over a batch.

    Returns:
        A tensor like each trainable parameter; zeros where the loss does not depend on it.
    """
    frozen = copied(model).eval()
    trained = {name: value for name, value in frozen.named_parameters() if value.requires_grad}
    found = {name: torch.zeros_like(value) for name, value in trained.items()}
    for inputs, targets in zip(torch.split(data.inputs, 512), torch.split(data.targets, 512), strict=True):
        part = loss(frozen(inputs), targets) * len(inputs) / len(data)
        gradients = torch.autograd.grad(part, list(trained.values()), allow_unused=True, materialize_grads=True)
        for total, value in zip(found.values(), gradients, strict=True):
            total.add_(value)
    return found


def _sum_of_squares(
    model: torch.nn.Module, data: Examples, rows: torch.Tensor, factors: torch.Tensor, loss: Loss
) -> Weights:
    """Sum over targets j of `factors[j]` times the squared gradient at (input `rows[j]`, target j)."""
    frozen = copied(model).eval()
    trained = {name: value.detach() for name, value in frozen.named_parameters() if value.requires_grad}
    fixed = {name: value.detach() for name, value in frozen.named_parameters() if not value.requires_grad}
    fixed |= dict(frozen.named_buffers())

    def of_one(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(functional_call(frozen, weights | fixed, (x[None],)), y[None])

    of_each = vmap(grad(of_one), in_dims=(None, 0, 0))
    found = {name: torch.zeros_like(value) for name, value in trained.items()}
    for part in _parts(len(rows), sum(value.numel() for value in trained.values())):
        inputs = data.inputs[rows[part].to(data.inputs.device)]
        for name, gradients in of_each(trained, inputs, data.targets[part]).items():
            found[name] += torch.einsum("n,n...->...", factors[part].to(gradients), gradients.square())
    return found


def _parts(n: int, entries: int) -> Iterator[slice]:
    size = max(1, ENTRIES // max(1, entries))
    return (slice(start, start + size) for start in range(0, n, size))
