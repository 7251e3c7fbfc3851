r"""Which output a module should have at one token of a prompt, so that the model gives the new answer.

A vector \(\delta\) is added there and chosen, with all weights frozen, to minimise

\[ -\frac{1}{N} \sum_j \log P_\delta(o^* \mid x_j + p)
   + \lambda \, \mathrm{KL}\bigl(P_\delta(\cdot \mid q) \,\Vert\, P_0(\cdot \mid q)\bigr)
   + \omega \, \lVert \delta \rVert / \lVert v_0 \rVert^2 \]

over contexts \(x_j\), and other prompts \(q\) about the same subject, whose continuations are to stay. It is kept
within \(c \lVert v_0 \rVert\) of where it began (Meng et al. 2022, equation 4 and the code published with it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, Task
from unlearn.language.editing.contexts import in_contexts
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.hooks import at_least_32_bits, by_text, frozen, logits_of, output_changed
from unlearn.language.text import Padded, Site, encode, filler_of, pad


@dataclass(frozen=True)
class Search:
    r"""How the vector is searched for.

    Attributes:
        steps: At most so many, of Adam.
        learning_rate: Of Adam.
        clamp: It is at most so many times as long as the output it is added to.
        weight_decay: \(\omega\).
        kl_weight: \(\lambda\).
        kl_prompts: Prompts whose continuation is to stay, with `{}` in the place of the subject. Those of the subject's
            other attributes keep them (`attribute locality`), at a price in generalization.
        enough: Ends as soon as the loss is below this.
    """

    steps: int = 20
    learning_rate: float = 0.5
    clamp: float = 4.0
    weight_decay: float = 0.5
    kl_weight: float = 0.0625
    kl_prompts: tuple[str, ...] = ("{} is a",)
    enough: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or not self.clamp > 0:
            raise InputError(f"steps, learning_rate and clamp must be positive, got {self}")
        if any("{}" not in prompt for prompt in self.kl_prompts):
            raise InputError("every kl_prompt needs {} in the place of the subject, for instance '{} is a'")


@dataclass(frozen=True, eq=False)
class _Asked:
    """The prompts in their contexts, then those whose continuation is to stay."""

    answers: Padded
    kept: Padded | None


def search(
    task: Task,
    edit: Edit,
    module: nn.Module,
    beginnings: Sequence[str],
    how: Search,
    site: Site = "subject_last",
) -> torch.Tensor:
    """Find the vector.

    Args:
        task: What the editor was given.
        edit: Which of its edits.
        module: To whose output it is added.
        beginnings: Contexts; the first is the empty one.
        how: How to search.
        site: At which token it is added.

    Returns:
        `[out]`, what is to be added to the output at that token in the prompt without a context.

    Raises:
        InputError: If the model's loss is not finite, or does not depend on the vector.
    """
    asked = _asked(task, edit, beginnings, how, site)
    with frozen(task.model):
        start, stay = _before(task, module, asked)
        # Sixteen bits are too few to search in: those of float16 do not even hold the smallest number Adam divides by.
        delta = torch.zeros_like(start, dtype=at_least_32_bits(start), requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=how.learning_rate)
        length = start.to(delta).norm()
        for step in range(how.steps):
            optimizer.zero_grad()
            loss = how.weight_decay * delta.norm() / length**2
            loss = loss + answer_loss(_said(task, module, asked.answers, delta), asked.answers)
            if asked.kept is not None and stay is not None:
                now = _ends(_said(task, module, asked.kept, delta), asked.kept)
                loss = loss + how.kl_weight * (now.exp() * (now - stay)).sum(-1).mean()
            if not bool(torch.isfinite(loss)):
                raise InputError(f"the model's loss on {edit.prompt!r} is {loss.item()}: nothing was changed")
            if loss.item() < how.enough:
                break
            loss.backward()
            if step == 0 and not bool(torch.as_tensor(delta.grad).any()):
                raise InputError(
                    f"what this layer writes at {edit.subject!r} does not reach the answer to {edit.prompt!r}: edit a "
                    "layer that has another one above it, or at site='last'"
                )
            optimizer.step()
            with torch.no_grad():
                delta.mul_((how.clamp * length / delta.norm().clamp(min=1e-12)).clamp(max=1.0))
    return delta.detach()


def _asked(task: Task, edit: Edit, beginnings: Sequence[str], how: Search, site: Site) -> _Asked:
    filler = filler_of(task.tokenizer)
    answers = in_contexts(task, beginnings, edit, edit.target_new, site)
    kept = [
        encode(task.tokenizer, prompt.replace("{}", edit.subject), subject=edit.subject, site=site)
        for prompt in how.kl_prompts
    ]
    return _Asked(pad(answers, filler).to(task.device), pad(kept, filler).to(task.device) if kept else None)


def _before(task: Task, module: nn.Module, asked: _Asked) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The output at the site in the first context, and what follows the prompts that are to stay."""
    outputs: list[torch.Tensor] = []

    def watched(out: torch.Tensor) -> torch.Tensor:
        outputs.append(out)
        return out

    with torch.no_grad(), output_changed(module, watched):
        logits_of(task.model, asked.answers.ids, asked.answers.mask)
        start = by_text(outputs[0], len(asked.answers.ids))[0, asked.answers.sites[0]].clone()
        if asked.kept is None:
            return start, None
        return start, _ends(logits_of(task.model, asked.kept.ids, asked.kept.mask), asked.kept)


def _said(task: Task, module: nn.Module, texts: Padded, delta: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(texts.ids))

    def added(out: torch.Tensor) -> torch.Tensor:
        found = by_text(out, len(rows)).clone()
        found[rows, texts.sites] = (found[rows, texts.sites] + delta).to(found)
        return found.view(out.shape)

    with output_changed(module, added):
        return logits_of(task.model, texts.ids, texts.mask)


def _ends(logits: torch.Tensor, texts: Padded) -> torch.Tensor:
    """Log-probabilities `[n, vocabulary]` of what follows each text."""
    return logits[torch.arange(len(logits)), texts.mask.sum(1) - 1].log_softmax(-1)
