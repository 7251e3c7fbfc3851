r"""Fine-tuning of one matrix, held within a box around where it was: FT, FT-L and FT-M.

\[ \min_W \; -\log P_W(o^* \mid p) \quad \text{subject to} \quad \lVert W - W_0 \rVert_\infty \le \varepsilon \]

over the down-projection of one block. FT-L asks for every token of the new answer at the place of its first one, as the
code it was published with does; FT-M is the usual loss of the answer's own tokens, each after those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from unlearn.errors import InputError
from unlearn.language.editing.base import Dense, EditorCard, Task, WeightEdit
from unlearn.language.hooks import anatomy, at_least_32_bits, frozen, logits_of
from unlearn.language.text import Padded, encode, filler_of, pad
from unlearn.methods.base import Guarantee

Loss = Callable[[torch.Tensor, Padded], torch.Tensor]
"""Of logits `[n, T, vocabulary]` and what was asked, to one number."""

FT_L = EditorCard(
    name="ft-l",
    title="Constrained fine-tuning (FT-L)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=False,
    batches=True,
    edits_weights=True,
    place="any layer",
    parameters_added="none",
    citation="Zhu et al. 2020, Modifying Memories in Transformer Models, arXiv:2012.00363",
    published=("GPT-J, ZsRE: reliability 54.70, generalization 49.20, locality 37.24 (Yao et al. 2023; re-check)",),
)

FT_M = EditorCard(
    name="ft-m",
    title="Fine-tuning on the answer's tokens (FT-M)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=False,
    batches=True,
    edits_weights=True,
    place="any layer",
    parameters_added="none",
    citation=(
        "Zhang et al. 2024, A Comprehensive Study of Knowledge Editing for Large Language Models, arXiv:2401.01286"
    ),
    published=("Llama-2-7B, WikiData counterfactual: edit success 100, portability 74.36, locality 76.76",),
)


@dataclass(frozen=True)
class FineTuning:
    """How to tune.

    Attributes:
        layer: Block whose down-projection is tuned; negative: from the end.
        learning_rate: Of Adam.
        steps: At most so many.
        box: No weight moves farther than this; infinity: no bound, which is plain fine-tuning (FT).
        enough: Ends as soon as the loss is below this.
    """

    layer: int = 0
    learning_rate: float = 5e-4
    steps: int = 25
    box: float = 5e-4
    enough: float = 1e-2

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or self.steps < 1 or not self.box > 0:
            raise InputError(f"learning_rate, steps and box must be positive, got {self}")


def ft_l(task: Task, config: FineTuning) -> WeightEdit:
    """Tune with every token of the answer asked for at the last token of the prompt.

    Args:
        task: Model, tokenizer, and the edits, which are made together.
        config: How to tune.

    Returns:
        The edit, not yet made.
    """
    return _tuned(task, config, _at_the_prompts_end)


def ft_m(task: Task, config: FineTuning) -> WeightEdit:
    """Tune with each token of the answer asked for after those before it.

    Args:
        task: Model, tokenizer, and the edits, which are made together.
        config: How to tune.

    Returns:
        The edit, not yet made.
    """
    return _tuned(task, config, answer_loss)


def answer_loss(logits: torch.Tensor, asked: Padded) -> torch.Tensor:
    """Mean over texts of the mean negative log-likelihood of the answer's tokens.

    Args:
        logits: `[n, T, vocabulary]`.
        asked: Of the same n texts.

    Returns:
        `[]`.
    """
    said = logits[:, :-1].log_softmax(-1)
    each = -said.gather(2, asked.ids[:, 1:, None])[..., 0]
    wanted = asked.answers[:, 1:]
    return ((each * wanted).sum(1) / wanted.sum(1)).mean()


def _at_the_prompts_end(logits: torch.Tensor, asked: Padded) -> torch.Tensor:
    rows = torch.arange(len(logits))
    said = logits[rows, asked.answers.long().argmax(1) - 1].log_softmax(-1)
    each = -said.gather(1, asked.ids)
    return ((each * asked.answers).sum(1) / asked.answers.sum(1)).mean()


def _tuned(task: Task, config: FineTuning, loss_of: Loss) -> WeightEdit:
    body = anatomy(task.model, task.layout)
    projection = body.down(config.layer)
    asked = pad(
        [encode(task.tokenizer, edit.prompt, edit.target_new, edit.subject) for edit in task.edits],
        filler_of(task.tokenizer),
    ).to(task.device)
    weight = projection.weight
    before = weight.detach().clone()
    with frozen(task.model):
        try:
            weight.requires_grad_(True)
            # In 16 bits, small steps would be rounded away one by one.
            start = before.to(at_least_32_bits(before))
            exact = start.clone()
            optimizer = torch.optim.Adam([exact], lr=config.learning_rate)
            for _ in range(config.steps):
                loss = loss_of(logits_of(task.model, asked.ids, asked.mask), asked)
                if loss.item() < config.enough:
                    break
                exact.grad = torch.autograd.grad(loss, weight)[0].to(exact)
                optimizer.step()
                with torch.no_grad():
                    if math.isfinite(config.box):
                        exact.clamp_(start - config.box, start + config.box)
                    weight.copy_(exact)
            difference = (exact - start).T if projection.transposed else exact - start
        finally:
            with torch.no_grad():
                weight.copy_(before)
    transposed = frozenset([projection.name]) if projection.transposed else frozenset[str]()
    return WeightEdit(task.edits, task.model, {projection.name: Dense(difference.clone())}, transposed)
