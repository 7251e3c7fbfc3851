"""The shim itself: it sees what Python and SQLite do to files, and does what it is told at the right operation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import ROOT
from tests.crash import shim, trace
from tests.crash.shim import Fault
from tests.crash.trace import Kind

PROGRAM = """
import json, os, sqlite3, sys
from pathlib import Path
from tests.crash.shim import Counted, Fault, Shim

folder, fault, at = Path(sys.argv[1]), Fault[sys.argv[2]], int(sys.argv[3])
output = os.open(folder.with_suffix(".trace"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
report = os.open(folder.with_suffix(".report"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
shim = Shim()
shim.watch(folder, fault, at, report, output)
failed = []


def attempt(what):
    try:
        what()
    except (OSError, sqlite3.OperationalError) as error:
        failed.append(getattr(error, "errno", None) or str(error))


{body}
shim.mark("end")
print(json.dumps([failed, shim.count(Counted.ANY), shim.count(Counted.WRITES), shim.count(Counted.ALLOCATES)]))
"""


def run(
    library: Path, folder: Path, body: str, fault: Fault = Fault.NONE, at: int = 0
) -> tuple[int, list[object], list[trace.Operation], list[str]]:
    """Run a piece of code in a process that the shim watches; exit status, answer, trace, report."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM.replace("{body}", body), str(folder), fault.name, str(at)],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    answer = json.loads(done.stdout) if done.stdout else []
    lines = folder.with_suffix(".report").read_text().splitlines()
    return done.returncode, answer, trace.read(folder.with_suffix(".trace")), lines


FILES = """
(folder / "d").mkdir()
path = folder / "d" / "a"
with path.open("wb") as file:
    file.write(b"one")
    file.flush()
    os.pwrite(file.fileno(), b"two", 1)
    os.writev(file.fileno(), [b"th", b"ree"])
    os.ftruncate(file.fileno(), 5)
    os.fsync(file.fileno())
    other = os.dup(file.fileno())
os.fdatasync(other)
os.close(other)
path.replace(folder / "b")
os.link(folder / "b", folder / "c")
handle = os.open(folder, os.O_RDONLY)
os.fsync(handle)
os.unlink("b", dir_fd=handle)
os.close(handle)
(folder / "d").rmdir()
(folder / "c").read_bytes()
"""


def test_it_sees_what_python_does(library: Path, tmp_path: Path) -> None:
    code, answer, found, lines = run(library, tmp_path / "w", FILES)
    assert code == 0
    assert [item.kind for item in found if item.kind not in {Kind.CLOSE, Kind.START}] == [
        Kind.MKDIR, Kind.OPEN, Kind.WRITE, Kind.WRITE, Kind.WRITE, Kind.RESIZE, Kind.SYNC, Kind.DUPLICATE, Kind.SYNC,
        Kind.RENAME, Kind.LINK, Kind.OPEN, Kind.SYNC, Kind.UNLINK, Kind.RMDIR, Kind.OPEN, Kind.MARK,
    ]  # fmt: skip
    writes = [(item.offset, item.data) for item in found if item.kind is Kind.WRITE]
    assert writes == [(0, b"one"), (1, b"two"), (3, b"three")]
    assert answer == [[], 13, 3, 7]
    assert lines == ["end"]


def test_it_sees_what_sqlite_does(library: Path, tmp_path: Path) -> None:
    body = """
database = sqlite3.connect(folder / "x.db", isolation_level=None)
database.execute("pragma journal_mode=wal")
database.execute("create table t (a)")
database.execute("insert into t values ('needle')")
"""
    _, _, found, lines = run(library, tmp_path / "w", body)
    logged = b"".join(item.data for item in found if item.kind is Kind.WRITE)
    assert b"needle" in logged
    names = {Path(item.path).name for item in found if item.kind is Kind.OPEN}
    assert {"x.db", "x.db-wal"} <= names
    assert not any(name.endswith("-shm") for name in names)
    assert lines == ["end"]


def test_what_it_cannot_follow_it_reports(library: Path, tmp_path: Path) -> None:
    body = """
import mmap
os.symlink("nowhere", folder / "link")
with (folder / "a").open("w+b") as file:
    file.write(b"data")
    file.flush()
    os.posix_fallocate(file.fileno(), 0, 100)
    mmap.mmap(file.fileno(), 4)
"""
    _, _, found, lines = run(library, tmp_path / "w", body)
    unknown = [line.split()[1].removesuffix("64") for line in lines if line.startswith("unknown")]
    assert unknown == ["symlink", "posix_fallocate", "mmap"]
    assert sum(item.kind is Kind.UNKNOWN for item in found) == 3


WRITES = """
handle = os.open(folder / "a", os.O_WRONLY | os.O_CREAT)
attempt(lambda: os.write(handle, b"1234"))
attempt(lambda: os.fsync(handle))
attempt(lambda: os.write(handle, b"5678"))
attempt(lambda: os.unlink(folder / "a"))
"""


@pytest.mark.parametrize(
    ("fault", "at", "code", "failed", "left"),
    [
        (Fault.NONE, 0, 0, [], None),
        (Fault.KILL, 1, -9, None, None),
        (Fault.KILL, 2, -9, None, b""),
        (Fault.KILL, 4, -9, None, b"1234"),
        (Fault.KILL, 5, -9, None, b"12345678"),
        (Fault.TORN, 1, -9, None, b"12"),
        (Fault.TORN, 2, -9, None, b"123456"),
        (Fault.SHORT, 1, 0, [], None),
        (Fault.IO_ERROR, 2, 0, [5], None),
        (Fault.IO_ERROR, 3, 0, [5], None),
        (Fault.IO_ERROR, 5, 0, [5], b"12345678"),
        (Fault.FULL_ONCE, 2, 0, [28], None),
        (Fault.FULL_FOR_GOOD, 2, 0, [28, 28], None),
    ],
)
def test_faults_happen_where_they_should(
    fault: Fault, at: int, code: int, failed: list[int] | None, left: bytes | None, library: Path, tmp_path: Path
) -> None:
    status, answer, found, lines = run(library, tmp_path / "w", WRITES, fault, at)
    assert status == code
    assert (answer[0] if answer else None) == failed
    path = tmp_path / "w" / "a"
    assert (path.read_bytes() if path.exists() else None) == left
    assert [line.startswith("hit ") for line in lines] == [True] * (fault is not Fault.NONE) + [False] * (code == 0)
    syncs = [item.kind for item in found if item.kind in {Kind.SYNC, Kind.FAILED_SYNC}]
    assert (Kind.FAILED_SYNC in syncs) is ((fault, at) == (Fault.IO_ERROR, 3))


@pytest.mark.parametrize("fault", [Fault.IO_ERROR, Fault.FULL_ONCE])
def test_sqlite_meets_the_fault_too(fault: Fault, library: Path, tmp_path: Path) -> None:
    body = """
database = sqlite3.connect(folder / "x.db", isolation_level=None)
database.execute("pragma journal_mode=wal")
attempt(lambda: database.execute("create table t (a)"))
attempt(lambda: database.execute("create table t (a)"))
"""
    _, answer, _, _ = run(library, tmp_path / "all", body)
    assert answer[0] == ["table t already exists"]
    last = answer[{Fault.IO_ERROR: 1, Fault.FULL_ONCE: 3}[fault]]
    assert isinstance(last, int)
    _, answer, _, lines = run(library, tmp_path / "w", body, fault, last)
    assert lines[0].startswith("hit ")
    assert answer[0] == [{Fault.IO_ERROR: "disk I/O error", Fault.FULL_ONCE: "database or disk is full"}[fault]]


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install gcc"):
        shim.build(tmp_path)
