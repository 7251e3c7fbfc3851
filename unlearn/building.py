"""Build what is missing: compare the recipe with what is there, and have the difference trained."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from shards import recipe
from shards.code import CodeDigest
from shards.environment import step_environment
from shards.errors import DamageError, TrainingError
from shards.executors.base import Environment, Executor, Program, Stop
from shards.interrupts import guarded
from shards.store import CheckpointHeader
from shards.train import (
    ChainOrder,
    SliceFile,
    StepBuilt,
    StepOrder,
    describe_task,
)
from unlearn.erasure import purge_checkpoints
from unlearn.errors import FencedError
from unlearn.ledger import BuiltStep
from unlearn.progress import ProgressStarter
from unlearn.site import Site


@dataclass(frozen=True)
class BuildReport:
    """What a training or a recovery did.

    Attributes:
        shards: Shards in which something was built.
        steps: Steps built.
        visits: Record-visits made.
        seconds: Wall time of the whole operation, in seconds.
        training_seconds: Time spent in training, summed over the workers, in seconds.
        environment: Digest of the environment the steps were built in; empty if nothing was.
        recovered: Ids of the requests that are recovered by it.
    """

    shards: int
    steps: int
    visits: int
    seconds: float
    training_seconds: float
    environment: str = ""
    recovered: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardPlan:
    """One shard's steps beside its files."""

    files: list[SliceFile]
    steps: list[recipe.Step]

    @property
    def missing(self) -> list[recipe.Step]:
        """The steps from the first that is not built on."""
        for index, step in enumerate(self.steps):
            if not step.built:
                return self.steps[index:]
        return []


def plan(site: Site, shards: Iterable[int], environment: str) -> dict[int, ShardPlan]:
    """Write down the chains of some shards.

    Args:
        site: The workspace.
        shards: Shard numbers.
        environment: Digest of the environment that new steps would be built in.

    Returns:
        Shard to plan.
    """
    constants = site.constants()
    slices, batches = site.ledger.slices(), site.ledger.batches()
    built = site.ledger.steps()
    recorded: dict[int, dict[int, recipe.Recorded]] = {}
    for step in built.values():
        recorded.setdefault(step.shard, {})[step.position] = recipe.Recorded(step.key, step.environment)
    plans = {}
    for shard in shards:
        files = site.slice_files(shard, slices, batches)
        steps = recipe.chain(
            constants,
            shard,
            site.slice_inputs(files),
            recorded.get(shard, {}),
            environment,
            site.learner.budget,
        )
        plans[shard] = ShardPlan(files, steps)
    return plans


Serve = Callable[[Stop], None]
"""Carries out the requests that were submitted meanwhile, stopping the training of shards they hit."""


@dataclass
class _Builder:
    """One call of `build`.

    Attributes:
        site: The workspace.
        executor: Where to train.
        told: Told of progress.
        serve: See `Serve`.
        built: The steps that were published and recorded.
        hit: Shards whose training was stopped by a request.
    """

    site: Site
    executor: Executor
    told: Callable[[int, int, int], None]
    serve: Serve
    built: list[StepBuilt]
    hit: set[int]

    def train(self, program: Program, orders: Sequence[ChainOrder]) -> None:
        """Have chains trained; nothing unfinished is left, however it ends."""
        shards = [order.shard for order in orders]
        try:
            self.executor.run(program, orders, self._publish, self.told, self._look_up)
        except FencedError:
            raise  # whoever took over puts things in order; what we would take for rubbish may be theirs
        except BaseException:
            self._tidy(shards)
            raise
        self._tidy(shards)

    def _publish(self, step: StepBuilt) -> None:
        header, site = step.header, self.site
        site.ledger.check_writer()
        site.folder(header.shard).publish(step.staged, header.key)
        try:
            site.ledger.record_step(_built(header, step.visits, step.seconds))
        except FencedError:
            if header.key not in {there.key for there in site.ledger.steps(header.shard).values()}:
                site.folder(header.shard).purge([header.key])
            raise
        self.built.append(step)
        self.told(header.shard, header.position, step.visits)

    def _look_up(self, stop: Stop) -> None:
        self.site.ledger.check_writer()

        def stop_and_clear(shards: Collection[int]) -> None:
            stop(shards)
            self.hit |= set(shards)
            for shard in sorted(shards):
                self.site.clear_staging(shard)

        self.serve(stop_and_clear)

    def _tidy(self, shards: Sequence[int]) -> None:
        """No worker is writing any more; perhaps it ended between publishing a step and recording it."""
        site = self.site
        for shard in shards:
            site.clear_staging(shard)
        adopt(site, shards)
        purge_checkpoints(site, shards)


