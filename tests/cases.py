"""The learners and data on which the invariants are tested, and what several tests do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shards.executors.base import Executor, OnBuilt, OnProgress, OnTurn, Program, carry_on
from shards.executors.local import LocalExecutor
from shards.learners.base import Learner
from shards.placement import Placement, Region, place
from shards.train import ChainOrder
from unlearn import Workspace
from unlearn.declaration import make_secrets

ROOT = Path(__file__).parent.parent
"""The checkout."""

CLASSES = list(range(10))


@dataclass(frozen=True)
class Case:
    """A learner to test with.

    Attributes:
        name: Its name in test ids.
        make: Makes the learner.
        image: Whether a record is `[8, 8]` rather than `[64]`.
        torch: Whether its workers need torch.
    """

    name: str
    make: Callable[[], Learner]
    image: bool = False
    torch: bool = True

    def __str__(self) -> str:
        return self.name


def _sgd() -> Learner:
    from sklearn.linear_model import SGDClassifier

    from shards.learners.sklearn import SklearnLearner

    return SklearnLearner(SGDClassifier(loss="log_loss"), epochs=2, batch_size=16)


def _logistic() -> Learner:
    from sklearn.linear_model import LogisticRegression

    from shards.learners.sklearn import SklearnLearner

    return SklearnLearner(LogisticRegression(C=0.1, max_iter=500), mode="refit")


def _mlp_adam() -> Learner:
    from shards.learners.torch import TorchLearner

    return TorchLearner("mlp", {"hidden": [16]}, optimizer="Adam", optimizer_args={"lr": 0.01}, epochs=2, batch_size=8)


def _mlp_momentum() -> Learner:
    from shards.learners.torch import TorchLearner

    return TorchLearner(
        "mlp",
        {"hidden": [16], "activation": "tanh"},
        optimizer_args={"lr": 0.1, "momentum": 0.9},
        schedule="cosine",
        epochs=2,
        batch_size=8,
        carry_optimizer=True,
        standardize=True,
    )


def _cnn() -> Learner:
    from shards.learners.torch import TorchLearner

    return TorchLearner("user_code:digits_cnn", optimizer="Adam", optimizer_args={"lr": 0.01}, epochs=1, batch_size=8)


def _ridge() -> Learner:
    from shards.learners.ridge import RidgeLearner

    return RidgeLearner(1.0)


def _written_out_momentum() -> Learner:
    from shards.learners.mlp import MLPLearner

    return MLPLearner(
        (16,),
        activation="tanh",
        momentum=0.9,
        weight_decay=1e-3,
        schedule="cosine",
        epochs=2,
        batch_size=8,
        carry_optimizer=True,
        standardize=True,
    )


def _written_out() -> Learner:
    from shards.learners.mlp import MLPLearner

    return MLPLearner((16,), epochs=2, batch_size=8)


def _lda() -> Learner:
    from shards.learners.discriminant import LDALearner

    return LDALearner(0.1)


def _gaussian_nb() -> Learner:
    from shards.learners.naive_bayes import GaussianNBLearner

    return GaussianNBLearner(0.01)


def _multinomial_nb() -> Learner:
    from shards.learners.naive_bayes import MultinomialNBLearner

    return MultinomialNBLearner(unit=1 / 16)


def _neighbours() -> Learner:
    from shards.learners.neighbours import NeighboursLearner

    return NeighboursLearner(3, {"map": "raw", "unit": 1 / 4, "limit": 1.0})


def _random_trees() -> Learner:
    from shards.learners.random_trees import RandomTreesLearner

    return RandomTreesLearner(10, 6, low=0.0, high=1.0)


SGD = Case("sklearn-sgd", _sgd, torch=False)
LOGISTIC = Case("sklearn-logistic-refit", _logistic, torch=False)
MLP_ADAM = Case("mlp-adam", _mlp_adam)
MLP_MOMENTUM = Case("mlp-momentum-cosine", _mlp_momentum)
CNN = Case("cnn-dropout", _cnn, image=True)
RIDGE = Case("ridge", _ridge, torch=False)
LDA = Case("lda", _lda, torch=False)
GAUSSIAN_NB = Case("gaussian-nb", _gaussian_nb, torch=False)
MULTINOMIAL_NB = Case("multinomial-nb", _multinomial_nb, torch=False)
NEIGHBOURS = Case("neighbours", _neighbours, torch=False)
RANDOM_TREES = Case("random-trees", _random_trees, torch=False)

WRITTEN_OUT = Case("written-out", _written_out, torch=False)
WRITTEN_OUT_MOMENTUM = Case("written-out-momentum", _written_out_momentum, torch=False)

EXACT = (RIDGE, LDA, GAUSSIAN_NB, MULTINOMIAL_NB, NEIGHBOURS, RANDOM_TREES)
"""Learners whose shards make one exact model."""

CASES = (SGD, LOGISTIC, MLP_ADAM, MLP_MOMENTUM, CNN, WRITTEN_OUT, WRITTEN_OUT_MOMENTUM, *EXACT)
"""Every way a step can depend on the one before it: state, optimiser, dropout, schedule, not at all, or by merging."""

LIGHT = (SGD, MLP_ADAM)
"""One of each family, where all five would show nothing more."""


@dataclass(frozen=True)
class Record:
    """One row of the digits under an id of its own.

    Attributes:
        row: Row number in the digits.
        id: Record id; says nothing of the position within a batch.
        subject: Whose it is.
    """

    row: int
    id: str
    subject: str


def record(row: int, subject: str | None = None) -> Record:
    """A record of its own subject, or of the given one."""
    name = f"record-{row:05d}-of-digits"
    return Record(row, name, subject or name)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: `[1797, 64]` float32 in 0..1 and `[1797]` labels."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def features(case: Case, rows: Sequence[int] | slice) -> np.ndarray:
    """Rows of the digits in the shape the case wants."""
    X = digits()[0][rows if isinstance(rows, slice) else np.array(rows, dtype=np.int64)]
    return X.reshape(-1, 8, 8) if case.image else X


def test_rows(case: Case) -> np.ndarray:
    """Fifty digits that no test trains on."""
    return features(case, slice(-50, None))


test_rows.__test__ = False  # type: ignore[attr-defined]


def create(
    folder: Path,
    case: Case,
    n_shards: int,
    n_slices: int,
    *,
    random_state: int = 0,
    executor: str | Executor = "local",
    risk_classes: Mapping[str, Region] | None = None,
) -> Workspace:
    """A workspace with the constants all tests share."""
    return Workspace.create(
        folder,
        case.make(),
        n_shards=n_shards,
        n_slices=n_slices,
        classes=CLASSES,
        random_state=random_state,
        executor=executor,
        risk_classes=risk_classes,
    )


def ingest(
    workspace: Workspace,
    case: Case,
    records: Sequence[Record],
    reconsent: Sequence[str] = (),
    risk: Callable[[str], str] | None = None,
    **changed: Any,
) -> None:
    """Ingest records as one batch, `risk` telling a subject's class; `changed` replaces features by record id."""
    rows = [item.row for item in records]
    X = features(case, rows)
    for at, item in enumerate(records):
        if item.id in changed:
            X[at] = changed[item.id]
    workspace.ingest(
        X,
        digits()[1][np.array(rows, dtype=np.int64)],
        record_ids=[item.id for item in records],
        subjects=[item.subject for item in records],
        risk=None if risk is None else [risk(item.subject) for item in records],
        reconsent=list(reconsent),
    )


