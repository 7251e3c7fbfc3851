"""Ingest from Parquet files ends in the state that ingest of the same rows from memory ends in, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from shards import parquet
from shards.code import reference
from shards.errors import CallError
from shards.executors.base import Environment, Executor, OnTurn, Program
from shards.executors.local import LocalExecutor, close_workers
from shards.executors.work import Work
from shards.slicefile import SliceRecords
from shards.sources import from_table
from shards.train import describe_task
from tests.loopback_s3 import S3
from tests.unlearn.helpers import ROOT, canaries, create, hoarding, labels, logical, names, owner, raw, sgd
from unlearn import Workspace
from unlearn.cli.app import app
from unlearn.errors import DamageError, InputError, StorageError, TombstoneError, UnlearnError

ROLES = {"target": "label", "subject": "person", "record_id": "id"}


class Here(Executor):
    """Calls functions in this process, so that tests can change what they do."""

    def environment(self, program: Program) -> Environment:
        return Environment("", None)

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        raise AssertionError("nothing is trained here")

    def map(self, function: Any, items: Any, folder: Any, **_: Any) -> list[Any]:
        assert folder is None
        assert reference(function)
        return [function(item) for item in items]


def small_parts(monkeypatch: pytest.MonkeyPatch, rows: int = 7, size: int = 1000) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", rows)
    monkeypatch.setattr(parquet, "PIECE_BYTES", size)


def table(rows: Sequence[int]) -> pa.Table:
    """Records with ids, subjects and features that occur nowhere else."""
    X = canaries(rows)
    return pa.table(
        {
            "id": names(rows),
            "person": [owner(row // 3) for row in rows],
            **{f"x{column}": X[:, column] for column in range(X.shape[1])},
            "label": labels(rows),
        }
    )


def write(folder: Path, tables: Sequence[pa.Table], group: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(tables):
        # Compressed, the bytes of a row would not be found even where they are.
        pq.write_table(
            item, folder / f"part-{number:03d}.parquet", row_group_size=group, compression="none", use_dictionary=False
        )
    return folder


def parts(n: int = 90, files: int = 3) -> list[pa.Table]:
    return [table(part.tolist()) for part in np.array_split(np.arange(n), files)]


def stored(workspace: Workspace) -> dict[tuple[int, int], SliceRecords]:
    site = workspace._site
    return {place: site.folder(place[0]).read_records(item.file) for place, item in site.ledger.slices().items()}


def told(workspace: Workspace) -> Any:
    """All that a workspace holds of its records, but for what is random."""
    ledger = workspace._site.ledger
    slices = {
        place: (
            data.record_ids,
            data.subjects,
            data.tokens.tobytes(),
            {name: (array.dtype.str, array.shape, array.tolist()) for name, array in data.features.items()},
            list(data.features),
            (data.target.dtype.str, data.target.shape, data.target.tolist()),
        )
        for place, data in stored(workspace).items()
    }
    where = {name: ledger.locations(workspace._site.tokens("record", [name])) for name in _ids(workspace)}
    for place, found in where.items():
        assert len(found) == 1, place
    pseudonyms = {
        name: tuple(map(tuple, ((item.shard, item.position) for item in found))) for name, found in where.items()
    }
    task = workspace.task
    described = None if task is None else describe_task(task)
    return described, ledger.batches(), ledger.count(), slices, pseudonyms


def _ids(workspace: Workspace) -> list[str]:
    return sorted(name for data in stored(workspace).values() for name in data.record_ids)


def nothing_left(workspace: Workspace) -> None:
    """No operation under way, nothing staged, no record file that the ledger does not name."""
    assert not workspace._site.ledger.operation()
    named = {shard: set() for shard in range(workspace.declaration.n_shards)}  # type: ignore[var-annotated]
    for (shard, _), item in workspace._site.ledger.slices().items():
        named[shard].add(item.file)
    assert workspace._site.store.strays(named) == []


# --- the same state ----------------------------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[pa.Table]], dict[str, Any]]:
    """Two batches of one schema, each in some files, and what their columns are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds: dict[str, Callable[[int], Any]] = {
        "f4": lambda n: pa.array(rng.normal(size=n).astype(np.float32)),
        "f8": lambda n: pa.array(rng.normal(size=n)),
        "i2": lambda n: pa.array(rng.integers(-9, 9, n).astype(np.int16)),
        "u8": lambda n: pa.array(rng.integers(0, 99, n).astype(np.uint64)),
        "bool": lambda n: pa.array(rng.integers(0, 2, n).astype(bool)),
        "text": lambda n: pa.array([f"w{v}é"[: 1 + v % 4] for v in rng.integers(0, 99, n)], pa.string()),
        "category": lambda n: pa.array([f"c{v}" for v in rng.integers(0, 3, n)], pa.string()).dictionary_encode(),
        "image": lambda n: pa.FixedSizeListArray.from_arrays(
            pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 256, 6 * n).astype(np.uint8)), 3), 2
        ),
        "vector": lambda n: pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=4 * n).astype(np.float32)), 4),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=3))
    id_kind = draw(st.sampled_from(["text", "integer", "none"]))
    with_subject = draw(st.booleans())
    target = draw(st.sampled_from(["integer", "text", "bool"]))
    made: list[list[pa.Table]] = []
    start = 0
    for _ in range(2):
        files = []
        for n in draw(st.lists(st.integers(0, 25), min_size=1, max_size=3)):
            ids = np.arange(start, start + n)
            start += n
            columns: dict[str, Any] = {f"{kind} {number}": kinds[kind](n) for number, kind in enumerate(chosen)}
            if id_kind != "none":
                columns["id"] = ids if id_kind == "integer" else pa.array([f"r{i}" for i in ids], pa.string())
            if with_subject:
                columns["person"] = pa.array([f"p{i % 7}" for i in ids], pa.string())
            values = rng.integers(0, 2, n)
            columns["label"] = {
                "integer": lambda v=values: pa.array(v.astype(np.int32)),
                "text": lambda v=values: pa.array([f"class {i}" for i in v], pa.string()),
                "bool": lambda v=values: pa.array(v.astype(bool)),
            }[target]()
            files.append(pa.table(columns))
        made.append(files)
    roles: dict[str, Any] = {"target": "label"}
    roles["record_id"] = None if id_kind == "none" else "id"
    roles["subject"] = "person" if with_subject else None
    if draw(st.booleans()):
        roles["features"] = [f"{kind} {number}" for number, kind in enumerate(chosen)][::-1]
    return made, roles


