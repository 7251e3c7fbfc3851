"""What an edit did: to its own prompt, to other wordings, to what follows from it, and to what it should leave alone.

"Accuracy" is teacher-forced: a share of answers each of whose tokens is the likeliest after the true ones before it.
"Success" is that the new answer is likelier than the old one. "Generated" is that greedy generation from the prompt
begins with the answer. The three differ a good deal for the same edit, and tables that mix them mislead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.text import Encoded, encode, filler_of, pad

Kind = Literal[
    "generalization",
    "portability",
    "portability_alias",
    "portability_reversed",
    "portability_one_hop",
    "locality",
    "attribute_locality",
    "shared_name_locality",
]
"""Other wordings; consequences of any kind; the subject by another name; from the answer back to the subject; what
follows from the answer; other subjects; the same subject's other facts; subjects that share a name."""


@dataclass(frozen=True)
class Probe:
    """A prompt and what is to follow it once the edit is made.

    Attributes:
        kind: What it asks about.
        prompt: The prompt.
        answer: What must follow: the new answer or a consequence of it; for the localities, what followed before.
        needs: Prompts with what the model must say after them before the edit, so that the probe means anything: who
            does not know that two names are one person's cannot be asked for the consequence. See `meaningful`.
    """

    kind: Kind
    prompt: str
    answer: str
    needs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EditScores:
    """Shares in [0, 1].

    Attributes:
        accuracy: Kind of probe, and `reliability`, to the share of answers given, teacher-forced.
        generated: The same by greedy generation.
        success: Kind to the share of prompts after which the new answer is likelier than the old, each as a whole, so
            that more tokens make an answer less likely; of reliability and generalization alone, and only if every edit
            says what the old answer is. Where edits with one new answer have several old ones, the subject in a probe
            says which is meant; probes without one are left out.
        numbers: Kind to how many prompts were asked.
    """

    accuracy: Mapping[str, float]
    generated: Mapping[str, float]
    success: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)


def score_edit(model: nn.Module, tokenizer: Any, edits: Sequence[Edit], probes: Sequence[Probe] = ()) -> EditScores:
    """Ask an edited model.

    Args:
        model: It.
        tokenizer: Its fast tokenizer.
        edits: What was asked for.
        probes: What else to ask.

    Returns:
        The scores.

    Raises:
        InputError: If there are no edits.
    """
    if not edits:
        raise InputError("no edits are given, so there is nothing to score")
    asked = _by_kind(edits, probes)
    generated = {kind: _mean(generates(model, tokenizer, pairs)) for kind, pairs in asked.items()}
    return EditScores(
        accuracies(model, tokenizer, edits, probes),
        generated,
        _success(model, tokenizer, edits, probes),
        {kind: len(pairs) for kind, pairs in asked.items()},
    )


def accuracies(
    model: nn.Module, tokenizer: Any, edits: Sequence[Edit], probes: Sequence[Probe] = (), *, batch: int = 256
) -> dict[str, float]:
    """The teacher-forced part of `score_edit` alone, which takes one pass over all prompts.

    Args:
        model: An edited model.
        tokenizer: Its fast tokenizer.
        edits: What was asked for.
        probes: What else to ask.
        batch: So many prompts at a time.

    Returns:
        Kind of probe, and `reliability`, to the share of answers given.
    """
    asked = _by_kind(edits, probes)
    right = answered(model, tokenizer, [pair for pairs in asked.values() for pair in pairs], batch=batch)
    parts = torch.split(right, [len(pairs) for pairs in asked.values()])
    return {kind: _mean(part) for kind, part in zip(asked, parts, strict=True)}


def meaningful(model: nn.Module, tokenizer: Any, probes: Sequence[Probe], *, batch: int = 256) -> list[Probe]:
    """Those probes all of whose needs a model meets.

    Args:
        model: Before the edit.
        tokenizer: Its fast tokenizer.
        probes: What one would ask after the edit.
        batch: So many prompts at a time.

    Returns:
        Probes without needs, and those whose every needed answer the model gives; how many others there were is the
        difference.
    """
    needs = list(dict.fromkeys(need for probe in probes for need in probe.needs))
    if not needs:
        return list(probes)
    met = dict(zip(needs, answered(model, tokenizer, needs, batch=batch).tolist(), strict=True))
    return [probe for probe in probes if all(met[need] for need in probe.needs)]


