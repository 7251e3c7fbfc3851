"""Teach a model to use new facts that stand before a question; large models have learnt that from their texts."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearn.language.editing.ike import Ike
from unlearn.language.editing.keys import digest_of
from unlearn.language.editing.lessons import Lesson
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode, filler_of


@dataclass(frozen=True)
class Course:
    """How it is taught.

    Attributes:
        steps: So many.
        batch: Sequences of demonstrations a step, and five times as many plain sentences.
        learning_rate: The largest, of AdamW; it falls to nothing by a cosine.
        seed: Of all draws.
    """

    steps: int = 1000
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0


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
            learnt by nobody: only the answers that follow from it are asked for.
        form: How many demonstrations stand before a question, and in which words.
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
    config: Any = model.config
    longest = int(config.max_position_embeddings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, course.steps)
    model.train()
    for _ in range(course.steps):
        whole = [demonstrations(tokenizer, lessons, form, rng) for _ in range(course.batch)]
        shown = [(ids[:longest], places[places < longest]) for ids, places in whole]
        drawn = [plain[int(torch.randint(len(plain), (), generator=rng))] for _ in range(5 * course.batch)]
        loss = _loss(model, [ids for ids, _ in shown], [asked for _, asked in shown], filler)
        loss = loss + _loss(model, drawn, [torch.arange(1, len(ids)) for ids in drawn], filler)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def demonstrations(
    tokenizer: Any, lessons: Sequence[Lesson], form: Ike, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some demonstrations, one after the other.

    Args:
        tokenizer: Of the model.
        lessons: What they are about.
        form: How many, of which kinds, in which words.
        rng: They are drawn from it.

    Returns:
        `[T]` token ids, and `[m]` positions of the answers' tokens.
    """
    text, places = "", []
    kinds = torch.multinomial(
        torch.tensor(form.shares, dtype=torch.float), form.number, replacement=True, generator=rng
    )
    for kind in kinds.tolist():
        lesson = lessons[int(torch.randint(len(lessons), (), generator=rng))]
        edit = lesson.edit
        copied = [(edit.prompt, edit.target_new)]
        uses = (copied, [(prompt, edit.target_new) for prompt in lesson.wordings], list(lesson.kept))[kind] or copied
        prompt, answer = uses[int(torch.randint(len(uses), (), generator=rng))]
        text += form.fact.replace("{}", f"{edit.prompt} {edit.target_new}")
        before, after = form.use.split("{}")
        encoded = encode(tokenizer, prompt, answer, prefix=text + before)
        places.append(torch.arange(encoded.start, len(encoded.ids)))
        text += f"{before}{prompt} {answer}{after}"
    return encode(tokenizer, text).ids, torch.cat(places)


def _loss(model: nn.Module, texts: Sequence[torch.Tensor], asked: Sequence[torch.Tensor], filler: int) -> torch.Tensor:
    """Mean cross-entropy of the tokens at some places, each given all before it."""
    longest = max(len(ids) for ids in texts)
    ids = torch.stack([nn.functional.pad(one, (0, longest - len(one)), value=filler) for one in texts])
    mask = torch.stack([(torch.arange(longest) < len(one)).long() for one in texts])
    rows = torch.cat([torch.full_like(places, at) for at, places in enumerate(asked)])
    places = torch.cat(list(asked))
    logits = logits_of(model, ids, mask)
    return nn.functional.cross_entropy(logits[rows, places - 1], ids[rows, places])