@guarded
def _noted(site: Site) -> Iterator[None]:
    """Note that a training is under way, from before the first file is read: whoever wants to forget can rely on it."""
    site.ledger.begin_operation("train")
    try:
        yield
    except FencedError:
        raise
    except BaseException:
        site.ledger.end_operation()
        raise
    site.ledger.end_operation()


def build(
    site: Site, executor: Executor, shards: Iterable[int], start_progress: ProgressStarter, serve: Serve
) -> tuple[BuildReport, TrainingError | None]:
    """Have every missing step of some shards trained, published and recorded.

    A shard whose training fails keeps no other from being trained. A request that comes meanwhile wins: the shards it
    hits are stopped, forgotten from, and trained again at the end.

    Args:
        site: The workspace, whose lock the caller holds.
        executor: Where to train.
        shards: Shard numbers.
        start_progress: Told how much there is to do.
        serve: Called now and then.

    Returns:
        What was done; and why steps are missing still, for whoever has seen to the requests that wait for no such step.
    """
    with _noted(site):
        return _build(site, executor, sorted(shards), start_progress, serve)


def _build(
    site: Site, executor: Executor, wanted: Sequence[int], start_progress: ProgressStarter, serve: Serve
) -> tuple[BuildReport, TrainingError | None]:
    started = time.perf_counter()
    drop_damaged(site, wanted)
    behind = [shard for shard, item in plan(site, wanted, "").items() if item.missing]
    if not behind:
        return BuildReport(0, 0, 0, time.perf_counter() - started, 0.0), None
    code = site.check_code()
    program = Program(site.learner.libraries, code.digest)
    environment = _record_environment(site, executor.environment(program), code)
    orders = _missing(site, behind, environment)
    told = start_progress(sum(step.visits for order in orders for step in order.steps))
    builder = _Builder(site, executor, told, serve, [], set())
    failure = None
    while orders:
        builder.hit.clear()
        try:
            builder.train(program, orders)
        except TrainingError as error:
            failure = error
        orders = _missing(site, sorted(builder.hit), environment) if builder.hit else []
    built = builder.built
    report = BuildReport(
        shards=len({step.header.shard for step in built}),
        steps=len(built),
        visits=sum(step.visits for step in built),
        seconds=time.perf_counter() - started,
        training_seconds=sum(step.seconds for step in built),
        environment=environment,
    )
    # A request may have removed what a shard could not be trained on.
    return report, failure if failure is not None and _missing(site, wanted, environment) else None


def _missing(site: Site, shards: Iterable[int], environment: str) -> list[ChainOrder]:
    """What is to be trained in some shards; nothing in those where something could not be destroyed yet."""
    stuck = {item.shard for item in site.ledger.erasures()}
    plans = plan(site, [shard for shard in shards if shard not in stuck], environment)
    return [
        chain_order(site, shard, item.files, item.missing, environment) for shard, item in plans.items() if item.missing
    ]


def complete_shards(site: Site, shards: Iterable[int]) -> list[int]:
    """Those of the shards all of whose steps are built."""
    return [shard for shard, item in plan(site, shards, "").items() if not item.missing]


def drop_damaged(site: Site, shards: Iterable[int]) -> int:
    """Stop serving checkpoints that are missing or do not match their digests, and delete them.

    Args:
        site: The workspace.
        shards: Shard numbers.

    Returns:
        How many there were.
    """
    wanted = set(shards)
    damaged = [step for step in site.ledger.steps().values() if step.shard in wanted and not _is_sound(site, step)]
    site.ledger.drop_steps(damaged)
    made = [item for item in site.ledger.approximations().values() if item.shard in wanted]
    lost = [item.served for item in made if not _is_sound(site, item.served)]
    if lost:
        site.ledger.drop_approximations([step.key for step in lost])
    for step in (*damaged, *lost):
        site.folder(step.shard).purge([step.key])
    return len(damaged) + len(lost)