@settings(max_examples=25)
@given(drawn=batches(), group=st.integers(1, 12), part=st.integers(1, 9), size=st.sampled_from([1, 300, 10**9]))
def test_random_tables_come_to_what_they_come_to_from_memory(
    drawn: tuple[list[list[pa.Table]], dict[str, Any]],
    group: int,
    part: int,
    size: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made, roles = drawn
    folder = tmp_path_factory.mktemp("random")
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch, part, size)
        streamed = create(folder / "streamed", hoarding(), classes=None, executor=Here())
        usual = create(folder / "usual", hoarding(), classes=None)
        # The keys of pseudonyms are random: with the same ones, equal places are equal rows.
        for number, files in enumerate(made):
            both: list[Any] = []
            source = write(folder / f"batch-{number}", files, group)
            whole = pa.concat_tables([item.unify_dictionaries() for item in files])
            for act in (
                lambda s=source: streamed.ingest_parquet(s, **roles),
                lambda w=whole, b=number: usual.ingest(from_table(w, **roles, batch=b)),
            ):
                try:
                    both.append(act())
                except InputError as error:
                    both.append(str(error))
            assert both[0] == both[1], "the same number, or the same refusal"
        assert told(streamed) == told(usual)
        for workspace in (streamed, usual):
            nothing_left(workspace)
            workspace.close()


def test_it_trains_to_the_same_digest_with_workers(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts())
    streamed = create(tmp_path / "streamed", sgd())
    usual = create(tmp_path / "usual", sgd())
    assert streamed.ingest_parquet(source, **ROLES) == 0
    usual.ingest(from_table(pa.concat_tables(parts()), **ROLES))
    assert streamed.ingest_parquet(write(tmp_path / "more", [table(range(90, 120))]), **ROLES) == 1
    usual.ingest(from_table(table(range(90, 120)), **ROLES, batch=1))
    assert told(streamed) == told(usual)
    for workspace in (streamed, usual):
        workspace.train()
        workspace.forget(record_ids=names([5, 95]))
        workspace.recover()
    assert streamed.state_digest() == usual.state_digest()
    nothing_left(streamed)


