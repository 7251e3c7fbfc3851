"""A shard trains adapters over a public base: low-rank updates of its layers, a head, and nothing else.

The base, such as a language model that somebody published, is a declared constant like a feature map: no shard learns
it, no checkpoint holds it. What shards learn of the records lies in the adapters alone, so forgetting is exact with
respect to what they were fine-tuned on, a checkpoint is small, and a deletion trains a few small matrices again. The
idea of shards of adapters is that of SAFE (Dukler et al., ICCV 2023) and S3T (Basu Roy Chowdhury et al., 2024).

That the base may stay when somebody is forgotten is for whoever declares it to know: it must owe nothing to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from shards.code import resolve_callable
from shards.digest import canonical_json
from shards.errors import ConfigurationError
from shards.learners.base import Joined, Predictor
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.torch import TorchLearner
from shards.learners.torch_parts import module_arguments
from shards.learners.torch_settings import text_of
from shards.learners.weights import declared_digest, load_weights
from shards.task import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdapterLearner(TorchLearner):
    """Minibatch training of adapters over a `torch.nn.Module` that stays as it is, on the CPU.

    `module` makes the base; everything else that `TorchLearner` has means the same here. The base stays in evaluation
    mode. A checkpoint holds the adapters and the layers trained in full, in float as the base has them.

    Attributes:
        weights: Path of a safetensors file with the base's state, read by every process; tensors of layers that are
            trained in full may be missing. None: the base is as its factory makes it.
        weights_digest: Hex SHA-256 of that file; empty: of what it holds now.
        base_seed: Of the generators while the base is made: what is not read is drawn from it; public, the same in
            every shard.
        adapt: Patterns of names of linear layers (`torch.nn.Linear`, transformers' `Conv1D`) that get a low-rank
            update, as in `fnmatch`: `"*"` is all of them.
        train: Patterns of names of layers that are trained in full, such as a classification head; they start as the
            base has them.
        rank: Of the updates.
        scale: Of the updates, before it is divided by the rank.

    Raises:
        ConfigurationError: If a value is out of its range or is not JSON, or the weights cannot be read.
        CodeError: If a function or class cannot be referenced, such as a lambda or one of `__main__`.
    """

    _: KW_ONLY
    weights: str | None = None
    weights_digest: str = ""
    base_seed: int = 0
    adapt: Sequence[str] = ("*",)
    train: Sequence[str] = ()
    rank: int = 4
    scale: float = 8.0

    kernel: ClassVar[str] = f"adapters/1 {TorchLearner.kernel}"

    def __post_init__(self) -> None:
        """Bring every value to its one canonical form, so that equal learners have equal keys."""
        super().__post_init__()
        for name in ("adapt", "train"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        for name, least in (("rank", 1), ("base_seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigurationError(f"AdapterLearner: {name} is {value!r}: give an integer of at least {least}")
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not math.isfinite(self.scale):
            raise ConfigurationError(f"AdapterLearner: scale is {self.scale!r}: give a finite number")
        object.__setattr__(self, "scale", float(self.scale))
        if self.weights is not None:
            path = Path(self.weights).absolute()
            object.__setattr__(self, "weights", str(path))
            if not self.weights_digest:
                object.__setattr__(self, "weights_digest", declared_digest(path))

    __hash__ = TorchLearner.__hash__

    def check(self, task: Task) -> None:
        """Refuse a task this learner cannot be trained on, and patterns that find nothing; reads the base.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit and what would.
            CodeError: If a reference leads nowhere.
        """
        super().check(task)
        with generators_kept():
            self.make(task)

    def make(self, task: Task) -> torch.nn.Module:
        """The base with fresh adapters, drawn from the global generators.

        Args:
            task: What is predicted.

        Returns:
            A new module, whose parameters are what is trained; it shares the weights of the base with others.

        Raises:
            ConfigurationError: If the base is no module, its weights do not fit, or a pattern finds nothing.
            CodeError: If a reference leads nowhere.
        """
        import torch

        from shards.learners.low_rank import Adapted

        factory = resolve_callable(text_of(self.module))
        arguments = module_arguments(self, factory, task)
        base = _Base(
            text_of(self.module),
            canonical_json(arguments),
            self.base_seed,
            self.weights,
            self.weights_digest,
            tuple(self.train),
            arguments,
        )
        with torch.inference_mode(mode=False):
            return Adapted(_made(base), self.adapt, self.train, self.rank, self.scale)

    def join(self, members: Sequence[Predictor], task: Task) -> Joined | None:
        """None: member by member is as good."""
        del members, task
        return None


@dataclass(frozen=True)
class _Base:
    """All that decides a base.

    Attributes:
        module: Reference to its factory.
        described: The factory's arguments, as canonical JSON.
        seed: Of the generators while it is made.
        weights: Path of its weights, or None.
        digest: Of that file.
        train: Patterns of layers whose weights the file may lack.
        arguments: The factory's arguments themselves.
    """

    module: str
    described: bytes
    seed: int
    weights: str | None
    digest: str
    train: tuple[str, ...]
    arguments: Mapping[str, Any] = field(compare=False)


@lru_cache(maxsize=2)
def _made(of: _Base) -> torch.nn.Module:
    """Make a base; draws from no stream of the caller's, so that it is the same whether it was made before or not."""
    import torch

    from shards.learners.low_rank import is_trained

    with generators_kept():
        seed_generators(of.seed)
        module = resolve_callable(of.module)(**of.arguments)
    if not isinstance(module, torch.nn.Module):
        raise ConfigurationError(
            f"AdapterLearner: {of.module!r} made a {type(module).__qualname__}: it must return a torch.nn.Module"
        )
    if of.weights is not None:
        load_weights(module, Path(of.weights), of.digest, of.module, lambda name: is_trained(name, of.train))
    return module


def _patterns(option: str, given: object) -> list[str]:
    """Patterns as JSON has them."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(one, str) for one in given):
        raise ConfigurationError(f"AdapterLearner: {option} is {given!r}: give a list of patterns, such as ['*.query']")
    return list(given)
