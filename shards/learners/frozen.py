"""Outputs of a torch module that never changes: a feature map that was learnt elsewhere, or drawn at random.

What the module was trained on is no part of the workspace: that its weights may stay when somebody is forgotten is for
whoever declares it to know. Floating point rounds differently for a batch of another size, so each record goes through
the module alone: it has the same features wherever it stands, and whatever stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shards.code import resolve_callable
from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError
from shards.learners.feature_maps import FeatureMap
from shards.learners.torch_settings import package_of
from shards.learners.weights import declared_digest, load_weights


@dataclass(frozen=True)
class Frozen(FeatureMap):
    """A torch module's outputs for each record, in evaluation mode.

    Attributes:
        module: `"package.module:function"`, which makes the module.
        features: How many numbers it gives for a record.
        shape: Shape of a record as the module takes it, without the batch axis; float32.
        arguments: Arguments of the function, as JSON.
        seed: Of torch's generators while the module is made: weights that are not read are drawn from it; public.
        weights: Path of a safetensors file with the module's state, read by every process; None: as it is made.
        weights_digest: Hex SHA-256 of that file; empty: of what it holds now.
        unit: What one count of an output is worth.
        limit: Largest output in absolute terms.
    """

    kind: ClassVar[str] = "frozen"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    module: str
    features: int
    shape: tuple[int, ...]
    arguments: Mapping[str, Json] = field(default_factory=dict, hash=False)
    seed: int = 0
    weights: str | None = None
    weights_digest: str = ""
    unit: float = 2.0**-8
    limit: float = 64.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.weights is not None:
            path = Path(self.weights).absolute()
            object.__setattr__(self, "weights", str(path))
            if not self.weights_digest:
                object.__setattr__(self, "weights_digest", declared_digest(path))

    def width(self, given: int) -> int:
        """As many as declared.

        Args:
            given: Numbers of a record.

        Returns:
            How many features there are.

        Raises:
            ConfigurationError: If a record has another size.
        """
        if given != np.prod(self.shape, dtype=int):
            raise ConfigurationError(
                f"{self.module} was declared to take records of shape {list(self.shape)}, and a record has {given:,} "
                "numbers: declare shape as it is"
            )
        return self.features

    def values(self, X: np.ndarray) -> np.ndarray:
        """The module's outputs, one record at a time.

        Args:
            X: `[n, given]` float64.

        Returns:
            `[n, features]` float64.
        """
        self.width(X.shape[1])
        return _made(canonical_json(self.to_json()))(X.astype(np.float32).reshape(-1, *self.shape))

    def code(self) -> tuple[str, ...]:
        """The function that makes the module, unless it is torch's own, whose version is in the environment."""
        return () if package_of(self.module) == "torch" else (self.module,)

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            ConfigurationError: Naming them.
        """
        super().check()
        if not isinstance(self.module, str):
            raise ConfigurationError(f'module must be a reference "package.module:function", got {self.module!r}')
        if not self.shape or not all(type(length) is int and length > 0 for length in self.shape):
            raise ConfigurationError(f"shape must be whole numbers, such as [3, 32, 32], got {list(self.shape)!r}")
        if not isinstance(self.arguments, Mapping):
            raise ConfigurationError(f"arguments must be a mapping of names to values, got {self.arguments!r}")


@lru_cache(maxsize=2)
def _made(described: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Records `[n, *shape]` float32, one at a time, to outputs `[n, features]` float64."""
    import torch

    from shards.learners.generators import generators_kept, seed_generators

    of = Frozen(**{name: value for name, value in json.loads(described).items() if name != "map"})
    module = _module(of)

    def forward(records: np.ndarray) -> np.ndarray:
        found = np.empty((len(records), of.features))
        with generators_kept(), torch.inference_mode():
            for at in range(len(records)):
                seed_generators(of.seed)  # whatever it may draw, it draws for every record alike
                said = module(torch.from_numpy(records[at : at + 1])).to(torch.float64).numpy().reshape(-1)
                if said.shape != (of.features,):
                    raise ConfigurationError(
                        f"{of.module} gives {said.size:,} numbers for a record, and {of.features:,} features were "
                        "declared"
                    )
                found[at] = said
        return found

    return forward


def _module(of: Frozen) -> Any:
    import torch

    from shards.learners.generators import generators_kept, seed_generators

    with generators_kept(), torch.inference_mode(mode=False):
        seed_generators(of.seed)
        module = resolve_callable(of.module)(**of.arguments)
    if not isinstance(module, torch.nn.Module):
        raise ConfigurationError(f"{of.module} made a {type(module).__qualname__}: it must return a torch.nn.Module")
    if of.weights is not None:
        load_weights(module, Path(of.weights), of.weights_digest, of.module)
    return module.eval().requires_grad_(requires_grad=False)
