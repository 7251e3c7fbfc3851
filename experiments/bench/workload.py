"""The workload: data drawn from a fixed generator, and which record-visits training on it takes.

Both are written down here a second time, apart from the framework, so that they can be compared with it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.placement import grouped, place

CONFIG = Path(__file__).with_name("config.toml")


@dataclass(frozen=True)
class Setting:
    """What is trained on what, and how often it is measured; one field per entry of `config.toml`.

    Attributes:
        seed: Seed of the data, of the placement and of training.
        records: Training records.
        test_records: Test records.
        features: Binary features of a record.
        classes: Classes.
        class_shift: Standard deviation of what a class adds to the log-odds of each feature.
        hidden: Units of the hidden layer.
        learning_rate: Of plain SGD.
        batch_size: Records a minibatch.
        epochs: E, nominal passes over the data.
        n_shards: S.
        n_slices: R.
        workers: Processes that train, ours and the loop's.
        fit_repeats: Fits with fresh workers, and as many with warm ones.
        single_recoveries: Requests that are recovered one by one.
        together: Requests that are recovered at once.
        together_repeats: How often that is repeated.
        forget_rounds: Rounds of one request per slice of every shard.
        start_repeats: Starts of the interpreter per command.
        predicted_rows: Rows predicted at once.
    """

    seed: int
    records: int
    test_records: int
    features: int
    classes: int
    class_shift: float
    hidden: int
    learning_rate: float
    batch_size: int
    epochs: int
    n_shards: int
    n_slices: int
    workers: int
    fit_repeats: int
    single_recoveries: int
    together: int
    together_repeats: int
    forget_rounds: int
    start_repeats: int
    predicted_rows: int


def read_setting(*, quick: bool, changes: Mapping[str, Any] | None = None) -> Setting:
    """Read `config.toml`.

    Args:
        quick: Whether to apply what its table `quick` changes.
        changes: Further changes, by field.

    Returns:
        The setting.
    """
    tables = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    setting = Setting(**{**tables["full"], **(tables["quick"] if quick else {})})
    return replace(setting, **(changes or {}))


@dataclass(frozen=True, eq=False)
class Data:
    """Features `[n, features]` float32 of zeros and ones, labels `[n]` int64; for training and for testing."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def purchase(setting: Setting) -> Data:
    """Draw data shaped like the Purchase data set: sparse binary baskets, classes that differ a little everywhere.

    Args:
        setting: Sizes, shift and seed.

    Returns:
        The data; the order of the draws is part of the workload.
    """
    rng = np.random.default_rng(setting.seed)
    base = rng.beta(0.6, 3.0, setting.features)
    shift = rng.normal(0.0, setting.class_shift, (setting.classes, setting.features))
    chance = 1 / (1 + np.exp(-(np.log(base / (1 - base) + 1e-9) + shift)))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(setting.classes, size=n)
        return (rng.random((n, setting.features), dtype=np.float32) < chance[y]).astype(np.float32), y

    train, test = draw(setting.records), draw(setting.test_records)
    return Data(*train, *test)


@dataclass(frozen=True)
class StepSize:
    """One step: position in its chain, records of slices up to it, record-visits to make."""

    position: int
    records: int
    visits: int


@dataclass(frozen=True, eq=False)
class Layout:
    """Which rows of the data lie in which slice, and what steps that makes.

    Attributes:
        setting: S, R and E.
        rows: (shard, slice) to row numbers in canonical order.
    """

    setting: Setting
    rows: Mapping[tuple[int, int], tuple[int, ...]]

    @classmethod
    def of(cls, setting: Setting, key: bytes) -> Layout:
        """The layout of the whole data, whose record ids are the row numbers.

        Args:
            setting: Sizes.
            key: Placement key of the workspace.

        Returns:
            The layout.
        """
        ids = [str(row) for row in range(setting.records)]
        groups = grouped(place(key, ids, ids, setting.n_shards, setting.n_slices), setting.n_slices)
        return cls(setting, {(shard, piece): tuple(rows.tolist()) for shard, piece, rows in groups})

    def without(self, gone: Iterable[int]) -> Layout:
        """The layout once some rows are forgotten."""
        left = set(gone)
        kept = {place: tuple(row for row in rows if row not in left) for place, rows in self.rows.items()}
        return Layout(self.setting, {place: rows for place, rows in kept.items() if rows})

    def slice_of(self, row: int) -> tuple[int, int]:
        """The (shard, slice) a row lies in."""
        return next(place for place, rows in self.rows.items() if row in rows)

    def shard(self, shard: int) -> list[int]:
        """All rows of a shard, in canonical order."""
        return [row for piece in range(self.setting.n_slices) for row in self.rows.get((shard, piece), ())]

    def steps(self, shard: int, first: int = 0) -> list[StepSize]:
        """The steps of a shard from one position on: each visits its records e = 2E/(R+1) times, rounded up.

        Args:
            shard: Shard number.
            first: Position of the first step wanted.

        Returns:
            The steps, in order; a step over no records does not exist.
        """
        found, records = [], 0
        for piece in range(self.setting.n_slices):
            records += len(self.rows.get((shard, piece), ()))
            visits = -(-2 * self.setting.epochs * records // (self.setting.n_slices + 1))
            if records and piece >= first:
                found.append(StepSize(piece, records, visits))
        return found

    def hit(self, rows: Iterable[int]) -> dict[int, int]:
        """Shard to the earliest slice in which it holds any of some rows."""
        first: dict[int, int] = {}
        for row in rows:
            shard, piece = self.slice_of(row)
            first[shard] = min(piece, first.get(shard, piece))
        return first

    def visits(self, first: Mapping[int, int]) -> int:
        """Record-visits of the steps from the given position of each given shard on."""
        return sum(step.visits for shard, piece in first.items() for step in self.steps(shard, piece))
