"""A base model steered by helpers while it decodes; its weights, and what they hold, stay as they are.

For audits, `logits` says what the steered model says about given tokens. For generation, `processor` is a
`LogitsProcessor` of transformers that keeps a cache for each helper, so a step costs one token of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError
from unlearn.language.decoding.rules import LogitRule, Offset, Strength
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.reading import Reader
from unlearn.language.text import encode, same_vocabulary
from unlearn.methods.base import Guarantee


@dataclass(frozen=True)
class TokenShift:
    """What steering did to one token of a text.

    Attributes:
        token: As text.
        base: Its probability under the base model.
        steered: Its probability under the steered model.
    """

    token: str
    base: float
    steered: float

    @property
    def shift(self) -> float:
        """How much likelier it became."""
        return self.steered - self.base


class Steered:
    """A base model, helpers, and the rule by which they change what it says.

    Args:
        base: A causal language model.
        helpers: Others, as many as the rule asks.
        rule: How they are combined.

    Raises:
        ConfigurationError: If there are fewer or more helpers than the rule asks, or one of the models has an encoder.
    """

    guarantee = Guarantee.SUPPRESSION
    """The most that can be claimed: the base model still knows."""

    def __init__(self, base: nn.Module, helpers: Sequence[nn.Module], rule: LogitRule) -> None:
        if len(helpers) != rule.n_helpers:
            raise ConfigurationError(f"{type(rule).__name__} needs {rule.n_helpers} helpers, got {len(helpers)}")
        for model in (base, *helpers):
            if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
                raise ConfigurationError(
                    f"{type(model).__name__} has an encoder: steering needs causal models, which read the text they "
                    "go on with"
                )
        self.base = base
        self.helpers = tuple(helpers)
        self.rule = rule

    def logits(self, ids: torch.Tensor, mask: torch.Tensor | None = None, *, prompt: int = 1) -> torch.Tensor:
        """What the steered model says after each token.

        Args:
            ids: `[n, T]` int64.
            mask: `[n, T]`, 0 where there is padding; None: nowhere.
            prompt: The first so many tokens were given; places are counted from there.

        Returns:
            `[n, T, vocabulary]`.

        Raises:
            InputError: If a logit is not a number where there is no padding, or a helper knows fewer tokens than the
                base model.
        """
        with torch.no_grad():
            base = _evaluated(self.base, ids, mask)
            helpers = [_fitted(_evaluated(helper, ids, mask), base.shape[-1]) for helper in self.helpers]
        places = [max(0, at + 1 - prompt) for at in range(ids.shape[1])]
        said = [
            self.rule.combine(base[:, at], [helper[:, at] for helper in helpers], place)
            for at, place in enumerate(places)
        ]
        found = torch.stack(said, 1)
        _check_numbers(found if mask is None else found[mask.bool()])
        return found

    def processor(self, mask: torch.Tensor | None = None) -> Processor:
        """What `generate` takes, once: `model.generate(ids, logits_processor=[steered.processor(mask)])`.

        Args:
            mask: `[n, T]` of the prompts, 0 where there is padding on the left; None: nowhere.

        Returns:
            A new one, for one call of `generate`.
        """
        return Processor(self.helpers, self.rule, mask)

    def generate(self, ids: torch.Tensor, mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        """Generate with the base model's own `generate`.

        Args:
            ids: `[n, T]` int64 prompts, padded on the left.
            mask: `[n, T]`, 0 where there is padding; None: nowhere.
            **options: As `generate` takes them. Penalties for repetition change the base model's logits before
                steering; temperature, top-k and top-p come after it, as do processors given here.

        Returns:
            `[n, T + new]` int64; with `num_return_sequences`, so many times n.

        Raises:
            ConfigurationError: If several beams are asked for: they change places between steps, the helpers' caches
                would not; if more tokens than one are guessed at once; if more than the tokens is asked for; or if the
                base model has no `generate`.
        """
        if (_option(self.base, options, "num_beams") or 1) > 1:
            raise ConfigurationError(
                "beam search is not supported: beams change places between steps, and the helpers' caches would not "
                "follow. Use num_beams=1, greedy or sampling"
            )
        if options.get("assistant_model") is not None or _option(self.base, options, "prompt_lookup_num_tokens"):
            raise ConfigurationError(
                "assisted generation is not supported: guessed tokens are taken back, and the helpers' caches would "
                "not follow. Leave assistant_model and prompt_lookup_num_tokens away"
            )
        if _option(self.base, options, "return_dict_in_generate"):
            raise ConfigurationError(
                "generate returns tokens alone: for scores and the like, give processor() to the base model's generate"
            )
        generate = getattr(self.base, "generate", None)
        if generate is None:
            raise ConfigurationError(f"{type(self.base).__name__} has no generate: use logits")
        if mask is None:
            mask = torch.ones_like(ids)
        more = options.pop("logits_processor", None) or ()
        with frozen(self.base):
            found = generate(ids, attention_mask=mask, logits_processor=[self.processor(mask), *more], **options)
        return torch.as_tensor(found)

    def trace(self, tokenizer: Any, prompt: str, answer: str) -> list[TokenShift]:
        """How steering shifts each token of an answer.

        Args:
            tokenizer: Of the base model.
            prompt: What stands before.
            answer: Whose tokens are looked at.

        Returns:
            One entry for each token of the answer.
        """
        text = encode(tokenizer, prompt, answer)
        ids = text.ids[None].to(next(self.base.parameters()).device)
        with torch.no_grad():
            base = _evaluated(self.base, ids, None)[0].softmax(-1)
        steered = self.logits(ids, prompt=text.start)[0].softmax(-1)
        return [
            TokenShift(tokenizer.decode([token]), float(base[at - 1, token]), float(steered[at - 1, token]))
            for at, token in enumerate(text.ids.tolist())
            if at >= text.start
        ]


class ProxyTuner(Steered):
    """Proxy-tuning: a base model steered by the difference of a small tuned model and the same model before.

    Args:
        base: The model whose weights stay.
        expert: A small model that was tuned.
        antiexpert: The same small model before it was tuned. If the two were trained apart, their logits differ for
            other reasons than the tuning, and the base model is destroyed.
        alpha: How far; 1 as published.
        top: Tokens that the base model finds less than so many times as likely as its likeliest are ruled out.
        tokenizers: Of the base model, and of both helpers; None: they are known to be the same.

    Raises:
        InputError: If the tokenizers number tokens differently.
    """

    def __init__(
        self,
        base: nn.Module,
        expert: nn.Module,
        antiexpert: nn.Module,
        alpha: Strength = 1.0,
        *,
        top: float = 0.0,
        tokenizers: tuple[Any, Any] | None = None,
    ) -> None:
        if tokenizers is not None:
            same_vocabulary(*tokenizers, "the base model and its helpers")
        super().__init__(base, (expert, antiexpert), Offset(alpha, top))


class Processor:
    """Changes the logits of one call of `generate`, with a cache for each helper.

    Args:
        helpers: The other models.
        rule: How they are combined.
        mask: `[n, T]` of the prompts; None: no padding.
    """

    def __init__(self, helpers: Sequence[nn.Module], rule: LogitRule, mask: torch.Tensor | None) -> None:
        self._readers = [Reader(helper) for helper in helpers]
        self._rule = rule
        self._mask = mask
        self._seen: torch.Tensor | None = None
        self._place = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Change the logits of the next token.

        Args:
            input_ids: `[n, T]` int64, all tokens so far.
            scores: `[n, vocabulary]`.

        Returns:
            Of the same shape as the scores.

        Raises:
            ConfigurationError: If the tokens before are not those of the last step: it was used before, or beams
                changed places; if the mask is that of other prompts; or if there are no tokens.
            InputError: If a logit is not a number.
        """
        self._check(input_ids)
        # Before the helpers read: if one fails, others have read already, and nothing can be asked again.
        self._seen = input_ids
        mask = torch.ones_like(input_ids) if self._mask is None else _grown(self._mask, input_ids)
        helpers = [_fitted(reader.next(input_ids, mask), scores.shape[-1]) for reader in self._readers]
        found = self._rule.combine(scores, helpers, self._place)
        _check_numbers(found)
        self._place += 1
        return found

    def _check(self, ids: torch.Tensor) -> None:
        if not ids.shape[1]:
            raise ConfigurationError("helpers read tokens: call generate with them, not with inputs_embeds alone")
        if self._seen is None:
            return
        known = self._seen.shape[1]
        if (
            ids.shape[0] != self._seen.shape[0]
            or ids.shape[1] != known + 1
            or not torch.equal(ids[:, :known], self._seen)
        ):
            raise ConfigurationError(
                "the tokens so far are not those of the last step: a processor serves one call of generate, without "
                "beam search or assisted generation; make a new one with processor()"
            )


