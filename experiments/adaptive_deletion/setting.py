"""What is measured and how often; one field per entry of `config.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).with_name("config.toml")


@dataclass(frozen=True)
class Twins:
    """Lookup tables over pairs of equal records.

    Attributes:
        pairs: Pairs of subjects whose records are equal.
        repetitions: Placements drawn for each figure.
        sigmas: Noise on the counts of votes; 0 for none.
        asked: How many labels the adversary gets for each row.
    """

    pairs: int
    repetitions: int
    sigmas: tuple[float, ...]
    asked: tuple[int, ...]


@dataclass(frozen=True)
class Copycat:
    """One subject's secret, copied into the requests of others.

    Attributes:
        others: Subjects the adversary may have removed.
        repetitions: Secrets drawn for each figure.
        sigmas: Noise on the counts of votes; 0 for none.
        asked: How many labels the adversary gets.
    """

    others: int
    repetitions: int
    sigmas: tuple[float, ...]
    asked: tuple[int, ...]


@dataclass(frozen=True)
class DigitsSetting:
    """Data and learner of the digits.

    Attributes:
        records: Training records, each a subject of its own.
        test_records: Test records.
        n_shards: S, even.
        gamma: Of the kernel exp(-gamma |a - b|²) over pixels in [0, 1].
        ridge: Added to the kernel's diagonal; small, so that a shard remembers its records.
    """

    records: int
    test_records: int
    n_shards: int
    gamma: float
    ridge: float


@dataclass(frozen=True)
class States:
    """Every shard's state is published.

    Attributes:
        repetitions: Placements drawn.
        requests: Numbers of deletion requests.
        code_repetitions: Placements drawn for the single request that is chosen as a code.
    """

    repetitions: int
    requests: tuple[int, ...]
    code_repetitions: int


@dataclass(frozen=True)
class Votes:
    """The ensemble's answers are published.

    Attributes:
        repetitions: Placements drawn for each figure.
        requests: Deletion requests after the first.
        sigmas: Noise on the counts of votes; 0 for none.
        asked: How many labels the adversary gets for each record, before and again after the first request.
        delta: For which epsilon is stated.
    """

    repetitions: int
    requests: int
    sigmas: tuple[float, ...]
    asked: tuple[int, ...]
    delta: float


@dataclass(frozen=True)
class AccuracySetting:
    """What noise costs.

    Attributes:
        repetitions: Placements over which test accuracy is averaged.
        n_shards: Numbers of shards.
        sigmas: Noise on the counts of votes.
        labels: Labels for which epsilon is stated.
        delta: For which it is stated.
    """

    repetitions: int
    n_shards: tuple[int, ...]
    sigmas: tuple[float, ...]
    labels: int
    delta: float


@dataclass(frozen=True)
class Setting:
    """All of it; `seed` fixes every draw of the experiment."""

    seed: int
    twins: Twins
    copycat: Copycat
    digits: DigitsSetting
    states: States
    votes: Votes
    accuracy: AccuracySetting


def read_setting() -> Setting:
    """Read `config.toml`."""
    tables = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    return Setting(
        seed=tables["seed"],
        twins=Twins(**_frozen(tables["twins"])),
        copycat=Copycat(**_frozen(tables["copycat"])),
        digits=DigitsSetting(**_frozen(tables["digits"])),
        states=States(**_frozen(tables["states"])),
        votes=Votes(**_frozen(tables["votes"])),
        accuracy=AccuracySetting(**_frozen(tables["accuracy"])),
    )


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
