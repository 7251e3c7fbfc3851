"""Oriented gradients: against loops over pixels in Python's integers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from shards.errors import ConfigurationError
from shards.learners.feature_maps import feature_map
from shards.learners.gradients import Gradients
from shards.learners.ridge import RidgeLearner

MAPS = (
    Gradients(9, 8, orientations=4, size=3, stride=2),
    Gradients(8, 8, orientations=6, size=4, stride=4, input_unit=1.0, input_limit=255.0, unit=0.25),
    Gradients(7, 9, orientations=2, size=7, stride=1, input_unit=2.0**-20),  # too large for float32
    Gradients(8, 6, orientations=4, size=3, stride=3, channels=3),
)
each = pytest.mark.parametrize("of", MAPS, ids=["small", "bytes", "double", "colours"])


def images(of: Gradients, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, of.channels * of.height * of.columns)) * of.input_limit


def by_hand(of: Gradients, image: np.ndarray) -> list[float]:
    """Channel by channel."""
    return [value for channel in image.reshape(of.channels, -1) for value in by_hand_of_one(of, channel)]


def by_hand_of_one(of: Gradients, image: np.ndarray) -> list[float]:
    """Pixel by pixel; what lies beside the image is 0."""
    counts = [[round(v / of.input_unit) for v in row] for row in image.reshape(of.height, of.columns).tolist()]

    def pixel(row: int, column: int) -> int:
        return counts[row][column] if 0 <= row < of.height and 0 <= column < of.columns else 0

    found = []
    for k in range(of.orientations // 2):
        angle = 2 * math.pi * k / of.orientations
        for sign in (1, -1):
            cosine, sine = sign * round(16 * math.cos(angle)), sign * round(16 * math.sin(angle))
            for top in range(0, of.height - of.size + 1, of.stride):
                for left in range(0, of.columns - of.size + 1, of.stride):
                    total = 0
                    for r in range(top, top + of.size):
                        for c in range(left, left + of.size):
                            right = pixel(r, c + 1) - pixel(r, c - 1)
                            down = pixel(r + 1, c) - pixel(r - 1, c)
                            total += max(0, cosine * right + sine * down)
                    found.append(math.sqrt(total * (of.input_unit / 16 / of.size**2)))
    return found


@each
def test_they_are_those_worked_out_pixel_by_pixel(of: Gradients) -> None:
    X = images(of, 3)
    assert of.values(X).tolist() == [by_hand(of, image) for image in X]
    assert of.width(X.shape[1]) == of.values(X).shape[1]


@each
def test_a_record_has_the_same_features_whatever_stands_beside_it(of: Gradients) -> None:
    X = images(of, 150)
    alone = np.concatenate([of.values(X[row : row + 1]) for row in range(len(X))])
    assert of.values(X).tobytes() == alone.tobytes()


@each
def test_no_image_reaches_further_than_the_limit(of: Gradients) -> None:
    """The steepest edges there can be, in every direction."""
    rows, columns = np.indices((of.height, of.columns))
    waves = [
        np.where(np.floor((rows * a + columns * b + c) / 2) % 2, 1, -1).ravel() * of.input_limit
        for a in (0, 1, -1)
        for b in (0, 1, -1)
        for c in (0, 1)
    ]
    counts = of.counts(np.tile(waves, of.channels))
    assert 0.5 * of.largest < counts.max() <= of.largest


def test_it_tells_digits_apart() -> None:
    from shards.learners.base import StepData
    from shards.task import FieldSchema, Task
    from tests.cases import digits
    from tests.shards.learners.exact_cases import step

    X, y = digits()
    task = Task("classification", {"x": FieldSchema((64,), "<f4")}, FieldSchema((), "<i8"), tuple(range(10)))
    data = StepData({"x": X[:1500]}, y[:1500], np.zeros((1500, 16), dtype=np.uint8))
    shares = []
    for features in ("raw", {"map": "gradients", "height": 8, "columns": 8, "size": 3, "stride": 1}):
        learner = RidgeLearner(1.0, features)
        predict = learner.predictor(step(learner, None, data, task), task)
        shares.append((predict({"x": X[1500:]}).argmax(axis=1) == y[1500:]).mean())
    assert shares[1] > 0.93 > shares[0] + 0.05


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"orientations": 5}, "orientations must be even, got 5"),
        ({"orientations": 0}, "orientations must be a whole number, got 0"),
        ({"size": 29}, "size must be at most 28"),
        ({"stride": 0}, "stride must be a whole number"),
        ({"height": 28.0}, "height must be a whole number, got 28.0"),
        ({"input_unit": 2.0**-45}, "use a coarser input_unit"),
        ({"unit": 2.0**-30}, "there must be 1 to 1,048,576 counts"),
        ({"colours": 3}, "does not take these options"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        feature_map({"map": "gradients", "height": 28, "columns": 28, **options})


def test_the_size_of_images_has_to_be_said() -> None:
    with pytest.raises(ConfigurationError, match="missing 2 required positional arguments"):
        feature_map("gradients")
    with pytest.raises(ConfigurationError, match=r"images of 9 rows and 8 columns, and a record has 64 numbers"):
        MAPS[0].width(64)
    with pytest.raises(ConfigurationError, match=r"8 rows and 6 columns in 3 channels, and a record has 48 numbers"):
        MAPS[3].width(48)


def test_a_pixel_outside_of_what_was_declared_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"a pixel is 1\.5, and at most 1 in absolute value was declared"):
        MAPS[0].values(np.full((1, 72), 1.5))


@each
def test_a_map_is_its_description(of: Gradients) -> None:
    assert feature_map(json.loads(json.dumps(of.to_json()))) == of
