"""Shadow models: halves, seeds, and stacks that equal training alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from shards.digest import derive_seed
from shards.learners.mlp import MLPLearner
from shards.learners.ridge import RidgeLearner
from unlearn.audit import shadow_mlp
from unlearn.audit.attacks.base import confidence, sample_of
from unlearn.audit.attacks.lira import lira_online_fixed
from unlearn.audit.metrics import auc
from unlearn.audit.shadow_mlp import StackedMLP
from unlearn.audit.shadows import half_splits, learner_factory, model_seed, train_shadows, trials
from unlearn.errors import ConfigurationError, InputError


def noisy(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that say little about the records: a model can only learn them by heart."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 8)).astype(np.float32), np.arange(n) % 3


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 2**31))
def test_each_record_is_in_exactly_half_of_the_models(half: int, n: int, seed: int) -> None:
    membership = half_splits(2 * half, n, seed)
    assert membership.dtype == np.bool_
    assert (membership.sum(axis=0) == half).all()
    assert (half_splits(2 * half, n, seed) == membership).all()


def test_halves_are_drawn_for_each_record_by_itself() -> None:
    membership = half_splits(4, 6000, 0)
    patterns, counts = np.unique(membership.T, axis=0, return_counts=True)
    assert len(patterns) == 6
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)
    assert (half_splits(4, 6000, 1) != membership).any()


@pytest.mark.parametrize(("models", "n"), [(3, 10), (0, 10), (4, 0)])
def test_what_cannot_be_halved_is_refused(models: int, n: int) -> None:
    with pytest.raises(ConfigurationError, match="even number"):
        half_splits(models, n, 0)


def test_each_model_is_trained_on_its_half_with_its_seed() -> None:
    X, y = noisy()
    membership, seen, told = half_splits(4, 60, 0), [], []

    class Spy(LogisticRegression):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Spy:
            seen.append((self.random_state, X.copy()))
            super().fit(X, y)
            return self

    shadows = train_shadows(
        lambda seed: Spy(random_state=seed % 2**32), X, y, membership, 7, lambda done, of: told.append((done, of))
    )
    for number, (seed, rows) in enumerate(seen):
        assert seed == model_seed(7, number) % 2**32
        assert (rows == X[membership[number]]).all()
    assert len({seed for seed, _ in seen}) == 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    p = shadows.probabilities(X)
    assert p.shape == (4, 60, 3)
    assert (p[2] == LogisticRegression().fit(X[membership[2]], y[membership[2]]).predict_proba(X)).all()


def test_a_class_that_a_model_never_saw_has_no_probability() -> None:
    X, y = noisy(30)
    membership = half_splits(2, 30, 0)
    membership[:, y == 1] = [[False], [True]]
    p = train_shadows(lambda seed: LogisticRegression(), X, y, membership, 0).probabilities(X)
    assert (p[0, :, 1] == 0).all()
    assert np.allclose(p.sum(axis=2), 1)


def test_what_cannot_be_trained_is_refused() -> None:
    X, y = noisy(30)
    membership = half_splits(2, 30, 0)
    with pytest.raises(InputError, match=r"shadow models \[0\] have no record"):
        train_shadows(lambda seed: LogisticRegression(), X, y, np.array([[False] * 30, [True] * 30]), 0)
    with pytest.raises(InputError, match=r"membership must be bool \[models, 30\]"):
        train_shadows(lambda seed: LogisticRegression(), X, y, membership[:, :29], 0)
    membership[0] = y == 1
    with pytest.raises(InputError, match="shadow model 0 has records of 1 class"):
        train_shadows(lambda seed: LogisticRegression(), X, y, membership, 0)


def test_a_learner_of_shards_is_a_shadow_model_and_leaks() -> None:
    X, y = noisy(120)
    membership = half_splits(8, 120, 0)
    learner = MLPLearner((32,), epochs=60, learning_rate=0.2)
    p = train_shadows(learner_factory(learner, 3), X, y, membership, 0).probabilities(X)
    again = train_shadows(learner_factory(learner, 3), X, y, membership, 0).probabilities(X)
    assert (p == again).all()
    first = next(trials(confidence(p, y), membership))
    scores = lira_online_fixed(first.own, first.others, first.membership)
    assert auc(sample_of(scores[first.is_member], scores[~first.is_member], "m")).low > 0.7
    with pytest.raises(ConfigurationError, match="takes numbers"):
        train_shadows(learner_factory(MLPLearner((4,)), 3), X.astype(str), y, membership, 0)
    with pytest.raises(InputError, match="call fit first"):
        learner_factory(RidgeLearner(), 3)(0).predict_proba(X)


def test_every_model_is_the_attacked_one_once() -> None:
    values, membership = np.random.default_rng(0).normal(size=(6, 10)), half_splits(6, 10, 0)
    found = list(trials(values, membership))
    assert [trial.number for trial in found] == list(range(6))
    for trial in found:
        assert (trial.own == values[trial.number]).all()
        assert (trial.is_member == membership[trial.number]).all()
        rest = [j for j in range(6) if j != trial.number]
        assert (trial.others == values[rest]).all()
        assert (trial.membership == membership[rest]).all()
    with pytest.raises(InputError, match="two models or more"):
        list(trials(values[:1], membership[:1]))
    with pytest.raises(InputError, match="membership is of 5 models"):
        list(trials(values, membership[:5]))


STACK = StackedMLP((6, 5), epochs=4, batch_size=8, learning_rate=0.1, momentum=0.9, weight_decay=0.01)


def alone(stack: StackedMLP, records: tuple[np.ndarray, np.ndarray], membership: np.ndarray, number: int) -> np.ndarray:
    """Torch's loop over one of the models, root seed 5."""
    (X, y), seed = records, 5
    sizes = (X.shape[1], *stack.hidden, 3)
    draw = np.random.Generator(np.random.PCG64(derive_seed(model_seed(seed, number), "module")))
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = torch.nn.Linear(inputs, outputs)
        for value, shape in ((layer.weight, (inputs, outputs)), (layer.bias, (1, outputs))):
            first = (2 * draw.random(shape, dtype=np.float32) - 1) * np.float32(1 / np.sqrt(inputs))
            value.data = torch.tensor(first.T if shape[0] > 1 else first[0]).contiguous()
        layers += [layer, torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])
    sgd = torch.optim.SGD(
        module.parameters(), stack.learning_rate, momentum=stack.momentum, weight_decay=stack.weight_decay
    )
    rows = np.flatnonzero(membership[number])
    for window in stack.minibatches(rows, stack.visits(membership), seed, number):
        assert set(window.tolist()) <= set(rows.tolist())
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.tensor(X[window])), torch.tensor(y[window])).backward()
        sgd.step()
    return np.asarray(module(torch.tensor(X)).detach().numpy())


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_stack_equals_torch_alone(decay: float) -> None:
    X, y = noisy()
    membership = half_splits(4, 60, 0)
    stack = StackedMLP((6, 5), epochs=4, batch_size=8, learning_rate=0.1, momentum=0.9, weight_decay=decay)
    found = stack.train(X, y, 3, membership, 5)
    for number in range(4):
        assert np.allclose(found.logits(X)[number], alone(stack, (X, y), membership, number), atol=1e-4)
    assert not np.allclose(found.logits(X)[0], found.logits(X)[1], atol=1e-2)
    z = found.logits(X).astype(float)
    assert np.allclose(found.probabilities(X), np.exp(z) / np.exp(z).sum(-1, keepdims=True))


