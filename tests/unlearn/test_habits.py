"""What a user of scikit-learn does without a thought: parameters of parts, pipelines, searches, notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from shards.learners.mlp import MLPLearner
from shards.learners.sklearn import SklearnLearner
from unlearn import SISAClassifier
from unlearn.errors import ConfigurationError

ROWS = np.arange(48)
X = np.random.default_rng(0).normal(size=(48, 3)) + 2 * np.eye(3)[ROWS % 3]
Y = ROWS % 3
PEOPLE = [f"Somebody {row // 4}" for row in ROWS]


def classifier(learner: Any = None, **options: Any) -> SISAClassifier:
    made = MLPLearner(hidden=(4,), epochs=4, batch_size=4) if learner is None else learner
    return SISAClassifier(made, **{"n_shards": 2, "n_slices": 1, "random_state": 0, **options})


# --- parameters --------------------------------------------------------------------------------------------------


def test_a_learners_fields_are_parameters() -> None:
    clf = classifier()
    before = clf.learner
    assert clf.get_params()["learner__epochs"] == 4
    assert {name for name in clf.get_params() if name.startswith("learner__")} == {
        f"learner__{field.name}" for field in fields(MLPLearner)
    }
    assert "learner__epochs" not in clf.get_params(deep=False)
    assert clf.set_params(learner__epochs=7, n_shards=3) is clf
    assert (clf.learner.epochs, clf.learner.hidden, clf.n_shards) == (7, (4,), 3)
    assert before.epochs == 4
    assert clone(clf).learner == clf.learner
    clf.set_params(learner=MLPLearner(hidden=(8,)), learner__epochs=2)
    assert (clf.learner.hidden, clf.learner.epochs) == ((8,), 2)


def test_a_parameter_that_is_none_is_refused_and_changes_nothing() -> None:
    clf = classifier()
    with pytest.raises(ValueError, match=r"Invalid parameter 'epoch'.*'epochs'"):
        clf.set_params(learner__epoch=7, n_shards=3)
    assert (clf.learner.epochs, clf.n_shards) == (4, 2)
    with pytest.raises(ConfigurationError):  # of the learner itself
        clf.set_params(learner__epochs=0)
    assert clf.learner.epochs == 4


@pytest.mark.parametrize("learner", ["mlp", SklearnLearner(LogisticRegression())], ids=["name", "SklearnLearner"])
def test_a_learner_without_parameters_says_what_to_give(learner: Any) -> None:
    with pytest.raises(ConfigurationError, match="no parameters to set, such as learner__epochs"):
        classifier(learner).set_params(learner__epochs=2)


def test_an_estimators_parameters_are_its_own() -> None:
    clf = classifier(LogisticRegression())
    assert clf.get_params()["learner__C"] == 1.0
    assert clf.set_params(learner__C=2.0).learner.C == 2.0


# --- searches and pipelines --------------------------------------------------------------------------------------


def test_a_search_over_the_learner_ends_in_an_estimator_that_forgets() -> None:
    grid = {"learner__learning_rate": [1e-9, 0.1], "n_shards": [1]}
    search = GridSearchCV(classifier(), grid, cv=2).fit(X, Y, subjects=PEOPLE)
    assert search.best_params_["learner__learning_rate"] == 0.1
    assert len(search.cv_results_["params"]) == 2
    assert search.best_estimator_.forget(subjects=["Somebody 2"]).n_records == 4


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("routing")
def test_subjects_are_routed_where_they_are_asked_for() -> None:
    search = GridSearchCV(classifier().set_fit_request(subjects=True), {"n_shards": [2]}, cv=2)
    search.fit(X, Y, subjects=PEOPLE)
    assert search.best_estimator_.forget(subjects=["Somebody 2"]).n_records == 4


@pytest.mark.slow
def test_people_stay_together_in_folds_by_group() -> None:
    groups = GroupKFold(2)
    found = cross_validate(
        classifier(), X, Y, cv=groups, groups=PEOPLE, params={"subjects": PEOPLE}, return_indices=True
    )
    assert len(found["test_score"]) == 2
    for train, test in zip(found["indices"]["train"], found["indices"]["test"], strict=True):
        assert not {PEOPLE[row] for row in train} & {PEOPLE[row] for row in test}
    assert len(cross_val_predict(classifier(), X, Y, cv=2, method="predict_proba")) == 48


def test_a_pipeline_hands_subjects_on_and_its_last_step_forgets() -> None:
    pipeline = Pipeline([("root", FunctionTransformer(np.cbrt)), ("forgetful", classifier())])
    pipeline.fit(X, Y, forgetful__subjects=PEOPLE)
    assert pipeline.score(X, Y) > 0.5
    pipeline["forgetful"].forget(subjects=["Somebody 2"])
    assert pipeline.predict(X).shape == (48,)
    assert pipeline["forgetful"].workspace_.status().records == 44
    assert pipeline.set_params(forgetful__learner__epochs=9)["forgetful"].learner.epochs == 9
    assert permutation_importance(pipeline, X, Y, n_repeats=1, random_state=0).importances_mean.shape == (3,)


# --- notebooks ---------------------------------------------------------------------------------------------------


def test_what_a_notebook_shows_holds_parameters_and_nobody() -> None:
    clf = classifier()
    assert "SISAClassifier" in clf._repr_html_()
    clf.fit(X, Y, subjects=PEOPLE)
    pipeline = Pipeline([("root", FunctionTransformer(np.cbrt)), ("forgetful", clf)])
    for shown in (repr(clf), clf._repr_html_(), pipeline._repr_html_(), repr(clf.workspace_)):
        assert "Somebody" not in shown
    assert "n_shards" in pipeline._repr_html_()
    assert "fitted" in clf._repr_html_()
