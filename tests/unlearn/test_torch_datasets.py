"""A torch dataset goes in as it is; what has no index is refused with what to give instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from shards.learners.mlp import MLPLearner
from shards.sources import features_from_dataset, from_dataset
from unlearn import SISAClassifier, Workspace
from unlearn.errors import InputError

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 2
PEOPLE = [f"p{row // 4}" for row in range(40)]
DATASET = TensorDataset(X, Y)


class Stream(IterableDataset[Any]):
    """Pairs, one after another."""

    def __iter__(self) -> Iterator[Any]:
        return iter(DATASET)


class Inputs(Dataset[torch.Tensor]):
    """Inputs alone."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> torch.Tensor:
        return X[row]


def workspace(folder: Path) -> Workspace:
    learner = MLPLearner(hidden=(4,), epochs=1)
    return Workspace.create(folder, learner, n_shards=2, n_slices=1, random_state=0)


def test_a_dataset_is_its_tensors(tmp_path: Path) -> None:
    tensors, dataset = workspace(tmp_path / "tensors"), workspace(tmp_path / "dataset")
    tensors.ingest(X, Y, subjects=PEOPLE)
    dataset.ingest(ConcatDataset([Subset(DATASET, range(10)), Subset(DATASET, range(10, 40))]), subjects=PEOPLE)
    for ws in (tensors, dataset):
        ws.train()
    assert dataset.state_digest() == tensors.state_digest()
    assert dataset.forget(subjects=["p3"]).n_records == 4
    expected = dataset.predict_proba(X)
    for some in (DATASET, Inputs(), TensorDataset(X)):
        assert dataset.predict_proba(some).tobytes() == expected.tobytes()


def test_records_of_later_batches_are_numbered_apart(tmp_path: Path) -> None:
    ws = workspace(tmp_path / "ws")
    assert [ws.ingest(DATASET), ws.ingest(DATASET)] == [0, 1]
    assert ws.forget(record_ids=["3", "1:3"]).n_records == 2


def test_who_was_forgotten_is_presented_to_an_audit_as_a_dataset(tmp_path: Path) -> None:
    ws = workspace(tmp_path / "ws")
    ws.ingest(DATASET, subjects=PEOPLE)
    ws.train()
    ws.forget(subjects=sorted(set(PEOPLE[:24])))
    ws.recover()
    part = {"subjects": PEOPLE[:24], "record_ids": range(24)}
    found = ws.audit(Subset(DATASET, range(24)), **part)
    assert found.p_value == ws.audit(X[:24], Y[:24], **part).p_value


def test_the_estimator_takes_one_too() -> None:
    learner = MLPLearner(hidden=(4,), epochs=1)
    clf = SISAClassifier(learner, n_shards=2, n_slices=1, random_state=0).fit(DATASET, subjects=PEOPLE)
    again = SISAClassifier(learner, n_shards=2, n_slices=1, random_state=0).fit(X, Y, subjects=PEOPLE)
    assert clf.workspace_.state_digest() == again.workspace_.state_digest()
    assert clf.n_features_in_ == 3
    np.testing.assert_array_equal(clf.predict(DATASET), clf.predict(X))
    clf.extend(Subset(DATASET, range(4)))
    assert clf.workspace_.status().records == 44


TAKERS: dict[str, Callable[[Workspace, Any], Any]] = {
    "ingest": lambda ws, given: ws.ingest(given),
    "ingest with y": lambda ws, given: ws.ingest(given, Y),
    "predict": lambda ws, given: ws.predict(given),
    "audit": lambda ws, given: ws.audit(given),
    "fit": lambda _ws, given: SISAClassifier(n_shards=2, n_slices=1).fit(given, Y),
    "from_dataset": lambda _ws, given: from_dataset(given),
    "features_from_dataset": lambda _ws, given: features_from_dataset(given),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = workspace(tmp_path_factory.mktemp("trained") / "ws")
    ws.ingest(DATASET)
    ws.train()
    return ws


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader(DATASET), r"DataLoader.*give its dataset \(loader\.dataset\)"),
        (Stream(), "Stream is an IterableDataset.*list"),
    ],
    ids=["loader", "stream"],
)
def test_what_has_no_index_is_refused(trained: Workspace, taker: str, given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TAKERS[taker](trained, given)
    assert trained.status().batches == 1


def test_a_stream_that_is_collected_is_a_dataset(tmp_path: Path) -> None:
    assert workspace(tmp_path / "ws").ingest(from_dataset(list(Stream()))) == 0


def test_targets_beside_a_dataset_are_refused(trained: Workspace) -> None:
    with pytest.raises(InputError, match="leave y out"):
        trained.ingest(DATASET, Y)
    with pytest.raises(InputError, match="leave y out"):
        SISAClassifier(n_shards=2, n_slices=1).fit(DATASET, Y)


def test_an_empty_dataset_has_nothing_to_predict() -> None:
    with pytest.raises(InputError, match="empty"):
        features_from_dataset(Subset(DATASET, []))


def test_torch_is_not_imported_to_find_out() -> None:
    asked = "import sys, numpy; from shards.records import is_dataset; print(is_dataset(numpy.zeros(3)))"
    code = f"{asked}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