def test_groups_do_not_change_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = noisy()
    membership, told = half_splits(6, 60, 0), []
    whole = STACK.train(X, y, 3, membership, 5).logits(X)
    monkeypatch.setattr(shadow_mlp, "_CACHE", 1)
    single = STACK.train(X, y, 3, membership, 5, lambda done, of: told.append((done, of))).logits(X)
    assert np.allclose(whole, single, atol=1e-5)
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_a_seed_decides_every_byte() -> None:
    X, y = noisy()
    membership = half_splits(4, 60, 0)
    first, again, other = (STACK.train(X, y, 3, membership, seed).logits(X).tobytes() for seed in (5, 5, 6))
    assert first == again != other


def test_columns_in_any_order_of_memory_are_the_same_records() -> None:
    X, y = noisy()
    membership = half_splits(2, 60, 0)
    found = [STACK.train(given, y, 3, membership, 0).logits(X) for given in (X, np.asfortranarray(X))]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("wrong", [{"hidden": (0,)}, {"epochs": 0}, {"learning_rate": 0.0}, {"momentum": 1.0}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="give widths"):
        StackedMLP(**wrong)  # type: ignore[arg-type]


def test_a_training_that_explodes_is_refused() -> None:
    X, y = noisy()
    with pytest.raises(ConfigurationError, match="lower learning_rate"):
        StackedMLP((6,), epochs=20, learning_rate=1e20).train(X, y, 3, half_splits(2, 60, 0), 0)
    X[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        STACK.train(X, y, 3, half_splits(2, 60, 0), 0)
