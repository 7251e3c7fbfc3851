"""Any history ends where a fresh workspace without the forgotten records begins: byte for byte."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import NotServingError
from shards.executors.base import Executor
from shards.placement import Region
from tests.cases import (
    CNN,
    EXACT,
    LIGHT,
    LOGISTIC,
    MLP_ADAM,
    MLP_MOMENTUM,
    SGD,
    Case,
    Record,
    create,
    digits,
    ingest,
    placed,
    record,
    test_rows,
    trained,
)
from unlearn import Workspace, verify
from unlearn.errors import AlreadyForgottenError, TombstoneError
from unlearn.request import RequestState


class History:
    """A workspace, what was done to it, and what should therefore be left."""

    def __init__(
        self,
        folder: Path,
        case: Case,
        n_shards: int,
        n_slices: int,
        executor: str | Executor = "local",
        risk_classes: dict[str, Region] | None = None,
    ) -> None:
        self.folder, self.case, self.executor = folder, case, executor
        self.n_shards, self.n_slices = n_shards, n_slices
        self.risk_classes, self.risk = risk_classes, risk_of if risk_classes else None
        self.workspace = create(
            folder / "lived", case, n_shards, n_slices, executor=executor, risk_classes=risk_classes
        )
        self.batches: list[list[Record]] = []
        self.dead: set[str] = set()
        self.requests = 0

    @property
    def present(self) -> list[Record]:
        return [item for batch in self.batches for item in batch]

    def ingest(self, records: Sequence[Record], *, consenting: bool = False) -> None:
        """Take in a batch; forgotten subjects are refused, then either left out or back by consent."""
        back = {item.subject for item in records} & self.dead
        if back:
            with pytest.raises(TombstoneError):
                ingest(self.workspace, self.case, records, risk=self.risk)
        taken = [item for item in records if consenting or item.subject not in back]
        ingest(self.workspace, self.case, taken, sorted(back) if consenting else (), self.risk)
        self.dead -= back if consenting else set()
        self.batches.append(taken)

    def forget(self, subjects: Sequence[str] = (), ids: Sequence[str] = (), *, repeat: bool = False) -> None:
        key = f"case {self.requests}"
        self.requests += 1
        for _ in range(1 + repeat):
            request = self.workspace.forget(subjects=subjects, record_ids=ids, idempotency_key=key)
            assert request.state is RequestState.FORGOTTEN
        self.dead |= set(subjects)
        self.batches = [
            [item for item in batch if item.subject not in subjects and item.id not in ids] for batch in self.batches
        ]

    def train(self) -> None:
        self.workspace.train()

    def recover(self) -> None:
        self.workspace.recover()

    def reopen(self) -> None:
        self.workspace.close()
        self.workspace = Workspace.open(self.folder / "lived", executor=self.executor)

    def check(self) -> None:
        """Train what is missing, and compare with a workspace that never saw what was forgotten."""
        self.workspace.train()
        fresh = trained(
            self.folder / "fresh",
            self.case,
            self.batches,
            self.n_shards,
            self.n_slices,
            risk_classes=self.risk_classes,
            risk=self.risk,
        )
        status = self.workspace.status()
        assert status.records == len(self.present)
        assert status.steps_missing == 0
        assert {state: count for state, count in status.requests.items() if count} == (
            {"receipted": self.requests} if self.requests else {}
        )
        assert status.overdue == ()
        assert self.workspace.state_digest() == fresh.state_digest()
        if self.present:
            X = test_rows(self.case)
            assert self.workspace.predict_proba(X).tobytes() == fresh.predict_proba(X).tobytes()
            assert self.workspace.predict(X).tobytes() == fresh.predict(X).tobytes()
        else:
            for workspace in (self.workspace, fresh):
                with pytest.raises(NotServingError):
                    workspace.predict(test_rows(self.case))
        fresh.close()


def risk_of(subject: str) -> str:
    """A subject's risk class, where there are two."""
    return "often" if crc32(subject.encode()) % 3 == 0 else "seldom"


@contextmanager
def history(
    case: Case,
    n_shards: int,
    n_slices: int,
    executor: str | Executor = "local",
    risk_classes: dict[str, Region] | None = None,
) -> Iterator[History]:
    """What is lived, with any executor; `check` compares it with what is trained here."""
    with tempfile.TemporaryDirectory() as folder:
        lived = History(Path(folder), case, n_shards, n_slices, executor, risk_classes)
        yield lived
        lived.check()
        lived.workspace.close()


# --- random histories --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ingest:
    """A batch: `people` subjects in turn (0: every record its own), one of whom may own every second record."""

    size: int
    people: int
    half: bool
    consenting: bool

    def records(self, first: int) -> list[Record]:
        return [record(first + i, self._subject(i)) for i in range(self.size)]

    def _subject(self, i: int) -> str | None:
        if self.half and i % 2:
            return "who owns half"
        return f"person {i % self.people}" if self.people else None


@dataclass(frozen=True)
class Forget:
    """Subjects and records, chosen among those present by numbers that wrap around."""

    subjects: tuple[int, ...]
    records: tuple[int, ...]
    repeat: bool


