"""Dataset emulation: how far one subject moves the sums, what noise they get, and what is drawn from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

import unlearn
from shards.noise import masked
from unlearn import emulation
from unlearn.emulation import emulate
from unlearn.errors import ConfigurationError, InputError

RNG = np.random.default_rng(0)
N = 2000
Y = RNG.integers(0, 2, N)
X = np.clip(RNG.normal(loc=np.where(Y, 0.7, 0.3)[:, None], scale=0.1, size=(N, 3)), 0, 1)


class Quiet:
    """A source without noise."""

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)

    def uniform(self, size: int) -> np.ndarray:
        raise NotImplementedError

    def seed(self) -> int:
        raise NotImplementedError


def usual(**changes: object) -> emulation.Emulation:
    settings: dict[str, object] = {
        "classes": [0, 1],
        "bounds": (0.0, 1.0),
        "epsilon": 1.0,
        "delta": 1e-5,
        "n": 4000,
    }
    return emulate(X, Y, **settings | changes)  # type: ignore[arg-type]


@given(arrays(np.float64, (1, 5), elements=st.floats(-3, 3)))
def test_one_record_moves_the_sums_by_at_most_the_root_of_three(x: np.ndarray) -> None:
    u = emulation._to_ball(x, np.full(5, -1.0), np.full(5, 2.0))
    assert np.linalg.norm(u) <= 1 + 1e-12
    assert np.linalg.norm(emulation._sums(u)) <= math.sqrt(3) + 1e-12


def test_the_corner_of_the_bounds_moves_them_by_just_that() -> None:
    u = emulation._to_ball(np.ones((1, 5)), np.zeros(5), np.ones(5))
    assert np.linalg.norm(emulation._sums(u)) == pytest.approx(math.sqrt(3))


def test_sums_of_products_count_each_pair_once() -> None:
    u = RNG.normal(size=(7, 4))
    sums = emulation._sums(u)
    assert sums[0] == 7
    np.testing.assert_allclose(sums[1:5], u.sum(0))
    np.testing.assert_allclose((sums[5:] ** 2).sum(), ((u.T @ u) ** 2).sum())


def test_the_noise_is_normal_of_the_size_that_the_guarantee_needs() -> None:
    found = usual(per_subject=3, subjects=[f"p{row // 3}" for row in range(N)])
    # Dong, Roth and Su: sensitivity over mu; epsilon 1 at delta 1e-5 is mu 0.2694 (Balle and Wang's sigma 3.7306).
    assert found.mu == pytest.approx(1 / 3.7306, rel=1e-3)
    assert found.noise == pytest.approx(3 * math.sqrt(3) * 3.7306, rel=1e-3)
    drawn, grid = masked(np.full(20_000, 5.0), found.noise), 2.0 ** (math.floor(math.log2(found.noise)) - 2)
    assert np.array_equal(drawn / grid, np.round(drawn / grid))
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, len(drawn)) * grid  # within what was rounded
    assert kstest((drawn + spread - 5.0) / found.noise, "norm").pvalue > 1e-4


def test_every_number_that_is_published_got_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn depends on the real records through what `masked` gave alone."""
    known = [RNG.normal(size=10) + 50 for _ in range(2)]
    seen = []

    def replaced(values: np.ndarray, scale: float, source: object) -> np.ndarray:
        seen.append((values, scale))
        return known[len(seen) - 1]

    monkeypatch.setattr(emulation, "masked", replaced)
    first = usual()
    seen_first = len(seen)
    seen.clear()
    second = emulate(1 - X, 1 - Y, classes=[0, 1], bounds=(0.0, 1.0), epsilon=1.0, delta=1e-5, n=4000)
    assert seen_first == len(seen) == 2
    assert {scale for _, scale in seen} == {first.noise}
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.y, second.y)


def test_without_noise_means_and_covariances_are_those_of_the_records() -> None:
    found = usual(source=Quiet(), n=200_000)
    for label in (0, 1):
        real, made = X[label == Y], found.x[found.y == label]
        np.testing.assert_allclose(made.mean(0), real.mean(0), atol=3e-3)
        np.testing.assert_allclose(np.cov(made.T), np.cov(real.T), atol=1e-3)
        assert found.counts[label] == (label == Y).sum()
        assert (found.y == label).mean() == pytest.approx((label == Y).mean(), abs=5e-3)


def test_records_beyond_the_bounds_are_clipped_and_so_is_what_is_drawn() -> None:
    found = emulate(
        np.array([[1e9, -1e9]] * 50), ["a"] * 50, classes=["a", "b"], bounds=(0, 2), epsilon=5, delta=1e-3, n=100
    )
    assert found.x.min() >= 0
    assert found.x.max() <= 2
    assert set(found.y) <= {"a", "b"}


def test_only_the_first_records_of_a_subject_are_used() -> None:
    subjects = [f"p{row % 100}" for row in range(N)]
    few = usual(subjects=subjects, per_subject=2, source=Quiet())
    assert sum(few.counts.values()) == 200
    assert few.noise == pytest.approx(2 * usual().noise)


def test_the_guarantee_of_more_subjects_and_the_capacity() -> None:
    found = usual()
    assert found.guarantee().epsilon == pytest.approx(1.0, abs=1e-6)
    assert found.guarantee().epsilon <= 1.0
    ten = found.guarantee(k=10)
    assert ten.epsilon > 10
    assert found.capacity(ten.epsilon) == 10
    assert found.capacity(ten.epsilon * 0.99) == 9
    assert found.capacity(0.5) == 0


def test_noise_is_fresh_and_the_draw_is_repeatable() -> None:
    assert not np.array_equal(usual().x, usual().x)
    assert np.array_equal(usual(source=Quiet()).x, usual(source=Quiet()).x)


def test_a_workspace_trains_on_it(tmp_path: Path) -> None:
    found = usual(epsilon=4.0)
    workspace = unlearn.Workspace.create(tmp_path / "w", "mlp", n_shards=1, n_slices=1, random_state=0)
    workspace.ingest(found.records())
    workspace.train()
    assert (workspace.predict(X.astype(np.float32)) == Y).mean() > 0.95
    workspace.close()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epsilon": 0.0}, ConfigurationError, "epsilon must be above 0"),
        ({"delta": 1.0}, ConfigurationError, "delta between 0 and 1"),
        ({"n": 0}, ConfigurationError, "n and per_subject"),
        ({"n": 1.5}, ConfigurationError, "n and per_subject"),
        ({"bounds": (1.0, 1.0)}, ConfigurationError, "each least value below the largest"),
        ({"bounds": ([0, 0], [1, 1])}, ConfigurationError, r"two arrays \[3\]"),
        ({"classes": [0]}, InputError, "not declared classes"),
        ({"subjects": ["a"]}, InputError, "2,000 records and 1 subjects"),
    ],
)
def test_refused(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        usual(**changes)


def test_labels_and_features_must_fit() -> None:
    with pytest.raises(InputError, match="one label a record"):
        emulate(X, Y[:-1], classes=[0, 1], bounds=(0, 1), epsilon=1, delta=1e-5, n=10)
    with pytest.raises(InputError, match="x must be numbers"):
        emulate([0.5], [0], classes=[0, 1], bounds=(0, 1), epsilon=1, delta=1e-5, n=10)
