r"""ROME: a fact is an association of a key and a value in one matrix, and is changed by a rank-one update.

With the key \(k_0\) of the prompt, the key \(k_*\) averaged over contexts, the second moment \(C = E[k k^\top]\) of all
keys and the searched value \(v_* = v_0 + \delta\),

\[ W \leftarrow W + \delta \, \frac{u^\top}{k_0^\top u}, \qquad u = C^{-1} k_* . \]

It is the least change, in the norm that \(C\) defines, after which \(W k_0\) gives the new value. R-ROME (Gupta et al.
2024) divides by \(k_*^\top u\) instead: with two different keys the quotient can be small, and the update destroy the
model.

An average forgets how keys differ from context to context, and small models' differ a good deal, by position above all.
With `keys="each"` every context's key \(k_j\) gets the same change instead, as nearly as the second moment allows:

\[ W \leftarrow W + \delta w^\top, \qquad
   w = \arg\min_w \; \lambda \, w^\top C w + \frac{1}{N} \sum_j (w^\top k_j - 1)^2 . \]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, EditorCard, LowRank, Task, WeightEdit
from unlearn.language.editing.contexts import Contexts, in_contexts, prefixes
from unlearn.language.editing.keys import SECOND_MOMENTS, keys_at, regularised
from unlearn.language.editing.values import Search, search
from unlearn.language.hooks import Anatomy, Projection, anatomy, frozen
from unlearn.language.text import Site, filler_of
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="rome",
    title="Rank-one model editing (ROME)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=False,
    batches=False,
    edits_weights=True,
    place="mid-layer MLP",
    parameters_added="none",
    citation="Meng, Bau, Andonian & Belinkov 2022, Locating and Editing Factual Associations in GPT, arXiv:2202.05262",
    published=(
        "GPT-J, ZsRE: reliability 99.18, generalization 94.90, locality 99.19 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 99.80, 86.63, 93.61 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True)
class Rome:
    r"""How to edit.

    Attributes:
        layer: Block whose down-projection is changed. Published: 17 for GPT2-XL, 5 for GPT-J and Llama-7B.
        search: How the value is searched for.
        contexts: Which beginnings the key is averaged over, and the answer asked for after.
        ridge: So many times the mean diagonal entry of the second moment is added to its diagonal. The paper adds
            nothing, which 100,000 texts allow and a few hundred do not.
        divide_by: Whose product with u divides: the key of the prompt (ROME), or the averaged key (R-ROME). Only with
            averaged keys.
        keys: Whether the keys of all contexts are averaged, as published, or each is fitted.
        moment_weight: \(\lambda\): how much what the model uses otherwise counts where each key is fitted.
        site: At which token key and value are taken: the subject's last one, as published, or the prompt's. `locate`
            tells at which of them a model looks its facts up.

    Raises:
        InputError: If the weight is not positive.
    """

    layer: int = 0
    search: Search = field(default_factory=Search)
    contexts: Contexts = field(default_factory=Contexts)
    ridge: float = 0.1
    divide_by: Literal["prompt", "average"] = "prompt"
    keys: Literal["average", "each"] = "average"
    moment_weight: float = 0.01
    site: Site = "subject_last"

    def __post_init__(self) -> None:
        if not self.moment_weight > 0:
            raise InputError(f"moment_weight must be positive, got {self.moment_weight}")


def rome(task: Task, config: Rome) -> WeightEdit:
    """Edit one fact after the other, each in the model that holds those before.

    Args:
        task: Model, tokenizer, edits, and texts for the second moment of keys and for contexts.
        config: How to edit.

    Returns:
        The edit, not yet made: a matrix of rank n for n edits.
    """
    body = anatomy(task.model, task.layout)
    projection = body.down(config.layer)
    moment = regularised(SECOND_MOMENTS.get(body, task.tokenizer, config.layer, task.texts), config.ridge)
    factor = torch.linalg.cholesky(moment)
    beginnings = prefixes(task, config.contexts)
    made: list[LowRank] = []
    for edit in task.edits:
        with _together(task, projection, made):
            made.append(_one(task, edit, body, factor, beginnings, config))
    return _together(task, projection, made)


def _one(task: Task, edit: Edit, body: Anatomy, factor: torch.Tensor, beginnings: list[str], config: Rome) -> LowRank:
    with frozen(task.model):
        texts = in_contexts(task, beginnings, edit, site=config.site)
        keys = keys_at(body, config.layer, texts, filler_of(task.tokenizer)).double().cpu()
    right = _fitted(keys, factor, config) if config.keys == "each" else _averaged(keys, factor, config)
    if right is None:
        raise InputError(
            f"the subject of {edit.prompt!r} reaches no neuron of layer {config.layer}: edit another layer"
        )
    delta = search(task, edit, body.down(config.layer).module, beginnings, config.search, config.site)
    return LowRank(delta[:, None], right.to(delta)[None])


def _averaged(keys: torch.Tensor, factor: torch.Tensor, config: Rome) -> torch.Tensor | None:
    """What a key is multiplied with, `[in]`, from keys `[n, in]`; None: it would be infinite."""
    average = keys.mean(0)
    direction = torch.cholesky_solve(average[:, None], factor)[:, 0]
    divisor = float((average if config.divide_by == "average" else keys[0]) @ direction)
    return direction / divisor if abs(divisor) > 0 else None


def _fitted(keys: torch.Tensor, factor: torch.Tensor, config: Rome) -> torch.Tensor | None:
    """The same where the product is to be 1 for each key; by Woodbury's identity, so as many unknowns as keys."""
    directions = torch.cholesky_solve(keys.T, factor)
    shared = keys @ directions + config.moment_weight * len(keys) * torch.eye(len(keys), dtype=keys.dtype)
    found = directions @ torch.linalg.solve(shared, torch.ones(len(keys), dtype=keys.dtype))
    return found if bool(found.any()) else None


def _together(task: Task, projection: Projection, made: list[LowRank]) -> WeightEdit:
    names = frozenset([projection.name]) if projection.transposed else frozenset[str]()
    if not made:
        return WeightEdit(task.edits, task.model, {}, names)
    joined = LowRank(torch.cat([one.left for one in made], 1), torch.cat([one.right for one in made]))
    return WeightEdit(task.edits, task.model, {projection.name: joined}, names)
