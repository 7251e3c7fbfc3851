"""AG News as token ids of the published model's vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.adapters.model import PADDING
from experiments.worlds.stories import StoriesTokenizer

CLASSES = ("Business", "Sci/Tech", "Sports", "World")


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts and what they are about.

    Attributes:
        x: `[n, length]` int64 token ids, padded at the end; longer texts are cut.
        y: `[n]` int64 indices into `CLASSES`.
    """

    x: np.ndarray
    y: np.ndarray

    def some(self, n: int, seed: int) -> Texts:
        """Some of them, drawn without replacement.

        Args:
            n: How many.
            seed: Of the draw.

        Returns:
            The texts.
        """
        rows = np.random.default_rng(seed).permutation(len(self.x))[:n]
        return Texts(self.x[rows], self.y[rows])


def texts(path: Path, tokenizer: StoriesTokenizer, length: int, most: int) -> Texts:
    """Read the first texts of a file.

    Args:
        path: A text and a class a line, with a tab between them.
        tokenizer: Of the model.
        length: Token ids of a text.
        most: So many texts at most.

    Returns:
        The texts, each once.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    known = list(dict(line.rsplit("\t", 1) for line in lines).items())[:most]
    x = np.full((len(known), length), PADDING, dtype=np.int64)
    for row, (text, _) in enumerate(known):
        tokens = tokenizer.encode(text)[:length]
        x[row, : len(tokens)] = tokens
    return Texts(x, np.array([CLASSES.index(name) for _, name in known], dtype=np.int64))
