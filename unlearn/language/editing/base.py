"""What all editors share: an edit that is asked for, one that is made and can be taken back, and a card.

An edit changes what a model says about one fact. That is no removal of data: the most that can be claimed for it is
`empirical` where weights change, and `suppression` where they do not.

Edits of weights lie on a model like sheets on a pile: each is a difference of some matrices, in the order in which they
were made. Taking one back, at whatever place of the pile, puts the original bytes down again and then the others, so a
model without edits holds the very bytes it had before. What somebody trains into an edited matrix meanwhile stays: then
the edit's difference alone is taken off, with a warning, since the bytes are others.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from unlearn.errors import InputError
from unlearn.language.hooks import Architecture
from unlearn.methods.base import Guarantee

Place = Literal[
    "mid-layer MLP", "any layer", "last-layer MLP", "no weights: the prompt", "no weights: beside the model"
]
"""What an editor changes."""


@dataclass(frozen=True)
class Edit:
    """What a model shall say from now on.

    Attributes:
        prompt: Names the subject; the answer follows it.
        subject: As it stands in the prompt.
        target_new: What is to follow.
        target_old: What follows now, for editors that need to know; None: not given.

    Raises:
        InputError: If the prompt does not name the subject, or there is no answer.
    """

    prompt: str
    subject: str
    target_new: str
    target_old: str | None = None

    def __post_init__(self) -> None:
        if not self.subject.strip() or self.subject not in self.prompt:
            raise InputError(
                f"the subject {self.subject!r} is not in the prompt {self.prompt!r}: a prompt must name its subject"
            )
        if not self.target_new.strip():
            raise InputError(f"the new answer to {self.prompt!r} is empty")


@dataclass(frozen=True)
class EditorCard:
    """What an editor is: the attributes by which Yao et al. (EMNLP 2023, Table 1) compare them, and what is claimed.

    Attributes:
        name: Its key in `EDITORS`.
        title: In words.
        guarantee: The most that can be claimed.
        needs_training: Whether something is trained before the first edit.
        batches: Whether several edits are made at once.
        edits_weights: Whether the model's weights change.
        place: What is changed.
        parameters_added: In words.
        citation: Who published it, and where.
        published: Figures of the paper, each with its certainty.
    """

    name: str
    title: str
    guarantee: Guarantee
    needs_training: bool
    batches: bool
    edits_weights: bool
    place: Place
    parameters_added: str
    citation: str
    published: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Task:
    """All that an editor is given.

    Attributes:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        edits: What to make, at least one.
        texts: The user's own texts, for statistics of keys and for contexts.
        layout: Where things are in the model; None: what its `model_type` says.
    """

    model: nn.Module
    tokenizer: Any
    edits: Sequence[Edit]
    texts: Sequence[str]
    layout: Architecture | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


class Applied(ABC):
    """Edits that were made; a context manager that takes them back at its end.

    Attributes:
        edits: What was asked for.
    """

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.edits = tuple(edits)

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether the model says so now."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers the edit consists of."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hex SHA-256 of the edit's numbers."""

    @abstractmethod
    def apply(self) -> None:
        """Make the edit; nothing, if it is made."""

    @abstractmethod
    def revert(self) -> None:
        """Take the edit back; nothing, if it is not made."""

    def __enter__(self) -> Self:
        self.apply()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.revert()


@dataclass(frozen=True, eq=False)
class LowRank:
    """A difference of a matrix, as a product.

    Attributes:
        left: `[out, rank]`.
        right: `[rank, in]`.
    """

    left: torch.Tensor
    right: torch.Tensor

    def dense(self) -> torch.Tensor:
        """`[out, in]`."""
        return self.left @ self.right

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """What it consists of."""
        return self.left, self.right


@dataclass(frozen=True, eq=False)
class Dense:
    """A difference of a matrix, number by number.

    Attributes:
        values: `[out, in]`.
    """

    values: torch.Tensor

    def dense(self) -> torch.Tensor:
        """`[out, in]`."""
        return self.values

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """What it consists of."""
        return (self.values,)


Difference = LowRank | Dense
"""What is added to a matrix, the way round in which `Projection.matrix` shows it."""


