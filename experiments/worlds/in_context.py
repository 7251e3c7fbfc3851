"""Teach a model to use new facts that stand before a question; large models have learnt that from their texts."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn.language.editing.ike import Ike
from unlearn.language.editing.keys import digest_of
from unlearn.language.editing.lessons import Lesson
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode, filler_of


@dataclass(frozen=True)
class Course:
    """How it is taught.

    Attributes:
        steps: So many at most.
        batch: Sequences of demonstrations a step.
        enough: So many of a step's answers are to be right. Copies of single facts are shown until they are, then all
            there is, so that what is easier comes first. Once they are in the mean of `_LAST` steps of those, it can
            do it.
        fade: So many steps follow then, or end the course; the learning rate falls to nothing in them.
        packed: Sequences of sentences a step, one sentence after the other, as large models read them: what a model
            has learnt at the beginning of a text alone, it does not find behind demonstrations.
        alone: Sentences a step that stand for themselves.
        most: So many facts are stated at most before some are used, fewer where a third of what the model takes holds
            no more.
        learning_rate: The largest, of AdamW; it rises for the first hundred steps.
        seed: Of all draws.
    """

    steps: int = 6000
    batch: int = 8
    enough: float = 0.9
    fade: int = 400
    packed: int = 6
    alone: int = 24
    most: int = 10
    learning_rate: float = 2e-3
    seed: int = 0


_LAST = 50
"""Steps over whose mean it is judged what a model can do."""

_RISE = 100
"""Steps in which the learning rate rises."""


def taught_in_context(
    model: nn.Module,
    tokenizer: Any,
    sentences: Sequence[str],
    lessons: Sequence[Lesson],
    form: Ike,
    course: Course,
    cache: Path | None = None,
) -> nn.Module:
    """A copy that was shown demonstrations as IKE puts them together, and what it knew before.

    Args:
        model: It.
        tokenizer: Its tokenizer.
        sentences: All it was taught before; shown again, so that it stays.
        lessons: Demonstrations are made from them, of none of what is edited later. What a demonstration states is
            learnt by nobody: only the answers that follow from it are asked for, and each time it is another lesson's
            new answer, which nobody can learn by heart.
        form: Of which kinds demonstrations are, and in which words.
        course: How it is taught.
        cache: Folder in which trained models are kept; None: nowhere.

    Returns:
        The copy, in evaluation mode.
    """
    found = copy.deepcopy(model)
    path = None
    if cache is not None:
        said = [digest_of(model), list(sentences), [repr(one) for one in lessons], repr(form), asdict(course)]
        path = cache / f"in-context-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}.safetensors"
    if path is not None and path.exists():
        from safetensors.torch import load_model

        load_model(found, path)
        return found.eval()
    _teach(found, tokenizer, sentences, lessons, form, course)
    if path is not None:
        from safetensors.torch import save_model

        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(found, str(path))
    return found.eval()


def _teach(
    model: nn.Module, tokenizer: Any, sentences: Sequence[str], lessons: Sequence[Lesson], form: Ike, course: Course
) -> None:
    rng = torch.Generator().manual_seed(course.seed)
    filler = filler_of(tokenizer)
    plain = [encode(tokenizer, text).ids for text in sentences]
    between = encode(tokenizer, form.fact.replace("{}", "")).ids
    config: Any = model.config
    longest = int(config.max_position_embeddings)
    stated = [encode(tokenizer, _stated(lesson, form)).ids for lesson in lessons]
    most = max(1, min(course.most, longest * len(stated) // (3 * sum(map(len, stated)))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.learning_rate, weight_decay=0.01)
    copies, can_copy = replace(form, shares=(1, 0, 0)), False
    right: deque[float] = deque(maxlen=_LAST)
    step, end = 0, course.steps
    model.train()
    while step < end:
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * min(1.0, (step + 1) / _RISE, (end - step) / course.fade)
        lengths = torch.randint(longest // 4, longest + 1, (course.batch,), generator=rng).tolist()
        kind, number = (form, most) if can_copy else (copies, 1)
        whole = [demonstrations(tokenizer, lessons, kind, number, length, rng) for length in lengths]
        shown = [(ids[:longest], places[places < longest]) for ids, places in whole]
        said, answers = _said(model, [ids for ids, _ in shown], [asked for _, asked in shown], filler)
        alone = [plain[_draw(len(plain), rng)] for _ in range(course.alone)]
        packed = [_packed(plain, between, longest, rng) for _ in range(course.packed)]
        # Apart, since sentences that stand for themselves are short.
        known = [_said(model, texts, [torch.arange(1, len(ids)) for ids in texts], filler) for texts in (alone, packed)]
        loss = cross_entropy(said, answers)
        loss = loss + cross_entropy(*(torch.cat(part) for part in zip(*known, strict=True)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        share = float((said.argmax(-1) == answers).double().mean())
        if can_copy:
            right.append(share)
            if len(right) == _LAST and sum(right) >= _LAST * course.enough:
                end = min(end, step + course.fade)
        can_copy = can_copy or share >= course.enough


def demonstrations(
    tokenizer: Any, lessons: Sequence[Lesson], form: Ike, most: int, longest: int, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some demonstrations, one after the other: one fact or several are stated, then some of them are used.

    Args:
        tokenizer: Of the model.
        lessons: What they are about, with other answers.
        form: Of which kinds, in which words.
        most: So many facts are stated at most before some are used; half of the time it is one.
        longest: They are this long at most, but for the first, which stands there however long it is.
        rng: They are drawn from it.

    Returns:
        `[T]` token ids, and `[m]` positions of the answers' tokens.
    """
    before, after = form.use.split("{}")
    text, ids, places = "", torch.empty(0, dtype=torch.long), list[torch.Tensor]()
    while True:
        number = 1 if most < 2 or _draw(2, rng) else 2 + _draw(most - 1, rng)
        stated = [_with_another_answer(lessons, rng) for _ in range(number)]
        text += "".join(_stated(one, form) for one in stated)
        for _ in range(number):
            prompt, answer = _use(stated[_draw(number, rng)], form, rng)
            encoded = encode(tokenizer, prompt, answer, prefix=text + before)
            if places and len(encoded.ids) > longest:
                return ids, torch.cat(places)
            ids = encoded.ids
            places.append(torch.arange(encoded.start, len(ids)))
            text += f"{before}{prompt} {answer}{after}"


