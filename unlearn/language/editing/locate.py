r"""Causal tracing: where does a model look a fact up?

An editor changes one place and hopes that the fact is recalled there. This finds out (Meng et al. 2022, section 2):
with noise on the subject's embeddings the model does not give its answer any more; then what one module wrote at one
token without the noise is put back, and the probability of the answer looked at again. What it gains is that place's
*indirect effect*; its mean over facts and draws of noise is the average indirect effect.

The answer is the token the model itself finds likeliest, so nothing need be known of what is true. Noise is added to
what the first block reads. Where nothing passes through a token, ROME and MEMIT cannot write there. Among blocks at one
token the largest effect need not be the best place to edit (Hase et al. 2023, arXiv:2301.04213).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.hooks import (
    Anatomy,
    Architecture,
    anatomy,
    by_text,
    frozen,
    input_changed,
    inputs_seen,
    logits_of,
    output_changed,
    outputs_seen,
)
from unlearn.language.text import Site, encode, tokens_of

PLACES = ("subject_first", "subject_middle", "subject_last", "next", "further", "last")
"""Tokens of a prompt: those of the subject, the one after it, those after that, and the prompt's last one. What stands
before the subject cannot depend on it. A subject of one token is its last; one that ends the prompt has no `last`."""


@dataclass(frozen=True)
class Tracing:
    """How to trace.

    Attributes:
        module: What is put back: what a block's MLP writes, or the hidden state after the block.
        window: So many blocks around each are put back together. Published: 10 of GPT2-XL's 48 for MLPs; 1 for states.
        noise: Standard deviation of the noise, in those of the embeddings of the subject's tokens.
        samples: Draws of noise a fact.
        seed: They come from it.
        batch: So many prompts at a time.

    Raises:
        InputError: If a number is not positive.
    """

    module: Literal["mlp", "block"] = "mlp"
    window: int = 1
    noise: float = 3.0
    samples: int = 10
    seed: int = 0
    batch: int = 256

    def __post_init__(self) -> None:
        if min(self.window, self.noise, self.samples, self.batch) <= 0:
            raise InputError(f"window, noise, samples and batch must be positive, got {self}")


@dataclass(frozen=True, eq=False)
class Trace:
    """What was found.

    Attributes:
        effect: `[places, blocks]` float64, in the order of `PLACES`: by how much the probability of the answer rises,
            on average over facts; NaN where no prompt has such a token.
        error: `[places, blocks]`, its standard error over facts; NaN with fewer than two of them.
        clean: Mean probability of the answers without noise.
        corrupted: The same with noise, and nothing put back.
        facts: How many.
    """

    effect: torch.Tensor
    error: torch.Tensor
    clean: float
    corrupted: float
    facts: int

    def at(self, place: str) -> torch.Tensor:
        """Effects at one of the places.

        Args:
            place: One of `PLACES`.

        Returns:
            `[blocks]`.
        """
        return self.effect[PLACES.index(place)]

    @property
    def site(self) -> Site:
        """At which of the two tokens that ROME and MEMIT can edit some block has the larger effect."""
        sites: tuple[Site, ...] = get_args(Site)
        return max(sites, key=lambda site: float(self.at(site).nan_to_num(-math.inf).max()))

    @property
    def strongest(self) -> tuple[str, int]:
        """The place and the block with the largest effect."""
        place, block = divmod(int(self.effect.nan_to_num(-math.inf).argmax()), self.effect.shape[1])
        return PLACES[place], block


def locate(
    model: nn.Module,
    tokenizer: Any,
    edits: Sequence[Edit],
    tracing: Tracing | None = None,
    *,
    layout: Architecture | None = None,
) -> Trace:
    """Find out where a model looks up the facts that are to be edited.

    Args:
        model: A causal language model, not yet edited.
        tokenizer: Its fast tokenizer.
        edits: The facts; new answers do not matter.
        tracing: How; None: the defaults.
        layout: Where things are in the model; None: what `model.config.model_type` says.

    Returns:
        The average indirect effect of each place and block.

    Raises:
        ConfigurationError: If the model's inside is not known.
        InputError: If there are no facts, or the model's logits are not finite.
    """
    if not edits:
        raise InputError("no facts are given: at least one Edit(prompt, subject, target_new) is needed")
    tracing = Tracing() if tracing is None else tracing
    body = anatomy(model, layout)
    rng = torch.Generator().manual_seed(tracing.seed)
    with frozen(model), torch.no_grad():
        found = [_one(body, tokenizer, edit, tracing, rng) for edit in edits]
    effects = torch.stack([one.effect for one in found])
    known = (~effects.isnan()).sum(0)
    mean = effects.nanmean(0)
    spread = (effects - mean).square().nansum(0) / (known - 1)
    return Trace(
        mean,
        torch.where(known > 1, (spread / known).sqrt(), torch.nan),
        sum(one.clean for one in found) / len(found),
        sum(one.corrupted for one in found) / len(found),
        len(found),
    )


def _one(body: Anatomy, tokenizer: Any, edit: Edit, tracing: Tracing, rng: torch.Generator) -> Trace:
    """The trace of one fact."""
    text = encode(tokenizer, edit.prompt)
    subject = tokens_of(tokenizer, edit.prompt, edit.subject)
    ids = text.ids[None].to(next(body.model.parameters()).device)
    modules = [_module(body, layer, tracing) for layer in range(body.n_blocks)]
    with inputs_seen(body.block(0)) as read, ExitStack() as stack:
        written = [stack.enter_context(outputs_seen(module)) for module in modules]
        said = logits_of(body.model, ids)[0, -1].softmax(-1)
    if not bool(torch.isfinite(said).all()):
        raise InputError(f"the model's logits after {edit.prompt!r} are not finite: load it in float32, and look at it")
    answer = int(said.argmax())
    clean = [by_text(one[0], 1)[0] for one in written]
    about = read[0][0, subject].float()
    noise = torch.randn((tracing.samples, *about.shape), generator=rng).to(about) * about.std() * tracing.noise

    def asked(positions: list[int], layers: range) -> torch.Tensor:
        """Mean probability of the answer with what the blocks wrote at each of some positions put back, one by one."""
        chances: list[torch.Tensor] = []
        rows = [(draw, position) for position in positions for draw in range(tracing.samples)]
        for at in range(0, len(rows), tracing.batch):
            draws, places = (torch.tensor(column) for column in zip(*rows[at : at + tracing.batch], strict=True))
            with _noisy(body, subject, noise[draws]), ExitStack() as stack:
                for layer in layers:
                    stack.enter_context(_put_back(modules[layer], clean[layer], places))
                chances.append(logits_of(body.model, ids.expand(len(draws), -1))[:, -1].softmax(-1)[:, answer].double())
        return torch.cat(chances).view(len(positions), -1).mean(1).cpu()

    corrupted = float(asked([0], range(0)))
    kinds = _kinds(subject, len(text.ids))
    positions = [position for position, kind in enumerate(kinds) if kind is not None]
    effect = torch.full((len(PLACES), body.n_blocks), torch.nan, dtype=torch.float64)
    for block in range(body.n_blocks):
        first = max(0, block - (tracing.window - 1) // 2)
        gained = asked(positions, range(first, min(body.n_blocks, block + tracing.window // 2 + 1))) - corrupted
        for number, place in enumerate(PLACES):
            here = [row for row, position in enumerate(positions) if kinds[position] == place]
            if here:
                effect[number, block] = gained[here].mean()
    return Trace(effect, torch.full_like(effect, torch.nan), float(said[answer]), corrupted, 1)


def _module(body: Anatomy, layer: int, tracing: Tracing) -> nn.Module:
    return body.down(layer).module if tracing.module == "mlp" else body.block(layer)


def _kinds(subject: Sequence[int], length: int) -> list[str | None]:
    """Which of the places each token of a prompt is; None: it stands before the subject."""
    kinds: list[str | None] = [None] * length
    for position in range(subject[0], length):
        kinds[position] = "subject_middle" if position < subject[-1] else "further"
    kinds[subject[0]] = "subject_first"
    if subject[-1] + 1 < length:
        kinds[subject[-1] + 1] = "next"
        kinds[-1] = "last"
    kinds[subject[-1]] = "subject_last"
    return kinds


@contextmanager
def _noisy(body: Anatomy, subject: Sequence[int], noise: torch.Tensor) -> Iterator[None]:
    """With noise `[n, subject, d]` on what the first block reads at the subject's tokens."""

    def shaken(states: torch.Tensor) -> torch.Tensor:
        states = states.clone()
        states[:, list(subject)] += noise.to(states)
        return states

    with input_changed(body.block(0), shaken):
        yield


@contextmanager
def _put_back(module: nn.Module, clean: torch.Tensor, places: torch.Tensor) -> Iterator[None]:
    """With what a module wrote without noise, `[T, d]`, at one place of each text."""

    def healed(out: torch.Tensor) -> torch.Tensor:
        found = by_text(out, len(places)).clone()
        found[torch.arange(len(places)), places] = clean[places].to(found)
        return found.view(out.shape)

    with output_changed(module, healed):
        yield