def trained(
    folder: Path,
    case: Case,
    batches: Sequence[Sequence[Record]],
    n_shards: int,
    n_slices: int,
    *,
    executor: str | Executor = "local",
    risk_classes: Mapping[str, Region] | None = None,
    risk: Callable[[str], str] | None = None,
    **changed: Any,
) -> Workspace:
    """The slow and obviously right way to any state: a fresh workspace, every batch, one training."""
    workspace = create(folder, case, n_shards, n_slices, executor=executor, risk_classes=risk_classes)
    for batch in batches:
        ingest(workspace, case, batch, risk=risk, **changed)
    workspace.train()
    return workspace


def placed(
    records: Sequence[Record],
    n_shards: int,
    n_slices: int,
    random_state: int = 0,
    regions: Sequence[Region] | None = None,
) -> Placement:
    """Where `create`'s workspaces put records, each within its region."""
    key = make_secrets(random_state).placement
    return place(key, [r.subject for r in records], [r.id for r in records], n_shards, n_slices, regions)


def contents(workspace: Workspace) -> Mapping[tuple[int, int], str]:
    """Content digest of every built step, by (shard, position)."""
    site = workspace._site
    return {place: site.folder(place[0]).header(step.key).content for place, step in site.ledger.steps().items()}


class Recording(LocalExecutor):
    """Trains here, and keeps what it was asked to train."""

    def __init__(self, n_workers: int | None = None) -> None:
        super().__init__(n_workers)
        self.program: Program | None = None
        self.orders: list[ChainOrder] = []

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        self.program = program
        self.orders = list(orders)
        super().run(program, orders, on_built, on_progress, on_turn)