def test_a_dataset_a_file_and_the_folder_are_the_same(tmp_path: Path) -> None:
    from pyarrow import dataset

    source = write(tmp_path / "data", [table(range(40))])
    (source / "_metadata.parquet").write_bytes(b"none of ours")
    found = []
    for number, given_as in enumerate([source, str(source / "part-000.parquet"), dataset.dataset(source)]):
        workspace = create(tmp_path / str(number), hoarding(), executor=Here())
        workspace.ingest_parquet(given_as, **ROLES)
        found.append(told(workspace))
    assert found[0] == found[1] == found[2]


def test_columns_may_come_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = parts(60, 2)
    source = write(tmp_path / "data", [first, second.select(second.column_names[::-1])])
    workspace = create(tmp_path / "streamed", hoarding(), executor=Here())
    usual = create(tmp_path / "usual", hoarding())
    workspace.ingest_parquet(source, **ROLES)
    usual.ingest(from_table(pa.concat_tables([first, second]), **ROLES))
    assert told(workspace) == told(usual)


def test_regression_with_several_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = pa.table(
        {"x": rng.normal(size=50), "y": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=100)), 2)}
    )
    workspace = create(tmp_path / "streamed", hoarding(), task="regression", classes=None, executor=Here())
    usual = create(tmp_path / "usual", hoarding(), task="regression", classes=None)
    workspace.ingest_parquet(write(tmp_path / "data", [many]), target="y")
    usual.ingest(from_table(many, target="y"))
    assert told(workspace) == told(usual)


def test_the_command_takes_a_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts())
    create(tmp_path / "ws").close()
    arguments = ["ingest", str(tmp_path / "ws"), str(source), "--target", "label", "--subject", "person"]
    done = CliRunner().invoke(app, [*arguments, "--record-id", "id"])
    assert done.exit_code == 0, done.output
    assert "90 records" in done.output
    with closing(Workspace.open(tmp_path / "ws")) as workspace:
        assert workspace.status().records == 90


# --- refusals ----------------------------------------------------------------------------------------------------


def replaced(item: pa.Table, name: str, values: Any) -> pa.Table:
    return item.set_column(item.column_names.index(name), name, pa.array(values))


def bad_feature() -> list[pa.Table]:
    found = parts()
    values = found[2]["x1"].to_numpy().copy()
    values[17] = np.nan
    return [*found[:2], replaced(found[2], "x1", values)]


