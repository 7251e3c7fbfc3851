"""The workspace: records, checkpoints and requests in one folder, and the only place that orders what happens.

The order of a deletion, whatever crashes in between:

1. the request is durable, its records are not found any more, its ids are refused, and the shards it touches
   serve the last step that never saw them (one transaction);
2. every checkpoint that saw them is destroyed;
3. the slices that held them are rewritten without them;
4. the request is noted as forgotten, and the database keeps no old page.

A crash after 1 is finished by whoever opens the workspace next; a crash before 1 means the request was never
acknowledged. Recovering is then nothing but training what is missing.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from shards.digest import Json, digest_json, digest_parts
from shards.errors import NotServingError
from shards.executors.base import Executor
from shards.executors.local import LocalExecutor
from shards.learners import as_learner
from shards.records import is_unicode, to_ids
from shards.store import sync_directory
from shards.task import Kind, Task
from shards.train import describe_learner, task_from
from unlearn import declaration as declared
from unlearn.building import BuildReport, adopt, build, complete_shards, plan
from unlearn.declaration import Declaration
from unlearn.erasure import purge_checkpoints, purge_record_files, rewrite
from unlearn.errors import (
    AlreadyForgottenError,
    ConfigurationError,
    DamageError,
    IdempotencyError,
    InputError,
    LockedError,
    StorageError,
    UnknownIdError,
    WorkspaceError,
    some,
)
from unlearn.intake import as_records, check_ids, fit_task, store_batch
from unlearn.ledger import Ledger, Location
from unlearn.ledger.ledger import now
from unlearn.lock import exclusive
from unlearn.lookup import records_of
from unlearn.progress import progress_bar
from unlearn.request import Request, RequestState
from unlearn.serving import Server
from unlearn.site import Site

REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
"""What a disk answers when it takes no more."""

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


class Workspace:
    """A durable sharded model that can forget. Make one with `create` or `open`."""

    def __init__(self, site: Site, executor: Executor) -> None:
        self._site = site
        self._executor = executor
        self._server = Server(site)

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
        aggregation: str = "mean",
        random_state: int | None = None,
        executor: str | Executor = "local",
    ) -> Workspace:
        """Create a workspace.

        Args:
            path: A folder that does not exist yet, or is empty.
            learner: A learner, a scikit-learn estimator, or a torch module's factory (see `as_learner`).
            n_shards: S: into how many isolated models the data is spread.
            n_slices: R: into how many increments each shard's part of a batch is cut.
            task: What is predicted; None: as the estimator says, else classification.
            classes: Every label there may ever be, a public constant; None: those of the first batch, which
                then become public and stay known even if all their records are forgotten.
            aggregation: `"mean"` of probabilities, majority `"vote"`, or mean `"weighted"` by record counts.
            random_state: Makes placement and training repeatable, for experiments; None: fresh and secret.
            executor: `"local"`, or an executor.

        Returns:
            The workspace, open.

        Raises:
            WorkspaceError: If the folder is not empty.
            ConfigurationError: If an option does not make sense.
        """
        folder = Path(path).absolute()
        trained = as_learner(learner)
        kind = task or trained.kinds()[0]
        declaration = declared.declare(
            trained,
            kind,
            classes,
            n_shards=n_shards,
            n_slices=n_slices,
            aggregation=aggregation,
            random_state=random_state,
        )
        where = _executor(executor)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorkspaceError(f"{folder} already exists and is not empty: choose another folder, or open it")
        with _naming_full_disks(folder):
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
        """
        folder = Path(path).absolute()
        declaration, keys = declared.read(folder)
        if learner is not None:
            wanted = describe_learner(as_learner(learner))
            if digest_json("learner", wanted) != digest_json("learner", declaration.learner):
                raise ConfigurationError(
                    f"{folder} was created with another learner ({_differences(declaration.learner, wanted)}): a "
                    "workspace keeps its learner; open it without one, or create a new workspace"
                )
        site = Site(folder, declaration, keys, Ledger(folder / "ledger.db"))
        workspace = cls(site, _executor(executor))
        if workspace._unfinished():
            # Whoever holds the lock has it under way, or finishes it first. On a full disk it stays to be done, by
            # the next operation that writes, which says so; what is served owes nothing to it either way.
            with suppress(LockedError, StorageError), workspace._writing(timeout=0):
                pass
        return workspace

    def close(self) -> None:
        """Close the database; the workspace can be opened again."""
        self._site.ledger.close()

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

    # Records in

    def ingest(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        reconsent: Ids = (),
    ) -> int:
        """Take in a batch of records. Nothing is trained by it; nothing trained before changes by it.

        Args:
            X: Features: array `[n, ...]`, mapping of arrays, pandas or pyarrow table; or `Records`, without y.
            y: Targets: `[n]` labels, or `[n, ...]` numbers for regression.
            subjects: Whose each record is; None: every record is its own subject.
            record_ids: Unique ids; None: row numbers, `"17"` in the first batch, `"b:17"` in batch b.
            reconsent: Forgotten subjects or records that may return, because they said so.

        Returns:
            The number of the batch, from 0.

        Raises:
            InputError: If the data cannot be trained on; nothing was changed.
            TombstoneError: If a forgotten subject or record is in it; nothing was changed.
            StorageError: If the disk is full; nothing was changed.
        """
        with self._writing():
            batch = self._site.ledger.batches()
            records = as_records(self._site, X, y, subjects, record_ids)
            task, records = fit_task(self._site, records)
            lifted = check_ids(self._site, records, _named(reconsent, "reconsent"))
            store_batch(self._site, batch, task, records, lifted)
            return batch

    # Training

    def train(self, *, progress: bool | None = None) -> BuildReport:
        """Build every step that is missing, in all shards. Repeat it after an interruption: what is built is kept.

        Args:
            progress: Show a progress bar; None: on a terminal.

        Returns:
            What was done.

        Raises:
            TrainingError: If the learner's code raised.
            DamageError: If a record file does not match its digest.
            ConfigurationError: If the learner's code is not what the workspace was created with.
        """
        with self._writing():
            return self._build(range(self._site.declaration.n_shards), "training", progress)

    def recover(self, *, progress: bool | None = None) -> BuildReport:
        """Rebuild what forgetting removed, for all requests that wait for it together, each shard once.

        Also builds again any checkpoint that is missing or damaged.

        Args:
            progress: Show a progress bar; None: on a terminal.

        Returns:
            What was done.

        Raises:
            TrainingError: If the learner's code raised.
            DamageError: If a record file does not match its digest.
            ConfigurationError: If the learner's code is not what the workspace was created with.
        """
        with self._writing():
            shards = {shard for request in self._site.ledger.waiting() for shard in request.shards}
            trained = {shard for shard, _ in self._site.ledger.steps()}
            return self._build(shards | trained, "recovering", progress)

    def _build(self, shards: Iterable[int], title: str, progress: bool | None) -> BuildReport:
        site = self._site
        if site.ledger.task() is None:
            raise WorkspaceError(f"{self.path} holds no records yet: ingest some first")
        # What could not be destroyed must not be trained on either.
        stuck = {item.shard: item.file for item in site.ledger.erasures()}
        wanted = sorted(set(shards) - stuck.keys())
        with progress_bar(title, show=progress) as start:
            report = build(site, self._executor, wanted, start)
        done = site.ledger.finish_recover(complete_shards(site, wanted), now())
        site.ledger.compact()
        site.ledger.scrub()
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
    ) -> Request:
        """Forget subjects or records, at once.

        When this returns, no process serves a prediction that depends on them, and their records, and every
        state that was trained on them, are gone from the workspace. Until `recover`, the shards concerned serve
        their last state that never saw them: exact for a smaller training set.

        Args:
            subjects: Subjects, with all their records.
            record_ids: Single records.
            reason: Why, for the log; do not name the person in it.
            idempotency_key: Your own name for the request: the same key with the same ids is the same request.

        Returns:
            The request, in state forgotten.

        Raises:
            InputError: If no id is given.
            UnknownIdError: If an id is not in the workspace; nothing was changed.
            AlreadyForgottenError: If an id was forgotten before; nothing was changed.
            IdempotencyError: If the key was used for other ids; nothing was changed.
            StorageError: If the disk refuses; what to do is said.
        """
        people = () if subjects is None else _named(subjects, "subjects")
        rows = () if record_ids is None else _named(record_ids, "record_ids")
        if not people and not rows:
            raise InputError("nothing to forget: give subjects or record_ids")
        _check_text("reason", reason)
        if idempotency_key is not None:
            _check_text("idempotency_key", idempotency_key)
        with self._writing():
            site = self._site
            subject_tokens = dict(zip(site.tokens("subject", people), people, strict=True))
            record_tokens = dict(zip(site.tokens("record", rows), rows, strict=True))
            fingerprint = self._fingerprint(subject_tokens, record_tokens)
            if idempotency_key is not None:
                known = site.ledger.request_by_key(idempotency_key)
                if known is not None:
                    return _same_request(known[0], known[1], fingerprint)
            theirs = records_of(site, people)
            single = site.ledger.locations(list(record_tokens))
            found = {*site.tokens("subject", list(theirs)), *(item.token for item in single)}
            self._refuse_unknown(found, subject_tokens | record_tokens)
            gone = sorted({*single, *(item for items in theirs.values() for item in items)}, key=_place)
            request = Request(
                id=f"req-{secrets.token_hex(8)}",
                state=RequestState.SUBMITTED,
                reason=reason,
                idempotency_key=idempotency_key,
                n_subjects=len(subject_tokens),
                n_records=len(gone),
                shards=_earliest(gone),
                submitted_at=now(),
            )
            tombstones = {item.token: "record" for item in gone} | dict.fromkeys(subject_tokens, "subject")
            site.ledger.begin_forget(request, fingerprint, gone, tombstones)
            try:
                damaged = self._finish_forget()
            except (OSError, StorageError) as error:
                raise StorageError(
                    f"request {request.id} is durable and its records are not served any more, but the disk refused to "
                    f"destroy them all ({error}): make room or access, then run `unlearn recover`, which finishes it; "
                    "do not submit it again"
                ) from error
            done = self.status(request.id)
            if damaged and done.state is RequestState.SUBMITTED:
                raise damaged[0]
            return done

    def _finish_forget(self) -> list[DamageError]:
        """Destroy what saw the records of all submitted requests; may be repeated after a crash at any point.

        Returns:
            What could not be rewritten because it is damaged; the requests concerned stay submitted, and everything
            else goes on.
        """
        site = self._site
        erasures = site.ledger.erasures()
        # Checkpoints first: that also frees the room which rewriting needs.
        purge_checkpoints(site, sorted({item.shard for item in erasures}))
        forgotten = site.ledger.tombstones_under_way()
        rewritten, damaged = {}, []
        for item in erasures:
            try:
                rewritten[item.shard, item.position] = rewrite(site, item, forgotten)
            except DamageError as error:
                damaged.append(error)
        site.ledger.replace_slices(rewritten)
        # Before the request moves on: were it noted as forgotten first, nobody would repeat what fails here.
        site.ledger.scrub()
        site.ledger.finish_forget(now())
        return damaged

    def _fingerprint(self, *tokens: Mapping[bytes, str]) -> str:
        """Keyed digest of what a request names, so that the log can compare but not tell."""
        parts = [b"".join(sorted(group)) for group in tokens]
        return digest_parts("request", [self._site.keys.pseudonyms, *parts])

    def _refuse_unknown(self, found: Set[bytes], named: Mapping[bytes, str]) -> None:
        absent = {token: name for token, name in named.items() if token not in found}
        if not absent:
            return
        dead = self._site.ledger.tombstones(list(absent))
        unknown = [name for token, name in absent.items() if token not in dead]
        if unknown:
            raise UnknownIdError(
                f"{len(unknown)} of the subjects or records are not in {self.path} ({some(unknown)}): check the ids, "
                "and whether they name subjects or records; nothing was changed"
            )
        raise AlreadyForgottenError(
            f"{len(absent)} of the subjects or records were forgotten before ({some(list(absent.values()))}): leave "
            "them out, or repeat the first request with its idempotency key; nothing was changed"
        )

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
            raise ConfigurationError("predict_proba is for classification; use predict")
        return self._server.outputs(self._features(X))

    def predict(self, X: Any) -> np.ndarray:
        """Labels, or regression targets, of the served ensemble.

        Args:
            X: Features as in `ingest`.

        Returns:
            `[n]` labels of the declared classes, or `[n, ...]` float64.

        Raises:
            NotServingError: If no shard has a state.
            InputError: If the features are not the declared ones.
        """
        output = self._server.outputs(self._features(X))
        task = self._site.task()
        if task.kind == "regression":
            return output
        labels: np.ndarray = np.array(task.classes)[output.argmax(axis=1)]
        return labels

    def _features(self, X: Any) -> Any:
        if self._site.ledger.task() is None:
            raise NotServingError(f"{self.path} holds no records and no trained state: ingest and train first")
        return self._server.features(X)

    def state_digest(self) -> str:
        """Digest of the served model: equal states, equal digests, wherever and however they came about.

        Returns:
            Hex SHA-256 over the canonical content of every shard's served state, the records each has seen, the
            rule that joins them and the classes.
        """
        _, steps = self._site.ledger.served()
        task = self.task
        return digest_json(
            "state",
            {
                "shards": [[step.shard, step.content, step.records] for step in steps],
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
            request_id: A request's id; None: the workspace.

        Returns:
            A `Request`, or a `WorkspaceStatus`.

        Raises:
            UnknownIdError: If there is no such request.
        """
        if request_id is not None:
            found = self._site.ledger.request(request_id)
            if found is None:
                raise UnknownIdError(f"{self.path} knows no request {request_id!r}: `unlearn status` lists them")
            return found
        site = self._site
        ledger, n_shards = site.ledger, site.declaration.n_shards
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
        )

    def requests(self) -> list[Request]:
        """All deletion requests, oldest first."""
        return self._site.ledger.requests()

    # Writing, and what a crash left behind

    @contextmanager
    def _writing(self, timeout: float = LOCK_SECONDS) -> Iterator[None]:
        """Be the only writer, and finish first what a crash left behind."""
        with _naming_full_disks(self.path), exclusive(self.path / "lock", timeout):
            if self._unfinished():
                self._settle()
            yield

    def _unfinished(self) -> bool:
        ledger = self._site.ledger
        return bool(ledger.operation() or ledger.is_forgetting())

    def _settle(self) -> None:
        site = self._site
        shards = range(site.declaration.n_shards)
        operation = site.ledger.operation()
        if operation == "ingest":
            purge_record_files(site)
        if operation == "train":
            for shard in shards:
                site.clear_staging(shard)
            if not site.ledger.is_forgetting():
                adopt(site, shards)
            purge_checkpoints(site, shards)
        if operation:
            site.ledger.end_operation()
        if site.ledger.is_forgetting():
            # What is damaged keeps its own request waiting, as the status shows, and nobody else's.
            self._finish_forget()


def _make(folder: Path, declaration: Declaration, random_state: int | None) -> None:
    """Make a workspace's files, so that a folder with a description is a whole workspace."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder that is there already may be somebody's current one, or a mounted volume: it is filled, not replaced.
    existed = folder.exists()
    draft = folder if existed else folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700, exist_ok=existed)
    try:
        Ledger.create(draft / "ledger.db").close()
        declared.write(draft, declaration, declared.make_secrets(random_state))
        if not existed:
            draft.rename(folder)
    except BaseException:
        for path in draft.iterdir():
            path.unlink()
        if not existed:
            draft.rmdir()
        raise
    sync_directory(folder.parent)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not is_unicode([value]):
        raise InputError(f"{name} must be text that can be written as UTF-8, got {value!r}; nothing was changed")


def _executor(executor: str | Executor) -> Executor:
    if isinstance(executor, Executor):
        return executor
    if executor == "local":
        return LocalExecutor()
    raise ConfigurationError(f"executor must be 'local' or an Executor, got {executor!r}")


def _named(ids: Any, what: str) -> tuple[str, ...]:
    """One id or many, as text without repetitions; a set will do, since their order means nothing."""
    if isinstance(ids, str | int | np.integer):
        return to_ids([ids], what)
    return tuple(dict.fromkeys(to_ids(list(ids) if isinstance(ids, set | frozenset) else ids, what)))


def _place(item: Location) -> tuple[int, int, bytes]:
    return item.shard, item.position, item.token


def _earliest(gone: Sequence[Location]) -> dict[int, int]:
    earliest: dict[int, int] = {}
    for item in gone:
        earliest[item.shard] = min(item.position, earliest.get(item.shard, item.position))
    return earliest


def _same_request(request: Request, known: str, fingerprint: str) -> Request:
    if known != fingerprint:
        raise IdempotencyError(
            f"the idempotency key {request.idempotency_key!r} was used for another request ({request.id}): choose "
            "another key; nothing was changed"
        )
    return request


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