Operation = Ingest | Forget | str

numbers = st.lists(st.integers(0, 200), max_size=3).map(tuple)
ingests = st.builds(Ingest, st.integers(0, 40), st.integers(0, 12), st.booleans(), st.booleans())
forgets = st.builds(Forget, numbers, numbers, st.booleans()).filter(lambda op: op.subjects or op.records)
operations = st.one_of(forgets, st.just("train"), st.sampled_from(["recover", "reopen"]), ingests)
histories = st.tuples(ingests, st.lists(operations, min_size=3, max_size=9)).map(lambda parts: [parts[0], *parts[1]])


def live(
    case: Case,
    n_shards: int,
    n_slices: int,
    story: Sequence[Operation],
    executor: str | Executor = "local",
    risk_classes: dict[str, Region] | None = None,
) -> None:
    with history(case, n_shards, n_slices, executor, risk_classes) as lived:
        first = 0
        for operation in story:
            if isinstance(operation, Ingest):
                lived.ingest(operation.records(first), consenting=operation.consenting)
                first += operation.size
            elif isinstance(operation, Forget):
                subjects = sorted({item.subject for item in lived.present})
                ids = sorted(item.id for item in lived.present)
                if ids:
                    lived.forget(
                        sorted({subjects[n % len(subjects)] for n in operation.subjects}),
                        sorted({ids[n % len(ids)] for n in operation.records}),
                        repeat=operation.repeat,
                    )
            else:
                getattr(lived, operation)()
        if risk_classes:
            check_places(lived)


def check_places(lived: History) -> None:
    """Every record lies where its subject's class may go, and the last receipt and all that is there verify."""
    site = lived.workspace._site
    for (shard, position), item in site.ledger.slices().items():
        for subject in site.folder(shard).read_records(item.file).subjects:
            region = site.declaration.regions[risk_of(subject)]
            assert shard in region.shards
            assert position % lived.n_slices in region.slices
    lived.recover()
    requests = lived.workspace.requests()
    if requests:
        verify(lived.workspace.receipt(requests[-1].id), lived.workspace.public_key, workspace=lived.workspace)


@st.composite
def divisions(draw: st.DrawFn) -> tuple[int, int, dict[str, Region]]:
    """Shards, slices, and classes with shards of their own, late slices, both, or overlapping ones."""
    n_shards, n_slices = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    own = draw(st.integers(1, n_shards - 1))
    late = range(draw(st.integers(0, n_slices - 1)), n_slices)
    often = draw(st.sampled_from([Region(range(own)), Region(None, late), Region(range(own), late)]))
    seldom = draw(st.sampled_from([Region(), Region(range(own, n_shards))] if often.shards else [Region()]))
    return n_shards, n_slices, {"often": often, "seldom": seldom}