REFUSED: dict[str, tuple[Callable[[], list[pa.Table]], dict[str, Any], type[UnlearnError], str]] = {
    "a number that is none": (bad_feature, {}, InputError, "part-002.parquet, rows counted from its row 17: .*row 0;"),
    "an id twice in one file": (lambda: [table([1, 2, 1])], {}, InputError, "1 id.*more than once.*record-0001"),
    "an id twice across files": (lambda: [*parts(), table([7])], {}, InputError, "1 id.*more than once.*record-0007"),
    "an id that is there": (
        lambda: [table(range(200, 210)), table([1000])],
        {},
        InputError,
        "already in the workspace",
    ),
    "somebody forgotten": (lambda: [table(range(200, 210)), table([1003])], {}, TombstoneError, "forgotten before"),
    "a missing target": (
        lambda: [replaced(table([0, 1]), "label", [0, None])],
        {},
        InputError,
        "target column 'label' misses a value",
    ),
    "a missing id": (lambda: [replaced(table([0, 1]), "id", ["a", None])], {}, InputError, "misses a value"),
    "an empty id": (lambda: [replaced(table([0, 1]), "id", ["a", ""])], {}, InputError, "empty text"),
    "a missing feature": (lambda: [replaced(table([0, 1]), "x0", [0.5, None])], {}, InputError, "misses a value"),
    "a label never declared": (lambda: [replaced(table([0, 1]), "label", [0, 7])], {}, InputError, "not declared"),
    "no such column": (parts, {"target": "nothing"}, InputError, "no target column 'nothing'"),
    "the target a feature": (parts, {"features": ["x0", "label"]}, InputError, "among the features"),
    "a column more in one file": (
        lambda: [table([0]), table([1]).append_column("more", pa.array([1]))],
        {},
        InputError,
        "has other columns than",
    ),
    "another type in one file": (
        lambda: [table([0]), replaced(table([1]), "x0", ["text"])],
        {},
        InputError,
        "has other columns than .*'x0'",
    ),
    "other columns than the first batch": (
        lambda: [table([0, 1]).rename_columns(["id", "person", "a", "b", "c", "label"])],
        {},
        InputError,
        "first batch declared",
    ),
    "a feature of dates": (
        lambda: [replaced(table([0]), "x0", np.array(["2020-01-01"], dtype="datetime64[D]"))],
        {},
        InputError,
        "cannot be trained on",
    ),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace that knows a record, and forgot one."""
    made = create(tmp_path_factory.mktemp("before") / "ws", sgd(), executor=Here())
    made.ingest(from_table(table([1000, 1003]), **ROLES))
    made.forget(record_ids=names([1003]))
    yield made
    made.close()


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_refused_changes_nothing(
    case: str, before: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    make, options, kind, said = REFUSED[case]
    source = write(tmp_path / "data", make())
    held = logical(before.path)
    with pytest.raises(kind, match=said):
        before.ingest_parquet(source, **{**ROLES, **options})
    assert logical(before.path) == held
    nothing_left(before)


def test_repeated_ids_are_named_as_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    rows = [*range(20), 3, 9, 9, 1, 17, 2, 4, 8, 8]
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    with pytest.raises(InputError) as usual:
        workspace.ingest(from_table(table(rows), **ROLES))
    with pytest.raises(InputError) as streamed:
        workspace.ingest_parquet(write(tmp_path / "data", [table(rows)]), **ROLES)
    assert str(streamed.value) == str(usual.value)


def test_what_agreed_to_return_returns(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    workspace.ingest(from_table(table(range(6)), **ROLES))
    workspace.forget(record_ids=names([3]))
    source = write(tmp_path / "data", [table([3, 10])])
    workspace.ingest_parquet(source, **ROLES, reconsent=names([3]))
    assert _ids(workspace) == sorted(names([0, 1, 2, 3, 4, 5, 10]))


def _dataset(source: Any) -> Any:
    from pyarrow import dataset

    return dataset.dataset(source, partitioning="hive" if isinstance(source, Path) else None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nowhere", "neither a file nor a folder"),
        (lambda folder: write(folder / "empty", []), "no Parquet file"),
        (lambda folder: write(folder / "by" / "year=2020", parts()).parent, "named like column=value"),
        (lambda _: "ftp://host/data", "cannot be read"),
        (lambda folder: _dataset(write(folder / "data", parts())).filter(pc.field("x0") > 0), "has a filter"),
        (lambda folder: _dataset(write(folder / "by" / "year=2020", parts()).parent), "names of its folders"),
        (lambda _: _dataset(pa.table({"x": [1]})), "no dataset of Parquet files"),
    ],
)
def test_places_that_hold_nothing_to_read(make: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    with pytest.raises(InputError, match=said):
        workspace.ingest_parquet(make(tmp_path), **ROLES)
    nothing_left(workspace)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts())
    (source / "part-001.parquet").write_bytes(b"PAR1" + bytes(100))
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    with pytest.raises(InputError, match=r"part-001.parquet cannot be read as Parquet"):
        workspace.ingest_parquet(source, **ROLES)
    nothing_left(workspace)


def test_a_file_whose_pages_are_damaged(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts())
    path = source / "part-001.parquet"
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(3)
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    with pytest.raises(InputError, match=r"part-001.parquet cannot be read as Parquet"):
        workspace.ingest_parquet(source, **ROLES)
    nothing_left(workspace)


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts())

    class Changing(Here):
        def map(self, *arguments: Any, **options: Any) -> list[Any]:
            write(source, [*parts()[:2], table(range(60, 91))])
            return super().map(*arguments, **options)

    workspace = create(tmp_path / "ws", sgd(), executor=Changing())
    with pytest.raises(InputError, match="was changed while it was read"):
        workspace.ingest_parquet(source, **ROLES)
    nothing_left(workspace)
    assert workspace.status().batches == 0


# --- failures on the way -----------------------------------------------------------------------------------------


def test_a_worker_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shards import spread

    workspace = create(tmp_path / "ws", sgd(), executor=Here())

    def full(*_: Any) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(spread.slicefile, "merge", full)
    with pytest.raises(StorageError, match="refused a write"):
        workspace.ingest_parquet(write(tmp_path / "data", parts()), **ROLES)
    nothing_left(workspace)


def test_a_slice_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shards import spread

    def too_large(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(spread.slicefile, "merge", too_large)
    workspace = create(tmp_path / "ws", sgd(), executor=Here())
    with pytest.raises(InputError, match=r"slice 0 of shard 0 has \d+ records, which do not fit.*more shards"):
        workspace.ingest_parquet(write(tmp_path / "data", parts()), **ROLES)
    nothing_left(workspace)


def test_a_part_that_somebody_took_away(tmp_path: Path) -> None:
    class Losing(Here):
        calls = 0

        def map(self, *arguments: Any, **options: Any) -> list[Any]:
            self.calls += 1
            if self.calls == 2:
                for path in workspace.path.glob("shards/0001/staging/*"):
                    path.unlink()
            return super().map(*arguments, **options)

    workspace = create(tmp_path / "ws", sgd(), executor=Losing())
    with pytest.raises(DamageError, match="is missing"):
        workspace.ingest_parquet(write(tmp_path / "data", parts()), **ROLES)
    nothing_left(workspace)


class Deadly(LocalExecutor):
    """Kills all workers as the first answer of each round comes."""

    killed = 0

    def map(self, *arguments: Any, on_done: Any = None, **options: Any) -> list[Any]:
        rounds: list[int] = []

        def tell(number: int) -> None:
            if not rounds:
                for child in psutil.Process().children():
                    with suppress(psutil.ZombieProcess):  # some other test's, of which nobody has asked how it ended
                        if "shards.executors.worker" in child.cmdline():
                            child.kill()
                            self.killed += 1
            rounds.append(number)
            on_done(number)

        return super().map(*arguments, on_done=tell, **options)


def test_workers_that_die_are_replaced(
    expected: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PIECE_BYTES", 2000)
    source = write(tmp_path / "data", parts(240, 4), group=20)
    executor = Deadly(2)
    with closing(create(tmp_path / "ws", hoarding(), executor=executor)) as workspace:
        workspace.ingest_parquet(source, **ROLES)
        assert executor.killed >= 2
        assert told(workspace) == expected[0]
        nothing_left(workspace)


CRASH = """
import os, signal, sys
from pathlib import Path
from shards.executors.local import LocalExecutor
from shards.executors.work import CallWork
from shards.store_local import ShardFolder
from shards import parquet
from tests.unlearn.test_ingest_parquet import ROLES
from unlearn import Workspace
from unlearn.ledger import Ledger

parquet.PIECE_BYTES = 2000
kind, name, after = sys.argv[3], sys.argv[4], int(sys.argv[5])
holder = {"ledger": Ledger, "shard": ShardFolder, "work": CallWork}[kind]
real, seen = getattr(holder, name), []

def deadly(self, *args, **kwargs):
    seen.append(1)
    if len(seen) > after:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **kwargs)

