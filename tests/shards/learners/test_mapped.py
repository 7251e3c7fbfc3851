"""A head over a public map: the head's own training on the map's features, and refusals that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from shards.errors import ConfigurationError, InputError
from shards.learners import as_learner
from shards.learners.base import Learner, StepContext, StepData
from shards.learners.feature_maps import Fourier, Raw, feature_map
from shards.learners.frozen import Frozen
from shards.learners.gradients import Gradients
from shards.learners.mapped import MappedLearner
from shards.learners.mlp import MLPLearner
from shards.learners.ridge import RidgeLearner
from shards.learners.sklearn import SklearnLearner
from shards.task import FieldSchema, Task
from shards.train import code_of, describe_learner, learner_from
from tests.cases import digits
from tests.shards.learners.exact_cases import CLASSES, NUMBERS, records, some
from unlearn import Workspace

WAVES = Fourier(30, gamma=0.5, seed=4)
HEADS: list[Learner] = [
    MLPLearner((), epochs=3, standardize=True),
    SklearnLearner(LogisticRegression(C=0.1), mode="refit"),
]
GRADIENTS = {"map": "gradients", "height": 8, "columns": 8, "size": 3, "stride": 1, "input_unit": 2.0**-4}


def context_of(task: Task, position: int = 0, visits: int = 90) -> StepContext:
    return StepContext(task, 5, 1, position, visits)


@pytest.mark.parametrize("head", HEADS, ids=["mlp", "sklearn"])
def test_it_is_the_head_trained_on_the_features(head: Learner) -> None:
    """Two steps, and predictions, beside features worked out by hand."""
    learner, data = MappedLearner(head, WAVES), records(40)
    values = (WAVES.counts(data.features["x"].astype(np.float64)) * WAVES.unit).astype(np.float32)
    task = Task("classification", {"x": FieldSchema((30,), "<f4")}, CLASSES.target, CLASSES.classes)
    first = learner.train_step(None, some(data, slice(25)), context_of(CLASSES))
    state = learner.train_step(first, data, context_of(CLASSES, 1))
    seen = StepData({"x": values}, data.target, data.tokens)
    expected = head.train_step(
        head.train_step(None, some(seen, slice(25)), context_of(task)), seen, context_of(task, 1)
    )
    assert learner.content_digest(state) == head.content_digest(expected)
    assert (
        learner.predictor(state, CLASSES)(learner.prepare(data.features, CLASSES)).tobytes()
        == head.predictor(expected, task)({"x": values}).tobytes()
    )
    assert learner.visits(40, 3) == head.visits(40, 3)
    assert learner.budget(7, 40, 3) == head.budget(7, 40, 3)
    assert learner.kinds() == head.kinds()


def test_features_are_worked_out_in_chunks_of_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from shards.learners import mapped

    learner, data = MappedLearner(MLPLearner(()), WAVES), records(41)
    whole = learner._values(data.features, CLASSES)
    monkeypatch.setattr(mapped, "CHUNK_BYTES", 8 * 34 * 7)
    assert learner._values(data.features, CLASSES).tobytes() == whole.tobytes()
    assert learner._values({"x": data.features["x"][:0]}, CLASSES).shape == (0, 30)


def test_every_option_of_the_map_is_in_the_key() -> None:
    """A description that differs is another key: of head and map alike."""
    one = MappedLearner(MLPLearner(()), WAVES)
    others = [
        MappedLearner(MLPLearner((), epochs=3), WAVES),
        MappedLearner(MLPLearner(()), Fourier(30, gamma=0.5, seed=5)),
        MappedLearner(SklearnLearner(LogisticRegression()), WAVES),
    ]
    texts = {json.dumps(describe_learner(learner), sort_keys=True) for learner in (one, *others)}
    assert len(texts) == 4
    assert one.kernel == "mapped/1 mlp/1"
    assert others[2].kernel == "mapped/1 sklearn/1"


@pytest.mark.parametrize("head", HEADS, ids=["mlp", "sklearn"])
def test_a_learner_is_its_description(head: Learner) -> None:
    learner = MappedLearner(head, GRADIENTS)
    again = learner_from(json.loads(json.dumps(describe_learner(learner))))
    assert again == learner
    assert (again.kernel, again.libraries) == (learner.kernel, learner.libraries)
    assert learner.features == feature_map(GRADIENTS)


def test_what_decides_the_bytes_is_the_heads_and_the_maps() -> None:
    frozen = Frozen("user_modules:embedding", 5, (4,), {"inputs": 4, "outputs": 5})
    learner = MappedLearner(MLPLearner(()), frozen)
    assert learner.libraries == ("numpy", "scipy", "torch")
    assert code_of(learner) == ("user_modules:embedding",)
    assert MappedLearner.libraries == ("numpy",)
    assert MappedLearner.kernel == "mapped/1"


class Own(MLPLearner):
    """A learner of a user."""


def test_a_head_of_the_users_own_is_part_of_the_code() -> None:
    assert code_of(MappedLearner(Own(()), "raw")) == (f"{Own.__module__}:Own",)


def test_heads_are_what_people_have() -> None:
    assert MappedLearner("mlp", "raw").head == MLPLearner()
    said = {"head": {"class": "shards.learners.mlp:MLPLearner", "params": {"hidden": []}}, "features": "raw"}
    assert as_learner("shards.learners.mapped:MappedLearner", said) == MappedLearner(MLPLearner(()), "raw")
    assert MappedLearner(LogisticRegression(), "raw").head == SklearnLearner(LogisticRegression())


@pytest.mark.parametrize("head", [RidgeLearner(), MappedLearner("mlp", "raw")], ids=["ridge", "mapped"])
def test_who_takes_a_map_already_is_refused(head: Learner) -> None:
    with pytest.raises(ConfigurationError, match="takes a feature map itself: give it there"):
        MappedLearner(head, "raw")


def test_a_description_that_names_no_learner_is_refused() -> None:
    described: dict[str, Any] = MappedLearner("mlp", "raw").params()
    described["head"]["class"] = "shards.learners.feature_maps:Raw"
    with pytest.raises(ConfigurationError, match="is not a Learner"):
        MappedLearner.from_params(described)
    with pytest.raises(ConfigurationError, match="by its class and its params, got class, options"):
        MappedLearner({"class": "shards.learners.mlp:MLPLearner", "options": {}}, "raw")


def test_tasks_that_do_not_fit() -> None:
    text = Task("classification", {"x": FieldSchema((), "str")}, CLASSES.target, CLASSES.classes)
    with pytest.raises(ConfigurationError, match="MappedLearner takes numbers, and x is none"):
        MappedLearner("mlp", "raw").check(text)
    with pytest.raises(ConfigurationError, match="a record has 4 numbers"):
        MappedLearner("mlp", GRADIENTS).check(CLASSES)
    with pytest.raises(ConfigurationError, match="regression"):
        MappedLearner(LogisticRegression(), "raw").check(NUMBERS)
    MappedLearner("mlp", "raw").check(NUMBERS)


def test_a_value_beyond_what_was_declared_is_said() -> None:
    learner = MappedLearner(MLPLearner(()), Raw(limit=1.0))
    with pytest.raises(ConfigurationError, match="at most 1 in absolute value was declared"):
        learner.train_step(None, records(20), context_of(CLASSES))
    with pytest.raises(InputError, match="shape"):
        learner.prepare({"x": np.zeros((3, 5))}, CLASSES)


def test_a_prediction_works_the_features_out_once_for_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = digits()
    made = Workspace.create(
        tmp_path / "run", MappedLearner(MLPLearner((), epochs=1), GRADIENTS), n_shards=3, classes=list(range(10))
    )
    made.ingest(X[:60], y[:60])
    made.train()
    seen: list[int] = []
    values = Gradients.values

    def counted(of: Gradients, x: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        return values(of, x)

    monkeypatch.setattr(Gradients, "values", counted)
    assert made.predict(X[60:67]).shape == (7,)
    assert seen == [7]


def test_a_workspace_of_heads_ends_as_if_nobody_had_been_there(tmp_path: Path) -> None:
    X, y = digits()
    learner, who = MappedLearner(MLPLearner((), epochs=5, standardize=True), GRADIENTS), np.arange(900) % 90

    def workspace(name: str, rows: np.ndarray) -> Workspace:
        made = Workspace.create(
            tmp_path / name, learner, n_shards=4, n_slices=2, classes=list(range(10)), random_state=0
        )
        made.ingest(X[rows], y[rows], subjects=[f"p{who[row]}" for row in rows], record_ids=[f"r{row}" for row in rows])
        made.train()
        return made

    lived = workspace("lived", np.arange(900))
    before = lived.state_digest()
    assert (lived.predict(X[900:]) == y[900:]).mean() > 0.9
    lived.forget(subjects=["p7", "p8"])
    lived.recover()
    fresh = workspace("fresh", np.flatnonzero((who != 7) & (who != 8)))
    assert before != lived.state_digest() == fresh.state_digest()
    reopened = Workspace.open(lived.path)
    assert reopened.predict_proba(X[900:]).tobytes() == fresh.predict_proba(X[900:]).tobytes()
