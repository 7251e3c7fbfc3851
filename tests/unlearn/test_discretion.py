"""What the program says of itself, at any level of detail, names no person, shows no record and gives no key away."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import DBAPIError

import unlearn
from tests.unlearn import attacks
from tests.unlearn.helpers import ROOT, canaries, create, flip, labels, names, owner, raw, sgd
from unlearn import Workspace
from unlearn.errors import UnlearnError

ROWS = range(24)


def telling(path: Path) -> dict[str, bytes]:
    """What must not be said: ids, values of features, and every key, in each way Python would write them."""
    found: dict[str, bytes] = {}

    def note(what: str, *forms: bytes | str) -> None:
        found.update({f"{what} {n}": form.encode() if isinstance(form, str) else form for n, form in enumerate(forms)})

    for row in ROWS:
        note(f"id of {row}", names([row])[0], owner(row))
        values = canaries([row])[0]
        note(f"feature of {row}", values.tobytes(), repr(values.tobytes())[2:-1], *(repr(float(v)) for v in values))
        note(f"rounded feature of {row}", *(f"{v:.8f}" for v in values))
    for name, text in json.loads((path / "secrets.json").read_text()).items():
        note(name, text, bytes.fromhex(text), repr(bytes.fromhex(text))[2:-1])
    for file in (path / "keys").glob("*.pem"):
        if not file.name.endswith(".pub.pem"):
            note("private key", *(line for line in file.read_text().splitlines() if "PRIVATE" not in line))
    for file in (path / "inbox").glob("*.key"):
        note("key of an epoch", file.read_bytes(), file.read_bytes().hex(), repr(file.read_bytes())[2:-1])
    return found


def check(said: bytes, secrets: dict[str, bytes]) -> None:
    told = sorted(what for what, form in secrets.items() if form in said)
    assert not told, f"{told[0]} is told: …{said[max(said.index(secrets[told[0]]) - 300, 0) :][:700]!r}"


class _Kept(logging.Handler):
    """Keeps every record as text, arguments and traceback included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + repr(record.args))
        self.names.add(record.name)


@pytest.fixture
def kept() -> Iterator[_Kept]:
    """All that is logged anywhere, by anybody."""
    handler, root = _Kept(), logging.getLogger()
    before = {name: logging.getLogger(name).level for name in ("", "sqlalchemy.engine", "sqlalchemy.pool")}
    for name in before:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def lived(path: Path) -> dict[str, bytes]:
    """A whole life of a workspace; what must not have been said in it."""
    workspace = create(path)
    rows = list(ROWS)
    workspace.ingest(
        canaries(rows),
        labels(rows),
        record_ids=names(rows),
        subjects=[owner(row) if row % 2 else names([row])[0] for row in rows],
    )
    workspace.train()
    secrets = telling(path)
    workspace.forget(subjects=[owner(1)], record_ids=[names([2])[0]], idempotency_key="first")
    workspace.submit(record_ids=[names([4])[0]])
    workspace.submit(subjects=[owner(5)])
    secrets |= {f"later {what}": form for what, form in telling(path).items()}
    workspace.process()
    workspace.recover()
    workspace.predict(canaries(rows))
    request = workspace.forget(record_ids=[names([6])[0]])
    workspace.register("student", "distilled model", "elsewhere")
    workspace.rotate_key()
    workspace.recover()
    workspace.state_digest()
    unlearn.verify(workspace.receipt(request.id), workspace.public_key, workspace=path)
    for row in (1, 2):
        with pytest.raises(UnlearnError):
            workspace.ingest(canaries([row]), [0], record_ids=names([row]), subjects=[owner(row)])
    workspace.close()
    return secrets | {f"last {what}": form for what, form in telling(path).items()}