workspace = Workspace.open(sys.argv[1], executor=LocalExecutor(2))
setattr(holder, name, deadly)
workspace.ingest_parquet(sys.argv[2], **ROLES)
print("survived")
"""

MOMENTS = {
    "before anything is staged": ("shard", "stage_bytes", 0),
    "while places are staged": ("shard", "stage_bytes", 4),
    "as the first piece is spread": ("work", "_told", 0),
    "as a later piece is spread": ("work", "_told", 3),
    "as a slice is joined": ("work", "_told", -2),
    "before a slice is published": ("shard", "publish_records", 0),
    "between slices published": ("shard", "publish_records", 2),
    "while staging is cleared": ("shard", "clear_staging", 1),
    "before the ledger takes it in": ("ledger", "add_batch", 0),
    "before the names are durable": ("shard", "sync_records", 1),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    made = create(tmp_path_factory.mktemp("expected") / "ws", hoarding())
    made.ingest(from_table(pa.concat_tables(parts(240, 4)), **ROLES))
    made.train()
    yield told(made), made.state_digest()
    made.close()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_repeated(moment: str, expected: tuple[Any, str], tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts(240, 4), group=20)
    create(tmp_path / "ws", hoarding()).close()
    kind, name, after = MOMENTS[moment]
    if after < 0:
        pieces = len(_pieces(source))
        after = pieces - after - 1
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "ws"), str(source), kind, name, str(after)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    with closing(Workspace.open(tmp_path / "ws")) as workspace:
        nothing_left(workspace)
        assert workspace.status().batches == 0
        everything = b"\n".join(raw(workspace.path).values())
        for needle in needles(range(240)):
            assert needle not in everything
        assert workspace.ingest_parquet(source, **ROLES) == 0
        assert told(workspace) == expected[0]
        workspace.train()
        assert workspace.state_digest() == expected[1]
        nothing_left(workspace)


def _pieces(source: Path) -> Sequence[parquet.Piece]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "PIECE_BYTES", 2000)
        return parquet.survey(parquet.parquet_files(source)).pieces


def needles(rows: Sequence[int]) -> list[bytes]:
    """What is found wherever a row's bytes are."""
    return [
        *(name.encode() for name in names(rows)),
        *(owner(row // 3).encode() for row in rows),
        *(value.tobytes() for value in canaries(rows).reshape(-1)),
    ]


def test_bytes_of_rows_are_in_record_files_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "data", parts(60))
    with closing(create(tmp_path / "ws", hoarding())) as workspace:
        workspace.ingest_parquet(source, **ROLES)
        found = raw(workspace.path)
    records = b"\n".join(data for name, data in found.items() if name.endswith(".arrow"))
    others = b"\n".join(data for name, data in found.items() if not name.endswith(".arrow"))
    order = b"".join(data.tokens.tobytes() for data in stored(Workspace.open(tmp_path / "ws")).values())
    for needle in needles(range(60)):
        assert needle in records
        assert needle not in others
    assert not any(order[at : at + 16] in others for at in range(0, len(order), 16))


def test_what_a_worker_is_told_names_nobody(tmp_path: Path) -> None:
    said: list[bytes] = []

    class Listening(Here):
        def map(self, function: Any, items: Any, folder: Any, **options: Any) -> list[Any]:
            answers = super().map(function, items, folder, **options)
            said.append(repr([items, answers]).encode())
            return answers

    workspace = create(tmp_path / "ws", hoarding(), executor=Listening())
    workspace.ingest_parquet(write(tmp_path / "data", parts(60)), **ROLES)
    keys = workspace._site.keys
    tokens = [data.tokens[row] for data in stored(workspace).values() for row in range(len(data))]
    salts = [data.salts[row] for data in stored(workspace).values() for row in range(len(data))]
    secret = [keys.placement, keys.pseudonyms, *(item.tobytes() for item in [*tokens, *salts])]
    for text in said:
        assert not any(needle in text for needle in needles(range(60)))
        assert not any(item.hex().encode() in text or item in text for item in secret)


# --- where workers and files are elsewhere -----------------------------------------------------------------------


def test_files_and_store_on_s3(s3: S3, tmp_path: Path, expected: tuple[Any, str]) -> None:
    import fsspec

    bucket = s3.bucket()
    files = fsspec.filesystem("s3")
    for path in write(tmp_path / "data", parts(240, 4), group=20).iterdir():
        files.put_file(str(path), f"{bucket}/given/{path.name}")
    with closing(create(tmp_path / "ws", hoarding(), store=f"s3://{bucket}/held")) as workspace:
        workspace.ingest_parquet(f"s3://{bucket}/given", **ROLES)
        assert told(workspace) == expected[0]
        nothing_left(workspace)
        workspace.train()
        assert workspace.state_digest() == expected[1]
        assert not any("/staging/" in key for key in s3.objects(bucket))
        with pytest.raises(InputError, match="holds no Parquet file"):
            workspace.ingest_parquet(f"s3://{bucket}/nothing", **ROLES)
    close_workers()


def test_a_call_that_fails_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a worker is no refusal of the data, and leaves nothing behind either."""
    from unlearn import streaming

    monkeypatch.setattr(streaming, "spread_piece", "shards.spread:join_slice")
    workspace = create(tmp_path / "ws", hoarding())
    with pytest.raises(CallError):
        workspace.ingest_parquet(write(tmp_path / "data", parts(30)), **ROLES)
    nothing_left(workspace)
