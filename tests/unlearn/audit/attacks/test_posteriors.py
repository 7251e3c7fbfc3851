"""Scores of one model's posteriors, against the same written out record by record."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unlearn.audit.attacks.base import sample_of
from unlearn.audit.attacks.confidence_gap import confidence_gap
from unlearn.audit.attacks.ensemble import ensemble_jackknife, shard_lira
from unlearn.audit.attacks.entropy import entropy_score, modified_entropy_score
from unlearn.audit.attacks.label_only import label_augmentation, label_gap
from unlearn.audit.attacks.loss import loss_score
from unlearn.audit.attacks.quantile import fit_quantile
from unlearn.audit.attacks.shokri import fit_shokri
from unlearn.audit.attacks.update_leakage import FEATURES, fit_update_leakage
from unlearn.audit.metrics import auc, null_band
from unlearn.errors import InputError


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def cases(n: int = 40, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return softmax(random.normal(0, 3, (n, classes))), random.integers(0, classes, n)


def area(members: np.ndarray, others: np.ndarray) -> float:
    value = auc(sample_of(members, others, "m")).value
    assert value is not None
    return value


def test_the_formulas_of_each_record() -> None:
    p, y = cases()
    for row, (posterior, label) in enumerate(zip(p, y, strict=True)):
        others = [c for c in range(5) if c != label]
        assert loss_score(p, y)[row] == pytest.approx(math.log(posterior[label]))
        assert entropy_score(p)[row] == pytest.approx(sum(q * math.log(q) for q in posterior))
        modified = (1 - posterior[label]) * math.log(posterior[label])
        modified += sum(posterior[c] * math.log(1 - posterior[c]) for c in others)
        assert modified_entropy_score(p, y)[row] == pytest.approx(modified)
        assert confidence_gap(p, y)[row] == pytest.approx(posterior[label] - max(posterior[c] for c in others))


def test_certain_predictions_have_finite_scores() -> None:
    p, y = np.eye(3)[[0, 1, 2]], np.array([0, 1, 0])
    for score in (loss_score(p, y), entropy_score(p), modified_entropy_score(p, y), confidence_gap(p, y)):
        assert np.isfinite(score).all()
    assert modified_entropy_score(p, y)[0] == 0
    assert modified_entropy_score(p, y)[2] < -100  # sure of a wrong class, where the entropy is 0 too
    assert entropy_score(p)[2] == 0


def test_a_stack_of_models_is_scored_like_each() -> None:
    p, y = cases()
    stack = np.stack([p, p[::-1]])
    for score in (loss_score, modified_entropy_score, confidence_gap):
        assert (score(stack, y)[1] == score(p[::-1], y)).all()
    assert (entropy_score(stack)[1] == entropy_score(p[::-1])).all()


def test_labels_alone() -> None:
    y = np.array([0, 1, 2, 1])
    assert label_gap(np.array([0, 2, 2, 0]), y).tolist() == [1, 0, 1, 0]
    copies = np.array([[0, 1, 2, 0], [0, 2, 2, 0], [1, 1, 2, 0]])
    assert label_augmentation(copies, y) == pytest.approx([2 / 3, 2 / 3, 1, 0])
    with pytest.raises(InputError, match="copies"):
        label_augmentation(y, y)


def test_a_higher_score_is_a_member_for_every_attack_on_one_model() -> None:
    # PM's LOSS attack has its sign inverted: an overfitted model gives it an AUC below one half.
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 400)
    sure = np.where(np.arange(400) < 200, 4.0, 1.0)[:, None] * np.eye(4)[y]
    p = softmax(sure + random.normal(0, 1, (400, 4)))
    found = {
        "loss": loss_score(p, y),
        "entropy": entropy_score(p),
        "modified": modified_entropy_score(p, y),
        "gap": confidence_gap(p, y),
        "label": label_gap(p.argmax(1), y),
    }
    for name, scores in found.items():
        assert area(scores[:200], scores[200:]) > 0.6, name


def shadows(seed: int, models: int = 6, n: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors of models that are surer of their members, which class 1 hides by being sure of everybody."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    member = random.random((models, n)) < 0.5
    margin = np.where(y == 1, 6.0, 1.0) + 3.0 * member
    z = random.normal(0, 1, (models, n, 3)) + margin[..., None] * np.eye(3)[y]
    return softmax(z), y, member


def test_attack_models_by_class_transfer_to_another_model() -> None:
    p, y, member = shadows(0)
    attack = fit_shokri(p[1:], y, member[1:])
    scores = attack.scores(p[0], y)
    assert area(scores[member[0]], scores[~member[0]]) > 0.8
    assert sorted(attack.models) == [0, 1, 2]


def test_attack_models_refuse_what_they_cannot_know() -> None:
    p, y, member = shadows(0)
    some = y < 2
    attack = fit_shokri(p[1:, some], y[some], member[1:, some])
    with pytest.raises(InputError, match=r"no model for classes \[2\]"):
        attack.scores(p[0], y)
    with pytest.raises(InputError, match="class 0 has 0 members"):
        fit_shokri(p, y, np.zeros_like(member))
    with pytest.raises(InputError, match="bool membership"):
        fit_shokri(p, y, member.astype(int))


def test_the_quantile_is_exceeded_at_its_rate() -> None:
    random = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        X = random.uniform(-1, 1, (n, 1))
        return X, 3 * X[:, 0] + random.normal(0, 0.5, n)

    attack = fit_quantile(*draw(4000), 0.1, seed=0)
    X, values = draw(4000)
    assert abs(float((attack.scores(X, values) > 0).mean()) - 0.1) < 0.03
    # A single threshold for all would flag the difficult side alone.
    right = X[:, 0] > 0
    assert abs(float((attack.scores(X, values) > 0)[right].mean()) - 0.1) < 0.05
    with pytest.raises(InputError, match="give 500"):
        fit_quantile(*draw(100), 0.01, seed=0)


def test_shard_attacks_are_their_definition() -> None:
    random = np.random.default_rng(0)
    p, y = softmax(random.normal(0, 2, (4, 30, 3))), random.integers(0, 3, 30)
    shard = random.integers(0, 4, 30)

    def phi(q: np.ndarray, label: int) -> float:
        return math.log(q[label] / (1 - q[label]))

    for f in range(30):
        rest = [j for j in range(4) if j != shard[f]]
        expected = phi(p[shard[f], f], y[f]) - np.mean([phi(p[j, f], y[f]) for j in rest])
        assert shard_lira(p, y, shard)[f] == pytest.approx(expected)
        expected = phi(p[:, f].mean(0), y[f]) - phi(p[rest, f].mean(0), y[f])
        assert ensemble_jackknife(p, y, shard)[f] == pytest.approx(expected)
    with pytest.raises(InputError, match="two shards or more"):
        shard_lira(p[:1], y, np.zeros(30, dtype=int))
    with pytest.raises(InputError, match="shards must be 0 to 3"):
        ensemble_jackknife(p, y, shard + 1)


def test_five_features_of_an_update() -> None:
    before, after = np.array([[0.2, 0.7, 0.1]]), np.array([[0.3, 0.3, 0.4]])
    found = {name: feature(before, after)[0] for name, feature in FEATURES.items()}
    assert found["direct_diff"] == pytest.approx([-0.1, 0.4, -0.3])
    assert found["sorted_diff"] == pytest.approx([0.4, -0.1, -0.3])
    assert found["direct_concat"] == pytest.approx([0.2, 0.7, 0.1, 0.3, 0.3, 0.4])
    assert found["sorted_concat"] == pytest.approx([0.7, 0.2, 0.1, 0.3, 0.3, 0.4])
    assert found["l2_distance"] == pytest.approx([math.sqrt(0.01 + 0.16 + 0.09)])


@pytest.mark.parametrize("feature", FEATURES)
def test_an_update_leaks_who_left_even_if_forgetting_is_exact(feature: str) -> None:
    random = np.random.default_rng(0)

    def pair(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left = np.arange(n) % 2 == 0
        own = np.eye(3)[np.zeros(n, dtype=int)]
        z = random.normal(0, 0.3, (n, 3)) + own
        return softmax(z + 4 * left[:, None] * own), softmax(z + random.normal(0, 0.1, (n, 3))), left

    attack = fit_update_leakage(*pair(400), feature=feature)
    before, after, left = pair(200)
    scores = attack.scores(before, after)
    assert area(scores[left], scores[~left]) > 0.9
    # Nobody left: the two models are alike, and the attack is blind.
    scores = attack.scores(after, after)
    low, high = null_band(100, 100, 0.999)
    assert low < area(scores[left], scores[~left]) < high


def test_update_leakage_refuses_what_makes_no_sense() -> None:
    p, _ = cases()
    with pytest.raises(InputError, match="choose one of direct_diff"):
        fit_update_leakage(p, p, np.arange(40) < 20, feature="cosine")
    with pytest.raises(InputError, match="10 of each"):
        fit_update_leakage(p, p, np.arange(40) < 5)
    with pytest.raises(InputError, match=r"both be \[n, classes\]"):
        fit_update_leakage(p, p[:20], np.arange(40) < 20)