def test_no_log_record_tells(tmp_path: Path, kept: _Kept, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = lived(tmp_path / "workspace")
    assert any(name.startswith("sqlalchemy.engine") for name in kept.names), "nothing was listened to"
    assert len(kept.lines) > 500
    assert len(secrets) > 200
    printed = capfd.readouterr()
    check("\n".join([*kept.lines, printed.out, printed.err]).encode("utf-8", "surrogateescape"), secrets)


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    """The workspace itself holds all of it, so the search is one that can succeed."""
    workspace = create(tmp_path / "workspace")
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS), subjects=[owner(row) for row in ROWS])
    workspace.close()
    held = b"".join(raw(workspace.path).values())
    secrets = telling(workspace.path)
    assert {what.split()[0] for what, form in secrets.items() if form in held} >= {
        "id",
        "feature",
        "placement",
        "private",
    }
    with pytest.raises(AssertionError, match="is told"):
        check(held, secrets)


# The database's own words


def causes(error: BaseException) -> str:
    """Everything a traceback would show."""
    return "".join(traceback.format_exception(error))


def test_a_refusal_of_the_database_shows_no_parameters(tmp_path: Path) -> None:
    workspace = create(tmp_path / "workspace")
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS))
    with closing(sqlite3.connect(workspace.path / "ledger.db")) as c:
        c.execute("CREATE TRIGGER refuse BEFORE INSERT ON request BEGIN SELECT RAISE(ABORT, 'no'); END")
    reason, key = "reason-that-names-somebody", "key-that-names-somebody"
    with pytest.raises((DBAPIError, UnlearnError)) as refused:
        workspace.forget(record_ids=names([3]), reason=reason, idempotency_key=key)
    assert reason not in causes(refused.value)
    assert key not in causes(refused.value)
    check(causes(refused.value).encode(), telling(workspace.path))
    with closing(sqlite3.connect(workspace.path / "ledger.db")) as c:
        c.execute("DROP TRIGGER refuse")
        c.execute("DROP TABLE request")
    with pytest.raises((DBAPIError, UnlearnError)) as missing:
        workspace.forget(record_ids=names([3]), reason=reason, idempotency_key=key)
    assert reason not in causes(missing.value)
    assert key not in causes(missing.value)


def test_what_a_damaged_database_holds_is_not_repeated(tmp_path: Path) -> None:
    workspace = create(tmp_path / "workspace")
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS))
    request = workspace.forget(record_ids=names([3]), reason="reason-that-names-somebody")
    workspace.close()
    attacks.execute(workspace.path, "UPDATE request SET reason = CAST(CAST(reason AS BLOB) || x'ff' AS TEXT)")
    with closing(Workspace.open(workspace.path)) as opened, pytest.raises(UnlearnError) as refused:
        opened.status(request.id)
    assert "names-somebody" not in causes(refused.value)


# The command line


def command(*arguments: str | Path) -> tuple[int, bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "1", "SQLALCHEMY_WARN_20": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "unlearn", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_no_command_tells_what_it_was_not_told(tmp_path: Path) -> None:
    """Also not in the traceback of an ordinary failure: a damaged file, a busy workspace, a wrong table."""
    path = tmp_path / "workspace"
    workspace = create(path, sgd())
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS), subjects=[owner(row) for row in ROWS])
    workspace.train()
    request = workspace.forget(subjects=[owner(1)])
    key = tmp_path / "key.pem"
    key.write_text(workspace.public_key)
    receipt = workspace.receipt(request.id).path
    workspace.close()
    secrets = telling(path)
    np.save(tmp_path / "wrong.npy", np.zeros((3, 9)))
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    sound = (
        ("status", path),
        ("status", path, request.id, "--json"),
        ("verify", receipt, "--public-key", key, "--workspace", path),
        ("--debug", "ingest", path, tmp_path / "wrong.csv"),
        ("--debug", "predict", path, tmp_path / "wrong.csv"),
        ("--debug", "status", path, "req-nobody"),
    )
    for arguments in sound:
        _, said = command(*arguments)
        assert said
        check(said, secrets)
    for _, _, file in attacks.record_files(path):
        flip(file, file.stat().st_size // 2)
    for arguments in (
        ("--debug", "recover", path),
        ("--debug", "verify", receipt, "--public-key", key, "--workspace", path),
    ):
        status, said = command(*arguments)
        assert status == 1, said
        assert b"Traceback" in said
        check(said, secrets)
