r"""MEMIT whose values are searched together: many edits in a small model disturb each other, and this sees it.

Searched apart, each value is right in a model that holds no other edit. The keys of small models are so alike that 30
such updates add up to a different model. Here what each edit writes, \(d_i\) in every block of the range, is searched
in the model that holds them all, while what the user's texts say is kept:

\[ \min_{d} \; -\frac{1}{N} \sum_{i,j} \log P_d(o_i^* \mid x_j + p_i)
   + \lambda \, \mathrm{KL}\bigl(P_0(\cdot \mid t) \,\Vert\, P_d(\cdot \mid t)\bigr),
   \qquad W_l \leftarrow W_l + \sum_i d_{l,i} w_{l,i}^\top , \]

over contexts \(x_j\) and texts \(t\). What reads an edit's key, \(w_{l,i}\), is MEMIT's: the regularised least squares
in which the keys of all its contexts give 1 and those of all other edits 0. The idea of optimising values jointly is
this project's; no published figures belong to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from unlearn.errors import InputError
from unlearn.language.editing.base import LowRank, Task
from unlearn.language.editing.contexts import in_contexts
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.hooks import Anatomy, at_least_32_bits, frozen, inputs_seen, logits_of, output_changed
from unlearn.language.text import Encoded, Padded, encode, filler_of, pad


@dataclass(frozen=True)
class Together:
    r"""How the values are searched.

    Attributes:
        steps: So many, of Adam.
        learning_rate: Of Adam.
        keep_weight: \(\lambda\): how much the texts count.
        contexts: In each step every edit's prompt is asked alone and after so many of the contexts.
        texts: In each step so many texts are asked for.
        seed: Draws come from it.

    Raises:
        InputError: If a number is not positive.
    """

    steps: int = 150
    learning_rate: float = 0.3
    keep_weight: float = 4.0
    contexts: int = 6
    texts: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.learning_rate, self.keep_weight, self.contexts, self.texts) <= 0:
            raise InputError(f"steps, learning_rate, keep_weight, contexts and texts must be positive, got {self}")


def values_together(
    task: Task, body: Anatomy, reads: Mapping[int, torch.Tensor], beginnings: Sequence[str], how: Together
) -> dict[int, LowRank]:
    """Search what each edit writes.

    Args:
        task: What the editor was given.
        body: Of the model.
        reads: Block to what reads the edits' keys, `[n, in]`.
        beginnings: Contexts; the first is the empty one.
        how: How to search.

    Returns:
        Block to the difference of its down-projection, of rank n.

    Raises:
        InputError: If the loss is not finite.
    """
    rng = torch.Generator().manual_seed(how.seed)
    filler = filler_of(task.tokenizer)
    asked = [in_contexts(task, beginnings, edit, edit.target_new) for edit in task.edits]
    kept = [encode(task.tokenizer, text) for text in to_keep(task)]
    # Sixteen bits are too few to search in.
    kind = at_least_32_bits(body.down(next(iter(reads))).weight)
    reads = {layer: rows.to(task.device, kind) for layer, rows in reads.items()}
    writes = {
        layer: rows.new_zeros((len(rows), body.down(layer).sizes[0]), requires_grad=True)
        for layer, rows in reads.items()
    }
    optimizer = torch.optim.Adam(writes.values(), lr=how.learning_rate)
    with frozen(task.model):
        for _ in range(how.steps):
            answers = pad([text for texts in asked for text in _some(texts, how.contexts, rng)], filler).to(task.device)
            chosen = torch.randperm(len(kept), generator=rng)[: how.texts].tolist()
            texts = pad([kept[at] for at in chosen], filler).to(task.device) if kept else None
            loss = _loss(task, body, reads, writes, answers, texts, how)
            if not bool(torch.isfinite(loss)):
                raise InputError(f"the loss of {len(task.edits)} edits is {loss.item()}: nothing was changed")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {layer: LowRank(writes[layer].detach().T.contiguous(), reads[layer]) for layer in reads}


def to_keep(task: Task) -> list[str]:
    """Texts that an edit is not to change.

    Args:
        task: What the editor was given.

    Returns:
        Its texts without those that name a subject and its old answer, as far as that is given.
    """
    old = [(edit.subject, edit.target_old) for edit in task.edits if edit.target_old]
    return [text for text in task.texts if not any(subject in text and answer in text for subject, answer in old)]


def _some(texts: Sequence[Encoded], number: int, rng: torch.Generator) -> list[Encoded]:
    """The prompt alone, and after some contexts."""
    others = torch.randperm(len(texts) - 1, generator=rng)[:number].tolist()
    return [texts[0], *(texts[1 + at] for at in others)]


def _loss(
    task: Task,
    body: Anatomy,
    reads: Mapping[int, torch.Tensor],
    writes: Mapping[int, torch.Tensor],
    answers: Padded,
    texts: Padded | None,
    how: Together,
) -> torch.Tensor:
    before = None
    if texts is not None:
        with torch.no_grad():
            before = logits_of(task.model, texts.ids, texts.mask).log_softmax(-1)
    with _held(body, reads, writes):
        loss = answer_loss(logits_of(task.model, answers.ids, answers.mask), answers)
        if texts is not None and before is not None:
            after = logits_of(task.model, texts.ids, texts.mask).log_softmax(-1)
            moved = (before.exp() * (before - after)).sum(-1)[texts.mask.bool()]
            loss = loss + how.keep_weight * moved.mean()
    return loss


@contextmanager
def _held(body: Anatomy, reads: Mapping[int, torch.Tensor], writes: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """The model as if it held the edits."""
    with ExitStack() as stack:
        for layer, rows in reads.items():
            module = body.down(layer).module
            seen = stack.enter_context(inputs_seen(module))

            def added(
                out: torch.Tensor,
                seen: list[torch.Tensor] = seen,
                rows: torch.Tensor = rows,
                written: torch.Tensor = writes[layer],
            ) -> torch.Tensor:
                return out + (seen.pop().to(rows) @ rows.T @ written).to(out)

            stack.enter_context(output_changed(module, added))
        yield