def _by_kind(edits: Sequence[Edit], probes: Sequence[Probe]) -> dict[str, list[tuple[str, str]]]:
    asked: dict[str, list[tuple[str, str]]] = {"reliability": [(edit.prompt, edit.target_new) for edit in edits]}
    for probe in probes:
        asked.setdefault(probe.kind, []).append((probe.prompt, probe.answer))
    return asked


def answered(model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]], *, batch: int = 64) -> torch.Tensor:
    """Whether each token of an answer is the likeliest after the prompt and the answer's tokens before it.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: Prompts with answers.
        batch: So many at a time.

    Returns:
        `[n]` bool.
    """
    found = []
    for padded, logits in _read(model, tokenizer, pairs, batch):
        wanted = padded.answers[:, 1:]
        right = logits[:, :-1].argmax(-1) == padded.ids[:, 1:]
        found.append((right | ~wanted).all(1).cpu())
    return torch.cat(found)


def answer_log_probability(
    model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]], *, batch: int = 64
) -> torch.Tensor:
    """Log-probability of each answer after its prompt, summed over the answer's tokens.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: Prompts with answers.
        batch: So many at a time.

    Returns:
        `[n]` float64.
    """
    found = []
    for padded, logits in _read(model, tokenizer, pairs, batch):
        each = logits[:, :-1].double().log_softmax(-1).gather(2, padded.ids[:, 1:, None])[..., 0]
        # A product would be no number where a token that is no answer has probability 0.
        found.append(each.masked_fill(~padded.answers[:, 1:], 0).sum(1).cpu())
    return torch.cat(found)


def generates(model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
    """Whether greedy generation from a prompt begins with the answer.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: Prompts with answers.

    Returns:
        `[n]` bool.
    """
    device = next(model.parameters()).device
    texts = [encode(tokenizer, prompt, answer) for prompt, answer in pairs]
    found = torch.zeros(len(texts), dtype=torch.bool)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault((text.start, len(text.answer)), []).append(row)
    for (start, length), rows in groups.items():
        ids = torch.stack([texts[row].ids[:start] for row in rows]).to(device)
        for _ in range(length):
            with frozen(model), torch.no_grad():
                ids = torch.cat([ids, logits_of(model, ids)[:, -1:].argmax(-1)], 1)
        answers = torch.stack([texts[row].answer for row in rows]).to(device)
        found[rows] = (ids[:, start:] == answers).all(1).cpu()
    return found


def _success(model: nn.Module, tokenizer: Any, edits: Sequence[Edit], probes: Sequence[Probe]) -> dict[str, float]:
    if any(edit.target_old is None for edit in edits):
        return {}
    asked = {
        "reliability": [(edit.prompt, edit.target_new, edit.target_old) for edit in edits],
        "generalization": [
            (probe.prompt, probe.answer, _old(probe, edits)) for probe in probes if probe.kind == "generalization"
        ],
    }
    found = {}
    for kind, triples in asked.items():
        known = [(prompt, new, before) for prompt, new, before in triples if before is not None]
        if known:
            after = answer_log_probability(model, tokenizer, [(prompt, new) for prompt, new, _ in known])
            before = answer_log_probability(model, tokenizer, [(prompt, was) for prompt, _, was in known])
            found[kind] = _mean(after > before)
    return found


def _old(probe: Probe, edits: Sequence[Edit]) -> str | None:
    """The old answer to a probe; None: none is known, or it is not clear which."""
    same = [edit for edit in edits if edit.target_new == probe.answer]
    found = {edit.target_old for edit in same}
    if len(found) > 1:
        found = {edit.target_old for edit in same if edit.subject in probe.prompt}
    return found.pop() if len(found) == 1 else None


def _read(model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]], batch: int) -> Any:
    if not pairs:
        raise InputError("no pairs are given, so there is nothing to ask for")
    device = next(model.parameters()).device
    texts: list[Encoded] = [encode(tokenizer, prompt, answer) for prompt, answer in pairs]
    for at in range(0, len(texts), batch):
        padded = pad(texts[at : at + batch], filler_of(tokenizer)).to(device)
        with frozen(model), torch.no_grad():
            yield padded, logits_of(model, padded.ids, padded.mask)


def _mean(values: torch.Tensor) -> float:
    return float(values.double().mean())
