"""Approximate methods: what a workspace of one model may serve between forgetting and recovery.

Forgetting withdraws every state that saw the records; with one model and no older state, nothing is served until it is
trained again. An approximate method makes a state from the withdrawn one, to be served meanwhile. The order, whatever
crashes in between:

1. the request is durable, with the method it asks for;
2. in a worker, the method makes a new state from the served one, the records to forget and those that stay; its
   checkpoint is published under a name that nothing refers to;
3. in the one transaction in which the records are withdrawn, the new state is served;
4. records, and every state that saw them, are destroyed, as without a method; nothing is kept for methods to come.

A crash before 3 leaves rubbish, which is purged, and a request that is served as any other that waits. A method that
fails, or is still at it when the declared time limit has passed, is not tried again: the request is carried out as
without one, says so, and the model is due to be retrained at once.

Certified removal is one of these methods, for a learner of its own. How much of its budget is spent follows from how
many removals there were since the last training, which step 3 notes in the transaction that serves the new state: what
is served was charged, and what was not served was not. What was served once stays charged, served or not.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shards.calls import KERNEL as CALLS
from shards.calls import CallOrder, call_environment
from shards.code import code_digest
from shards.digest import Json, digest_json
from shards.executors.base import Executor, Program, Stop
from shards.executors.work import CallWork
from shards.learners.base import Learner
from shards.store import CheckpointHeader
from shards.train import describe_task
from unlearn.erasure import purge_checkpoints
from unlearn.errors import (
    BudgetSpentError,
    CallError,
    CodeError,
    ConfigurationError,
    DamageError,
    EnvironmentMismatchError,
    FencedError,
    InputError,
    StorageError,
    UnlearnError,
    WorkerLostError,
)
from unlearn.forgetting import Instead, NotApplied
from unlearn.ledger import APPLYING, Approximation, BuiltStep, Unlearnt, Withdrawal
from unlearn.request import CERTIFIED, NOT_APPLIED, Request
from unlearn.site import Site

if TYPE_CHECKING:
    from shards.private_votes import PrivateVotes
    from shards.task import Task
    from unlearn.methods import Method
    from unlearn.methods.certified_budget import Promise

APPLY = "unlearn.methods.checkpoints:apply"
"""What a worker is told to call."""

WITHDRAW = "none"
"""Name by which a request asks for no method where one is declared."""

AT_HAND = frozenset({"forget set", "retain set", "labels", "training configuration", "original model only"})
"""What methods may need."""

LONGEST = timedelta(days=36_525)
"""What may be declared at most: a time that is no date any more would keep everybody from being forgotten."""

_FAILURES = (
    CallError,
    CodeError,
    ConfigurationError,
    DamageError,
    EnvironmentMismatchError,
    InputError,
    StorageError,
    WorkerLostError,
)
"""What keeps a method from being applied, and nobody from forgetting."""


@dataclass(frozen=True)
class Chosen:
    """A method with its whole configuration.

    Attributes:
        method: Its name.
        config: Every option.
    """

    method: str
    config: Mapping[str, Json]


def choose(
    learner: Learner,
    n_shards: int,
    n_slices: int,
    aggregation: Json | PrivateVotes,
    name: str,
    options: Mapping[str, Json],
) -> Chosen:
    """Check that a method can be applied in a workspace.

    Args:
        learner: What it trains.
        n_shards: Its shards.
        n_slices: Its slices.
        aggregation: Its rule; noisy votes are no text.
        name: Of the method.
        options: Of the method.

    Returns:
        The method, with every option.

    Raises:
        ConfigurationError: If not; says why, and what to do.
    """
    from shards.learners.adapters import AdapterLearner
    from shards.learners.torch import TorchLearner
    from unlearn.methods.base import Guarantee
    from unlearn.methods.certified_learner import certified_head, removal_config
    from unlearn.methods.options import find_method, full_config

    method = find_method(name)
    card = method.card
    if card.guarantee is not Guarantee.EMPIRICAL and card.name != CERTIFIED:
        raise ConfigurationError(
            f"{name} is {card.guarantee.value}, and what is applied here is empirical, or is {CERTIFIED}: "
            + (
                "`recover` retrains"
                if card.guarantee is Guarantee.EXACT
                else "call it as a function of unlearn.methods"
            )
        )
    config = removal_config(learner, options) if card.name == CERTIFIED else full_config(method, options)
    lacking = sorted(set(card.needs) - AT_HAND)
    if lacking:
        raise ConfigurationError(
            f"{name} needs the {lacking[0]}, which a workspace does not keep: choose another method"
        )
    if (n_shards, n_slices) != (1, 1):
        raise ConfigurationError(
            f"approximate methods are for a workspace of one model (n_shards=1, n_slices=1), and this one has "
            f"{n_shards} shards of {n_slices} slices, which forget exactly: leave the method out"
        )
    if not isinstance(aggregation, str):
        raise ConfigurationError("noisy votes promise a privacy that an approximate method does not keep: leave it out")
    if certified_head(learner) is not None:
        if card.name != CERTIFIED:
            raise ConfigurationError(
                f"{name} would use up a promise that it does not keep: a CertifiedLearner forgets by {CERTIFIED}"
            )
        return Chosen(card.name, config)
    if isinstance(learner, AdapterLearner):
        raise ConfigurationError(
            "approximate methods reach every weight and layer of a module, and an AdapterLearner keeps its base away "
            "from all training: shard it, which forgets exactly, or leave the method out"
        )
    if not isinstance(learner, TorchLearner):
        raise ConfigurationError(
            f"approximate methods work on torch modules, and {type(learner).__name__} trains none: take one, such as "
            "the learner 'cnn' or 'shards.learners.modules:mlp', or leave the method out"
        )
    if learner.loss is not None and not _takes_loss(method):
        raise ConfigurationError(f"{name} takes no loss of one's own, and the learner has one: choose another method")
    return Chosen(card.name, config)


def declared_method(
    learner: Learner,
    n_shards: int,
    n_slices: int,
    aggregation: str | PrivateVotes,
    name: str | None,
    options: Mapping[str, Json] | None,
    within: timedelta | None,
    time_limit: timedelta | None = None,
) -> dict[str, Json] | None:
    """What a workspace declares about approximate methods.

    Args:
        learner: What it trains.
        n_shards: Its shards.
        n_slices: Its slices.
        aggregation: Its rule.
        name: Of the method, or None.
        options: Of the method, or None.
        within: How long after a request the model is to be retrained at the latest, or None.
        time_limit: How long a method may take, or None.

    Returns:
        `name`, `config` and `escalate_within`, in seconds, and `time_limit`, likewise, if there is one; None without a
        method.

    Raises:
        ConfigurationError: If it makes no sense.
    """
    if name is None:
        if options is not None or within is not None or time_limit is not None:
            raise ConfigurationError(
                "method_options, escalate_within and method_time_limit belong to a method: name one"
            )
        return None
    for what, given in (("escalate_within", within), ("method_time_limit", time_limit)):
        if given is not None and not (isinstance(given, timedelta) and timedelta(0) < given <= LONGEST):
            raise ConfigurationError(f"{what} is a positive timedelta of at most {LONGEST.days:,} days, got {given!r}")
    chosen = choose(learner, n_shards, n_slices, aggregation, name, options or {})
    made: dict[str, Json] = {
        "name": chosen.method,
        "config": dict(chosen.config),
        "escalate_within": None if within is None else within.total_seconds(),
    }
    # Left out where there is none: such a workspace stays one that older versions can read.
    return made if time_limit is None else {**made, "time_limit": time_limit.total_seconds()}


def asked_for(
    site: Site,
    task: Task | None,
    name: str | None,
    options: Mapping[str, Json] | None,
    escalate_by: datetime | None,
    at: datetime,
) -> Instead:
    """What a request asks for in place of what is withdrawn for it.

    Args:
        site: The workspace, whose declaration says what is meant where nothing is said.
        task: What it predicts, or None before the first batch.
        name: Of a method; `"none"`: nothing is asked for; None: as declared.
        options: Of the method.
        escalate_by: Until when the model is to be retrained; None: as declared.
        at: The time, UTC.

    Returns:
        The method with every option, if there is one.

    Raises:
        ConfigurationError: If the method does not fit the workspace.
        InputError: If something is said about a method and there is none.
    """
    declared = site.declaration.method
    chosen = _chosen(site, declared, name, options)
    if chosen is None:
        if options is not None or escalate_by is not None:
            raise InputError(
                "method_options and escalate_by are about an approximate method, and none is applied: name one, or "
                "leave them out; nothing was changed"
            )
        return Instead()
    if task is not None and len(task.features) > 1:
        raise ConfigurationError(
            f"approximate methods are for one feature, and {site.path} has {len(task.features)}: put them into one "
            "array, or leave the method out; nothing was changed"
        )
    within = None if declared is None else declared["escalate_within"]
    until = at + timedelta(seconds=within) if escalate_by is None and within is not None else escalate_by
    return Instead(chosen.method, chosen.config, until, escalate_by is not None)


def _chosen(site: Site, declared: Json | None, name: str | None, options: Mapping[str, Json] | None) -> Chosen | None:
    if name == WITHDRAW or (name is None and declared is None):
        return None
    policy: Mapping[str, Json] = declared or {}
    if name is None and options is None:
        return Chosen(policy["name"], policy["config"])
    made = site.declaration
    wanted = policy["name"] if name is None else name
    return choose(site.learner, made.n_shards, made.n_slices, made.aggregation, wanted, options or {})


def refuse_spent(site: Site, request: Request) -> None:
    """Refuse a request for certified removal that the budget does not suffice for, if it asks for that.

    Args:
        site: The workspace.
        request: The request, not accepted yet.

    Raises:
        BudgetSpentError: If so; nothing was changed.
    """
    config = request.method_config or {}
    if request.method != CERTIFIED or config["when_spent"] != "refuse" or site.ledger.task() is None:
        return
    promise, heads = _promised(site, config)
    if max(site.ledger.removals().values(), default=0) >= promise.capacity(heads):
        raise BudgetSpentError(
            f"the budget of {site.path} for certified removal (epsilon {promise.epsilon:g}, delta {promise.delta:g}) "
            f"is spent: its {promise.capacity(heads):,} removals were made; run `unlearn recover`, which retrains, or "
            "ask for when_spent=retrain or the method 'none'; nothing was changed"
        )


def asks_to_retrain(request: Request) -> bool:
    """Whether a request that was carried out wants the model retrained since the budget did not suffice for it.

    Args:
        request: The request.

    Returns:
        True if so.
    """
    config = request.method_config or {}
    return request.not_applied == NOT_APPLIED["budget spent"] and config["when_spent"] == "retrain"


def certificate_of(site: Site, made: Approximation) -> dict[str, Json] | None:
    """What is promised of a state that a method made, and how much of that is spent.

    Args:
        site: The workspace.
        made: The state.

    Returns:
        As a receipt says it; None of methods that promise nothing.
    """
    if made.method != CERTIFIED:
        return None
    promise, heads = _promised(site, made.config)
    return promise.certificate(heads, made.applications)


def _promised(site: Site, config: Mapping[str, Json]) -> tuple[Promise, int]:
    from unlearn.methods.certified_budget import promise_of
    from unlearn.methods.certified_learner import heads

    return promise_of(config), heads(site.task())


def _takes_loss(method: Method) -> bool:
    return "loss" in inspect.signature(method.function).parameters


class Applier:
    """Has methods applied, and keeps what the last one that was not says.

    Args:
        site: The workspace, whose lock the caller holds.
        executor: Where to do it.
    """

    def __init__(self, site: Site, executor: Executor) -> None:
        self._site = site
        self._executor = executor
        self.detail = ""

    def __call__(self, withdrawals: Sequence[Withdrawal]) -> Unlearnt | NotApplied:
        """See `approximate`."""
        made = approximate(self._site, self._executor, withdrawals)
        self.detail = made.detail if isinstance(made, NotApplied) else ""
        return made


def approximate(site: Site, executor: Executor, withdrawals: Sequence[Withdrawal]) -> Unlearnt | NotApplied:
    """Have the method that some requests ask for make a state without what they remove, and publish it.

    Args:
        site: The workspace, whose lock the caller holds; nothing in it waits to be destroyed.
        executor: Where to do it.
        withdrawals: What to forget; all ask for the same method.

    Returns:
        What was made, for the ledger to serve; or why nothing was.

    Raises:
        FencedError: If somebody took over.
        StorageError: If what was begun cannot be cleared away.
    """
    asked = withdrawals[0].request
    hit: dict[int, int] = {}
    for item in withdrawals:
        for shard, position in item.request.shards.items():
            hit[shard] = min(position, hit.get(shard, position))
    _, served = site.ledger.served()
    known = next((step for step in served if step.position >= hit.get(step.shard, step.position + 1)), None)
    if known is None:
        return NotApplied("nothing served")
    slices = sorted(site.ledger.slices(known.shard).items())
    seen = [item for place, item in slices if place[1] <= known.position]
    tokens = [location.token for item in withdrawals for location in item.gone if location.position <= known.position]
    forget = site.ledger.commitments_of(tokens)
    if not forget:
        return NotApplied("made before")
    if sum(item.records for item in seen) <= len(forget):
        return NotApplied("nothing stays")
    if asked.method == CERTIFIED and _is_spent(site, known.shard, asked.method_config or {}):
        return NotApplied("budget spent")
    site.ledger.begin_operation(APPLYING)
    try:
        files: list[Json] = [[item.file, item.digest] for item in seen]
        assert asked.method is not None  # noqa: S101 - the caller looked
        return _make(site, executor, known, files, forget, Chosen(asked.method, asked.method_config or {}))
    except FencedError:
        raise
    except _TooLongError as error:
        _discard(site, known.shard)
        return NotApplied("time limit", str(error))
    except _FAILURES as error:
        _discard(site, known.shard)
        # The first line says what; what follows of a call is the worker's traceback.
        return NotApplied("failed", str(error).partition("\n")[0].removeprefix(f"{APPLY}, item {known.shard} failed: "))
    except BaseException:
        _discard(site, known.shard)
        raise


def _is_spent(site: Site, shard: int, config: Mapping[str, Json]) -> bool:
    """Whether one more removal would break the promise: decided by counts, so that it tells nothing of the data."""
    promise, heads = _promised(site, config)
    return site.ledger.removals().get(shard, 0) >= promise.capacity(heads)


class _TooLongError(UnlearnError):
    """A method was stopped."""


class _Watch:
    """Stops a method that takes too long; a worker that is at it is ended, whatever it does.

    Args:
        number: Of the call.
        seconds: What it may take; None: as long as it takes.
    """

    def __init__(self, number: int, seconds: float | None) -> None:
        self._number = number
        self._until = None if seconds is None else time.monotonic() + seconds

    def __call__(self, stop: Stop) -> None:
        if self._until is not None and time.monotonic() >= self._until:
            stop([self._number])


def _discard(site: Site, shard: int) -> None:
    """Nothing of what was under way stays."""
    site.clear_staging(shard)
    purge_checkpoints(site, [shard])
    site.ledger.end_operation()


def _make(
    site: Site, executor: Executor, known: BuiltStep, slices: list[Json], forget: Sequence[bytes], chosen: Chosen
) -> Unlearnt:
    """Make the state and publish its checkpoint, which nothing refers to yet."""
    from unlearn.methods.checkpoints import KERNEL
    from unlearn.methods.options import find_method

    before = site.ledger.approximations().get(known.shard)
    applications = 1 if before is None else before.applications + 1
    if chosen.method == CERTIFIED:
        # All since the training, those included whose state is served no more: it was published.
        applications = site.ledger.removals().get(known.shard, 0) + 1
    # The workers that train will do: of our own code, versions stand for what they loaded.
    program = Program(site.learner.libraries, site.check_code().digest)
    code = code_digest([APPLY])
    numeric = executor.environment(program)
    environment = call_environment(numeric.digest, code)
    site.ledger.record_environment(
        environment, {"kernel": CALLS, "numeric": numeric.description, "distributions": dict(code.distributions)}
    )
    folder = site.folder(known.shard)
    folder.create()
    made_of: dict[str, Json] = {
        "kernel": KERNEL,
        "learner": site.declaration.learner,
        "code": site.declaration.code,
        "task": describe_task(site.task()),
        "method": chosen.method,
        "config": dict(chosen.config),
        "parent": known.key,
        "commitment": known.commitment,
        "slices": slices,
        "forget": sorted(item.hex() for item in forget),
        "shard": known.shard,
        "position": known.position,
        "environment": environment,
    }
    key = digest_json("approximation key", made_of)
    argument = {**made_of, "key": key, "folder": folder.location, "fence": folder.fence()}
    work = CallWork(CallOrder(known.shard, APPLY, argument, environment, code.source, ""), lambda _number: None)
    limit = (site.declaration.method or {}).get("time_limit")
    executor.perform(program, [work], _Watch(known.shard, limit))
    if not work.is_done:
        raise _TooLongError(f"{limit:g} seconds had passed")
    answer = work.value
    header = CheckpointHeader(**answer["header"])
    site.ledger.check_writer()
    folder.publish(answer["staged"], key)
    card = find_method(chosen.method).card
    made = Approximation(
        shard=known.shard,
        position=known.position,
        key=key,
        environment=environment,
        commitment=header.commitment,
        records=header.records,
        made_from=known.key,
        method=chosen.method,
        config=dict(chosen.config),
        applications=applications,
        # What one audit refuted is not made good by forgetting somebody else.
        refuted_at=None if before is None else before.refuted_at,
    )
    return Unlearnt(made, card.title, card.citation, card.statement, certificate_of(site, made))