class WeightEdit(Applied):
    """Edits that are differences of weights.

    Args:
        edits: What was asked for.
        model: Whose weights.
        differences: Name of a parameter to what is added to it.
        transposed: Names of the parameters that are stored the other way round.
    """

    def __init__(
        self,
        edits: Sequence[Edit],
        model: nn.Module,
        differences: Mapping[str, Difference],
        transposed: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(edits)
        self.differences = dict(differences)
        # Weak: the pile of a model holds its edits, and must not keep the model alive.
        self._model = ref(model)
        self._transposed = transposed

    @property
    def model(self) -> nn.Module:
        """Whose weights.

        Raises:
            InputError: If nobody holds that model any more.
        """
        found = self._model()
        if found is None:
            raise InputError("the model of this edit does not exist any more: keep a reference to it")
        return found

    @property
    def active(self) -> bool:
        """Whether the model says so now."""
        return self in _pile(self.model).sheets

    @property
    def size(self) -> int:
        """How many numbers the edit consists of."""
        return sum(part.numel() for difference in self.differences.values() for part in difference.parts)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of names, shapes and numbers, in the order of names."""
        return _digest({name: difference.parts for name, difference in self.differences.items()})

    def apply(self) -> None:
        """Lay it on the pile; nothing, if it is there."""
        pile = _pile(self.model)
        if self not in pile.sheets:
            pile.lay(self)

    def revert(self) -> None:
        """Take it out of the pile; nothing, if it is not there.

        Warns:
            RuntimeWarning: If its matrices were trained meanwhile: what was learnt stays.
        """
        pile = _pile(self.model)
        if self in pile.sheets:
            pile.remove(self)

    def amount(self, name: str) -> torch.Tensor:
        """What is added to a parameter, as it is stored.

        Args:
            name: Of the parameter.

        Returns:
            Of its shape.
        """
        dense = self.differences[name].dense()
        return dense.T if name in self._transposed else dense


Hang = Callable[[nn.Module], Iterable[RemovableHandle]]
"""Puts hooks on a model, and returns what takes each away again. It holds no model itself."""


class HookEdit(Applied):
    """Edits that are hooks: no weight changes, and without the hooks the model is what it was.

    Args:
        edits: What was asked for.
        model: On which the hooks are put.
        hang: Puts them there.
        parts: Name to the numbers the edit consists of.
    """

    def __init__(self, edits: Sequence[Edit], model: nn.Module, hang: Hang, parts: Mapping[str, torch.Tensor]) -> None:
        super().__init__(edits)
        self.parts = dict(parts)
        self._model = ref(model)
        self._hang = hang
        self._handles: tuple[RemovableHandle, ...] = ()

    @property
    def active(self) -> bool:
        """Whether the model says so now."""
        return bool(self._handles)

    @property
    def size(self) -> int:
        """How many numbers the edit consists of."""
        return sum(part.numel() for part in self.parts.values())

    @property
    def digest(self) -> str:
        """Hex SHA-256 of names, shapes and numbers, in the order of names."""
        return _digest({name: (part,) for name, part in self.parts.items()})

    def apply(self) -> None:
        """Put the hooks on the model; nothing, if they are there.

        Raises:
            InputError: If nobody holds the model any more.
        """
        model = self._model()
        if model is None:
            raise InputError("the model of this edit does not exist any more: keep a reference to it")
        if not self._handles:
            self._handles = tuple(self._hang(model))

    def revert(self) -> None:
        """Take the hooks away; nothing, if they are not there."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()


def _digest(parts: Mapping[str, Iterable[torch.Tensor]]) -> str:
    found = hashlib.sha256()
    for name in sorted(parts):
        for part in parts[name]:
            found.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
            found.update(part.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class _Pile:
    """The edits of a model's weights, in order, and the bytes that lie under them."""

    def __init__(self) -> None:
        self.sheets: list[WeightEdit] = []
        self._under: dict[str, torch.Tensor] = {}
        self._top: dict[str, str] = {}
        """Digests of the matrices as they were left; none while one is written, and after that was interrupted."""

    def lay(self, sheet: WeightEdit) -> None:
        parameters = dict(sheet.model.named_parameters())
        self._keep_what_was_trained(parameters, sheet.differences)
        new = [name for name in sheet.differences if name not in self._under]
        self._under |= {name: parameters[name].detach().clone() for name in new}
        self.sheets.append(sheet)
        self._forget_tops(sheet.differences)
        try:
            _add(sheet, parameters, sheet.differences)
        except BaseException:
            self.remove(sheet)
            raise
        self._note(parameters, sheet.differences)

    def remove(self, sheet: WeightEdit) -> None:
        parameters = dict(sheet.model.named_parameters())
        self._keep_what_was_trained(parameters, sheet.differences)
        self._forget_tops(sheet.differences)
        for name in sheet.differences:
            with torch.no_grad():
                parameters[name].copy_(self._under[name])
        for other in self.sheets:
            if other is not sheet:
                _add(other, parameters, [name for name in other.differences if name in sheet.differences])
        # Last: what was interrupted before can be done again.
        self.sheets.remove(sheet)
        for name in sheet.differences:
            if not any(name in other.differences for other in self.sheets):
                del self._under[name]
        self._note(parameters, [name for name in sheet.differences if name in self._under])

    def _note(self, parameters: Mapping[str, nn.Parameter], names: Iterable[str]) -> None:
        """Remember how matrices were left."""
        self._top |= {name: _digest({name: (parameters[name],)}) for name in names}

    def _forget_tops(self, names: Iterable[str]) -> None:
        """Before matrices are written."""
        for name in names:
            self._top.pop(name, None)

    def _keep_what_was_trained(self, parameters: Mapping[str, nn.Parameter], names: Iterable[str]) -> None:
        """Where somebody else has changed a matrix since: let what they changed lie under the edits."""
        changed = []
        for name in names:
            noted = self._top.get(name)
            if noted is None or noted == _digest({name: (parameters[name],)}):
                continue
            left = self._under[name].clone()
            sheets = [sheet for sheet in self.sheets if name in sheet.differences]
            for sheet in sheets:
                left.add_(sheet.amount(name).to(left))
            found = parameters[name].detach().to(left)
            if torch.equal(left.to(parameters[name]), parameters[name]):
                continue  # It was moved, or is kept in another type.
            self._under[name].add_(found - left)
            self._note(parameters, [name])
            changed.append(name)
        if changed:
            warnings.warn(
                f"{', '.join(changed)} changed while edited, as by training: what was learnt stays, and without the "
                "edit the bytes are not those of before; take edits back before training to have those",
                RuntimeWarning,
                stacklevel=4,
            )


def _add(sheet: WeightEdit, parameters: Mapping[str, nn.Parameter], names: Iterable[str]) -> None:
    with torch.no_grad():
        for name in names:
            parameters[name].add_(sheet.amount(name).to(parameters[name]))


_PILES: WeakKeyDictionary[nn.Module, _Pile] = WeakKeyDictionary()


def _pile(model: nn.Module) -> _Pile:
    return _PILES.setdefault(model, _Pile())
