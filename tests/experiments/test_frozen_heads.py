"""Heads and networks in shards, with almost no work: every figure is there, and heads lose less."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.frozen_heads import cifar as jpeg
from experiments.frozen_heads import run
from experiments.frozen_heads.images import Images
from experiments.frozen_heads.run import BENCHMARK, LOST
from tests.cases import digits

TINY: dict[str, Any] = {
    "n_shards": 5,
    "n_slices": [1, 2],
    "workers": 1,
    "seed": 0,
    "test_records": 400,
    "digits": {
        "features": {"map": "gradients", "height": 8, "columns": 8, "size": 3, "stride": 1, "input_unit": 0.0625},
        "head": {"hidden": [], "standardize": True, "learning_rate": 0.1, "epochs": 20},
        "network": {"hidden": [32], "learning_rate": 0.1, "epochs": 20},
    },
}


OF_SHARDS = ("accuracy", "training", "forget", "recovery", "visits", "visits_share", "lost")


def some() -> Images:
    X, y = digits()
    return Images(X[:1200], y[:1200], [f"p{row // 10}" for row in range(1200)], X[-500:], y[-500:])


def test_heads_lose_less_than_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SOURCES", {"digits": some})
    figures = {figure.name: figure for figure in BENCHMARK.measure(TINY, tmp_path, lambda line: None)}
    cuts = [("heads", 1), ("heads", 2), ("networks", 1)]
    assert figures.keys() == {
        *(f"digits.{kind}.whole.{of}" for kind in ("heads", "networks") for of in ("accuracy", "training")),
        *(f"digits.{kind}.slices_{n_slices}.{of}" for kind, n_slices in cuts for of in OF_SHARDS),
    }
    assert all(math.isfinite(figure.value) for figure in figures.values())
    heads, networks = (figures[f"digits.{kind}.slices_1.lost"] for kind in ("heads", "networks"))
    assert (heads.at_most, networks.at_most) == (LOST, None)
    assert heads.value < 0.03
    assert heads.value < networks.value
    assert figures["digits.heads.slices_1.accuracy"].value > 0.88
    assert figures["digits.heads.slices_2.accuracy"].value > 0.86
    assert heads.value == pytest.approx(
        figures["digits.heads.whole.accuracy"].value - figures["digits.heads.slices_1.accuracy"].value
    )
    # One of five shards is trained again; in two slices, 5/6 of it on average (`shards.cost.slice_factor`).
    share = {n_slices: figures[f"digits.heads.slices_{n_slices}.visits_share"].value for n_slices in (1, 2)}
    assert share[1] == pytest.approx(1 / 5, rel=0.1)
    assert share[2] == pytest.approx(5 / 6 / 5, rel=0.1)


def test_images_are_read_colour_by_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A red image and a blue one, in every file."""
    encoded = []
    for colour in ((200, 0, 0), (0, 0, 200)):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=100)
        encoded.append(file.getvalue())
    offset = np.cumsum([0, *map(len, encoded)])
    for name in [*(f"train_{part}" for part in range(5)), "test_0"]:
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", jpeg=data, offset=offset, y=np.array([3, 4]))
    monkeypatch.setattr(jpeg, "FOLDER", tmp_path)
    images = jpeg.cifar()
    assert images.x.shape == (10, 3072)
    assert images.test_y.tolist() == [3, 4]
    means = images.test_x.reshape(2, 3, -1).mean(axis=2)
    assert np.abs(means - [[200, 0, 0], [0, 0, 200]]).max() < 5


def test_full_and_quick_settings_differ_in_the_amount_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == {*run.SOURCES, *(TINY.keys() - {"digits"})}
    assert {name for name in full if full[name] != quick[name]} == {"test_records"}
    assert full["writers"].pop("freer").keys() == full["writers"]["head"].keys()
    assert all(full[name].keys() == TINY["digits"].keys() for name in run.SOURCES)
