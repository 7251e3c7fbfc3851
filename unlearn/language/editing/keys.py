"""What the MLP's down-projection reads: the key of a subject, and the second moment of all keys.

The second moment `C = E[k k^T]` says which directions the model uses for other things. It is computed from texts the
user has, and must be regularised: on a small model or few texts its effective rank is a fraction of its size.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.hooks import Anatomy, by_text, inputs_seen, logits_of
from unlearn.language.text import Encoded, encode, filler_of, pad

_KEPT = 16
"""So many second moments stay in memory."""

_BATCH = 32


def keys_at(anatomy: Anatomy, layer: int, texts: Sequence[Encoded], filler: int) -> torch.Tensor:
    """Keys at the token at which each text is edited.

    Args:
        anatomy: Of the model.
        layer: Number of the block.
        texts: Prompts with a subject.
        filler: Token to pad with.

    Returns:
        `[n, in]`.
    """
    padded = pad(texts, filler).to(_device(anatomy.model))
    with torch.no_grad(), inputs_seen(anatomy.down(layer).module) as seen:
        logits_of(anatomy.model, padded.ids, padded.mask)
    return by_text(seen[0], len(texts))[torch.arange(len(texts)), padded.sites]


class SecondMoments:
    """Second moments of keys, each computed once for a model, its weights, a layer and some texts."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, torch.Tensor] = OrderedDict()

    def get(self, anatomy: Anatomy, tokenizer: Any, layer: int, texts: Sequence[str]) -> torch.Tensor:
        """The second moment of what the down-projection of a block reads.

        Args:
            anatomy: Of the model.
            tokenizer: Its tokenizer.
            layer: Number of the block.
            texts: The user's texts.

        Returns:
            `[in, in]` float64, uncentred, the mean over all tokens.

        Raises:
            InputError: If there are no texts.
        """
        if not texts:
            raise InputError(
                "this editor needs texts=[…]: a few hundred sentences of the kind the model is used on, from which it "
                "learns what else the weights are used for"
            )
        name = f"{digest_of(anatomy.model)} {layer} {_digest(texts)}"
        if name not in self._found:
            self._found[name] = second_moment(anatomy, tokenizer, layer, texts)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return self._found[name]


def second_moment(anatomy: Anatomy, tokenizer: Any, layer: int, texts: Sequence[str]) -> torch.Tensor:
    r"""\(\frac{1}{N} \sum_t k_t k_t^\top\) over all tokens of some texts.

    Args:
        anatomy: Of the model.
        tokenizer: Its tokenizer.
        layer: Number of the block.
        texts: At least one.

    Returns:
        `[in, in]` float64.
    """
    projection = anatomy.down(layer)
    _, into = projection.sizes
    total, count = torch.zeros((into, into), dtype=torch.float64), 0
    for keys in _all_keys(anatomy, tokenizer, projection.module, texts):
        total += keys.T @ keys
        count += len(keys)
    return total / count


def regularised(moment: torch.Tensor, ridge: float) -> torch.Tensor:
    """Add a share of the mean diagonal entry to the diagonal.

    Args:
        moment: `[d, d]` float64, positive semi-definite.
        ridge: The share, positive.

    Returns:
        `[d, d]` float64, positive definite.

    Raises:
        InputError: If the share is not positive, or there is nothing to take a share of.
    """
    if not ridge > 0:
        raise InputError(f"ridge must be positive, got {ridge}: the second moment of keys is close to singular")
    mean = float(moment.diagonal().mean())
    if not mean > 0:
        raise InputError("the second moment of keys is 0: the texts reach no neuron of this layer")
    return moment + ridge * mean * torch.eye(len(moment), dtype=moment.dtype)


def digest_of(model: nn.Module) -> str:
    """Hex SHA-256 of a model's parameters, by name.

    Args:
        model: It.

    Returns:
        The digest.
    """
    found = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        found.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _all_keys(anatomy: Anatomy, tokenizer: Any, module: nn.Module, texts: Sequence[str]) -> Iterator[torch.Tensor]:
    encoded = sorted((encode(tokenizer, text) for text in texts), key=lambda text: len(text.ids))
    for at in range(0, len(encoded), _BATCH):
        padded = pad(encoded[at : at + _BATCH], filler_of(tokenizer)).to(_device(anatomy.model))
        with torch.no_grad(), inputs_seen(module) as seen:
            logits_of(anatomy.model, padded.ids, padded.mask)
        yield by_text(seen[0], len(padded.ids))[padded.mask.bool()].double().cpu()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _digest(texts: Sequence[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{len(text)} {text}".encode())
    return found.hexdigest()


SECOND_MOMENTS = SecondMoments()
"""Those of this process."""
