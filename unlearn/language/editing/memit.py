r"""MEMIT: many facts at once, spread over the MLPs of several blocks.

For each edit, the hidden state \(z\) after the last block of the range is searched for that gives the new answer. Then,
block by block, with the keys \(K\) of all edits, the second moment \(C\) of all keys, and what is still missing of the
states divided by the number of blocks that are left, \(R\),

\[ W_i \leftarrow W_i + R \, K^\top (\lambda C + K K^\top)^{-1} . \]

Keys and states are looked at anew after every block.

With `together` the keys of all contexts are fitted instead of their averages, and what is written is searched for all
edits at once (`unlearn.language.editing.together`), which small models need for more than a few edits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit, EditorCard, LowRank, Task, WeightEdit
from unlearn.language.editing.contexts import Contexts, in_contexts, prefixes
from unlearn.language.editing.keys import SECOND_MOMENTS, keys_at, regularised
from unlearn.language.editing.together import Together, values_together
from unlearn.language.editing.values import Search, search
from unlearn.language.hooks import Anatomy, anatomy, by_text, frozen, logits_of, outputs_seen
from unlearn.language.text import Site, encode, filler_of, pad
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="memit",
    title="Mass-editing memory in a transformer (MEMIT)",
    guarantee=Guarantee.EMPIRICAL,
    needs_training=False,
    batches=True,
    edits_weights=True,
    place="mid-layer MLP",
    parameters_added="none",
    citation="Meng, Sharma, Andonian, Belinkov & Bau 2023, Mass-Editing Memory in a Transformer, arXiv:2210.07229",
    published=(
        "GPT-J, CounterFact: reliability 99.90, generalization 73.13, locality 97.17 (Yao et al. 2023)",
        "GPT-J, ZsRE: 99.23, 87.16, 99.62 (Yao et al. 2023; locality found again, the others re-check)",
    ),
)


@dataclass(frozen=True)
class Memit:
    r"""How to edit.

    Attributes:
        layers: Blocks whose down-projections are changed, in order, all below the model's last. Published: 3 to 8 for
            GPT-J.
        search: How the hidden state is searched for; the paper clamps at 0.75 and takes 25 steps.
        contexts: Which beginnings keys are averaged over, and the answer asked for after.
        moment_weight: \(\lambda\): how much what the model uses otherwise counts. Published: 15,000 for GPT-J.
        ridge: So many times the mean diagonal entry of the second moment is added to its diagonal.
        together: How values are searched for all edits at once; None: each apart, as published. `search` is not used.
        site: At which token keys and states are taken: the subject's last one, as published, or the prompt's. `locate`
            tells at which of them a model looks its facts up.
    """

    layers: tuple[int, ...] = (0, 1)
    search: Search = field(default_factory=lambda: Search(steps=25, clamp=0.75))
    contexts: Contexts = field(default_factory=Contexts)
    moment_weight: float = 15_000.0
    ridge: float = 0.1
    together: Together | None = None
    site: Site = "subject_last"

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise InputError(f"layers must be one or more block numbers in increasing order, got {self.layers}")
        if not self.moment_weight > 0:
            raise InputError(f"moment_weight must be positive, got {self.moment_weight}")


def memit(task: Task, config: Memit) -> WeightEdit:
    """Edit all facts together.

    Args:
        task: Model, tokenizer, edits, and texts for the second moments of keys and for contexts.
        config: How to edit.

    Returns:
        The edit, not yet made: for each of the blocks a matrix whose rank is the number of edits.
    """
    if config.together is None:
        return spread(task, config, wished_states(task, config))
    body = anatomy(task.model, task.layout)
    beginnings = prefixes(task, config.contexts)
    reads = {layer: _reads(task, body, layer, beginnings, config) for layer in config.layers}
    found = values_together(task, body, reads, beginnings, config.together)
    return _edit(task, body, config, {body.down(layer).name: one for layer, one in found.items()})


def wished_states(task: Task, config: Memit) -> torch.Tensor:
    """The hidden states at which the model gives the new answers; most of the time goes here.

    Args:
        task: As for `memit`.
        config: Its last layer, search and contexts.

    Returns:
        `[n, d]`, after the last of the blocks, at each edit's site.
    """
    body = anatomy(task.model, task.layout)
    beginnings = prefixes(task, config.contexts)
    last = body.block(config.layers[-1])
    found = [search(task, edit, last, beginnings, config.search, config.site) for edit in task.edits]
    return _states(task, body, config) + torch.stack(found)


def spread(task: Task, config: Memit, wished: torch.Tensor) -> WeightEdit:
    """Spread what is missing of the states over the blocks.

    Args:
        task: As for `memit`.
        config: Its layers, contexts, moment_weight and ridge.
        wished: `[n, d]`, as `wished_states` returns them.

    Returns:
        The edit, not yet made.
    """
    body = anatomy(task.model, task.layout)
    beginnings = prefixes(task, config.contexts)
    moments = {layer: SECOND_MOMENTS.get(body, task.tokenizer, layer, task.texts) for layer in config.layers}
    made: dict[str, LowRank] = {}
    for place, layer in enumerate(config.layers):
        with _edit(task, body, config, made):
            missing = (wished - _states(task, body, config)) / (len(config.layers) - place)
            keys = _keys(task, body, layer, beginnings, config)
            right = _inverse(regularised(moments[layer], config.ridge) * config.moment_weight, keys)
        made[body.down(layer).name] = LowRank(missing.T.contiguous(), right.to(missing))
    return _edit(task, body, config, made)


def _inverse(weighted: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    r"""\(K^\top (\lambda C + K K^\top)^{-1}\), `[n, in]`, of keys `[n, in]`."""
    return torch.as_tensor(torch.linalg.solve(weighted + keys.T @ keys, keys.T).T)


def _states(task: Task, body: Anatomy, config: Memit) -> torch.Tensor:
    """Hidden states `[n, d]` after the last block, at each edit's site."""
    texts = [encode(task.tokenizer, edit.prompt, subject=edit.subject, site=config.site) for edit in task.edits]
    padded = pad(texts, filler_of(task.tokenizer)).to(task.device)
    with frozen(task.model), torch.no_grad(), outputs_seen(body.block(config.layers[-1])) as seen:
        logits_of(task.model, padded.ids, padded.mask)
    return by_text(seen[0], len(texts))[torch.arange(len(texts)), padded.sites]


