"""A tokenizer that is learnt from some texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MARK = "<pad>"
"""The one special token; its number is 0."""


def subwords_of(texts: Sequence[str], vocabulary: int) -> Any:
    """Byte-pair encoding learnt from some texts.

    Args:
        texts: All that will ever be said.
        vocabulary: How many tokens.

    Returns:
        A fast tokenizer of transformers.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[MARK], initial_alphabet=letters, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=MARK, clean_up_tokenization_spaces=False)
