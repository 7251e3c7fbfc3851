"""Names stand for learners in Python as on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shards.errors import CodeError, ConfigurationError
from shards.learners import NAMES, as_learner
from unlearn.cli.app import app
from unlearn.estimator import SISAClassifier
from unlearn.workspace import Workspace


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_same_learner_in_python_and_on_the_command_line(tmp_path: Path, name: str) -> None:
    made = CliRunner().invoke(app, ["create", str(tmp_path / "shell"), "--learner", name, "--shards", "2"])
    assert made.exit_code == 0, made.output
    Workspace.create(tmp_path / "python", name, n_shards=2).close()
    # Opened with another learner than it was created with, a workspace refuses.
    Workspace.open(tmp_path / "shell", learner=name).close()
    Workspace.open(tmp_path / "python", learner=as_learner(name)).close()


def test_a_name_takes_the_options_of_its_learner() -> None:
    assert as_learner("sgd", {"epochs": 3}).params()["epochs"] == 3
    assert as_learner("ridge", {"alpha": 2.0}).params()["alpha"] == 2.0
    assert as_learner("logistic").params()["estimator"]["params"]["max_iter"] == 1000


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("mlp", "epohcs", "MLPLearner has no 'epohcs': did you mean epochs? It has hidden, "),
        ("ridge", "x", "RidgeLearner has no 'x'. It has alpha, "),
        ("cnn", "lr", "TorchLearner has no 'lr'. It has module_args, "),
        ("logistic", "C", "'C': it is a parameter of LogisticRegression, to be set where that is made"),
        ("logistic", "epoch", "did you mean epochs? It has mode, epochs, batch_size, trusted"),
    ],
)
def test_an_option_of_none_is_told_with_those_there_are(name: str, option: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        as_learner(name, {option: 1})
    assert said in str(found.value)


def test_an_estimator_that_cannot_be_made_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="missing 1 required positional argument: 'estimators'"):
        as_learner("sklearn.ensemble:VotingClassifier")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("logisitc", "did you mean logistic? Give one of "),
        ("sklearn.svm.SVC", "did you mean sklearn.svm:SVC? "),
        ("?", "there is no learner '?': Give one of "),
        (":SVC", "or package.module:name"),
        (".svm:SVC", "or package.module:name"),
    ],
)
def test_a_name_of_none_is_told_with_those_there_are(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(CodeError) as found:
        Workspace.create(tmp_path / "run", name, n_shards=2)
    assert meant in str(found.value)
    assert not (tmp_path / "run").exists()


def test_an_estimator_takes_a_name() -> None:
    X, y = [[0.0], [1.0], [2.0], [3.0]] * 5, [0, 0, 1, 1] * 5
    assert SISAClassifier("gaussian_nb", n_shards=2, random_state=0).fit(X, y).score(X, y) > 0.9
