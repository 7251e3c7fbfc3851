"""A fixed public backbone: a network that never saw the records, so that only the heads on it have to forget."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from unlearn.errors import ConfigurationError, InputError


class PublicBackbone:
    """Features by a frozen copy of a module.

    Args:
        module: Any module with outputs `[n, ...]`, which are flattened. It must have been trained on other data than
            the records (public data, or with a guarantee accounted for elsewhere); that cannot be checked here.
        unit: Divide each row of features by its norm, as bounds for rows of norm at most 1 need.
        intercept: Append a constant column (before the division).
        batch: Rows at once. The last digits of a row's features may depend on the rows beside it, so whoever retrains
            has to use the features that were computed once.

    Raises:
        ConfigurationError: If it is no module.
    """

    def __init__(
        self, module: torch.nn.Module, *, unit: bool = True, intercept: bool = True, batch: int = 1024
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise ConfigurationError(f"a backbone is a torch.nn.Module, got {type(module).__name__}")
        self._module = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
        self.unit, self.intercept, self.batch = unit, intercept, batch

    def __call__(self, X: Any) -> np.ndarray:
        """Work out features.

        Args:
            X: `[n, ...]` array or tensor, as the module takes it.

        Returns:
            `[n, d]` float64.

        Raises:
            InputError: If outputs are not one finite row for each input.
        """
        inputs = torch.as_tensor(X)
        like = next(self._module.parameters(), None)
        if like is not None and inputs.is_floating_point():
            inputs = inputs.to(like.device, like.dtype)
        with torch.no_grad():
            parts = [self._module(part).flatten(1).to("cpu", torch.float64) for part in torch.split(inputs, self.batch)]
        features = torch.cat(parts)
        if len(features) != len(inputs) or not bool(torch.isfinite(features).all()):
            raise InputError("the backbone must give one finite row of features for each input")
        if self.intercept:
            features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
        if self.unit:
            features = features / features.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return features.numpy()