def adopt(site: Site, shards: Iterable[int]) -> int:
    """After an interruption of training: record the published checkpoints the ledger does not know yet.

    A file is adopted if it is sound and its key is what the recipe demands; what is not adopted is for
    `purge_checkpoints`.

    Args:
        site: The workspace.
        shards: Shard numbers.

    Returns:
        How many were adopted.
    """
    constants = site.constants()
    slices = site.ledger.slices()
    count = 0
    for shard in shards:
        recorded = {k[1]: recipe.Recorded(v.key, v.environment) for k, v in site.ledger.steps(shard).items()}
        found = {h.position: h for h in _headers(site, shard, site.folder(shard).keys() - site.ledger.named(shard))}
        if not found:
            continue
        # Whoever published them may have been interrupted before their names were durable.
        site.folder(shard).sync_checkpoints()
        together = {**{p: recipe.Recorded(h.key, h.environment) for p, h in found.items()}, **recorded}
        inputs = site.slice_inputs(site.slice_files(shard, slices))
        for step in recipe.chain(constants, shard, inputs, together, "", site.learner.budget):
            header = found.get(step.position)
            if step.built and header is not None and header.key == step.key:
                # How long it took is not known any more; the visits are the recipe's.
                site.ledger.record_step(_built(header, step.visits, 0.0))
                count += 1
    return count


def _headers(site: Site, shard: int, keys: Iterable[str]) -> list[CheckpointHeader]:
    headers = []
    for key in sorted(keys):
        try:
            headers.append(site.folder(shard).load(key).header)
        except DamageError:
            continue  # not adopted, so it will be purged
    return headers


def _is_sound(site: Site, step: BuiltStep) -> bool:
    try:
        header = site.folder(step.shard).load(step.key).header
    except (DamageError, FileNotFoundError):
        return False
    return (header.commitment, header.records) == (step.commitment, step.records)


def _built(header: CheckpointHeader, visits: int, seconds: float) -> BuiltStep:
    return BuiltStep(
        shard=header.shard,
        position=header.position,
        key=header.key,
        environment=header.environment,
        commitment=header.commitment,
        records=header.records,
        visits=visits,
        seconds=seconds,
    )


def _record_environment(site: Site, numeric: Environment, code: CodeDigest) -> str:
    kernel = site.learner.kernel
    digest = step_environment(numeric.digest, kernel, code.distributions)
    description = {"kernel": kernel, "numeric": numeric.description, "distributions": dict(code.distributions)}
    site.ledger.record_environment(digest, description)
    return digest


def replay_program(site: Site, executor: Executor) -> tuple[Program, str]:
    """What workers need to train the recorded steps again, and the environment they would do it in.

    Nothing of the past of any process is in those workers: they are started for it, here and on nodes.

    Args:
        site: The workspace.
        executor: Where to train.

    Returns:
        The program, and the digest of the step environment; nothing is recorded.
    """
    code = site.check_code()
    program = Program(site.learner.libraries, code.digest, secrets.token_hex(8))
    numeric = executor.environment(program)
    return program, step_environment(numeric.digest, site.learner.kernel, code.distributions)


def chain_order(
    site: Site, shard: int, files: Sequence[SliceFile], steps: Sequence[recipe.Step], environment: str
) -> ChainOrder:
    """What a worker is told: build these steps of a shard.

    Args:
        site: The workspace.
        shard: Shard number.
        files: All slices of the shard.
        steps: Consecutive steps of its chain.
        environment: Digest of the environment to build them in.

    Returns:
        The order.
    """
    folder = site.folder(shard)
    folder.create()  # a power loss may have taken the part for unfinished files
    return ChainOrder(
        folder=folder.location,
        shard=shard,
        learner=site.declaration.learner,
        task=describe_task(site.task()),
        root_seed=site.declaration.root_seed,
        environment=environment,
        code=site.declaration.code,
        parent=steps[0].parent,
        slices=tuple(files[: steps[-1].position + 1]),
        steps=tuple(StepOrder(step.position, step.key, step.records, step.visits) for step in steps),
        fence=folder.fence(),
    )