def _reads(task: Task, body: Anatomy, layer: int, beginnings: list[str], config: Memit) -> torch.Tensor:
    """What reads each edit, `[n, in]` float64: 1 after each of its contexts, 0 after those of all other edits."""
    moment = regularised(SECOND_MOMENTS.get(body, task.tokenizer, layer, task.texts), config.ridge)
    every = [_keys_of(task, body, layer, edit, beginnings, config) for edit in task.edits]
    keys = torch.cat(every)
    fitted = config.moment_weight * moment + keys.T @ keys / len(beginnings)
    return torch.as_tensor(torch.linalg.solve(fitted, torch.stack([one.mean(0) for one in every]).T).T)


def _keys(task: Task, body: Anatomy, layer: int, beginnings: list[str], config: Memit) -> torch.Tensor:
    """Keys `[n, in]` float64 of all edits, averaged over contexts."""
    return torch.stack([_keys_of(task, body, layer, edit, beginnings, config).mean(0) for edit in task.edits])


def _keys_of(task: Task, body: Anatomy, layer: int, edit: Edit, beginnings: list[str], config: Memit) -> torch.Tensor:
    """Keys `[contexts, in]` float64 of one edit."""
    with frozen(task.model):
        texts = in_contexts(task, beginnings, edit, site=config.site)
        return keys_at(body, layer, texts, filler_of(task.tokenizer)).double().cpu()


def _edit(task: Task, body: Anatomy, config: Memit, made: dict[str, LowRank]) -> WeightEdit:
    transposed = frozenset(body.down(layer).name for layer in config.layers if body.down(layer).transposed)
    return WeightEdit(task.edits, task.model, made, transposed)
