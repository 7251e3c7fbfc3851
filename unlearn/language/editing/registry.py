"""Which editors there are, and the one call that edits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError, meant
from unlearn.language.editing import (
    calinet,
    fine_tuning,
    ike,
    ke,
    knowledge_neurons,
    memit,
    mend,
    rome,
    serac,
    t_patcher,
)
from unlearn.language.editing.base import Applied, Edit, EditorCard, Task
from unlearn.language.hooks import Architecture, frozen, logits_of
from unlearn.language.metrics import answered
from unlearn.language.text import encode, filler_of, is_known, pad


@dataclass(frozen=True)
class Editor:
    """A card, the function that makes edits, and the type of its configuration.

    Attributes:
        card: What it is.
        function: `(task, config)` to an edit that is not yet made.
        config: A frozen dataclass, all of whose fields have defaults.
        prepare: `(task, config)` to a configuration with all that is trained before the first edit; None: nothing is.
    """

    card: EditorCard
    function: Callable[[Task, Any], Applied]
    config: type[Any]
    prepare: Callable[[Task, Any], Any] | None = None


_ALL = (
    Editor(fine_tuning.FT_L, fine_tuning.ft_l, fine_tuning.FineTuning),
    Editor(fine_tuning.FT_M, fine_tuning.ft_m, fine_tuning.FineTuning),
    Editor(knowledge_neurons.CARD, knowledge_neurons.kn, knowledge_neurons.KnowledgeNeurons),
    Editor(rome.CARD, rome.rome, rome.Rome),
    Editor(memit.CARD, memit.memit, memit.Memit),
    Editor(ike.CARD, ike.ike, ike.Ike),
    Editor(t_patcher.CARD, t_patcher.t_patcher, t_patcher.TPatcher),
    Editor(serac.CARD, serac.serac, serac.Serac, serac.prepare),
    Editor(calinet.CARD, calinet.calinet, calinet.CaliNet),
    Editor(mend.CARD, mend.mend, mend.Mend, mend.prepare),
    Editor(ke.CARD, ke.ke, ke.KnowledgeEditor, ke.prepare),
)

EDITORS: Mapping[str, Editor] = MappingProxyType({editor.card.name: editor for editor in _ALL})
"""Every editor by name."""


class EditWarning(RuntimeWarning):
    """An edit was made, and the model still does not give a new answer."""


@dataclass(frozen=True)
class Guard:
    """What an edit must not do to the model.

    Attributes:
        texts: Perplexity is measured on them; none: what the editor was given.
        largest: Perplexity after the edit is at most so many times what it was.
    """

    texts: tuple[str, ...] = ()
    largest: float = 10.0


def edit(
    model: nn.Module,
    tokenizer: Any,
    edits: Sequence[Edit],
    method: str = "rome",
    config: Any = None,
    *,
    texts: Sequence[str] = (),
    layout: Architecture | None = None,
    guard: Guard | None = None,
) -> Applied:
    """Change what a language model says about some facts.

    Args:
        model: A causal language model, of transformers or any other that maps ids `[n, T]` to logits.
        tokenizer: Its fast tokenizer.
        edits: What to change, at least one.
        method: Name of an editor in `EDITORS`.
        config: Its configuration; None: the defaults, which suit small models.
        texts: Sentences of the kind the model is used on; ROME, MEMIT and T-Patcher learn from them what is to stay.
        layout: Where things are in the model; None: what `model.config.model_type` says.
        guard: What the edit must not do to the model; None: it may multiply the perplexity of the texts by ten.

    Returns:
        The edit, made. `revert()` takes it back, bytes and all; as a context manager it does so at the end.

    Warns:
        EditWarning: If the model still does not give every new answer after its own prompt; or if it cannot, since
            the tokenizer has no tokens for one.

    Raises:
        ConfigurationError: If there is no such editor, its configuration is another's, or the model's inside is not
            known.
        InputError: If there are no edits, or the edit would destroy the model, which is then as it was.
        EditWarning: Where warnings are errors; the model is then as it was.
    """
    editor, config = _found(method, config)
    if not edits:
        raise InputError("no edits are given: at least one Edit(prompt, subject, target_new) is needed")
    guard = Guard() if guard is None else guard
    watched = list(guard.texts or texts) or [f"{one.prompt} {one.target_new}" for one in edits]
    before = perplexity(model, tokenizer, watched)
    if not math.isfinite(before):
        raise InputError(
            "the model's logits are not finite before any edit: load it in float32, and look at its weights"
        )
    with torch.inference_mode(mode=False), torch.enable_grad():
        made = editor.function(Task(model, tokenizer, tuple(edits), tuple(texts), layout), config)
    try:
        made.apply()
        after = perplexity(model, tokenizer, watched)
        given = answered(model, tokenizer, [(one.prompt, one.target_new) for one in edits])
    except BaseException:
        made.revert()
        raise
    if not after <= guard.largest * before:
        made.revert()
        raise InputError(
            f"the edit was taken back: it would multiply perplexity by {after / before:.3g}, from {before:.3g} to "
            f"{after:.3g}, and at most {guard.largest:g} is allowed. Edit fewer facts at once, search with a smaller "
            "clamp, give more texts, or edit another layer"
        )
    try:
        _warn([one for one, right in zip(edits, given.tolist(), strict=True) if not right], len(edits), method)
        _warn_of_unknown(tokenizer, edits)
    except EditWarning:
        # Where warnings are errors, nobody gets the edit to take it back.
        made.revert()
        raise
    return made


def _warn_of_unknown(tokenizer: Any, edits: Sequence[Edit]) -> None:
    """Say which answers nobody can give."""
    for one in edits:
        if not is_known(tokenizer, encode(tokenizer, one.prompt, one.target_new).answer):
            warnings.warn(
                f"the tokenizer has no tokens for all of {one.target_new!r}: after {one.prompt!r} the model says its "
                "mark for the unknown instead, and all metrics count any other unknown answer as given",
                EditWarning,
                stacklevel=3,
            )


def _warn(missed: Sequence[Edit], number: int, method: str) -> None:
    """Say which edits did not take."""
    if missed:
        first = f"after {missed[0].prompt!r} the model still does not say {missed[0].target_new!r}"
        where = " unlearn.language.locate tells at which token and in which block the model looks a fact up."
        warnings.warn(
            f"{len(missed)} of {number} edits did not take: {first}. Search longer, edit another layer, or take "
            f"another editor.{where if method in ('rome', 'memit') else ''}",
            EditWarning,
            stacklevel=3,
        )


def prepared(
    model: nn.Module,
    tokenizer: Any,
    method: str,
    config: Any,
    *,
    edits: Sequence[Edit] = (),
    texts: Sequence[str] = (),
    layout: Architecture | None = None,
) -> Any:
    """Train what an editor learns before it edits, once for many calls of `edit`.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        method: Name of an editor in `EDITORS`.
        config: Its configuration, with lessons if it takes any.
        edits: Those to come, as far as they are known: lessons that hold any of them are refused.
        texts: As for `edit`.
        layout: As for `edit`.

    Returns:
        The configuration with what was trained; the very one given, if the editor trains nothing before.

    Raises:
        ConfigurationError: If there is no such editor, or its configuration is another's.
        InputError: If there are no lessons, or they give away an edit.
    """
    editor, config = _found(method, config)
    if editor.prepare is None:
        return config
    with torch.inference_mode(mode=False), torch.enable_grad():
        return editor.prepare(Task(model, tokenizer, tuple(edits), tuple(texts), layout), config)


def _found(method: str, config: Any) -> tuple[Editor, Any]:
    """An editor by its name, and its configuration."""
    if method not in EDITORS:
        raise ConfigurationError(
            f"there is no editor {method!r}{meant(method, EDITORS)}; there are {', '.join(EDITORS)}"
        )
    editor = EDITORS[method]
    config = editor.config() if config is None else config
    if not isinstance(config, editor.config):
        raise ConfigurationError(f"{method} is configured by a {editor.config.__name__}, got a {type(config).__name__}")
    return editor, config


def perplexity(model: nn.Module, tokenizer: Any, texts: Sequence[str], *, batch: int = 32) -> float:
    """Exponential of the mean negative log-likelihood of all tokens after the first of each text.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        texts: At least one with two tokens.
        batch: So many at a time.

    Returns:
        At least 1; infinity or NaN if the logits are not finite.

    Raises:
        InputError: If no text has two tokens.
    """
    encoded = sorted((encode(tokenizer, text) for text in texts), key=lambda text: len(text.ids))
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for at in range(0, len(encoded), batch):
        padded = pad(encoded[at : at + batch], filler_of(tokenizer)).to(device)
        with frozen(model), torch.no_grad():
            said = logits_of(model, padded.ids, padded.mask)[:, :-1].log_softmax(-1)
        each = -said.gather(2, padded.ids[:, 1:, None])[..., 0]
        wanted = padded.mask[:, 1:].bool()
        total += float(each[wanted].double().sum())
        count += int(wanted.sum())
    if not count:
        raise InputError("perplexity needs a text of at least two tokens")
    mean = total / count
    return math.exp(mean) if mean < 700 else math.inf