def _stated(lesson: Lesson, form: Ike) -> str:
    return form.fact.replace("{}", f"{lesson.edit.prompt} {lesson.edit.target_new}")


def _with_another_answer(lessons: Sequence[Lesson], rng: torch.Generator) -> Lesson:
    lesson, other = (lessons[_draw(len(lessons), rng)] for _ in range(2))
    return replace(lesson, edit=replace(lesson.edit, target_new=other.edit.target_new))


def _use(lesson: Lesson, form: Ike, rng: torch.Generator) -> tuple[str, str]:
    """Prompt and answer that copy the fact, use it in other words, or do not touch it."""
    edit = lesson.edit
    copied = [(edit.prompt, edit.target_new)]
    uses = (copied, [(prompt, edit.target_new) for prompt in lesson.wordings], list(lesson.kept))
    kind = int(torch.multinomial(torch.tensor(form.shares, dtype=torch.float), 1, generator=rng))
    chosen = uses[kind] or copied
    return chosen[_draw(len(chosen), rng)]


def _packed(plain: Sequence[torch.Tensor], between: torch.Tensor, longest: int, rng: torch.Generator) -> torch.Tensor:
    """Sentences one after the other, as many as fit."""
    parts: list[torch.Tensor] = []
    while True:
        one = plain[_draw(len(plain), rng)]
        if sum(map(len, parts)) + len(one) > longest:
            return torch.cat(parts[:-1])
        parts += [one, between]


def _draw(below: int, rng: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=rng))


def _said(
    model: nn.Module, texts: Sequence[torch.Tensor], asked: Sequence[torch.Tensor], filler: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[m, vocabulary]` of the tokens at some places, each given all before it, and these tokens `[m]`."""
    longest = max(len(ids) for ids in texts)
    ids = torch.stack([nn.functional.pad(one, (0, longest - len(one)), value=filler) for one in texts])
    mask = torch.stack([(torch.arange(longest) < len(one)).long() for one in texts])
    rows = torch.cat([torch.full_like(places, at) for at, places in enumerate(asked)])
    places = torch.cat(list(asked))
    return logits_of(model, ids, mask)[rows, places - 1], ids[rows, places]
