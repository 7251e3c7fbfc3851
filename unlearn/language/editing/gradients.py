"""What learned editors read and are trained by: an edit's gradient, and what the edit they make of it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unlearn.language.editing.base import Difference, Edit, Task
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.editing.lessons import Lesson
from unlearn.language.hooks import Projection, at_least_32_bits, input_changed, inputs_seen, logits_of, output_changed
from unlearn.language.text import Padded, encode, filler_of, pad


@dataclass(frozen=True, eq=False)
class Pairs:
    """A gradient, decomposed.

    Attributes:
        read: `[tokens, in]`, u.
        wrote: `[tokens, out]`, the gradients by what the matrix writes.
    """

    read: torch.Tensor
    wrote: torch.Tensor


def gradient(task: Task, projection: Projection, edit: Edit) -> Pairs:
    """The gradient of an edit's loss by a matrix, decomposed.

    Args:
        task: What the editor was given.
        projection: The matrix.
        edit: The edit.

    Returns:
        A pair for each token.
    """
    asked = asked_of(task, [(edit.prompt, edit.target_new)])
    wrote: list[torch.Tensor] = []

    def leaf(out: torch.Tensor) -> torch.Tensor:
        wrote.append(out.detach().requires_grad_(True))
        return wrote[0]

    with torch.enable_grad(), inputs_seen(projection.module) as seen, output_changed(projection.module, leaf):
        loss = answer_loss(logits_of(task.model, asked.ids, asked.mask), asked)
    (found,) = torch.autograd.grad(loss, wrote)
    kind = at_least_32_bits(found)
    return Pairs(seen[0].detach().flatten(0, -2).to(kind), found.flatten(0, -2).to(kind))


def costs(
    task: Task, projection: Projection, lesson: Lesson, difference: Difference, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""How wrong the model is with an edit in place, and how far it has moved elsewhere.

    Args:
        task: What the editor was given; its model is frozen.
        projection: The matrix.
        lesson: What the edit is to do; one of its wordings is drawn.
        difference: What is added to the matrix.
        rng: The wording is drawn with it.

    Returns:
        The loss of the new answer, `[]`, and the mean over tokens of the kept prompts of
        \(\mathrm{KL}(P_W \Vert P_{W'})\), `[]`; 0 if there are none. Gradients flow to the difference.
    """
    wordings = (lesson.edit.prompt, *lesson.wordings)
    prompt = wordings[int(torch.randint(len(wordings), (), generator=rng))]
    asked = asked_of(task, [(prompt, lesson.edit.target_new)])
    wrong = answer_loss(_edited(task, projection, asked, difference), asked)
    if not lesson.kept:
        return wrong, torch.zeros_like(wrong)
    kept = asked_of(task, lesson.kept)
    with torch.no_grad():
        before = logits_of(task.model, kept.ids, kept.mask).log_softmax(-1)
    after = _edited(task, projection, kept, difference).log_softmax(-1)
    each = (before.exp() * (before - after)).sum(-1)
    return wrong, (each * kept.mask).sum() / kept.mask.sum()


def asked_of(task: Task, pairs: Sequence[tuple[str, str]]) -> Padded:
    """Prompts with answers, side by side.

    Args:
        task: What the editor was given.
        pairs: At least one.

    Returns:
        Their tokens.
    """
    texts = [encode(task.tokenizer, prompt, answer) for prompt, answer in pairs]
    return pad(texts, filler_of(task.tokenizer)).to(task.device)


def _edited(task: Task, projection: Projection, asked: Padded, difference: Difference) -> torch.Tensor:
    held: list[torch.Tensor] = []

    def read(into: torch.Tensor) -> torch.Tensor:
        held.append(into)
        return into

    def wrote(out: torch.Tensor) -> torch.Tensor:
        dense = difference.dense()
        return out + (held.pop().to(dense) @ dense.T).to(out)

    with input_changed(projection.module, read), output_changed(projection.module, wrote):
        return logits_of(task.model, asked.ids, asked.mask)