@pytest.mark.parametrize("examples", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_any_history_with_risk_classes_ends_as_if_forgotten_records_never_were(examples: int) -> None:
    @settings(max_examples=examples)
    @given(design=divisions(), story=histories)
    def run(design: tuple[int, int, dict[str, Region]], story: list[Operation]) -> None:
        n_shards, n_slices, risk_classes = design
        live(SGD, n_shards, n_slices, story, risk_classes=risk_classes)

    run()


@pytest.mark.slow
@settings(max_examples=20)
@given(n_shards=st.integers(1, 4), n_slices=st.integers(1, 3), story=histories)
def test_any_history_of_a_continued_model_ends_as_if_forgotten_records_never_were(
    n_shards: int, n_slices: int, story: list[Operation]
) -> None:
    live(SGD, n_shards, n_slices, story)


@pytest.mark.parametrize("case", [LOGISTIC, MLP_ADAM, MLP_MOMENTUM, CNN, *EXACT], ids=str)
def test_any_history_ends_as_if_forgotten_records_never_were(case: Case) -> None:
    @settings(max_examples=4 if case in EXACT else 8)  # exact learners share all but their parts
    @given(n_shards=st.integers(1, 4), n_slices=st.integers(1, 3), story=histories)
    def run(n_shards: int, n_slices: int, story: list[Operation]) -> None:
        live(case, n_shards, n_slices, story)

    run()


# --- named histories ---------------------------------------------------------------------------------------------

each_light = pytest.mark.parametrize("case", LIGHT, ids=str)


def people(first: int, n: int, count: int) -> list[Record]:
    return [record(first + i, f"person {i % count}") for i in range(n)]


@each_light
def test_sizes_that_divide_neither_by_shards_nor_by_slices(case: Case) -> None:
    with history(case, 4, 3) as lived:
        lived.ingest(people(0, 67, 31))
        lived.train()
        lived.forget(ids=[record(66).id])
        lived.recover()
        lived.ingest(people(67, 41, 31))


@each_light
@pytest.mark.parametrize(("n_shards", "n_slices"), [(1, 1), (1, 3), (3, 1)])
def test_one_shard_or_one_slice(case: Case, n_shards: int, n_slices: int) -> None:
    with history(case, n_shards, n_slices) as lived:
        lived.ingest(people(0, 40, 13))
        lived.train()
        lived.forget(subjects=["person 5"])
        lived.ingest(people(40, 30, 4))
        lived.recover()


@each_light
def test_a_shard_that_is_empty_from_the_start(case: Case) -> None:
    records = [record(i) for i in range(60)]
    shards = placed(records, 3, 2).shards
    with history(case, 3, 2) as lived:
        lived.ingest([item for item, shard in zip(records, shards, strict=True) if shard != 1])
        lived.train()
        assert lived.workspace.status().serving == 2
        lived.forget(ids=[lived.present[0].id])


@each_light
@pytest.mark.parametrize("emptied", [0, 1, 2])
def test_a_slice_emptied_by_deletion(case: Case, emptied: int) -> None:
    records = [record(i) for i in range(60)]
    where = placed(records, 2, 3)
    inside = (where.shards == 0) & (where.slices == emptied)
    assert inside.any()
    with history(case, 2, 3) as lived:
        lived.ingest(records)
        lived.train()
        lived.forget(ids=[item.id for item, gone in zip(records, inside, strict=True) if gone])
        assert (0, emptied) not in lived.workspace._site.ledger.slices()


@each_light
def test_a_shard_emptied_by_deletion_abstains_and_may_fill_again(case: Case) -> None:
    records = [record(i) for i in range(60)]
    inside = placed(records, 3, 2).shards == 2
    with history(case, 3, 2) as lived:
        lived.ingest(records)
        lived.train()
        lived.forget(ids=[item.id for item, gone in zip(records, inside, strict=True) if gone])
        lived.recover()
        assert lived.workspace.status().serving == 2
        lived.ingest([record(i) for i in range(60, 90)])


@each_light
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_batch_emptied_by_deletion_keeps_its_number(case: Case, batch: int) -> None:
    with history(case, 2, 2) as lived:
        for number in range(3):
            lived.ingest([record(20 * number + i, f"member of batch {number}") for i in range(20)])
        lived.train()
        lived.forget(subjects=[f"member of batch {batch}"])


@each_light
def test_the_last_record_of_a_class(case: Case) -> None:
    labels = digits()[1][:60]
    with history(case, 2, 2) as lived:
        lived.ingest([record(i) for i in range(60)])
        lived.train()
        lived.forget(ids=[record(int(i)).id for i in np.flatnonzero(labels == 7)])
        lived.recover()
        assert lived.workspace.predict_proba(test_rows(case)).shape == (50, 10)


@each_light
def test_a_subject_that_is_half_the_data(case: Case) -> None:
    with history(case, 3, 2) as lived:
        lived.ingest([record(i, "who owns half" if i % 2 else None) for i in range(80)])
        lived.train()
        lived.forget(subjects=["who owns half"])


@each_light
@pytest.mark.parametrize("consenting", [False, True])
def test_a_subject_that_returns_in_a_later_batch(case: Case, consenting: bool) -> None:
    with history(case, 3, 2) as lived:
        lived.ingest(people(0, 40, 10))
        lived.ingest(people(40, 20, 10))
        lived.train()
        lived.forget(subjects=["person 3"])
        with pytest.raises(AlreadyForgottenError):
            lived.workspace.forget(subjects=["person 3"])
        lived.ingest(people(60, 30, 10), consenting=consenting)
        lived.train()
        assert ("person 3" in {item.subject for item in lived.present}) is consenting
        lived.forget(subjects=["person 3"] if consenting else ["person 4"])


@each_light
def test_everything_deleted(case: Case) -> None:
    with history(case, 3, 2) as lived:
        lived.ingest(people(0, 40, 5))
        lived.train()
        lived.ingest(people(40, 20, 5))
        for number in range(5):
            lived.forget(subjects=[f"person {number}"])
        with pytest.raises(NotServingError):
            lived.workspace.predict(test_rows(case))
    # `check` has compared it with a workspace that holds two empty batches.


@each_light
@pytest.mark.parametrize("end", [0, -1], ids=["first", "last"])
def test_the_first_and_the_last_record_of_a_shard(case: Case, end: int) -> None:
    records = [record(i) for i in range(60)]
    where = placed(records, 2, 3)
    rows = np.flatnonzero(where.shards == 1).tolist()
    rows.sort(key=lambda row: (where.slices[row], where.tokens[row].tobytes()))
    with history(case, 2, 3) as lived:
        lived.ingest(records)
        lived.train()
        lived.forget(ids=[records[rows[end]].id])


@each_light
def test_forgetting_before_any_training(case: Case) -> None:
    with history(case, 2, 2) as lived:
        lived.ingest(people(0, 40, 8))
        lived.forget(subjects=["person 1"], ids=[record(0).id], repeat=True)
        lived.reopen()


@each_light
def test_many_requests_in_any_grouping_end_alike(case: Case) -> None:
    gone = [record(row).id for row in (3, 17, 22, 40, 41, 59)]
    for grouping in ([gone], [[name] for name in gone], [gone[:2], gone[2:]]):
        with history(case, 3, 2) as lived:
            lived.ingest([record(i) for i in range(60)])
            lived.train()
            for group in grouping:
                lived.forget(ids=group)
                if len(group) == 2:
                    lived.recover()
