r"""SERAC: edits are kept beside the model; what is asked within their scope is answered by another model.

With a memory of edits \(z_i\), a scope classifier and a counterfactual model g, the edited model answers x by

\[ \begin{cases}
   g(\cdot \mid z_i, x) & \text{if } \mathrm{scope}(z_i, x) \ge \tfrac12, \; i \text{ where it is largest} \\
   f(\cdot \mid x) & \text{else: the base model's own answer, bit for bit.} \end{cases} \]

Both are trained before the first edit, on lessons about other facts. The scope is

\[ \mathrm{scope}(z, x) = \sigma\bigl(b - \lVert A (\phi(z) - \phi(x)) \rVert^2\bigr), \qquad
   \phi(x) = \sum_t w_t e_t \Big/ \sum_t w_t, \quad w_t = e^{u^\top e_t}, \]

with the base model's word embeddings e, and A, b, u trained; the paper uses a small language model. z is an edit's
prompt. Every beginning of a text is a query of its own, so that what is said does not depend on whether a cache is
used. g is a copy of the base model, or of a smaller one with the same tokenizer, tuned to answer "z x". No weight of
the base model changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from unlearn.errors import ConfigurationError, InputError
from unlearn.language.calls import cache_of, cached, ids_of, inserted, logits_replaced, mask_of
from unlearn.language.editing.base import EditorCard, HookEdit, Task
from unlearn.language.editing.embeddings import embedding_of
from unlearn.language.editing.fine_tuning import answer_loss
from unlearn.language.editing.lessons import Lesson, needed
from unlearn.language.exact import Descent
from unlearn.language.hooks import at_least_32_bits, logits_of
from unlearn.language.text import Encoded, encode, filler_of, pad
from unlearn.methods.base import Guarantee

CARD = EditorCard(
    name="serac",
    title="Semi-parametric editing with a retrieval-augmented counterfactual model (SERAC)",
    guarantee=Guarantee.SUPPRESSION,
    needs_training=True,
    batches=True,
    edits_weights=False,
    place="no weights: beside the model",
    parameters_added="scope classifier, counterfactual model, memory of edits",
    citation=("Mitchell, Lin, Bosselut, Manning & Finn 2022, Memory-Based Model Editing at Scale, arXiv:2206.06520"),
    published=(
        "GPT-J, ZsRE: reliability 90.16, generalization 89.96, locality 99.90 (Yao et al. 2023; re-check)",
        "GPT-J, CounterFact: 99.78, 99.41, 98.89 (Yao et al. 2023; re-check)",
    ),
)


@dataclass(frozen=True, eq=False)
class Serac:
    """What is trained before the first edit, and how.

    Attributes:
        lessons: Edits of other facts.
        counterfactual: The model of which a copy is tuned, with the tokenizer of the base model; None: the base model.
        separator: Stands between an edit and the query.
        scope_steps: Of Adam, for the classifier.
        scope_learning_rate: Of it.
        scope_size: Rows of A.
        steps: Of Adam, for the counterfactual model.
        learning_rate: Of it.
        batch: Lessons a step.
        seed: Of initial values and order.
        trained: Classifier and counterfactual model, trained before by `prepared`; None: they are trained for these
            edits.
    """

    lessons: tuple[Lesson, ...] = ()
    counterfactual: nn.Module | None = None
    separator: str = " . "
    scope_steps: int = 300
    scope_learning_rate: float = 1e-2
    scope_size: int = 32
    steps: int = 300
    learning_rate: float = 1e-3
    batch: int = 32
    seed: int = 0
    trained: tuple[Scope, nn.Module] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        numbers = (self.scope_size, self.batch, self.learning_rate, self.scope_learning_rate)
        if min(numbers) <= 0 or min(self.steps, self.scope_steps) < 0:
            raise InputError(f"sizes and learning rates must be positive, and steps not negative, got {self}")


def serac(task: Task, config: Serac) -> HookEdit:
    """Train classifier and counterfactual model, and put the edits into the memory.

    Args:
        task: Model, tokenizer and edits.
        config: What is trained, and how.

    Returns:
        The edit, not yet made.

    Raises:
        InputError: If there are no lessons, they give an edit away, or what was trained is for another width.
    """
    lessons = needed(config.lessons, task.edits, "serac")
    scope, model = _trained(task, lessons, config) if config.trained is None else config.trained
    if scope.map.shape[1] != embedding_of(task.model).weight.shape[1]:
        raise InputError("serac was trained for a model of another width: train it for this one")
    memory = Memory(
        [encode(task.tokenizer, edit.prompt).ids for edit in task.edits],
        [_stated(task, edit.prompt, edit.target_new, config) for edit in task.edits],
    )
    aside = Aside(_embeddings(task), scope, model, memory)
    parts = {f"scope.{name}": value.detach() for name, value in scope.state_dict().items()}
    parts |= {f"counterfactual.{name}": value.detach() for name, value in model.named_parameters()}
    parts |= {f"memory.{at:06}": ids for at, ids in enumerate(memory.stated)}
    return HookEdit(task.edits, task.model, lambda base: _hang(base, aside), parts)


def prepare(task: Task, config: Serac) -> Serac:
    """Train classifier and counterfactual model for any edits to come.

    Args:
        task: Model, tokenizer, and the edits that are to come, of which no lesson may know.
        config: What is trained, and how.

    Returns:
        The configuration, with both.
    """
    return replace(config, trained=_trained(task, needed(config.lessons, task.edits, "serac"), config))


def _trained(task: Task, lessons: Sequence[Lesson], config: Serac) -> tuple[Scope, nn.Module]:
    return trained_scope(task, lessons, config), trained_counterfactual(task, lessons, config)


@dataclass(frozen=True, eq=False)
class Memory:
    """What was edited.

    Attributes:
        prompts: Token ids `[T]` of each edit's prompt, which the classifier compares.
        stated: Token ids `[T]` of each edit and a separator, which the counterfactual model reads before the query.
    """

    prompts: Sequence[torch.Tensor]
    stated: Sequence[torch.Tensor]


class Scope(nn.Module):
    """The scope classifier.

    Args:
        width: Of word embeddings.
        size: Rows of A.
        rng: A is drawn from it.
    """

    def __init__(self, width: int, size: int, rng: torch.Generator) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.randn(size, width, generator=rng) / width**0.5)
        self.attention = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.ones(()))

    def forward(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Where in the space of A each beginning of each text stands.

        Args:
            embedded: `[n, T, d]` word embeddings.
            mask: `[n, T]`, 0 where there is padding.

        Returns:
            `[n, T, size]`.
        """
        # Centred by no maximum: a later token must not change what an earlier beginning is.
        weights = (embedded @ self.attention).clamp(-20, 20).exp()[..., None] * mask[..., None]
        means = (weights * embedded).cumsum(1) / weights.cumsum(1).clamp(min=1e-12)
        return means @ self.map.T

    def logit(self, edits: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Log-odds that queries are in the scope of edits.

        Args:
            edits: `[…, size]`.
            queries: `[…, size]`.

        Returns:
            `[…]`.
        """
        return self.bias - ((edits - queries) ** 2).sum(-1)


class Aside:
    """The classifier, the counterfactual model and the memory, beside a base model.

    Args:
        embeddings: `[vocabulary, d]` of the base model.
        scope: The classifier.
        model: The counterfactual model.
        memory: The edits.
    """

    def __init__(self, embeddings: torch.Tensor, scope: Scope, model: nn.Module, memory: Memory) -> None:
        self._embeddings, self._scope, self._model, self._memory = embeddings, scope, model, memory
        self._read: WeakKeyDictionary[Any, tuple[torch.Tensor, torch.Tensor]] = WeakKeyDictionary()
        self._held = 0

    def called(self, _: nn.Module, __: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Remember how much was read before this call: the cache grows during it."""
        self._held = cached(cache_of(named))

    def answered(self, _: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any], said: Any) -> Any:
        """Put the counterfactual model's logits where a query is in the scope of an edit."""
        ids, mask = self._whole(arguments, named, said)
        return logits_replaced(said, lambda logits: self.combined(ids, mask, logits))

    @torch.no_grad()
    def which(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """In the scope of which edit each beginning of each text is.

        Args:
            ids: `[n, T]` int64.
            mask: `[n, T]`, 0 where there is padding.

        Returns:
            `[n, T]` int64 numbers of edits; -1: of none.
        """
        edits = torch.stack(
            [
                self._scope(self._embeddings[one][None], torch.ones_like(one)[None])[0, -1]
                for one in self._memory.prompts
            ]
        )
        queries = self._scope(self._embeddings[ids], mask)
        best = self._scope.logit(edits, queries[:, :, None]).max(-1)
        return best.indices.masked_fill((best.values < 0) | (mask == 0), -1)

    @torch.no_grad()
    def combined(self, ids: torch.Tensor, mask: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The base model's logits, or the counterfactual model's.

        Args:
            ids: `[n, T]` all that was read.
            mask: `[n, T]`.
            logits: `[n, L, vocabulary]` of the base model at the last L tokens.

        Returns:
            Of the same shape; the very tensor given, where no query is in any scope.
        """
        found = self.which(ids, mask)[:, -logits.shape[1] :]
        for at, stated in enumerate(self._memory.stated):
            rows = (found == at).any(1)
            if bool(rows.any()):
                other = self.counterfactual(stated, ids[rows], mask[rows])[:, -logits.shape[1] :]
                logits = logits.clone()
                logits[rows] = torch.where((found[rows] == at)[..., None], other.to(logits), logits[rows])
        return logits

    def counterfactual(self, stated: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the counterfactual model says after an edit.

        Args:
            stated: `[m]` token ids of the edit.
            ids: `[n, T]`.
            mask: `[n, T]`.

        Returns:
            `[n, T, vocabulary]`.
        """
        before = stated.to(ids.device).expand(len(ids), len(stated))
        mask = mask.long()
        padding = mask.argmax(1)  # stays outside: between edit and query it would take places in a narrow window
        whole = inserted(ids, padding, before), inserted(mask, padding, torch.ones_like(before))
        return logits_of(self._model, *whole)[:, len(stated) :]

    def _whole(
        self, arguments: tuple[Any, ...], named: Mapping[str, Any], said: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All that was read, with what an earlier call has put into the cache."""
        ids = ids_of(arguments, named)
        given = mask_of(named)
        mask = torch.ones_like(ids) if given is None else given[:, -ids.shape[1] :]
        cache = cache_of(named)
        if self._held:
            if cache not in self._read or len(self._read[cache][0]) != len(ids):
                raise InputError("the cache was filled before this edit was made: begin with an empty one")
            before = self._read[cache]
            if before[0].shape[1] != self._held:
                raise InputError("the cache was cut since it was filled: begin with an empty one")
            ids, mask = torch.cat([before[0], ids], 1), torch.cat([before[1], mask], 1)
        cache = cache if cache is not None or not isinstance(said, Mapping) else cache_of(said)
        if cache is not None:
            self._read[cache] = ids, mask
            self._follow(cache)
        return ids, mask

    def _follow(self, cache: Any) -> None:
        """Let what was read change places as beams in the cache do."""
        if "reorder_cache" in vars(cache) or not hasattr(cache, "reorder_cache"):
            return
        where = ref(cache)

        def reordered(beams: torch.Tensor) -> None:
            held: Any = where()
            ids, mask = self._read[held]
            self._read[held] = ids[beams.to(ids.device)], mask[beams.to(mask.device)]
            type(held).reorder_cache(held, beams)

        cache.reorder_cache = reordered


def trained_scope(task: Task, lessons: Sequence[Lesson], config: Serac) -> Scope:
    """Train the scope classifier by the loss of its yes or no.

    Within the scope of a lesson are its prompt and other wordings, alone and with the new answer; outside are its kept
    prompts, and what belongs to another lesson.

    Args:
        task: What the editor was given.
        lessons: What is learned from.
        config: How.

    Returns:
        The classifier.
    """
    rng = torch.Generator().manual_seed(config.seed)
    weight = _embeddings(task)
    scope = Scope(weight.shape[1], config.scope_size, rng).to(weight)
    optimizer = torch.optim.Adam(scope.parameters(), lr=config.scope_learning_rate)
    for _ in range(config.scope_steps):
        edits, queries, inside = _pairs(task, lessons, config.batch, rng)
        found = scope.logit(_ends(scope, weight, edits), _ends(scope, weight, queries))
        wanted = torch.tensor(inside, dtype=found.dtype, device=found.device)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.binary_cross_entropy_with_logits(found, wanted))
        optimizer.step()
    return scope.eval().requires_grad_(requires_grad=False)


def trained_counterfactual(task: Task, lessons: Sequence[Lesson], config: Serac) -> nn.Module:
    """Tune a copy of a model to answer a query by the edit that stands before it.

    Args:
        task: What the editor was given.
        lessons: What is learned from.
        config: How.

    Returns:
        The counterfactual model.

    Raises:
        ConfigurationError: If its vocabulary is not the base model's.
    """
    model = copy.deepcopy(task.model if config.counterfactual is None else config.counterfactual)
    model = model.to(task.device).eval().requires_grad_(requires_grad=True)
    ours, theirs = embedding_of(task.model).weight.shape[0], embedding_of(model).weight.shape[0]
    if ours != theirs:
        raise ConfigurationError(f"the counterfactual model has {theirs} tokens, the base model {ours}")
    rng = torch.Generator().manual_seed(config.seed)
    descent = Descent(list(model.parameters()), config.learning_rate)
    for _ in range(config.steps):
        asked = pad(_queries(task, lessons, config, rng), filler_of(task.tokenizer)).to(task.device)
        descent.step(answer_loss(logits_of(model, asked.ids, asked.mask), asked))
    return model.requires_grad_(requires_grad=False)


def _embeddings(task: Task) -> torch.Tensor:
    """Those of the base model, in the type the scope is computed in."""
    weight = embedding_of(task.model).weight.detach()
    return weight.to(at_least_32_bits(weight), copy=True)


def _hang(base: nn.Module, aside: Aside) -> Iterable[RemovableHandle]:
    yield base.register_forward_pre_hook(aside.called, with_kwargs=True)
    yield base.register_forward_hook(aside.answered, with_kwargs=True)


def _stated(task: Task, prompt: str, answer: str, config: Serac) -> torch.Tensor:
    return encode(task.tokenizer, f"{prompt} {answer}{config.separator}").ids


def _queries(task: Task, lessons: Sequence[Lesson], config: Serac, rng: torch.Generator) -> list[Encoded]:
    found = []
    for at in torch.randint(len(lessons), (config.batch,), generator=rng):
        edit, wordings = lessons[at].edit, (lessons[at].edit.prompt, *lessons[at].wordings)
        prompt = wordings[int(torch.randint(len(wordings), (), generator=rng))]
        stated, query = (
            _stated(task, edit.prompt, edit.target_new, config),
            encode(task.tokenizer, prompt, edit.target_new),
        )
        found.append(Encoded(torch.cat([stated, query.ids]), len(stated) + query.start, None))
    return found


def _pairs(
    task: Task, lessons: Sequence[Lesson], number: int, rng: torch.Generator
) -> tuple[list[Encoded], list[Encoded], list[bool]]:
    """Edits and queries: one inside, one of the lesson's own outside, one of another lesson's outside, in turn."""
    edits, queries, inside = [], [], []
    for at in torch.randint(len(lessons), (number,), generator=rng):
        lesson, other = lessons[at], lessons[int(torch.randint(len(lessons), (), generator=rng))]
        new = lesson.edit.target_new
        asked = [(prompt, new, True) for prompt in (lesson.edit.prompt, *lesson.wordings)]
        chosen = [asked[int(torch.randint(len(asked), (), generator=rng))]]
        chosen += (
            [(*lesson.kept[int(torch.randint(len(lesson.kept), (), generator=rng))], False)] if lesson.kept else []
        )
        if other.edit.prompt != lesson.edit.prompt:
            chosen.append((other.edit.prompt, other.edit.target_new, False))
        for prompt, answer, within in chosen:
            answered = bool(torch.rand((), generator=rng) < 0.3)
            edits.append(encode(task.tokenizer, lesson.edit.prompt))
            queries.append(encode(task.tokenizer, prompt, answer if answered else ""))
            inside.append(within)
    return edits, queries, inside


def _ends(scope: Scope, weight: torch.Tensor, texts: Sequence[Encoded]) -> torch.Tensor:
    padded = pad(texts, 0).to(weight.device)
    return torch.as_tensor(scope(weight[padded.ids], padded.mask)[torch.arange(len(texts)), padded.mask.sum(1) - 1])
