"""A workspace folder is data: opening, serving or repairing one made by somebody else runs and destroys nothing."""

from __future__ import annotations

import copy
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from shards.errors import CodeError, ConfigurationError, DamageError
from shards.learners.sklearn import SklearnLearner
from shards.learners.skops_state import load_estimator
from shards.learners.torch import TorchLearner
from unlearn import Workspace
from unlearn.errors import InputError, UnlearnError, WorkspaceError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2


def made(path: Path, learner: Any = None, **options: Any) -> Workspace:
    ws = Workspace.create(
        path,
        learner or SGDClassifier(loss="log_loss"),
        **{"n_shards": 2, "n_slices": 2, "random_state": 0, "classes": [0, 1], **options},
    )
    ws.ingest(X, Y)
    return ws


def rewrite_description(path: Path, change: Callable[[Any], None]) -> None:
    description = json.loads((path / "workspace.json").read_text())
    change(description)
    (path / "workspace.json").write_text(json.dumps(description))


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path / "ledger.db", isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_a_description_cannot_have_torch_load_a_pickle(tmp_path: Path) -> None:
    import torch

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save(Bomb(), tmp_path / "bomb.pt")
    ws = made(tmp_path / "ws", TorchLearner("mlp", {"hidden": [4]}, epochs=1))
    ws.train()
    ws.close()

    def change(description: Any) -> None:
        description["learner"]["params"]["module"] = "torch:load"
        description["learner"]["params"]["module_args"] = {"f": str(tmp_path / "bomb.pt"), "weights_only": False}

    rewrite_description(ws.path, change)
    with pytest.raises(CodeError, match=r"'torch:load' is defined in torch\.serialization, an installed package"):
        Workspace.open(ws.path).predict(X)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("reference", ["joblib:load", "numpy:load", "pandas:read_pickle", "torch.hub:load"])
def test_functions_of_installed_packages_are_not_called(reference: str) -> None:
    from shards.code import resolve_callable

    with pytest.raises(CodeError, match="installed package"):
        resolve_callable(reference)


def test_models_of_torchvision_and_files_of_ones_own_are_called() -> None:
    from shards.code import resolve_callable

    for reference in ("torchvision.models:resnet18", "torch.nn:Linear", "user_code:digits_cnn", "torch.optim:Adam"):
        assert callable(resolve_callable(reference))


@pytest.mark.parametrize(
    "estimator",
    [
        CountVectorizer(preprocessor=np.testing.rundocs),
        FunctionTransformer(np.load, kw_args={"allow_pickle": True}),
        FunctionTransformer(np.fromfile),
    ],
)
def test_an_estimator_cannot_name_functions_that_read_or_execute(estimator: Any) -> None:
    with pytest.raises((ConfigurationError, CodeError)):
        SklearnLearner(Pipeline([("first", estimator), ("last", LogisticRegression())]))


def test_a_state_cannot_hold_distributions_that_execute_text(tmp_path: Path) -> None:
    from scipy import stats

    bomb = copy.copy(stats.norm)
    bomb._parse_arg_template = f"import os; os.mkdir({str(tmp_path / 'exploded')!r})"
    estimator = LogisticRegression().fit(X, Y)
    estimator.extra_ = bomb
    stored = skops.io.dumps(estimator)
    with pytest.raises(DamageError, match="does not trust"):
        load_estimator(stored, (), frozenset())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("part", ["records", "checkpoints", "staging"])
def test_a_link_in_a_shard_folder_destroys_nothing_elsewhere(tmp_path: Path, part: str) -> None:
    ws = made(tmp_path / "ws")
    ws.close()
    victim = tmp_path / "victim"
    victim.mkdir()
    names = {"records": "p000000-v0.arrow", "checkpoints": f"{'0' * 64}.safetensors", "staging": "draft"}
    treasure = victim / names[part]
    treasure.write_text("treasure")
    place = ws.path / "shards" / "0000" / part
    place.rename(tmp_path / "aside")
    place.symlink_to(victim)
    execute(ws.path, "UPDATE meta SET value = 'train' WHERE name = 'operation'")
    with pytest.raises(DamageError, match="symbolic link"):
        Workspace.open(ws.path).train()
    assert treasure.read_text() == "treasure"


