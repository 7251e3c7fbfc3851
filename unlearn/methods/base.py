"""What all methods share: examples in, a new model out, and a card that says what may be claimed for it.

A method is a pure function `(model, forget, retain, config) -> model`: the model it is given keeps its parameters,
buffers and mode, the examples stay as they are, and the same arguments with the same seed give the same result. What
it needs of its arguments, what it guarantees and who published it stand on its `MethodCard`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from unlearn.errors import InputError
from unlearn.methods.guarantee import Guarantee as Guarantee

if TYPE_CHECKING:
    import torch

Need: TypeAlias = Literal[
    "forget set",
    "retain set",
    "held-out set",
    "labels",
    "training configuration",
    "training trajectory",
    "original model only",
]
"""What a method takes beside the model; a held-out set, which nothing was trained on, as `held_out=`."""

Task: TypeAlias = Literal["classification", "regression"]
"""What the model does."""

Advance: TypeAlias = Callable[[int], None]
"""Told of so many examples visited since it was last told."""


@dataclass(frozen=True)
class MethodCard:
    """What a method is.

    Attributes:
        name: Its key in `METHODS`.
        title: In words.
        guarantee: The most that can be claimed.
        needs: What it takes beside the model.
        tasks: What models it works on.
        citation: Who published it, and where.
        statement: What holds and what does not, in one or two sentences a data-protection officer can read.
        uses_retain: Whether its result depends on the retain set.
        moves_towards_retraining: Whether on a strongly convex problem it ends nearer to the retrained model than the
            model it was given; held against it by `unlearn.checks.check_method`.
        published: Figures of the paper, each with its certainty ("re-check" where it was not looked up).
        leaves_model: Whether the model stays as it is, since the way it was trained covers the deletion.
    """

    name: str
    title: str
    guarantee: Guarantee
    needs: tuple[Need, ...]
    tasks: tuple[Task, ...]
    citation: str
    statement: str
    uses_retain: bool
    moves_towards_retraining: bool
    published: tuple[str, ...] = ()
    leaves_model: bool = False


@dataclass(frozen=True)
class Method:
    """A card, the function, and the type of its configuration.

    Attributes:
        card: What it is.
        function: `(model, forget, retain, config, *, advance=None) -> model`.
        config: A frozen dataclass, all of whose fields have defaults; `seed` among them where anything is drawn.
    """

    card: MethodCard
    function: Callable[..., Any]
    config: type[Any]

    def __call__(self, model: Any, forget: Any, retain: Any, config: Any = None, **options: Any) -> Any:
        """Apply it.

        Args:
            model: See the function's docstring.
            forget: Examples to forget.
            retain: Examples that stay.
            config: Its configuration; None: the defaults.
            **options: As the function takes them.

        Returns:
            The new model.
        """
        return self.function(model, forget, retain, self.config() if config is None else config, **options)


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their targets.

    Attributes:
        inputs: `[n, ...]` tensor.
        targets: `[n]` int64 class numbers, or `[n]` or `[n, outputs]` floating-point values.
        ids: `n` of them, which tell whether two sets share an example; None: nothing tells.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    ids: tuple[Hashable, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Unpacks as `inputs, targets`."""
        return iter((self.inputs, self.targets))

    def take(self, rows: Any) -> Examples:
        """Some of them.

        Args:
            rows: Whatever indexes a tensor.

        Returns:
            Those rows.
        """
        import torch

        ids = None if self.ids is None else tuple(self.ids[row] for row in torch.arange(len(self))[rows].tolist())
        return Examples(self.inputs[rows], self.targets[rows], ids)

    @property
    def task(self) -> Task:
        """Regression where targets are floating-point values."""
        return "regression" if self.targets.is_floating_point() else "classification"


def examples(given: Any, name: str) -> Examples:
    """Read examples from what users have.

    Args:
        given: `Examples`; a pair of arrays or tensors; or a map-style `torch.utils.data.Dataset` of (input, target).
        name: The argument is called, in a message.

    Returns:
        The examples; floating-point inputs keep their dtype, and integer targets become int64. Those of a
        `torch.utils.data.Subset` have ids: two subsets of one dataset know what they share.

    Raises:
        InputError: If it is none of these, or inputs and targets differ in number, or a number is not finite.
    """
    import torch

    if isinstance(given, Examples):
        found = given
    elif isinstance(given, torch.utils.data.Dataset):
        found = _of_dataset(given, name)
    elif isinstance(given, tuple | list) and len(given) == 2:
        found = Examples(_tensor(given[0], f"{name}: inputs"), _tensor(given[1], f"{name}: targets"))
    else:
        raise InputError(
            f"{name} must be a pair (inputs, targets) or a map-style torch Dataset, got {type(given).__name__}"
        )
    if len(found.inputs) != len(found.targets):
        raise InputError(f"{name}: {len(found.inputs)} inputs, but {len(found.targets)} targets")
    for what, values in (("inputs", found.inputs), ("targets", found.targets)):
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise InputError(f"{name}: {what} are not all finite: remove or impute what is missing first")
    if not found.targets.is_floating_point():
        found = Examples(found.inputs, found.targets.to(torch.int64), found.ids)
    if found.ids is not None and len(found.ids) != len(found):
        raise InputError(f"{name}: {len(found)} inputs, but {len(found.ids)} ids")
    return found


def _tensor(values: Any, name: str) -> torch.Tensor:
    import torch

    if isinstance(values, torch.Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be numbers, got dtype {array.dtype}: encode them first")
    return torch.from_numpy(np.array(array))


def _of_dataset(given: Any, name: str) -> Examples:
    import torch

    if not hasattr(given, "__len__"):
        raise InputError(f"{name} is an iterable-style dataset: give a map-style one, whose length is known")
    if not len(given):
        raise InputError(f"{name} is an empty dataset, so the shape of its inputs is not known: give tensors [0, ...]")
    pairs = [given[row] for row in range(len(given))]
    inputs = torch.stack([_tensor(pair[0], f"{name}: inputs") for pair in pairs])
    targets = torch.stack([torch.as_tensor(pair[1]) for pair in pairs])
    return Examples(inputs, targets, _ids(given))


def _ids(given: Any) -> tuple[Hashable, ...] | None:
    """Which rows of which dataset a subset holds, through subsets of subsets."""
    from torch.utils.data import Subset

    if not isinstance(given, Subset):
        return None
    rows = list(range(len(given)))
    while isinstance(given, Subset):
        rows = [int(given.indices[row]) for row in rows]
        given = given.dataset
    return tuple((id(given), row) for row in rows)
