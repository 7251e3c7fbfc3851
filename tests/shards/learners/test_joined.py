"""Several shards' networks asked at once, against each asked by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards.learners.joined as joined_module
from shards.ensemble import Member, combine, combine_joined
from shards.errors import InputError
from shards.learners.base import Features, Joined, Learner, Predictor
from shards.learners.joined import JoinedDense
from shards.learners.mapped import MappedLearner
from shards.learners.mlp import MLPLearner
from shards.learners.ridge import RidgeLearner
from shards.learners.torch import TorchLearner
from shards.task import Task
from tests.shards.learners.joined_cases import inputs, task_of, trained

ROUNDING = 2e-5
"""Of float32 logits of the size these networks have; a wrong weight, member or row moves outputs by far more."""


def joined(learner: Learner, members: Sequence[Predictor], task: Task) -> JoinedDense:
    found = learner.join(members, task)
    assert isinstance(found, JoinedDense)
    return found


def said(joined: Joined, features: Features) -> np.ndarray:
    return np.concatenate(list(joined(features)), axis=1)


@settings(max_examples=60, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 7), max_size=3).map(tuple),
    shapes=st.lists(st.sampled_from([(), (1,), (5,), (2, 3)]), min_size=1, max_size=2),
    dtype=st.sampled_from(["<f4", "<f8", "<i4", "|u1"]),
    classes=st.sampled_from([0, 2, 3, 11]),
    target=st.sampled_from([(), (2,), (2, 2)]),
    count=st.integers(1, 6),
    n=st.integers(0, 40),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    standardize=st.booleans(),
    activation=st.sampled_from(["relu", "tanh"]),
    aggregation=st.sampled_from(["mean", "vote", "weighted"]),
    rows=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_joined_is_member_by_member(
    hidden: tuple[int, ...],
    shapes: list[tuple[int, ...]],
    dtype: str,
    classes: int,
    target: tuple[int, ...],
    count: int,
    n: int,
    density: float,
    standardize: bool,
    activation: str,
    aggregation: str,
    rows: int,
    seed: int,
) -> None:
    """For every shape, every set of shards that have a state, every rule, wherever a chunk ends."""
    rng = np.random.default_rng(seed)
    features = {f"f{k}": inputs(rng, n, shape, density, dtype) for k, shape in enumerate(shapes)}
    task = task_of(features, classes, target)
    learner = MLPLearner(hidden, activation=activation, standardize=standardize, learning_rate=0.01, batch_size=4)
    predictors = trained(learner, task, count, seed)
    # Shards in between have no state: they abstain.
    members = [Member(3 * k + 1, int(rng.integers(1, 99)), predict) for k, predict in enumerate(predictors)]
    together = joined(learner, predictors, task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_module, "MOST_ROWS", rows)
        parts = list(together(features))
        found = np.concatenate(parts, axis=1)
        rule = "mean" if aggregation == "vote" and not classes else aggregation
        whole = combine_joined(members, together, rule, features)
    assert [part.shape[1] for part in parts] == ([rows] * (n // rows) + [n % rows] * (n % rows > 0) or [0])
    expected = np.stack([predict(features) for predict in predictors])
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)
    assert found.dtype == whole.dtype == np.float64
    wanted = combine(members, rule, features)
    assert whole.shape == wanted.shape
    if rule == "vote":
        # A vote turns on nothing but its two best classes, unless rounding decides between them.
        best = np.sort(expected, axis=2)
        clear = (best[:, :, -1] - best[:, :, -2] > ROUNDING).all(axis=0)
        np.testing.assert_allclose(whole[clear], wanted[clear], rtol=1e-12)
    else:
        np.testing.assert_allclose(whole, wanted, rtol=ROUNDING, atol=ROUNDING)


def case(count: int = 20, width: int = 600, n: int = 300) -> tuple[MLPLearner, list[Predictor], Task, Features]:
    rng = np.random.default_rng(0)
    features = {"x": (rng.random((n, width)) < 0.17).astype(np.float32)}
    task = task_of(features, 2, ())
    learner = MLPLearner((16,), activation="tanh", batch_size=4)
    return learner, trained(learner, task, count, 1), task, features


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 16, 17, 100])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.17, 1.0])
def test_few_rows_with_few_inputs(n: int, density: float) -> None:
    """What skips inputs that are zero gives what the whole product gives, also where the one gives way to the other."""
    learner, members, task, _ = case()
    rng = np.random.default_rng(n)
    X = (rng.normal(size=(n, 600)) * (rng.random((n, 600)) < density)).astype(np.float32)
    expected = np.stack([predict({"x": X}) for predict in members])
    np.testing.assert_allclose(said(joined(learner, members, task), {"x": X}), expected, atol=ROUNDING, rtol=ROUNDING)


def test_the_same_rows_give_the_same_bytes_whatever_was_asked_before() -> None:
    learner, members, task, features = case()
    one, other = joined(learner, members, task), joined(learner, members, task)
    first = said(one, features).tobytes()
    said(other, {"x": features["x"][::-1].copy()})
    said(other, {"x": features["x"][:1]})
    assert said(one, features).tobytes() == said(other, features).tobytes() == first


def test_memory_is_bounded_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times the rows take no more memory besides their answers."""
    import tracemalloc

    learner, members, task, features = case(n=4000)
    monkeypatch.setattr(joined_module, "ROOM", 2**20)
    together = joined(learner, members, task)
    assert together.rows < 1000

    def peak(n: int) -> int:
        tracemalloc.start()
        for part in together({"x": features["x"][:n]}):
            del part
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(4000) < 2**20
    assert peak(4000) < 1.2 * peak(together.rows)