def mean_shifts(traces: Sequence[TokenShift], kind: Callable[[str], str]) -> dict[str, float]:
    """Mean shift of tokens by kind: which ones does steering move?

    Args:
        traces: Of any number of answers.
        kind: Token to the name of its kind.

    Returns:
        Kind to the mean shift of its tokens.
    """
    groups: dict[str, list[float]] = {}
    for one in traces:
        groups.setdefault(kind(one.token), []).append(one.shift)
    return {name: sum(shifts) / len(shifts) for name, shifts in groups.items()}


def _option(model: nn.Module, options: Mapping[str, Any], name: str) -> Any:
    """What `generate` would go by: what is given by name, or in a configuration, or the model's own; None: nothing."""
    configs = (options.get("generation_config"), getattr(model, "generation_config", None))
    given = (options.get(name), *(getattr(one, name, None) for one in configs))
    return next((one for one in given if one is not None), None)


def _check_numbers(logits: torch.Tensor) -> None:
    if bool(torch.isnan(logits).any()):
        raise InputError("a logit is not a number: look at the weights of base and helpers, or load them in float32")


def _evaluated(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    with frozen(model):
        return logits_of(model, ids, mask)


def _fitted(helper: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Cut a helper's logits to the base model's vocabulary: embeddings are often padded beyond it."""
    if helper.shape[-1] < vocabulary:
        raise InputError(
            f"a helper knows {helper.shape[-1]} tokens and the base model {vocabulary}: logits can be combined only "
            "where each number means the same token"
        )
    return helper[..., :vocabulary]


def _grown(mask: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The mask of prompts for what `generate` made of them: several texts of each, side by side, and new tokens."""
    each, left_over = divmod(len(ids), len(mask))
    missing = ids.shape[1] - mask.shape[1]
    if left_over or missing < 0:
        raise ConfigurationError(
            f"the mask {list(mask.shape)} is not that of the prompts of these tokens {list(ids.shape)}: give "
            "processor() the mask that generate is given"
        )
    mask = mask.repeat_interleave(each, 0)
    return torch.cat([mask, mask.new_ones((len(mask), missing))], 1)
