r"""IKE: the new fact, and demonstrations of how to use new facts, stand before whatever the model is asked.

No weight changes. With demonstrations \(c_1, \dots, c_k\) and the new fact \(f = (p, o^*)\), the model answers x as

\[ P(\cdot \mid c_1, \dots, c_k, f, x) . \]

A demonstration states a fact and then uses it: it repeats the fact itself (copy), in other words (update), or answers
something the fact does not touch (retain). Those nearest to the edit are taken, the nearest last. Nearness is the
cosine of mean word embeddings of the model itself, where the paper uses a sentence encoder.

The text is put before the model's input by a hook, and its logits are cut away again, so that everything that calls the
model sees the edit. Other outputs, such as hidden states, stay as long as they are. With a cache the text is read once.
Padding on the left stays there, and so does a mark of the beginning, which some tokenizers put before every text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from unlearn.errors import InputError
from unlearn.language.calls import cache_of, cached, ids_of, inserted, logits_replaced, mask_of, with_ids
from unlearn.language.editing.base import EditorCard, HookEdit, Task
from unlearn.language.editing.embeddings import mean_embeddings
from unlearn.language.editing.lessons import Lesson, disjoint
from unlearn.language.text import encode, first_of
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="ike",
    title="In-context knowledge editing (IKE)",
    guarantee=Guarantee.SUPPRESSION,
    needs_training=False,
    batches=False,
    edits_weights=False,
    place="no weights: the prompt",
    parameters_added="none",
    citation=(
        "Zheng, Li, Dong, Fan, Wu, Xu & Chang 2023, Can We Edit Factual Knowledge by In-Context Learning?, "
        "arXiv:2305.12740"
    ),
    published=(
        "GPT-J, ZsRE: reliability 99.96, generalization 99.87, locality 59.21 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 99.61, 72.67, 35.57 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True)
class Ike:
    """What stands before the query.

    Attributes:
        lessons: Demonstrations are made from them; none: the new fact stands there alone.
        number: So many demonstrations, fewer if the lessons give no more.
        shares: How many of them copy, update and retain, in proportion. The paper: 1, 3 and 4 of 8.
        fact: How a new fact is stated; `{}` in the place of prompt and answer.
        use: How it is used; `{}` in the place of prompt and answer.
        query: Stands between the new fact and what the model is asked.
    """

    lessons: tuple[Lesson, ...] = ()
    number: int = 16
    shares: tuple[int, int, int] = (1, 3, 4)
    fact: str = "New Fact: {}\n"
    use: str = "Prompt: {}\n\n"
    query: str = "Prompt:"

    def __post_init__(self) -> None:
        if self.number < 0 or min(self.shares) < 0 or sum(self.shares) < 1:
            raise InputError(f"number must not be negative, and shares hold a positive number, got {self}")
        if "{}" not in self.fact or "{}" not in self.use:
            raise InputError("fact and use need {} in the place of prompt and answer, for instance 'New Fact: {}\\n'")


def ike(task: Task, config: Ike) -> HookEdit:
    """Put the new facts before whatever the model is asked.

    Args:
        task: Model, tokenizer, and the edits, all of which stand there.
        config: What stands before them.

    Returns:
        The edit, not yet made.

    Raises:
        InputError: If what stands before the query leaves no place for it.
    """
    ids = encode(task.tokenizer, context(task, config)).ids
    longest = getattr(getattr(task.model, "config", None), "max_position_embeddings", None)
    if longest is not None and len(ids) >= longest:
        raise InputError(
            f"ike would put {len(ids)} tokens before the query, and the model reads {longest} at most: take fewer "
            "demonstrations, or edit fewer facts at once"
        )
    marks = len(first_of(task.tokenizer, context(task, config))) - 1
    return HookEdit(task.edits, task.model, lambda model: _hang(model, ids, marks), {"context": ids})


def context(task: Task, config: Ike) -> str:
    """The text that stands before the query.

    Args:
        task: Model, tokenizer and edits.
        config: How it is put together.

    Returns:
        Demonstrations, then the new facts.
    """
    stated = [config.fact.replace("{}", f"{edit.prompt} {edit.target_new}") for edit in task.edits]
    return "".join([*_demonstrations(task, config), *stated, config.query])


def _demonstrations(task: Task, config: Ike) -> list[str]:
    lessons = disjoint(config.lessons, task.edits)
    if not lessons or not config.number:
        return []
    nearness = _nearness(task, lessons)
    order = sorted(range(len(lessons)), key=lambda at: -nearness[at])
    chosen: list[tuple[float, str]] = []
    for kind, share in enumerate(config.shares):
        uses = [(at, use) for at in order for use in _uses(lessons[at])[kind]]
        wanted = round(config.number * share / sum(config.shares))
        chosen += [(nearness[at], _shown(lessons[at], use, config)) for at, use in uses[:wanted]]
    return [text for _, text in sorted(chosen, key=lambda pair: pair[0])]


def _nearness(task: Task, lessons: tuple[Lesson, ...]) -> list[float]:
    """Of each lesson to the nearest edit."""
    ours = mean_embeddings(task.model, task.tokenizer, [f"{edit.prompt} {edit.target_new}" for edit in task.edits])
    theirs = [f"{lesson.edit.prompt} {lesson.edit.target_new}" for lesson in lessons]
    found = mean_embeddings(task.model, task.tokenizer, theirs) @ ours.T
    return [float(value) for value in found.max(1).values]


def _uses(lesson: Lesson) -> tuple[list[str], list[str], list[str]]:
    """Prompts with answers that copy the fact, use it in other words, and do not touch it."""
    new = lesson.edit.target_new
    return (
        [f"{lesson.edit.prompt} {new}"],
        [f"{prompt} {new}" for prompt in lesson.wordings],
        [f"{prompt} {answer}" for prompt, answer in lesson.kept],
    )


def _shown(lesson: Lesson, use: str, config: Ike) -> str:
    fact = config.fact.replace("{}", f"{lesson.edit.prompt} {lesson.edit.target_new}")
    return fact + config.use.replace("{}", use)


def _hang(model: nn.Module, ids: torch.Tensor, marks: int) -> Iterable[RemovableHandle]:
    before = _Before(ids, marks, _longest(model))
    yield model.register_forward_pre_hook(before.called, with_kwargs=True)
    yield model.register_forward_hook(before.answered)


def _longest(model: nn.Module) -> int | None:
    config = getattr(model, "config", None)
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) else None


class _Before:
    """A text before every text.

    Args:
        ids: `[m]` its tokens.
        marks: So many of them, at the beginning, mark the beginning of any text.
        longest: The model takes so many tokens; None: any number.
    """

    def __init__(self, ids: torch.Tensor, marks: int, longest: int | None) -> None:
        self._ids = ids
        self._marks = marks
        self._longest = longest
        self._asked = 0
        self._length = 0
        self._lengths: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def called(
        self, _: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Put it before what the model is called with, or, if it is in the cache already, count it."""
        ids, mask, positions = ids_of(arguments, named), mask_of(named), named.get("position_ids")
        padding = torch.zeros(len(ids), dtype=torch.long, device=ids.device) if mask is None else mask.argmax(1)
        cache = cache_of(named)
        held = cached(cache)
        if held:
            length = self._read_into(cache, None if mask is None else mask.shape[1] - ids.shape[1])
        else:
            length = len(self._ids) - (self._marks if self._begins(ids, padding) else 0)
        self._asked, self._length = ids.shape[1], length
        if self._longest is not None and not held and length + ids.shape[1] > self._longest:
            raise InputError(
                f"{length} tokens of demonstrations before {ids.shape[1]} of the query are more than the "
                f"{self._longest} this model takes: take a smaller number of demonstrations"
            )
        named = dict(named)
        places = padding + len(self._ids) - length
        if mask is not None:
            named["attention_mask"] = inserted(mask, places, mask.new_ones(len(mask), length))
        if held:
            if positions is not None:
                named["position_ids"] = positions + length
            return arguments, named
        new = self._ids[len(self._ids) - length :].to(ids.device).expand(len(ids), length)
        if positions is not None:
            first = positions.gather(1, padding[:, None]) + (places - padding)[:, None]
            there = first + torch.arange(length, device=positions.device)
            behind = torch.arange(positions.shape[1], device=positions.device) >= places[:, None]
            named["position_ids"] = inserted(positions + length * behind, places, there)
        if named.get("labels") is not None:
            # Nothing is asked of a text's first token, which stands behind nothing of its own.
            labels = named["labels"].scatter(1, padding[:, None], -100)
            named["labels"] = inserted(labels, places, labels.new_full((len(labels), length), -100))
        return with_ids(arguments, named, inserted(ids, places, new))

    def _begins(self, ids: torch.Tensor, padding: torch.Tensor) -> bool:
        """Whether all texts begin with the marks, behind the padding."""
        places = padding[:, None] + torch.arange(self._marks, device=ids.device)
        if int(padding.max()) + self._marks > ids.shape[1]:
            return False
        return bool((ids.gather(1, places) == self._ids[: self._marks].to(ids.device)).all())

    def _read_into(self, cache: Any, own: int | None) -> int:
        """How many tokens of this text a cache holds, beside so many of the query."""
        held = cached(cache)
        # A copy of a cache is not known, so where marks may have been left out it says itself how much it holds.
        usual = len(self._ids) if own is None or not self._marks else held - own
        length = self._lengths.get(cache, usual)
        if length not in (len(self._ids), len(self._ids) - self._marks) or held < (own or 0) + length:
            raise InputError("the cache was filled before this edit was made: begin with an empty one")
        return length

    def answered(self, _: nn.Module, __: Any, said: Any) -> Any:
        """Cut away what the model says after the text itself."""
        cache = cache_of(said) if isinstance(said, Mapping) else None
        if cache is not None:
            self._lengths[cache] = self._length
        return logits_replaced(said, lambda logits: logits[:, -self._asked :])