def test_even_one_row_may_take_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, members, task, features = case(n=3)
    monkeypatch.setattr(joined_module, "ROOM", 1)
    together = joined(learner, members, task)
    assert [part.shape[1] for part in together(features)] == [1, 1, 1]


def test_what_was_joined_owns_its_weights() -> None:
    learner, members, task, features = case(n=5)
    together = joined(learner, members, task)
    before = said(together, features).tobytes()
    for member in members:
        member.vector.fill(0)  # type: ignore[attr-defined]
    assert said(together, features).tobytes() == before


def test_features_that_are_not_the_tasks_are_refused() -> None:
    learner, members, task, features = case(n=5)
    with pytest.raises(InputError, match="the model has"):
        said(joined(learner, members, task), {"y": features["x"]})


@pytest.mark.parametrize("settings", [{}, {"standardize": True}, {"input_dtype": None}])
@pytest.mark.parametrize("arguments", [{}, {"hidden": [4, 3], "activation": "tanh"}, {"input_scale": 0.3}])
def test_the_ready_made_torch_network(settings: dict[str, Any], arguments: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    features = {"x": rng.normal(size=(30, 2, 3))}
    task = task_of(features, 3, ())
    learner = TorchLearner("mlp", arguments, batch_size=4, **settings)
    members = trained(learner, task, 4, 2)
    expected = np.stack([predict(features) for predict in members])
    np.testing.assert_allclose(said(joined(learner, members, task), features), expected, atol=ROUNDING)


def test_heads_over_features_that_never_change() -> None:
    rng = np.random.default_rng(3)
    features = {"x": rng.normal(size=(30, 5))}
    task = task_of(features, 3, ())
    learner = MappedLearner(MLPLearner((4,), batch_size=4), "fourier")
    members, prepared = trained(learner, task, 3, 2), learner.prepare(features, task)
    expected = np.stack([predict(prepared) for predict in members])
    np.testing.assert_allclose(said(joined(learner, members, task), prepared), expected, atol=ROUNDING)


def test_learners_that_are_as_good_one_by_one() -> None:
    rng = np.random.default_rng(3)
    features = {"x": rng.normal(size=(30, 5))}
    task = task_of(features, 3, ())
    for learner in (
        TorchLearner("mlp", {"hidden": []}, batch_size=4),
        TorchLearner("mlp", batch_size=4, input_dtype="bfloat16"),
        RidgeLearner(),
    ):
        if isinstance(learner, RidgeLearner):
            assert learner.join([lambda features: features["x"]], task) is None
        elif learner.input_dtype != "bfloat16":
            assert learner.join(trained(learner, task, 2, 0), task) is None
        else:
            assert learner.join([], task) is None
