"""How configurations are chosen: the best of a fixed number, drawn at random from the ranges of `config.toml`.

They are judged on a forget set of their own, of a model of its own, by the average gap to that model retrained. What is
judged in the table plays no part.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from unlearn.methods import METHODS

Values = dict[str, Any]
"""What was drawn, by field."""


def draw(space: Mapping[str, Mapping[str, Any]], rng: np.random.Generator) -> Values:
    """Draw one configuration.

    Args:
        space: Field to `{log = [least, most]}`, `{even = [least, most]}` or `{among = [...]}`.
        rng: The source of chance.

    Returns:
        The values.
    """
    found: Values = {}
    for name, how in space.items():
        ((kind, of),) = how.items()
        if kind == "among":
            found[name] = of[int(rng.integers(len(of)))]
        else:
            low, high = np.log(of) if kind == "log" else of
            value = float(rng.uniform(low, high))
            found[name] = float(f"{np.exp(value) if kind == 'log' else value:.3g}")
    return found


def trials(method: str, setting: Mapping[str, Any]) -> list[Values]:
    """All configurations that a method may try; the same for every data set.

    Args:
        method: Its name.
        setting: The entries of `config.toml`.

    Returns:
        As many as `trials` says.
    """
    rng = np.random.default_rng([setting["tuning_seed"], zlib.crc32(method.encode())])
    return [draw(setting["spaces"][method], rng) for _ in range(setting["trials"])]


def configuration(method: str, values: Values, fixed: Values, seed: int) -> Any:
    """The configuration object.

    Args:
        method: Its name.
        values: What was drawn.
        fixed: What holds for all methods that have such a field.
        seed: Of unlearning.

    Returns:
        An object of the method's configuration type.
    """
    kind = METHODS[method].config
    names = {field.name for field in fields(kind)}
    common = {name: value for name, value in (fixed | {"seed": seed}).items() if name in names}
    drawn = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**common | drawn)