def test_a_key_that_is_a_path_destroys_nothing_elsewhere(tmp_path: Path) -> None:
    ws = made(tmp_path / "ws")
    ws.train()
    ws.close()
    other = tmp_path / "other.safetensors"
    other.write_text("treasure")
    execute(ws.path, "UPDATE step SET key = '../../../../other' WHERE shard = 0 AND position = 0")
    with pytest.raises(DamageError, match="no key of a checkpoint"):
        Workspace.open(ws.path).recover()
    assert other.read_text() == "treasure"


def test_a_lost_database_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    ws = made(tmp_path / "ws")
    ws.close()
    files = sorted(ws.path.glob("shards/*/records/*"))
    (ws.path / "ledger.db").unlink()
    with pytest.raises(DamageError, match="is missing"):
        Workspace.open(ws.path)
    (ws.path / "ledger.db").touch()
    with pytest.raises(DamageError, match="lacks the tables"):
        Workspace.open(ws.path)
    assert sorted(ws.path.glob("shards/*/records/*")) == files


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(learner={}),
        lambda d: d.update(learner=None),
        lambda d: d.update(n_shards="2"),
        lambda d: d.update(modules=[]),
        lambda d: d.pop("root_seed"),
        lambda d: d.update(more=1),
    ],
)
def test_a_description_with_odd_parts_is_refused(tmp_path: Path, change: Callable[[Any], None]) -> None:
    ws = made(tmp_path / "ws")
    ws.close()
    rewrite_description(ws.path, change)
    with pytest.raises(WorkspaceError, match=r"description of .* is damaged"):
        Workspace.open(ws.path)


def test_a_damaged_slice_holds_up_nobody_elses_request(tmp_path: Path) -> None:
    ws = made(tmp_path / "ws", n_shards=1, n_slices=4)
    ws.train()
    slices = ws._site.ledger.slices()
    held = {p: tuple(read_ids(ws, p)) for _, p in slices}
    lost, sound = sorted(held)[:2]
    (ws._site.folder(0).records / slices[0, lost].file).unlink()
    with pytest.raises(DamageError):
        ws.forget(record_ids=[held[lost][0]])
    request = ws.forget(record_ids=[held[sound][0]])
    assert request.state.value == "forgotten"
    assert read_ids(ws, sound) == tuple(name for name in held[sound] if name != held[sound][0])
    reopened = Workspace.open(ws.path)
    assert [r.state.value for r in reopened.requests()] == ["submitted", "forgotten"]
    # Nothing of the damaged slice stays once all it held is forgotten, and everybody's request goes through.
    reopened.forget(record_ids=held[lost][1:])
    reopened.recover()
    assert {r.state.value for r in reopened.requests()} == {"receipted"}


def read_ids(ws: Workspace, position: int) -> tuple[str, ...]:
    from shards import slicefile

    return slicefile.read(ws._site.folder(0).records / ws._site.ledger.slices()[0, position].file).record_ids


def test_estimators_that_draw_from_global_generators_are_repeatable(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    search = GridSearchCV(
        Pipeline([("clf", LogisticRegression())]), {"clf": [RandomForestClassifier(3, max_depth=2)]}, cv=2
    )
    digests = set()
    for name in ("one", "two"):
        ws = made(tmp_path / name, SklearnLearner(search), n_shards=1, n_slices=1)
        ws.train()
        digests.add(ws.state_digest())
    assert len(digests) == 1


def test_the_class_of_a_users_own_learner_is_in_the_keys(tmp_path: Path) -> None:
    from executor_learners import Counting

    ws = Workspace.create(tmp_path / "ws", Counting(), n_shards=1)
    assert "executor_learners" in ws.declaration.modules


def test_an_existing_empty_folder_is_filled_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    inode = here.stat().st_ino
    made(Path())
    assert Workspace.open(".").status().records == 40
    assert here.stat().st_ino == inode


@pytest.mark.parametrize(
    "options", [{"reason": None}, {"idempotency_key": ["a"]}, {"idempotency_key": "\ud800"}, {"reason": 3}]
)
def test_a_request_in_odd_words_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    ws = made(tmp_path / "ws")
    with pytest.raises(InputError, match="must be text"):
        ws.forget(record_ids=[1], **options)
    assert ws.requests() == []


def test_a_folder_where_a_file_belongs_is_named(tmp_path: Path) -> None:
    ws = made(tmp_path / "ws")
    ws.train()
    path = next(ws.path.glob("shards/0000/checkpoints/*"))
    path.unlink()
    path.mkdir()
    with pytest.raises(UnlearnError, match=r"folder where a file belongs|cannot be read"):
        ws.recover()
