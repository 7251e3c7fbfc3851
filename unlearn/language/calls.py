"""How a causal language model was called, and what it said: for hooks on the whole model.

Models take their token ids first or by the name `input_ids`, and keep what they have read in a cache which, by version,
is called `cache` or `past_key_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from unlearn.errors import ConfigurationError

CACHES = ("cache", "past_key_values")
"""Names of the cache, among arguments and in what a model returns."""


def ids_of(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> torch.Tensor:
    """The token ids a model was called with.

    Args:
        arguments: Those without a name.
        named: Those with one.

    Returns:
        `[n, T]` int64.

    Raises:
        ConfigurationError: If there are none, or more than they are given without a name.
    """
    found = named.get("input_ids") if not arguments else arguments[0]
    if not isinstance(found, torch.Tensor):
        raise ConfigurationError("this edit reads token ids: call the model with input_ids, not with embeddings")
    if len(arguments) > 1:
        raise ConfigurationError("while this edit is made, give the model everything but input_ids by name")
    return found


def with_ids(
    arguments: tuple[Any, ...], named: Mapping[str, Any], ids: torch.Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with other token ids.

    Args:
        arguments: Those without a name.
        named: Those with one.
        ids: `[n, T]` int64.

    Returns:
        The new arguments.
    """
    return ((ids,), dict(named)) if arguments else ((), {**named, "input_ids": ids})


def inserted(rows: torch.Tensor, places: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Rows with something put in.

    Args:
        rows: `[n, T]` token ids, or a mask, or positions.
        places: `[n]` int64, how many of each row stand before it.
        new: `[n, L]` what is put in.

    Returns:
        `[n, T + L]`.
    """
    length = new.shape[1]
    at = torch.arange(rows.shape[1] + length, device=rows.device) - places[:, None]
    old = (torch.where(at < 0, at, at - length) + places[:, None]).clamp(0, rows.shape[1] - 1)
    inside = (at >= 0) & (at < length)
    return torch.where(inside, new.gather(1, at.clamp(0, length - 1)), rows.gather(1, old))


def mask_of(named: Mapping[str, Any]) -> torch.Tensor | None:
    """The mask a model was called with.

    Args:
        named: Arguments with a name.

    Returns:
        `[n, T]`, 0 where there is padding; None: nowhere.

    Raises:
        ConfigurationError: If the cache is of a fixed size, or the mask of another kind.
    """
    found = named.get("attention_mask")
    grows = not getattr(cache_of(named), "is_compileable", False)
    if grows and (found is None or (isinstance(found, torch.Tensor) and found.ndim == 2)):
        return found
    raise ConfigurationError(
        "this edit reads a mask of tokens, [n, T]: while it is made, generate with a cache that grows, not with "
        "cache_implementation='static'"
    )


def cache_of(named: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, or in what it returned.

    Args:
        named: Arguments, or an output of transformers.

    Returns:
        It, or None.
    """
    return next((named[name] for name in CACHES if name in named and named[name] is not None), None)


def cached(cache: Any) -> int:
    """How many tokens a cache holds.

    Args:
        cache: It; None: there is none.

    Returns:
        Their number.
    """
    return 0 if cache is None else int(cache.get_seq_length())


def logits_replaced(said: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Put other logits into what a model returned.

    Args:
        said: A tensor, an object with `logits`, or a tuple.
        change: Given the logits `[n, T, vocabulary]`, returns those in their place.

    Returns:
        The same kind of thing.

    Raises:
        ConfigurationError: If there are no logits in it.
    """
    if isinstance(said, torch.Tensor):
        return change(said)
    if hasattr(said, "logits"):
        said.logits = change(said.logits)
        return said
    if isinstance(said, tuple):
        at = next((at for at, part in enumerate(said) if isinstance(part, torch.Tensor) and part.ndim == 3), None)
        if at is not None:
            return (*said[:at], change(said[at]), *said[at + 1 :])
    raise ConfigurationError(f"the model returned a {type(said).__name__} without logits")
