r"""Knowledge neurons: the neurons that bring the old answer forth are found, and their values rewritten.

A neuron of an MLP with activation \(\bar w\) at the prompt's last token is credited with

\[ \bar w \int_0^1 \frac{\partial P(o \mid p;\, a \bar w)}{\partial w} \, da \]

(integrated gradients). Neurons with at least a share of the largest credit, in enough of the contexts, are taken to
hold the fact; from what each of them writes, \(\lambda_1 \, e(o)\) is taken and \(\lambda_2 \, e(o^*)\) added, e the
word embedding of the answer's first token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError
from unlearn.language.editing.base import Edit, EditorCard, LowRank, Task, WeightEdit
from unlearn.language.editing.contexts import Contexts, in_contexts, prefixes
from unlearn.language.hooks import Anatomy, anatomy, at_least_32_bits, frozen, input_changed, inputs_seen, logits_of
from unlearn.language.text import Encoded
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="kn",
    title="Knowledge neurons (KN)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=False,
    batches=False,
    edits_weights=True,
    place="any layer",
    parameters_added="none",
    citation="Dai, Dong, Hao, Sui, Chang & Wei 2022, Knowledge Neurons in Pretrained Transformers, arXiv:2104.08696",
    published=("GPT-J, ZsRE: reliability 11.34, generalization 9.40, locality 90.03 (Yao et al. 2023; re-check)",),
)


@dataclass(frozen=True)
class KnowledgeNeurons:
    r"""How to find neurons and what to do with them.

    Attributes:
        steps: Of the integral.
        threshold: A neuron counts in a context if its credit is at least this share of the largest.
        shared: It is taken if it counts in at least this share of the contexts.
        most: At most so many neurons are changed, those with the largest mean credit.
        forget_weight: \(\lambda_1\).
        learn_weight: \(\lambda_2\).
        contexts: Which beginnings stand before the prompt.
    """

    steps: int = 20
    threshold: float = 0.2
    shared: float = 0.4
    most: int = 20
    forget_weight: float = 1.0
    learn_weight: float = 8.0
    contexts: Contexts = field(default_factory=lambda: Contexts(lengths=(5,) * 5))

    def __post_init__(self) -> None:
        if self.steps < 1 or self.most < 1 or not 0 < self.threshold <= 1 or not 0 <= self.shared <= 1:
            raise InputError(f"steps and most must be positive, threshold in (0, 1], shared in [0, 1], got {self}")


def kn(task: Task, config: KnowledgeNeurons) -> WeightEdit:
    """Rewrite the values of the neurons that hold each fact.

    Args:
        task: Model, tokenizer, texts for contexts, and edits, which must say what the old answer is.
        config: How to find neurons.

    Returns:
        The edit, not yet made.

    Raises:
        InputError: If an edit does not say what the old answer is.
        ConfigurationError: If word embeddings are not as wide as what MLPs write.
    """
    body = anatomy(task.model, task.layout)
    beginnings = prefixes(task, config.contexts)
    embedding = _embedding(task.model)
    lefts: dict[int, list[torch.Tensor]] = {}
    rights: dict[int, list[torch.Tensor]] = {}
    for edit in task.edits:
        change, neurons = _one(task, edit, body, beginnings, embedding, config)
        if len(change) != body.down(0).sizes[0]:
            raise ConfigurationError(
                f"word embeddings of {len(change)} numbers cannot be written by MLPs that write {body.down(0).sizes[0]}"
            )
        for layer, neuron in neurons:
            where = torch.zeros(body.down(layer).sizes[1]).to(change)
            where[neuron] = 1
            lefts.setdefault(layer, []).append(change)
            rights.setdefault(layer, []).append(where)
    made = {body.down(layer).name: LowRank(torch.stack(lefts[layer], 1), torch.stack(rights[layer])) for layer in lefts}
    transposed = frozenset(body.down(layer).name for layer in lefts if body.down(layer).transposed)
    return WeightEdit(task.edits, task.model, made, transposed)


def neuron_credits(task: Task, body: Anatomy, text: Encoded, steps: int) -> torch.Tensor:
    r"""Credit of every neuron for the first token of an answer.

    Args:
        task: What the editor was given.
        body: Anatomy of its model.
        text: A prompt and the answer.
        steps: Of the integral, by the rule of midpoints' right ends: \(a = 1/m, …, 1\), as published.

    Returns:
        `[blocks, neurons]`.
    """
    ids, answer = text.ids[: text.start].to(task.device), int(text.answer[0])
    found = []
    with frozen(task.model):
        for layer in range(body.n_blocks):
            module = body.down(layer).module
            with torch.no_grad(), inputs_seen(module) as seen:
                logits_of(task.model, ids[None])
            activation = seen[0].flatten(0, -2)[-1]
            activation = activation.to(at_least_32_bits(activation), copy=True)
            total = torch.zeros_like(activation)
            for step in range(1, steps + 1):
                scaled = (activation * (step / steps)).requires_grad_(True)
                with input_changed(module, partial(_at_the_end, scaled)):
                    probability = logits_of(task.model, ids[None])[0, -1].softmax(-1)[answer]
                total += torch.autograd.grad(probability, scaled)[0]
            found.append(activation * total / steps)
    return torch.stack(found)


def _one(
    task: Task, edit: Edit, body: Anatomy, beginnings: list[str], embedding: torch.Tensor, config: KnowledgeNeurons
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    if not edit.target_old:
        raise InputError(
            f"knowledge neurons are found by the old answer: give target_old for the edit of {edit.prompt!r}"
        )
    texts = in_contexts(task, beginnings, edit, edit.target_old)
    found = torch.stack([neuron_credits(task, body, text, config.steps) for text in texts])
    largest = found.flatten(1).amax(1)
    counted = (found >= config.threshold * largest[:, None, None]).double().mean(0) >= config.shared
    scores = torch.where(counted, found.mean(0), -torch.inf).flatten()
    chosen = scores.topk(min(config.most, int(counted.sum()))).indices.tolist()
    width = found.shape[2]
    new = in_contexts(task, [""], edit, edit.target_new)[0]
    old, target = int(texts[0].answer[0]), int(new.answer[0])
    change = config.learn_weight * embedding[target] - config.forget_weight * embedding[old]
    return change, [(at // width, at % width) for at in chosen]


def _embedding(model: nn.Module) -> torch.Tensor:
    get = getattr(model, "get_input_embeddings", None)
    if get is None:
        raise ConfigurationError(f"{type(model).__name__} does not say which are its word embeddings")
    weight = torch.as_tensor(get().weight).detach()
    return weight.to(at_least_32_bits(weight))


def _at_the_end(activation: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """Put an activation in the place of the last token's."""
    rows = into.flatten(0, -2)
    return torch.cat([rows[:-1], activation[None].to(rows)]).view(into.shape)
