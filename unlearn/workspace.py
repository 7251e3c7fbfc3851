"""The workspace: records, checkpoints, requests, receipts in one folder, and the only place that orders what happens.

Accept → withdraw from service → destroy → receipt → build again → receipt. What each part does, and what a crash in
it leaves to be done, is said where it is done: `submission`, `forgetting`, `building`, `issuing`.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from shards.digest import Json, digest_json
from shards.ensemble import Member
from shards.errors import NotServingError
from shards.executors.base import Executor, Stop
from shards.executors.local import LocalExecutor
from shards.files import sync_path
from shards.interrupts import guarded
from shards.learners import as_learner
from shards.learners.base import Features
from shards.lock import exclusive
from shards.placement import Region
from shards.private_votes import PrivateVotes
from shards.records import Records, is_unicode, to_ids
from shards.task import Kind, Task
from shards.train import describe_learner, describe_task, task_from
from unlearn import declaration as declared
from unlearn.approximating import (
    Applier,
    asked_for,
    asks_to_retrain,
    certificate_of,
    declared_method,
    refuse_spent,
)
from unlearn.audit.sisa_test import PERMUTATIONS
from unlearn.building import BuildReport, adopt, build, complete_shards, plan
from unlearn.declaration import Declaration
from unlearn.editing import (
    Outcome,
    accept_edit,
    draft_edit,
    end_keys,
    has_stale_keys,
    make_pending,
    remove_unnoted,
)
from unlearn.erasure import purge_checkpoints, undo_ingest
from unlearn.errors import (
    ConfigurationError,
    DamageError,
    FencedError,
    IdempotencyError,
    InputError,
    LockedError,
    NotAppliedError,
    StorageError,
    UnknownIdError,
    UnlearnError,
    UnsignedError,
    WorkspaceError,
)
from unlearn.exported import KIND, check_exportable, write_program
from unlearn.facts import EDIT_ID, LANGUAGE_MODEL, NOT_MADE, EditRequest, EditState, Fact
from unlearn.forgetting import (
    Draft,
    Instead,
    Named,
    destroy,
    draft,
    find,
    refuse_repeated,
    serve_pending,
)
from unlearn.frames import beside, prediction_columns
from unlearn.inbox import Inbox
from unlearn.intake import as_records, check_ids, fit_task, place_batch, store_batch
from unlearn.issuing import (
    Receipt,
    current_signer,
    issue_due,
    public_key,
    receipts_of,
    rotate_key,
    software_version,
)
from unlearn.ledger import APPLYING, EDITING, Artefact, BuiltStep, NewSlice, now
from unlearn.model_folder import check_folder
from unlearn.progress import counted, progress_bar
from unlearn.receipt.keys import create_key
from unlearn.receipt.strict import MAX_NAME
from unlearn.request import REQUEST_ID, Request, RequestState
from unlearn.serving import Server, prepare_features, served_contents
from unlearn.site import Site, store_of
from unlearn.submission import Acceptor

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd

    from unlearn.audit.attack_audit import AttackAudit, AttackPlan
    from unlearn.audit.workspace_audit import AuditResult
    from unlearn.ledger import Approximation, Database, Ledger

REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
"""What a disk answers when it takes no more."""

HAND_OVER_SECONDS = 120.0
"""How long `forget` waits for a process that trains: it may have to read all of its checkpoints first."""

HAND_OVER_POLL_SECONDS = 0.05

_WITHDRAW = Instead()
"""What a request asks for that asks for no approximate method."""

LOCK_SECONDS = 2.0
"""How long an operation waits for another writer before it gives up."""

Ids = Sequence[str | int] | np.ndarray


@dataclass(frozen=True)
class WorkspaceStatus:
    """What a workspace holds and what is left to do.

    Attributes:
        path: Its folder.
        n_shards: S.
        n_slices: R, per batch.
        batches: Batches ingested.
        records: Records present.
        serving: Shards that have a state; the others abstain.
        behind: Shards with steps still to be built.
        steps_missing: How many steps that is.
        visits_missing: How many record-visits that is.
        generation: Number that grows whenever the served state changes.
        requests: Deletion requests by state.
        overdue: Ids of the requests whose deadline has passed and whose data is not gone.
        late: Ids of the requests that were forgotten after their deadline.
        labels_left: With noisy votes: how many more labels may be published; None otherwise.
        approximate: What is served and was made by approximate methods, which is not what retraining gives.
        due: Ids of the requests after whose approximate method the model is to be retrained by now, because their time
            is up, an audit refuted what is served, or the method failed, was stopped, or had no budget left.
    """

    path: str
    n_shards: int
    n_slices: int
    batches: int
    records: int
    serving: int
    behind: tuple[int, ...]
    steps_missing: int
    visits_missing: int
    generation: int
    requests: Mapping[str, int]
    overdue: tuple[str, ...]
    late: tuple[str, ...]
    labels_left: int | None
    approximate: tuple[ApproximateState, ...] = ()
    due: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApproximateState:
    """A state that is served and was made by an approximate method: its guarantee is never exact.

    Attributes:
        shard: The shard.
        method: Name of the method that made it.
        config: Its configuration.
        applications: How many methods were applied one after the other since the last exact state. Of certified
            removal: since the last training.
        refuted_at: When an audit refuted that it, or one it was made from, has forgotten, UTC; None: none did.
        guarantee: `"empirical"`, or `"certified"`.
        certificate: Of certified removal: what is promised (`epsilon`, `delta`), how much of it is `spent`, and how
            many removals are `left`; None of other methods.
        methods: All whose work is in it, each once, in the order of the first request served by each.
    """

    shard: int
    method: str
    config: Mapping[str, Json]
    applications: int
    refuted_at: datetime | None
    guarantee: str = "empirical"
    certificate: Mapping[str, Json] | None = None
    methods: tuple[str, ...] = ()


class Workspace:
    """A durable sharded model that can forget. Make one with `create` or `open`."""

    def __init__(self, site: Site, executor: Executor) -> None:
        self._site = site
        self._executor = executor
        self._server = Server(site)
        self._acceptor = Acceptor(site)
        self._writer = secrets.token_hex(8)

    # Creation

    @classmethod
    def create(
        cls,
        path: str | Path,
        learner: Any,
        *,
        n_shards: int,
        n_slices: int = 1,
        task: Kind | None = None,
        classes: Sequence[Json] | None = None,
        aggregation: str | PrivateVotes | None = None,
        random_state: int | None = None,
        executor: str | Executor = "local",
        ledger: str | None = None,
        store: str | None = None,
        risk_classes: Mapping[str, Region] | None = None,
        method: str | None = None,
        method_options: Mapping[str, Json] | None = None,
        escalate_within: timedelta | None = None,
        method_time_limit: timedelta | None = None,
    ) -> Workspace:
        """Create a workspace.

        Args:
            path: A folder that does not exist yet, or is empty.
            learner: A learner, a scikit-learn estimator, a torch module's factory, or a name as on the command line,
                such as `"logistic"` (see `as_learner`).
            n_shards: S: into how many isolated models the data is spread.
            n_slices: R: into how many increments each shard's part of a batch is cut.
            task: What is predicted; None: as the estimator says, else classification.
            classes: Every label there may ever be, a public constant; None: those of the first batch, which
                then become public and stay known even if all their records are forgotten.
            aggregation: `"mean"` of probabilities, majority `"vote"`, mean `"weighted"` by record counts; one model of
                the shards' added `"sum"`s, for learners that have some (`RidgeLearner`); or `PrivateVotes`: labels
                only, by a noisy vote on a budget, for requests that may depend on labels. None: sums where there are
                some, else the mean.
            random_state: Makes placement and training repeatable, for experiments; None: fresh and secret.
            executor: `"local"`, or an executor.
            ledger: Where the ledger lies: None for SQLite inside the folder, or the URL of a PostgreSQL database,
                `postgresql://user@host:port/database`, in which the workspace gets a schema of its own.
            store: Where records and checkpoints lie: None for inside the folder; a path, or the URL of an object store,
                `s3://bucket/prefix` or `gs://bucket/prefix`, below which the workspace gets a place of its own. What
                the URL needs besides comes from the environment, of this process and of the workers.
            risk_classes: Classes of subjects by how likely they are to ask, and where each may go, such as
                `{"often": Region(shards=range(2)), "seldom": Region(shards=range(2, 20))}`; public constants. Every
                batch then says the class of each subject. None: there are no classes, and everybody goes anywhere.
            method: Name of an approximate method of `unlearn.methods` that `forget` applies where nothing else is said;
                for one torch model (`n_shards=1`, `n_slices=1`), or `"certified_removal"` for a
                `unlearn.methods.certified_learner.CertifiedLearner`. None: forgetting withdraws, and is exact.
            method_options: Its options; what is not named has its default.
            escalate_within: How long after a request the model is to be retrained at the latest; None: no such limit.
            method_time_limit: How long a method may take, whichever it is. Then it is stopped, the request is carried
                out as without one, and the model is due to be retrained; None: a method that never ends holds the
                workspace until its process is ended.

        Returns:
            The workspace, open.

        Raises:
            WorkspaceError: If the folder is not empty.
            ConfigurationError: If an option does not make sense.
            StorageError: If the store cannot be used, or keeps what is deleted.
        """
        folder = Path(path).absolute()
        trained = as_learner(learner)
        kind = task or trained.kinds()[0]
        rule = "mean" if aggregation is None else aggregation
        fixed = declared_method(
            trained, n_shards, n_slices, rule, method, method_options, escalate_within, method_time_limit
        )
        declaration = declared.declare(
            trained,
            kind,
            classes,
            n_shards=n_shards,
            n_slices=n_slices,
            aggregation=aggregation,
            random_state=random_state,
            ledger=ledger,
            store=store,
            risk_classes=risk_classes,
            method=fixed,
        )
        where = _executor(executor)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorkspaceError(f"{folder} already exists and is not empty: choose another folder, or open it")
        with _naming_full_disks(folder):
            if declaration.store is not None:
                store_of(folder, declaration).prepare()
            _make(folder, declaration, random_state)
        return cls.open(folder, executor=where)

    @classmethod
    def open(cls, path: str | Path, *, learner: Any = None, executor: str | Executor = "local") -> Workspace:
        """Open a workspace, and finish what a crash interrupted if nobody else is at it.

        Args:
            path: Its folder.
            learner: If given, must be the learner it was created with.
            executor: `"local"`, or an executor.

        Returns:
            The workspace.

        Raises:
            WorkspaceError: If there is none, or its format is newer than this program.
            ConfigurationError: If another learner is given.
            StorageError: If its store is not there, or keeps what is deleted.
        """
        folder = Path(path).absolute()
        declaration, keys = declared.read(folder)
        if declaration.store is not None:
            store_of(folder, declaration).check()
        if (folder / _NEW).exists():
            with _naming_full_disks(folder):
                _keep_name(folder)
        if learner is not None:
            wanted = describe_learner(as_learner(learner))
            if digest_json("learner", wanted) != digest_json("learner", declaration.learner):
                raise ConfigurationError(
                    f"{folder} was created with another learner ({_differences(declaration.learner, wanted)}): a "
                    "workspace keeps its learner; open it without one, or create a new workspace"
                )
        site = Site(folder, declaration, keys, _open_ledger(folder, declaration))
        workspace = cls(site, _executor(executor))
        if workspace._unfinished():
            # Whoever holds the lock has it under way, or finishes it first. On a full disk it stays to be done, by
            # the next operation that writes, which says so; what is served owes nothing to it either way.
            with suppress(LockedError, StorageError), workspace._writing(timeout=0, serve=False):
                pass
        return workspace

    def close(self) -> None:
        """Close the database; the workspace can be opened again."""
        self._site.ledger.close()

    def __enter__(self) -> Self:
        """As `with Workspace.open(path) as workspace:`, which closes it at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        declaration = self._site.declaration
        return f"Workspace({str(self.path)!r}, n_shards={declaration.n_shards}, n_slices={declaration.n_slices})"

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._site.path

    @property
    def declaration(self) -> Declaration:
        """The constants it was created with."""
        return self._site.declaration

    @property
    def task(self) -> Task | None:
        """What is predicted from what, or None before the first batch."""
        described = self._site.ledger.task()
        return None if described is None else task_from(described)

    @property
    def executor(self) -> Executor:
        """Where it trains."""
        return self._executor

    @guarded
    def unchanging(self) -> Iterator[Site]:
        """Hold the workspace as it is, for whoever looks at all of it.

        Yields:
            Its parts.

        Raises:
            WorkspaceError: If something is under way that nobody has finished.
        """
        with exclusive(self.path / "lock", LOCK_SECONDS):
            if self._unfinished():
                raise WorkspaceError(
                    f"an operation in {self.path} was interrupted and is not finished: run `unlearn recover`, then "
                    "repeat the command"
                )
            yield self._site

    @guarded
    def at_one_moment(self) -> Iterator[Site]:
        """Look at the workspace as it is at one moment, also while another process writes. Nothing is to be written.

        Yields:
            Its parts; all that this thread reads from the ledger meanwhile is of that moment.
        """
        with self._site.ledger.at_one_moment():
            yield self._site

    # Records in

    def ingest(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
        reconsent: Ids = (),
    ) -> int:
        """Take in a batch of records. Nothing is trained by it; nothing trained before changes by it.

        Args:
            X: Features: array `[n, ...]`, mapping of arrays, pandas or pyarrow table; without y, a map-style torch
                dataset of `(input, target)`, or `Records`.
            y: Targets: `[n]` labels, or `[n, ...]` numbers for regression.
            subjects: Whose each record is; None: every record is its own subject.
            record_ids: Unique ids; None: row numbers, `"17"` in the first batch, `"b:17"` in batch b.
            risk: The declared risk class of each record's subject: `[n]` texts, a mapping of subjects to classes, or
                one text for all. A subject keeps its class while it has records. None: where none are declared.
            reconsent: Forgotten subjects or records that may return, because they said so.

        Returns:
            The number of the batch, from 0.

        Raises:
            InputError: If the data cannot be trained on; nothing was changed.
            TombstoneError: If a forgotten subject or record is in it; nothing was changed.
            StorageError: If the disk is full; nothing was changed.
        """
        with self._writing():
            return self._ingest(as_records(self._site, X, y, subjects, record_ids, risk), reconsent)

    def ingest_table(
        self,
        table: Any,
        *,
        target: str,
        subject: str | None = None,
        record_id: str | None = None,
        features: Sequence[str] | None = None,
        risk: str | None = None,
        reconsent: Ids = (),
    ) -> int:
        """Take in a batch of records from one table, whose columns have roles.

        Args:
            table: pandas DataFrame or pyarrow Table. A named level of a DataFrame's index may have a role, and is never
                a feature: `record_id="row"` after `set_index("row")`.
            target: Column of the target.
            subject: Column of the subjects; None: every record is its own subject.
            record_id: Column of the record ids; None: row numbers, as in `ingest`.
            features: Feature columns, in order; None: all that have no other role.
            risk: Column of the declared risk classes of subjects; None: where none are declared.
            reconsent: Forgotten subjects or records that may return, because they said so.

        Returns:
            The number of the batch, from 0.

        Raises:
            InputError: If a column does not exist, misses a value, or holds what cannot be trained on; nothing was
                changed.
            TombstoneError: If a forgotten subject or record is in it; nothing was changed.
            StorageError: If the disk is full; nothing was changed.
        """
        from shards.sources import from_table

        with self._writing():
            records = from_table(
                table,
                target=target,
                subject=subject,
                record_id=record_id,
                features=features,
                risk=risk,
                batch=self._site.ledger.batches(),
            )
            return self._ingest(records, reconsent)

    def ingest_parquet(
        self,
        path: Any,
        *,
        target: str,
        subject: str | None = None,
        record_id: str | None = None,
        features: Sequence[str] | None = None,
        risk: str | None = None,
        reconsent: Ids = (),
        progress: bool | None = None,
    ) -> int:
        """Take in a batch of records from Parquet files, which may be larger than memory.

        Ends in exactly the state in which `ingest` of the same rows ends. Rows go from the files to the store through
        the executor's workers, of which each must have room for one slice of a shard; the store needs room for the
        batch twice, for the while.

        Args:
            path: A folder of Parquet files, in the order of their names, or one file; path, or URL such as
                `s3://bucket/prefix`, that all workers reach; or a `pyarrow.dataset` of Parquet files.
            target: Column of the target.
            subject: Column that says whose a record is; None: every record is its own subject.
            record_id: Column of the unique ids; None: row numbers, as in `ingest`.
            features: Feature columns, in order; None: all that have no other role.
            risk: Column of the subjects' declared risk classes; None: where none are declared.
            reconsent: Forgotten subjects or records that may return, because they said so.
            progress: Show progress bars; None: on a terminal.

        Returns:
            The number of the batch, from 0.

        Raises:
            InputError: If the data cannot be read or trained on; nothing was changed.
            TombstoneError: If a forgotten subject or record is in it; nothing was changed.
            StorageError: If the disk is full, or the store fails; nothing was changed.
            WorkerLostError: If workers died again and again, perhaps for lack of memory; nothing was changed.
        """
        from shards.sources import Roles
        from unlearn.streaming import ingest_files

        roles = Roles(target, subject, record_id, None if features is None else tuple(map(str, features)), risk)
        lifting = _named(reconsent, "reconsent")
        with self._writing():
            return ingest_files(self._site, self._executor, path, roles, lifting, show=progress)

    # Training

    def train(self, *, progress: bool | None = None) -> BuildReport:
        """Build every step that is missing, in all shards. Repeat it after an interruption: what is built is kept.

        Args:
            progress: Show a progress bar; None: on a terminal.

        Returns:
            What was done.

        Raises:
            TrainingError: If the learner's code raised in some shards; the others are built.
            DamageError: If a record file does not match its digest.
            ConfigurationError: If the learner's code is not what the workspace was created with.
        """
        with self._writing():
            return self._build(range(self._site.declaration.n_shards), "training", progress)

    def recover(self, *, due: bool = False, progress: bool | None = None) -> BuildReport:
        """Rebuild what forgetting removed, for all requests that wait for it together, each shard once.

        What approximate methods made is replaced by what training gives, and destroyed. Also builds again any
        checkpoint that is missing or damaged.

        Args:
            due: Only if the model is to be retrained by now (`WorkspaceStatus.due`).
            progress: Show a progress bar; None: on a terminal.

        Returns:
            What was done.

        Raises:
            TrainingError: If the learner's code raised in some shards; the others are built, and requests that wait for
                those only are recovered.
            DamageError: If a record file does not match its digest.
            ConfigurationError: If the learner's code is not what the workspace was created with.
        """
        with self._writing():
            if due and not self._due():
                return BuildReport(0, 0, 0, 0.0, 0.0)
            shards = {shard for request in self._site.ledger.waiting() for shard in request.shards}
            trained = {shard for shard, _ in self._site.ledger.steps()}
            return self._build(shards | trained, "recovering", progress)

    def _build(self, shards: Iterable[int], title: str, progress: bool | None) -> BuildReport:
        site = self._site
        if site.ledger.task() is None:
            raise WorkspaceError(f"{self.path} holds no records yet: ingest some first")
        wanted = sorted(set(shards))
        with progress_bar(title, show=progress) as start:
            report, failure = build(site, self._executor, wanted, start, _Meanwhile(site))
        # What could not be destroyed must not be trained on either.
        stuck = {item.shard: item.file for item in site.ledger.erasures()}
        wanted = sorted(set(wanted) - stuck.keys())
        hit = {shard for request in site.ledger.waiting() for shard in request.shards}
        done = site.ledger.finish_recover(complete_shards(site, sorted(hit & set(wanted))))
        issue_due(site)
        if failure is not None:
            raise failure
        if stuck:
            files = ", ".join(f"{file} of shard {shard}" for shard, file in sorted(stuck.items()))
            raise DamageError(
                f"{len(stuck)} of the shards of {self.path} were not built: forgotten records could not be destroyed "
                f"yet in the record file {files}, which is damaged; restore it from a copy, or forget the other "
                "records it held too, then run `unlearn recover`"
            )
        return replace(report, recovered=tuple(done))

    # Forgetting

    def forget(
        self,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        method: str | None = None,
        method_options: Mapping[str, Json] | None = None,
        escalate_by: datetime | None = None,
    ) -> Request:
        """Forget subjects or records, at once.

        When this returns, no process serves a prediction that depends on them, their records, and every state that
        was trained on them, are gone from the workspace, and a receipt says so. Until `recover`, the shards concerned
        serve their last state that never saw them: exact for a smaller training set.

        With an approximate method, a workspace of one model goes on serving one until then: the method makes it from
        the one that is withdrawn. Its guarantee is empirical, as the receipt says. The old model is served while the
        method is at work, which may take long. A method that fails, or is stopped since it takes longer than the
        workspace allows, keeps nobody from being forgotten: then the model is withdrawn as without one,
        `Request.not_applied` says so, and it is due to be retrained.

        Certified removal (a workspace whose learner is `unlearn.methods.certified_learner:CertifiedLearner`) keeps a
        promise of epsilon and delta instead, as long as its budget lasts. Once it is spent the model is retrained, here
        and now, or the request is refused, as its option `when_spent` says.

        Args:
            subjects: Subjects, with all their records.
            record_ids: Single records.
            reason: Why, for the log; do not name the person in it.
            idempotency_key: Your own name for the request: the same key with the same ids, the same reason, the same
                method and the same deadlines, or none given, is the same request.
            deadline: Until when it must be forgotten, with a time zone; None: one month from now. It is only noted.
            method: Name of an approximate method; `"none"`: withdraw, and be exact. None: as declared when the
                workspace was created.
            method_options: Its options; what is not named has its default.
            escalate_by: With a method: until when the model is to be retrained, with a time zone; `status` says when it
                is due, and `recover` does it. None: as declared.

        Returns:
            The request, in state forgotten.

        Raises:
            InputError: If no id is given.
            ConfigurationError: If the method does not fit; nothing was changed.
            UnknownIdError: If an id is not in the workspace; nothing was changed.
            AlreadyForgottenError: If an id was forgotten before; nothing was changed.
            IdempotencyError: If the key was used for another request; nothing was changed.
            BudgetSpentError: If the budget of certified removal is spent, and `when_spent` is "refuse"; nothing was
                changed.
            LockedError: If another process is writing, and not training; nothing was changed, and `submit` works all
                the same. Or if one that trains does not look up for long; then it says that the request is durable.
            StorageError: If the disk refuses; what to do is said.
        """
        instead = self._instead(method, method_options, escalate_by)
        named, drafted = self._draft(subjects, record_ids, reason, idempotency_key, deadline, instead)
        try:
            return self._forget(named, drafted)
        except LockedError:
            # Whoever trains looks up now and then, and serves what was submitted.
            if self._site.ledger.operation() != "train":
                raise
        if idempotency_key is None or self._site.ledger.request_by_key(idempotency_key) is None:
            refuse_repeated(self._site, named)
        return self._hand_over(named, drafted)

    def _forget(self, named: Named, drafted: Draft) -> Request:
        idempotency_key = drafted.request.idempotency_key
        with self._writing(0 if self._site.ledger.operation() == "train" else LOCK_SECONDS):
            site = self._site
            known = None if idempotency_key is None else site.ledger.request_by_key(idempotency_key)
            if known is not None:
                from unlearn.ledger import Given, check_repeat

                given = Given(drafted.dated, drafted.escalated)
                repeated = check_repeat(known, drafted.request, drafted.fingerprint, given)
                if isinstance(repeated, IdempotencyError):
                    raise repeated
                return repeated
            withdrawal = find(site, drafted.request, drafted.fingerprint, named)
            refuse_repeated(site, named)
            refuse_spent(site, drafted.request)
            if drafted.request.method is not None:
                return self._apply(named, drafted)
            site.ledger.withdraw([withdrawal])
            damaged, done = self._finish(drafted.request.id)
            if damaged and done.state is RequestState.SUBMITTED:
                raise damaged[0]
            return replace(done, opening=drafted.request.opening)

    def _apply(self, named: Named, drafted: Draft) -> Request:
        """Carry out a request that asks for a method: first it is durable, since the method may take long."""
        accepted = self._acceptor.accept(drafted, named)
        applier = Applier(self._site, self._executor)
        try:
            damaged = serve_pending(self._site, make=applier)
            issue_due(self._site)
        except (OSError, StorageError) as error:
            raise StorageError(
                f"request {accepted.id} is durable, but the disk or store refused to carry it out, or to write the "
                f"receipt ({error}): make room or access, then run `unlearn recover`, which finishes it; do not submit "
                "it again"
            ) from error
        done = self.status(accepted.id)
        if damaged and done.state is RequestState.SUBMITTED:
            raise damaged[0]
        detail = applier.detail
        if asks_to_retrain(done):
            try:
                self._build(done.shards, "retraining", None)
            except FencedError:
                raise
            except UnlearnError as error:
                # The request is carried out, and whoever made it is to have its opening.
                detail = f"the model could not be retrained ({error}): run `unlearn recover`"
            done = self.status(accepted.id)
        if done.not_applied and detail:
            done = replace(done, not_applied=f"{done.not_applied}: {detail}")
        return replace(done, opening=accepted.opening)

    def _hand_over(self, named: Named, drafted: Draft) -> Request:
        """Submit a request, and wait until the process that trains has carried it out, or we can ourselves."""
        with _naming_full_disks(self.path):
            accepted = self._acceptor.accept(drafted, named)
        request, until = self.status(accepted.id), time.monotonic() + HAND_OVER_SECONDS
        while self._is_under_way(request) and time.monotonic() < until:
            # It serves what waits, if the other is done meanwhile, or gone.
            with suppress(LockedError), self._writing(HAND_OVER_POLL_SECONDS):
                pass
            request = self.status(accepted.id)
        if request.state is not RequestState.SUBMITTED and self._is_under_way(request):
            raise UnsignedError(
                f"request {request.id} is carried out, but the process that writes to {self.path} has issued no "
                f"receipt within {HAND_OVER_SECONDS:g} seconds: look at what it says"
            )
        if request.state is RequestState.FAILED:
            raise UnknownIdError(
                f"request {request.id} {request.failure}: check the ids, and whether they name subjects or records; "
                "nothing was changed"
            )
        if request.state is RequestState.SUBMITTED:
            raise LockedError(
                f"request {request.id} is durable, but the process that writes to {self.path} has not carried it out "
                f"within {HAND_OVER_SECONDS:g} seconds: it is carried out when that process looks up or ends; do not "
                "submit it again"
            )
        return replace(request, opening=accepted.opening)

    def _is_under_way(self, request: Request) -> bool:
        due = {name for name, _ in self._site.ledger.receipts_due()}
        return request.state is RequestState.SUBMITTED or (
            request.state is RequestState.FORGOTTEN and request.id in due
        )

    def submit(
        self,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        method: str | None = None,
        method_options: Mapping[str, Json] | None = None,
        escalate_by: datetime | None = None,
    ) -> Request:
        """Accept a request to forget, without waiting for anybody.

        When this returns, the request survives any crash. It takes effect when it is served: by `process`, or by
        whatever is next done to the workspace (`ingest`, `train`, `forget`, `recover`), in any process. Until then
        the ids it names lie in the ledger, encrypted. Any number of processes and threads may submit at once, also
        while another trains.

        Args:
            subjects: Subjects, with all their records.
            record_ids: Single records.
            reason: Why, for the log; do not name the person in it.
            idempotency_key: Your own name for the request: the same key with the same ids, the same reason and the same
                deadline, or none given, is the same request.
            deadline: Until when it must be forgotten, with a time zone; None: one month from now.
            method: Name of an approximate method, as in `forget`.
            method_options: Its options.
            escalate_by: As in `forget`.

        Returns:
            The request, in state submitted, or the one it repeats.

        Raises:
            InputError: If no id is given.
            IdempotencyError: If the key was used for another request; nothing was changed.
            BudgetSpentError: As in `forget`. What is accepted before the budget ends, and carried out after it, is
                forgotten exactly.
            StorageError: If the disk refuses; then it was not accepted.
        """
        instead = self._instead(method, method_options, escalate_by)
        named, drafted = self._draft(subjects, record_ids, reason, idempotency_key, deadline, instead)
        if idempotency_key is None or self._site.ledger.request_by_key(idempotency_key) is None:
            refuse_spent(self._site, drafted.request)
        with _naming_full_disks(self.path):
            return self._acceptor.accept(drafted, named)

    def process(self) -> list[Request]:
        """Carry out all requests that were submitted, together; then make the edits that a crash left waiting.

        Returns:
            Those to forget that moved on by this, as they are now: forgotten, or failed. What became of edits says
            `edits`.

        Raises:
            LockedError: If another process is writing; it serves them when it is done.
            DamageError: If a record file that may hold named records is damaged, or the key of an edit is missing; the
                other requests are served.
        """
        settled = {request.id for request in self.requests() if request.state is not RequestState.SUBMITTED}
        with self._writing(serve=False):
            damaged = [*self._serve_pending(), *self._make_edits().damaged]
            after = [request for request in self.requests() if request.id not in settled]
        if damaged:
            raise damaged[0]
        return [request for request in after if request.state is not RequestState.SUBMITTED]

    def extend(self, request_id: str, deadline: datetime) -> Request:
        """Move the deadline of a request that is not forgotten yet (GDPR Art. 12(3) allows two further months).

        Args:
            request_id: The request.
            deadline: The new deadline, with a time zone, later than the present one.

        Returns:
            The request.

        Raises:
            UnknownIdError: If there is no such request.
            InputError: If the deadline is not later, or the request is forgotten already.
        """
        request = self.status(request_id)
        _check_deadline(deadline)
        if request.forgotten_at is not None:
            raise InputError(f"request {request_id} is {request.state} already: there is no deadline to extend")
        if request.deadline is not None and deadline <= request.deadline:
            raise InputError(f"the deadline of {request_id} is {request.deadline.isoformat()}: give a later one")
        self._site.ledger.extend(request_id, deadline.astimezone(UTC))
        return self.status(request_id)

    def _instead(self, method: str | None, options: Mapping[str, Json] | None, escalate_by: datetime | None) -> Instead:
        """The approximate method that a request asks for, with all its options."""
        if escalate_by is not None:
            _check_deadline(escalate_by)
        return asked_for(self._site, self.task, method, options, escalate_by, now())

    def _due(self) -> list[str]:
        """Requests after whose approximate method the model is to be retrained by now."""
        refuted = any(made.refuted_at is not None for made in self._site.ledger.approximations().values())
        waiting = self._site.ledger.waiting()
        return [item.id for item in waiting if item.is_due(now()) or (refuted and item.is_approximate)]

    def _draft(
        self,
        subjects: Ids | None,
        record_ids: Ids | None,
        reason: str,
        idempotency_key: str | None,
        deadline: datetime | None,
        instead: Instead = _WITHDRAW,
    ) -> tuple[Named, Draft]:
        named = Named(
            () if subjects is None else _named(subjects, "subjects"),
            () if record_ids is None else _named(record_ids, "record_ids"),
        )
        if not named.subjects and not named.record_ids:
            raise InputError("nothing to forget: give subjects or record_ids")
        _check_text("reason", reason)
        if idempotency_key is not None:
            _check_text("idempotency_key", idempotency_key)
        if deadline is not None:
            _check_deadline(deadline)
        drafted = draft(
            self._site,
            named,
            reason=reason,
            idempotency_key=idempotency_key,
            deadline=deadline,
            at=now(),
            instead=instead,
        )
        return named, drafted

    def _finish(self, request_id: str) -> tuple[list[DamageError], Request]:
        """Destroy what a durable request names, and issue its receipt. Whatever fails here, the request stands."""
        try:
            damaged = destroy(self._site)
            issue_due(self._site)
            done = self.status(request_id)
        except (OSError, StorageError) as error:
            raise StorageError(
                f"request {request_id} is durable and its records are not served any more, but the disk or store "
                f"refused to destroy them all, or to write the receipt ({error}): make room or access, then run "
                "`unlearn recover`, which finishes it; do not submit it again"
            ) from error
        return damaged, done

    def _serve_pending(self) -> list[DamageError]:
        damaged = serve_pending(self._site, make=Applier(self._site, self._executor))
        issue_due(self._site)
        return damaged

    # Edits of language models

    def edit_facts(
        self,
        facts: Sequence[Fact],
        *,
        model: str,
        output: str | Path,
        texts: Sequence[str],
        editor: str = "rome",
        editor_options: Mapping[str, Json] | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EditRequest:
        """Change what a registered language model says of some facts, with a receipt.

        This forgets nothing: no record is removed, here or from the model, and the model before the edit says what it
        said. What is guaranteed is empirical, and what was measured stands in the receipt. The edited model is written
        to a folder of its own and registered; the one before is noted as tainted. In the log and in the receipt
        are salted digests of the facts, no fact; while the request waits they are encrypted.

        The edit is made on this machine, in a worker. If something interrupts it, the request waits, and is carried out
        by `process` or by the next edit.

        Args:
            facts: What is to be said.
            model: Id of the language model, as `register` gave it, of the kind `"language model"`.
            output: Folder for the edited model; it must not exist yet.
            texts: Sentences of the kind the model is used on: editors learn from them what is to stay, and it is
                measured on them.
            editor: Name of an editor that changes weights: `"rome"`, `"memit"`, `"ft-l"` or `"ft-m"`.
            editor_options: Of its configuration; what is not named has its default, which suits small models.
            reason: Why, for the log; do not name the person in it, nor in the options.
            idempotency_key: Your own name for the request: the same key with all the same is the same request.

        Returns:
            The request, with its receipt issued.

        Raises:
            InputError: If facts, texts, model or output make no sense; nothing was changed.
            ConfigurationError: If there is no such editor, its edits are hooks, or its options make no sense; nothing
                was changed.
            UnknownIdError: If there is no such model; nothing was changed.
            IdempotencyError: If the key was used for another request; nothing was changed.
            NotAppliedError: If the edit could not be made: some answer is not given, or the model would be destroyed.
                The request ends so, and the model is as it was.
            LockedError: If another process is writing; nothing was changed.
            StorageError: If the disk refuses; what to do is said.
        """
        _check_text("reason", reason)
        if idempotency_key is not None:
            _check_text("idempotency_key", idempotency_key)
        drafted = draft_edit(
            self._site,
            facts,
            model=model,
            editor=editor,
            options=editor_options or {},
            output=output,
            texts=texts,
            reason=reason,
            idempotency_key=idempotency_key,
        )
        with self._writing():
            accepted = accept_edit(self._site, drafted)
            made = self._make_edits() if accepted.state is EditState.SUBMITTED else Outcome({}, ())
        done = self.edit(accepted.id)
        if done.state is EditState.SUBMITTED and made.damaged:
            raise made.damaged[0]
        if done.state is EditState.NOT_APPLIED:
            why = made.failures.get(done.id, done.failure)
            tried = done.failure in (NOT_MADE["unreliable"], NOT_MADE["destroyed"])
            hint = ": try other options of the editor, or another one" if tried else ""
            raise NotAppliedError(f"the edit {done.id} was not applied: {why}{hint}; the model is as it was")
        return replace(done, opening=accepted.opening)

    def edit(self, edit_id: str) -> EditRequest:
        """Where a request to edit stands.

        Args:
            edit_id: Its id.

        Returns:
            The request.

        Raises:
            UnknownIdError: If there is no such request.
        """
        found = self._site.ledger.edit(edit_id) if EDIT_ID.fullmatch(edit_id) else None
        if found is None:
            raise UnknownIdError(f"{self.path} knows no edit {edit_id!r}: `unlearn status` lists them")
        return found

    def edits(self) -> list[EditRequest]:
        """All requests to edit language models, oldest first."""
        return self._site.ledger.edits()

    def _make_edits(self) -> Outcome:
        if not self._site.ledger.edits_pending():
            return Outcome({}, ())
        try:
            made = make_pending(self._site)
            issue_due(self._site)
        except (OSError, StorageError) as error:
            raise StorageError(
                f"the edit is durable, but the disk refused to write the model, or the receipt ({error}): make room or "
                "access, then run `unlearn process`, which finishes it"
            ) from error
        return made

    # Receipts

    def receipts(self, request_id: str) -> list[Receipt]:
        """The receipts of a request.

        Args:
            request_id: The request.

        Returns:
            The one issued when it was forgotten, then the one issued when it was recovered, as far as it has come; of
            an edit, the one issued when it was made.

        Raises:
            UnknownIdError: If there is no such request.
            DamageError: If a receipt's file is missing.
        """
        known = self.edit(request_id) if EDIT_ID.fullmatch(request_id) else self.status(request_id)
        return receipts_of(self._site, known.id)

    def receipt(self, request_id: str) -> Receipt:
        """The latest receipt of a request.

        Args:
            request_id: The request.

        Returns:
            The receipt.

        Raises:
            UnknownIdError: If there is no such request, or it has no receipt yet.
        """
        found = self.receipts(request_id)
        if not found:
            raise UnknownIdError(
                f"request {request_id} has no receipt yet: it is issued when it is forgotten, or, of an edit, when it "
                "is made"
            )
        return found[-1]

    @property
    def public_key(self) -> str:
        """The key that verifies this workspace's receipts, PEM."""
        return public_key(self._site)

    def rotate_key(self) -> str:
        """Sign receipts with a new key from here on. The old key vouches for it, so whoever trusts it goes on.

        Destroy the old private key afterwards if it may be known to others: that is up to you.

        Returns:
            Id of the new key.
        """
        with self._writing():
            return rotate_key(self._site)

    # Audits

    @overload
    def audit(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
        request_id: str | None = None,
        attacks: None = None,
        held_out: Records | None = None,
        alpha: float = 0.05,
        look: int | None = None,
        looks: int | None = None,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
        progress: bool | None = None,
    ) -> AuditResult: ...

    @overload
    def audit(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
        request_id: str | None = None,
        attacks: AttackPlan | Sequence[str],
        held_out: Records | None = None,
        alpha: float = 0.05,
        look: int | None = None,
        looks: int | None = None,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
        progress: bool | None = None,
    ) -> AttackAudit: ...

    def audit(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
        request_id: str | None = None,
        attacks: AttackPlan | Sequence[str] | None = None,
        held_out: Records | None = None,
        alpha: float = 0.05,
        look: int | None = None,
        looks: int | None = None,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
        progress: bool | None = None,
    ) -> AuditResult | AttackAudit:
        """Test whether what is served still knows forgotten records, which are presented again.

        The records are used in memory and stored nowhere. Without attacks, the states are asked which shard each
        subject was in: what that test is and needs, says `unlearn.audit.sisa_test`. With attacks, the served model is
        asked who is in the data, and whether forgotten subjects look like held-out ones: `unlearn.audit.attack_audit`.
        Both look at states: where labels are published by noisy votes, their privacy does not cover what is found.

        Args:
            X: Features, as in `ingest`; or `Records`, without y.
            y: Targets.
            subjects: Whose each record was; None: every record its own subject.
            record_ids: Ids they were ingested with; None: they are found by their subjects.
            risk: Risk class of each record's subject, as in `ingest`.
            request_id: Test what this request forgot; None: whatever was forgotten, which finds more.
            attacks: Names of membership-inference attacks, or a plan with all that can be set; None: none.
            held_out: For attacks: records that never came (`shards.records.make_records`, `shards.sources`).
            alpha: Probability of refuting what owes nothing to the records.
            look: Number of this audit among several of the same claim, from 1: it is made at its share of alpha.
            looks: How many there will be, declared beforehand; None: no end is declared.
            permutations: Rearrangements to draw.
            seed: They are drawn from.
            progress: Whether to show a bar while shadow models are trained; None: on a terminal.

        Returns:
            The result: verdict, p-value, what would have been found.

        Raises:
            UnknownIdError: If records match no request, or none can be tested; says why.
            InputError: If they do not fit, or nothing can be tested; says what to do.
            ConfigurationError: If there are fewer looks than this one.
            WorkspaceError: If something is under way that nobody has finished.
        """
        if attacks is None and held_out is not None:
            raise InputError("held-out records are for attacks: name some, or leave them out")
        if request_id is not None:
            self.status(request_id)
        level = alpha
        if look is not None or looks is not None:
            from unlearn.audit.epsilon.multiplicity import alpha_at

            level = alpha_at(1 if look is None else look, alpha=alpha, looks=looks)
        records = as_records(self._site, X, y, subjects, record_ids, risk)
        if attacks is not None:
            return self._attacked(records, request_id, attacks, held_out, level, permutations, seed, progress)
        from unlearn.presented import audit_presented

        with self.unchanging() as site:
            found = audit_presented(
                site,
                records,
                request_id,
                state_digest=self.state_digest(),
                alpha=level,
                permutations=permutations,
                seed=seed,
            )
        self._note_verdict(found)
        return found

    def refute(self, audit: Json) -> None:
        """Note that an audit of your own refuted that the served model has forgotten: it is to be retrained.

        Only of a model that an approximate method made. `status` says that it is due, and `recover` retrains it.

        Args:
            audit: What was found, as JSON; the log holds its digest.

        Raises:
            WorkspaceError: If no such model is served.
        """
        if not self._site.ledger.approximations():
            raise WorkspaceError(
                f"{self.path} serves nothing that an approximate method made, so there is nothing to retrain: verify "
                "its receipts with `unlearn verify --workspace --replay` instead"
            )
        self._refute(digest_json("audit", audit), self.state_digest())

    def _note_verdict(self, found: AuditResult | AttackAudit) -> None:
        """Have the model retrained that an audit refuted, if an approximate method made it."""
        if found.verdict == "refuted" and self._site.ledger.approximations():
            self._refute(digest_json("audit", found.to_json()), found.facts.state_digest)

    def _refute(self, audit: str, state_digest: str) -> None:
        """Note it of the state that was audited, if it still is served."""
        with self._writing(serve=False):
            if self.state_digest() == state_digest:
                for made in self._site.ledger.approximations().values():
                    self._site.ledger.refute_approximation(made.key, audit)

    def _attacked(
        self,
        records: Records,
        request_id: str | None,
        attacks: AttackPlan | Sequence[str],
        held_out: Records | None,
        alpha: float,
        permutations: int,
        seed: int,
        progress: bool | None,
    ) -> AttackAudit:
        from unlearn.attacked import attack_presented
        from unlearn.audit.attack_audit import AttackPlan

        named = (attacks,) if isinstance(attacks, str) else attacks
        plan = named if isinstance(named, AttackPlan) else AttackPlan(tuple(named))
        with self.unchanging() as site, progress_bar("shadow models", show=progress, unit="states") as starter:
            found = attack_presented(
                site,
                records,
                request_id,
                plan,
                held_out,
                state_digest=self.state_digest(),
                alpha=alpha,
                permutations=permutations,
                seed=seed,
                progress=counted(starter),
            )
        self._note_verdict(found)
        return found

    def sign_audit(self, result: AuditResult | AttackAudit) -> bytes:
        """State an audit's result, signed with the key that signs receipts.

        Args:
            result: The result of `audit`.

        Returns:
            An envelope, which `unlearn.audit.statement.read_audit` verifies.

        Raises:
            InputError: If the result is of another workspace.
        """
        from unlearn.audit.statement import sign_audit

        if result.facts.workspace != self._site.declaration.id:
            raise InputError(f"this audit is of another workspace than {self.path}: sign it there")
        return sign_audit(result, current_signer(self._site), software_version())

    # What was derived

    def register(self, name: str, kind: str, location: str, *, source: str = "model") -> Artefact:
        """Note something that was derived from the model or the records as they are now, and lives elsewhere.

        A distilled student, an exported model, kept predictions, a cache of features: when a later request removes a
        record it depends on, the receipt names it as tainted. A `"language model"` can be edited (`edit_facts`).

        Args:
            name: Your name for it.
            kind: What it is, such as `"distilled model"`.
            location: Where it lies, for whoever must destroy it or make it anew; of a `"language model"`, a folder on
                this machine, with config.json, tokenizer.json and safetensors. Nothing of it is run.
            source: What it was derived from: the `"model"` that is served, or all `"records"`.

        Returns:
            What was noted.

        Raises:
            InputError: If a text is empty, too long or cannot be stored, there is no such source, or no language model
                in the folder.
        """
        if kind == LANGUAGE_MODEL:
            folder = Path(location).absolute()
            check_folder(folder)
            location = str(folder)
        if source not in ("model", "records"):
            raise InputError(f"source must be 'model' or 'records', got {source!r}; nothing was changed")
        _, steps = self._site.ledger.served()
        parts = steps if source == "model" else sorted(self._site.ledger.slices().values(), key=_position)
        return self._register(name, kind, location, parts)

    def _register(self, name: str, kind: str, location: str, parts: Iterable[BuiltStep | NewSlice]) -> Artefact:
        for what, value in (("name", name), ("kind", kind), ("location", location)):
            _check_text(what, value)
            _check_length(what, value)
        artefact = Artefact(f"art-{secrets.token_hex(8)}", name, kind, location, now())
        sources = list(parts)
        states = {part.key for part in sources if isinstance(part, BuiltStep)}
        self._site.ledger.add_artefact(artefact, {part.shard: part.position for part in sources}, states)
        return artefact

    def retire(self, artefact_id: str) -> None:
        """Note that an artefact was destroyed, or replaced by one that is registered anew.

        Args:
            artefact_id: Its id.

        Raises:
            UnknownIdError: If there is no such artefact.
        """
        if not self._site.ledger.retire_artefact(artefact_id):
            raise UnknownIdError(
                f"{self.path} knows no artefact {artefact_id!r} that is still there: `unlearn artefacts` lists them"
            )

    def artefacts(self) -> list[Artefact]:
        """What was derived and registered, oldest first."""
        return self._site.ledger.artefacts()

    def export_model(self, path: str | Path, *, name: str | None = None) -> Artefact:
        """Write the served ensemble as a `torch.export` program, which runs without this package.

        `torch.export.load(path).module()` takes one tensor `[n, *shape]` a feature, in the order and the dtypes of the
        task, and gives class probabilities `[n, classes]` or targets, float64: with its aggregation, the same as
        `predict_proba` or `predict` to rounding, which is checked on the file. The file's text `unlearn.json` names
        features and classes.

        No request reaches the file. It is registered as an artefact, so the receipts of later requests that touch what
        it depends on name it as tainted: destroy it then, `retire` it, and export again.

        Args:
            path: The file, ending in `.pt2`, outside of the workspace; it must not exist yet.
            name: Your name for it; None: that of the file.

        Returns:
            The artefact.

        Raises:
            NotServingError: If no shard has a state.
            ConfigurationError: If the learner has no torch module, torch cannot export it, or it may not lie there.
            StorageError: If the disk is full.
        """
        site, file = self._site, Path(path).absolute()
        declaration, task = site.declaration, self._server.task()
        if declaration.votes is not None:
            raise ConfigurationError(
                f"{self.path} publishes labels by noisy votes on a budget, and an exported model would know none: it "
                "cannot be exported"
            )
        if task is None:
            raise NotServingError(f"{self.path} holds no records and no trained state: ingest and train first")
        check_exportable(file, self.path, site.learner, declaration.aggregation, task)
        while True:
            members, steps = self._server.snapshot()
            if not members:
                raise NotServingError(f"no shard of {self.path} has a trained state: train first")
            # Before there is a file: it must never exist unknown.
            artefact = self._register(name or file.name, KIND, str(file), steps)
            try:
                description = _described(artefact, task, declaration.aggregation, members)
                description |= _approximate_sources(site, steps)
                with _naming_full_disks(self.path):
                    write_program(file, site.learner, members, declaration.aggregation, task, description)
                if self._server.stands(steps):
                    return artefact
                file.unlink()
            except BaseException:
                if not file.exists():  # one that could not be removed must stay known
                    self.retire(artefact.id)
                raise
            # Something was forgotten meanwhile, perhaps before the artefact was registered.
            self.retire(artefact.id)

    # Serving

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of the served ensemble.

        Args:
            X: Features as in `ingest`.

        Returns:
            `[n, classes]` float64, columns in the order of the declared classes.

        Raises:
            NotServingError: If no shard has a state.
            InputError: If the features are not the declared ones.
            ConfigurationError: If the task is regression.
        """
        if self._site.declaration.task != "classification":
            raise ConfigurationError(
                "probabilities are of classes, and this workspace predicts numbers: ask for predictions alone"
            )
        if self._site.declaration.votes is not None:
            raise ConfigurationError(
                f"{self.path} publishes labels by noisy votes and nothing else, since probabilities would tell more: "
                "use predict"
            )
        return self._server.outputs(self._features(X)[1])

    def predict(self, X: Any) -> np.ndarray:
        """Labels, or regression targets, of the served ensemble.

        Args:
            X: Features as in `ingest`.

        Returns:
            `[n]` labels of the declared classes, or `[n, ...]` float64.

        Raises:
            NotServingError: If no shard has a state.
            InputError: If the features are not the declared ones.
            BudgetSpentError: With noisy votes: if no more labels may be published.
        """
        task, features = self._features(X)
        votes = self._site.declaration.votes
        if votes is not None:
            found: np.ndarray = np.array(task.classes)[self._server.labels(features, votes)]
            return found
        output = self._server.outputs(features)
        if task.kind == "regression":
            return output
        labels: np.ndarray = np.array(task.classes)[output.argmax(axis=1)]
        return labels

    def predictions(self, X: Any) -> pd.DataFrame:
        """What the served ensemble says of each row, as a pandas table.

        Args:
            X: Features as in `ingest`; a table may hold other columns beside.

        Returns:
            A row for each, under the index of X where X is a DataFrame. Column `prediction`; of classification
            also `p_LABEL` for each declared class, unless labels are all that is published; of several targets
            `prediction_0`, `prediction_1`, …

        Raises:
            NotServingError: If no shard has a state.
            InputError: If the features are not the declared ones.
            BudgetSpentError: With noisy votes: if no more labels may be published.
            ConfigurationError: If pandas is not installed.
        """
        declaration = self._site.declaration
        proba = declaration.task == "classification" and declaration.votes is None
        output = self.predict_proba(X) if proba else self.predict(X)
        return beside(prediction_columns(output, self._declared_task(), proba=proba), X)

    def _features(self, X: Any) -> tuple[Task, Features]:
        task = self._declared_task()
        return task, prepare_features(X, task)

    def _declared_task(self) -> Task:
        task = self._server.task()
        if task is None:
            raise NotServingError(f"{self.path} holds no records and no trained state: ingest and train first")
        return task

    def state_digest(self) -> str:
        """Digest of the served model: equal states, equal digests, wherever and however they came about.

        Returns:
            Hex SHA-256 over the canonical content of every shard's served state, the records each has seen, the
            rule that joins them and the classes.
        """
        task = self.task
        return digest_json(
            "state",
            {
                "shards": served_contents(self._site),
                "aggregation": self._site.declaration.aggregation,
                "classes": [] if task is None else list(task.classes),
            },
        )

    # What is where

    @overload
    def status(self) -> WorkspaceStatus: ...

    @overload
    def status(self, request_id: str) -> Request: ...

    def status(self, request_id: str | None = None) -> WorkspaceStatus | Request:
        """Where a request stands, or the whole workspace.

        Args:
            request_id: A request's id, or its idempotency key; None: the workspace.

        Returns:
            A `Request`, or a `WorkspaceStatus`.

        Raises:
            UnknownIdError: If there is no such request.
        """
        if request_id is not None:
            if REQUEST_ID.fullmatch(request_id):
                found = self._site.ledger.request(request_id)
            else:
                # What is no Unicode was nobody's key, and no database can look for it.
                known = self._site.ledger.request_by_key(request_id) if is_unicode([request_id]) else None
                found = None if known is None else known.request
            if found is None:
                raise UnknownIdError(f"{self.path} knows no request {request_id!r}: `unlearn status` lists them")
            return found
        site = self._site
        ledger, n_shards, votes = site.ledger, site.declaration.n_shards, site.declaration.votes
        missing = []
        if ledger.task() is not None:
            missing = [step for item in plan(site, range(n_shards), "").values() for step in item.missing]
        generation, served = ledger.served()
        return WorkspaceStatus(
            path=str(self.path),
            n_shards=n_shards,
            n_slices=site.declaration.n_slices,
            batches=ledger.batches(),
            records=ledger.count(),
            serving=len(served),
            behind=tuple(sorted({step.shard for step in missing})),
            steps_missing=len(missing),
            visits_missing=sum(step.visits for step in missing),
            generation=generation,
            requests={state.value: number for state, number in ledger.count_requests().items()},
            overdue=tuple(request.id for request in ledger.open_requests() if request.is_overdue(now())),
            late=tuple(request.id for request in ledger.late_requests()),
            labels_left=None if votes is None else max(votes.queries_allowed() - ledger.published(), 0),
            approximate=tuple(_approximate_state(site, made) for made in ledger.approximations().values()),
            due=tuple(self._due()),
        )

    def requests(self) -> list[Request]:
        """All deletion requests, oldest first."""
        return self._site.ledger.requests()

    # Writing, and what a crash left behind

    def _ingest(self, records: Records, reconsent: Ids) -> int:
        batch = self._site.ledger.batches()
        # First: a column of classes that nobody named would be taken for a feature.
        where = place_batch(self._site, records)
        task, records = fit_task(self._site, records)
        lifted = check_ids(self._site, records.record_ids, records.subjects, _named(reconsent, "reconsent"))
        store_batch(self._site, batch, task, records, where, lifted)
        return batch

    @guarded
    def _writing(self, timeout: float = LOCK_SECONDS, *, serve: bool = True) -> Iterator[None]:
        """Be the only writer; finish first what a crash left behind, and serve first what was submitted."""
        with (
            _naming_full_disks(self.path),
            exclusive(self.path / "lock", timeout),
            self._site.ledger.writing_as(self._writer, timeout),
        ):
            with self._site.ledger.at_one_moment():
                unfinished, pending = self._unfinished(), self._site.ledger.has_pending()
            if unfinished:
                self._settle()
            if serve and pending:
                # What is damaged keeps its own request waiting, as the status shows, and nobody else's.
                with suppress(UnsignedError):
                    self._serve_pending()
            yield

    def _unfinished(self) -> bool:
        ledger = self._site.ledger
        if ledger.operation() or ledger.is_forgetting() or ledger.receipts_due() or has_stale_keys(self._site):
            return True
        return bool(self._site.inbox.epochs() - {ledger.epoch()}) and not ledger.has_pending()

    def _settle(self) -> None:
        site = self._site
        shards = range(site.declaration.n_shards)
        operation = site.ledger.operation()
        if operation == "ingest":
            undo_ingest(site)
        if operation in {"train", "replay", APPLYING}:
            for shard in shards:
                site.clear_staging(shard)
        if operation == APPLYING:
            purge_checkpoints(site, shards)
        if operation == "train":
            if not site.ledger.is_forgetting():
                adopt(site, shards)
            purge_checkpoints(site, shards)
        if operation == EDITING:
            remove_unnoted(site)
        if operation:
            site.ledger.end_operation()
        if has_stale_keys(site):
            end_keys(site)
        if site.ledger.is_forgetting():
            destroy(site)
        if not site.ledger.has_pending():
            # Else whoever serves them does both, in this order.
            site.inbox.end_epochs_but({site.ledger.epoch()})
            # Without a key there are no receipts, and whoever asks for something new is told; but nobody is kept from
            # forgetting by that.
            with suppress(UnsignedError):
                issue_due(site)


class _Meanwhile:
    """Carries out what is submitted while a training is under way.

    Args:
        site: The workspace, whose lock the caller holds.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._waits: set[str] = set()

    def __call__(self, stop: Stop) -> None:
        """Serve what waits, if something new does.

        Args:
            stop: Told which shards are hit.
        """
        site = self._site
        if not site.ledger.has_pending() or {item.request.id for item in site.ledger.pending()} <= self._waits:
            return
        # What is damaged keeps its own request waiting, as the status shows, and nobody else's.
        serve_pending(site, stop)
        self._waits = {item.request.id for item in site.ledger.pending()}
        with suppress(UnsignedError):
            issue_due(site)


def _make(folder: Path, declaration: Declaration, random_state: int | None) -> None:
    """Make a workspace's files, so that a folder with a description is a whole workspace."""
    from unlearn.ledger import Ledger

    _make_parents(folder)
    # A folder that is there already may be somebody's current one, or a mounted volume: it is filled, not replaced.
    existed = folder.exists()
    made = folder if existed else folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    made.mkdir(mode=0o700, exist_ok=existed)
    try:
        (made / _NEW).touch(mode=0o600)
        key = create_key(made / "keys").stem
        ledger = Ledger.create(_database(made, declaration), declaration.id, declaration.digest)
        ledger.add_key(key, "")
        ledger.change_epoch(Inbox(made / "inbox").begin_epoch())
        ledger.close()
        declared.write(made, declaration, declared.make_secrets(random_state))
        if not existed:
            made.rename(folder)
    except BaseException:
        for path in made.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            made.rmdir()
        raise
    _keep_name(folder)


_NEW = "new"
"""A file in a workspace of whose name nobody has made sure yet that it is durable."""


def _keep_name(folder: Path) -> None:
    """Make a workspace's name durable, after whoever created it, who may have been interrupted before."""
    sync_path(folder)
    sync_path(folder.parent)
    (folder / _NEW).unlink(missing_ok=True)


def _make_parents(folder: Path) -> None:
    """Make the folders above, durably."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        sync_path(parent.parent)


def _database(folder: Path, declaration: Declaration) -> Database:
    from unlearn.ledger import Database

    if declaration.ledger is None:
        return Database.sqlite(folder / "ledger.db")
    return Database.postgresql(declaration.ledger, declaration.schema)


def _open_ledger(folder: Path, declaration: Declaration) -> Ledger:
    from unlearn.ledger import Database, Ledger

    if declaration.ledger is None:
        return Ledger.open(folder / "ledger.db")
    return Ledger(Database.postgresql(declaration.ledger, declaration.schema))


def _position(piece: NewSlice) -> int:
    return piece.position


def _approximate_sources(site: Site, steps: Sequence[BuiltStep]) -> dict[str, Json]:
    """What an exported model says if approximate methods made what it is of."""
    keys = {step.key for step in steps}
    made = [item for item in site.ledger.approximations().values() if item.key in keys]
    if not made:
        return {}
    guarantees = {"empirical" if certificate_of(site, item) is None else "certified" for item in made}
    weakest = "empirical" if "empirical" in guarantees else "certified"
    return {"guarantee": weakest, "methods": [name for item in made for name in _methods_in(site, item)]}


def _approximate_state(site: Site, made: Approximation) -> ApproximateState:
    """A state that a method made, as `status` says it."""
    promised = certificate_of(site, made)
    kind = "empirical" if promised is None else "certified"
    methods = _methods_in(site, made)
    return ApproximateState(
        made.shard, made.method, made.config, made.applications, made.refuted_at, kind, promised, methods
    )


def _methods_in(site: Site, made: Approximation) -> tuple[str, ...]:
    """All approximate methods whose work is in a state, each once, the one that served the oldest request first."""
    waiting = [item for item in site.ledger.waiting() if item.is_approximate and made.shard in item.shards]
    return tuple(dict.fromkeys([*(str(item.method) for item in waiting), made.method]))


def _described(artefact: Artefact, task: Task, aggregation: str, members: Sequence[Member]) -> dict[str, Json]:
    """What is said of an exported model inside of it."""
    return {
        "artefact": artefact.id,
        "registered_at": artefact.registered_at.isoformat(),
        "shards": len(members),
        "aggregation": aggregation,
        **describe_task(task),
    }


def _check_deadline(deadline: object) -> None:
    if not isinstance(deadline, datetime) or deadline.tzinfo is None:
        raise InputError(
            "a deadline is a datetime with a time zone, such as datetime(2027, 1, 31, tzinfo=UTC), got "
            f"{deadline!r}; nothing was changed"
        )
    try:
        deadline.astimezone(UTC)
    except OverflowError as error:
        raise InputError(
            f"a deadline is in the years 1 to 9999, also in UTC, got {deadline}; nothing was changed"
        ) from error


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not is_unicode([value]):
        raise InputError(f"{name} must be text that can be written as UTF-8, got {value!r}; nothing was changed")


def _check_length(name: str, value: str) -> None:
    """Refuse what no receipt can name: the request that taints it could never be finished."""
    if not 1 <= len(value) <= MAX_NAME:
        raise InputError(
            f"{name} must have from 1 to {MAX_NAME:,} characters, got {len(value):,}: receipts name it; nothing was "
            "changed"
        )


def _executor(executor: str | Executor) -> Executor:
    if isinstance(executor, Executor):
        return executor
    if executor == "local":
        return LocalExecutor()
    if executor == "ray":
        from shards.executors.ray import RayExecutor

        return RayExecutor()
    raise ConfigurationError(f"executor must be 'local', 'ray' or an Executor, got {executor!r}")


def _named(ids: Any, what: str) -> tuple[str, ...]:
    """One id or many, as text without repetitions; a set will do, since their order means nothing."""
    if isinstance(ids, str | int | np.integer):
        return to_ids([ids], what)
    return tuple(dict.fromkeys(to_ids(list(ids) if isinstance(ids, set | frozenset) else ids, what)))


def _differences(old: Any, new: Any) -> str:
    if old["class"] != new["class"]:
        return f"{old['class']} then, {new['class']} now"
    names = [k for k in old["params"] | new["params"] if old["params"].get(k) != new["params"].get(k)]
    return ", ".join(f"{k}: {old['params'].get(k)!r} then, {new['params'].get(k)!r} now" for k in names)


@contextmanager
def _naming_full_disks(path: Path) -> Iterator[None]:
    """Say which workspace it was when the disk is full or refuses."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StorageError(
            f"the disk refused a write for {path} ({error.strerror}): make room or access, then repeat the command; "
            "what was acknowledged before is safe, and what was begun is finished then"
        ) from error
