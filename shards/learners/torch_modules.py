"""The members of an ensemble, and the ensemble itself, as torch modules that need nothing of this package to run.

They compute what the predictors do, to rounding: in the learner's own dtype up to the last layer, in float64 from
there on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shards.learners.joined import Dense
from shards.learners.torch_output import predictions
from shards.learners.torch_tensors import Scaling
from shards.task import Task

if TYPE_CHECKING:
    import torch


def dense_module(members: Sequence[Dense], task: Task) -> torch.nn.Module:
    """Fully connected networks, side by side.

    Args:
        members: The networks, at least one; their parameters are copied.
        task: What is predicted.

    Returns:
        Module from one tensor `[n, *shape]` a feature to `[members, n, …]` float64.
    """
    import torch

    activate = {"relu": torch.relu, "tanh": torch.tanh}[members[0].activation]
    scale, depth = members[0].scale, len(members[0].layers)
    widths = [math.prod(schema.shape) for schema in task.features.values()]
    scalings = [member.scaling for member in members if member.scaling is not None]

    class Joined(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            for number in range(depth):
                layers = [member.layers[number] for member in members]
                self.register_buffer(f"weights_{number}", _stacked([layer.weights for layer in layers]))
                self.register_buffer(f"biases_{number}", _stacked([layer.biases for layer in layers]).unsqueeze(1))
            if scalings:
                for name, values in zip(("mean", "std"), zip(*scalings, strict=True), strict=True):
                    self.register_buffer(name, _stacked(list(values)).unsqueeze(1))

        def forward(self, *features: torch.Tensor) -> torch.Tensor:
            rows = [feature.reshape(feature.shape[0], width) for feature, width in zip(features, widths, strict=True)]
            if scalings:
                z = ((torch.cat([row.double() for row in rows], 1) - self.mean) / self.std).float()
            else:
                z = torch.cat([row.float() for row in rows], 1)
            z = z if scale == 1 else z * scale
            for number in range(depth):
                z = torch.matmul(z, getattr(self, f"weights_{number}")) + getattr(self, f"biases_{number}")
                if number < depth - 1:
                    z = activate(z)
            if task.kind == "classification":
                return z.double().softmax(2)
            return z.double().reshape(*z.shape[:2], *task.target.shape)

    return Joined().eval()


def stacked_module(
    members: Sequence[tuple[torch.nn.Module, Scaling | None]], input_dtype: str | None, task: Task
) -> torch.nn.Module:
    """Modules of any kind, one after the other.

    Args:
        members: Modules in evaluation mode, each with what its inputs are standardised with in float64.
        input_dtype: Dtype of floating, boolean and uint8 features, or None for their own.
        task: What is predicted.

    Returns:
        Module from one tensor `[n, *shape]` a feature to `[members, n, …]` float64.
    """
    import torch

    names = list(task.features)
    indices = {name for name, schema in task.features.items() if np.dtype(schema.dtype).kind in "iu"} - {
        name for name, schema in task.features.items() if np.dtype(schema.dtype) == np.uint8
    }
    dtype = None if input_dtype is None else getattr(torch, input_dtype)

    class Stacked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = torch.nn.ModuleList(module for module, _ in members)
            for number, (_, scaling) in enumerate(members):
                if scaling is not None:
                    self.register_buffer(f"mean_{number}", torch.from_numpy(np.array(scaling[0])))
                    self.register_buffer(f"std_{number}", torch.from_numpy(np.array(scaling[1])))

        def forward(self, *features: torch.Tensor) -> torch.Tensor:
            said = []
            for number, module in enumerate(self.members):
                given = {}
                for name, feature in zip(names, features, strict=True):
                    x = feature
                    if members[number][1] is not None:
                        x = (x.double() - getattr(self, f"mean_{number}")) / getattr(self, f"std_{number}")
                    wanted = torch.int64 if name in indices else dtype
                    given[name] = x if wanted is None else x.to(wanted)
                output = module(**given) if len(given) > 1 else module(given[names[0]])
                said.append(predictions(output, task))
            return torch.stack(said)

    return Stacked().eval()


def ensemble_module(members: torch.nn.Module, weights: Sequence[int], *, vote: bool) -> torch.nn.Module:
    """An ensemble: what its members say, joined.

    Args:
        members: Gives `[members, n, …]` float64.
        weights: What each counts.
        vote: Whether each gives all it counts to its most probable class; the lowest index wins a tie.

    Returns:
        Module from one tensor `[n, *shape]` a feature to class probabilities or targets `[n, …]`, float64.
    """
    import torch

    class Ensemble(torch.nn.Module):
        weights: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.members = members
            self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))

        def forward(self, *features: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.members(*features)
            if vote:
                best = said == said.amax(2, keepdim=True)
                said = (best & (best.cumsum(2) == 1)).double()
            total: torch.Tensor = torch.tensordot(self.weights, said, 1)
            return total / self.weights.sum()

    return Ensemble().eval()


def _stacked(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.stack(arrays))
