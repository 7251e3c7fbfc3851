"""A workspace whose ledger is in PostgreSQL: the same life, the same state; one clear error for all that may fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unlearn.helpers import ROOT, canaries, create, labels, names, owner, served
from tests.unlearn.ledger import server as servers
from tests.unlearn.ledger.server import Server
from unlearn import Workspace, verify
from unlearn.errors import ConfigurationError, DamageError, StorageError, TombstoneError, UnlearnError
from unlearn.ledger import Database, Ledger
from unlearn.ledger.migrations import MIGRATIONS
from unlearn.request import RequestState

pytestmark = pytest.mark.postgresql

PROBE = canaries(range(10_000, 10_010))


def ingest(workspace: Workspace, rows: range) -> None:
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), subjects=[owner(row // 2) for row in rows])


_SUBMIT = """
import sys
from tests.unlearn.helpers import owner
from unlearn import Workspace
workspace = Workspace.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in map(int, sys.argv[2:]):
    workspace.submit(subjects=[owner(number)], idempotency_key=f"case {number}")
"""


def submit_from_processes(path: Path, groups: list[list[int]]) -> None:
    """Each group of subjects from a process of its own, all at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SUBMIT, str(path), *map(str, group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for group in groups
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
        assert process.returncode == 0


def live(workspace: Workspace) -> list[tuple[str, bytes | str]]:
    """Ingest, train, forget, recover, and requests from several processes; what is served after each."""
    seen = []

    def look() -> None:
        seen.append((workspace.state_digest(), served(workspace, PROBE)))

    ingest(workspace, range(30))
    workspace.train()
    look()
    workspace.register("student", "distilled model", "s3://somewhere")
    workspace.forget(subjects=[owner(3)], idempotency_key="first")
    look()
    workspace.recover()
    look()
    # Two of them ask for the same subjects, under the same keys.
    submit_from_processes(workspace.path, [[0, 4, 5], [1, 5, 4], [7]])
    assert len(workspace.process()) == 5
    look()
    ingest(workspace, range(30, 40))
    workspace.train()
    workspace.recover()
    look()
    return seen


def test_a_whole_life(tmp_path: Path, server: Server) -> None:
    here = create(tmp_path / "here")
    expected = live(here)
    there = create(tmp_path / "there", ledger=server.url)
    assert live(there) == expected
    assert not (there.path / "ledger.db").exists()
    assert server.password not in (there.path / "workspace.json").read_text()

    there.close()
    again = Workspace.open(there.path)
    assert (again.state_digest(), served(again, PROBE)) == expected[-1]
    assert [item.state for item in again.requests()] == [RequestState.RECEIPTED] * 6
    for item in again.requests():
        issued = again.receipts(item.id)
        assert [receipt.stage for receipt in issued] == ["forgotten", "recovered"]
        for receipt in issued:
            verify(receipt.path, public_key=again.public_key, workspace=again.path)
    with pytest.raises(TombstoneError, match="forgotten before"):
        again.ingest(canaries([8]), labels([8]), record_ids=names([8]))
    again.close()
    here.close()


def test_two_workspaces_share_a_database(tmp_path: Path, server: Server) -> None:
    one, two = (create(tmp_path / name, ledger=server.url) for name in ("one", "two"))
    ingest(one, range(10))
    one.train()
    assert (one.status().records, two.status().records) == (10, 0)
    two.submit(subjects=["x"])
    assert (len(one.requests()), len(two.requests())) == (0, 1)
    for workspace in (one, two):
        workspace.close()


# What may fail


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    said = str(error.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://keeper:hunter2@{host}/postgres", "holds a password.*leave it out and set PGPASSWORD"),
        ("postgresql://keeper@{host}/postgres?password=hunter2", "holds a password"),
        ("mysql://keeper@{host}/postgres", "in SQLite, inside the workspace, or in PostgreSQL, not in 'mysql'"),
        ("sqlite:///somewhere.db", "not in 'sqlite'"),
        ("{host}", "cannot be read: give postgresql://user@host:port/database"),
        ("", "cannot be read"),
    ],
)
def test_urls_that_are_refused(tmp_path: Path, server: Server, url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        create(tmp_path / "ws", ledger=url.format(host=f"127.0.0.1:{server.port}"))
    assert "hunter2" not in one_line(error)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://keeper@127.0.0.1:1/postgres", "refused: .*Connection refused"),
        ("postgresql://keeper@no-such-host.invalid/postgres", "refused: .*no-such-host.invalid"),
        ("postgresql://keeper@127.0.0.1:{port}/nothing", 'refused: .*database "nothing" does not exist'),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", "refused: .*password authentication failed"),
    ],
)
def test_servers_that_cannot_be_reached(tmp_path: Path, server: Server, url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as error:
        create(tmp_path / "ws", ledger=url.format(port=server.port))
    assert "Nothing of this step was recorded" in one_line(error)
    assert server.password not in str(error.value)
    assert not (tmp_path / "ws").exists()
    assert not list(tmp_path.iterdir())


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r'needs psycopg: pip install "sisa-unlearn\[postgresql\]"'):
        Database.postgresql("postgresql://keeper@127.0.0.1/postgres", "schema")


@pytest.mark.parametrize("schema", ["", "Upper", 'a"; DROP SCHEMA public', "x" * 64, "1st"])
def test_names_of_schemas(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name of a schema"):
        Database.postgresql("postgresql://keeper@127.0.0.1/postgres", schema)


def test_a_schema_made_by_somebody_else_will_do(server: Server) -> None:
    """Whoever may not make schemas is given one."""
    schema = server.new_schema()
    user = f"u{schema[-8:]}"
    server.execute(f"CREATE USER {user} PASSWORD '{server.password}'")
    server.execute(f'CREATE SCHEMA "{schema}" AUTHORIZATION {user}')
    url = server.url.replace(servers.USER, user, 1)
    with closing(Ledger.create(Database.postgresql(url, schema), "0" * 32, "1" * 64)) as ledger:
        assert ledger.head().size == 1 + len(MIGRATIONS)
    with pytest.raises(StorageError, match=r"permission denied for database.*ask for the right") as error:
        Ledger.create(Database.postgresql(url, server.new_schema()), "0" * 32, "1" * 64)
    one_line(error)


def test_a_lost_schema_is_said_to_be_lost(tmp_path: Path, server: Server) -> None:
    workspace = create(tmp_path / "ws", ledger=server.url)
    server.execute(f'DROP SCHEMA "{workspace.declaration.schema}" CASCADE')
    with pytest.raises(DamageError, match="does not exist") as error:
        workspace.submit(subjects=["x"])
    one_line(error)
    with pytest.raises(DamageError, match="lacks the tables") as error:
        Workspace.open(workspace.path)
    assert "restore it from a copy" in one_line(error)


# The server goes


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that this test may stop."""
    with servers.running() as found:
        yield found


CALLS: dict[str, Callable[[Workspace], Any]] = {
    "ingest": lambda workspace: ingest(workspace, range(100, 105)),
    "train": lambda workspace: workspace.train(),
    "submit": lambda workspace: workspace.submit(subjects=[owner(2)]),
    "forget": lambda workspace: workspace.forget(subjects=[owner(3)]),
    "recover": lambda workspace: workspace.recover(),
    "process": lambda workspace: workspace.process(),
    "status": lambda workspace: workspace.status(),
    "predict": lambda workspace: workspace.predict(PROBE),
    "state_digest": lambda workspace: workspace.state_digest(),
}


def test_a_server_that_is_gone_and_comes_back(tmp_path: Path, own: Server) -> None:
    """Every call says so in one line, promises nothing, and works again afterwards: nothing has to be reopened."""
    workspace = create(tmp_path / "ws", ledger=own.url)
    ingest(workspace, range(20))
    workspace.train()
    before = (workspace.state_digest(), served(workspace, PROBE), workspace._site.ledger.head())
    own.stop()
    for name, call in CALLS.items():
        with pytest.raises(StorageError, match="refused") as error:
            call(workspace)
        assert one_line(error), name
    with pytest.raises(StorageError, match="refused"):
        Workspace.open(workspace.path)
    own.start()
    assert (workspace.state_digest(), served(workspace, PROBE), workspace._site.ledger.head()) == before
    for call in CALLS.values():
        call(workspace)
    workspace.close()


def test_a_server_that_fails_between_any_two_statements(tmp_path: Path, own: Server) -> None:
    """Stopped at once in the middle of forgetting: after it is back, the request is done or was never there."""
    from tests.unlearn.ledger.where import engine_of, hooked

    workspace = create(tmp_path / "ws", ledger=own.url)
    ingest(workspace, range(40))
    workspace.train()
    ledger = workspace._site.ledger
    steps = 0
    with hooked(ledger, "before_cursor_execute", lambda *_: None):
        assert engine_of(ledger)
    for subject, moment in enumerate((1, 5, 12, 30, 45, 60)):
        seen = 0

        def fail(*_: Any, moment: int = moment) -> None:
            nonlocal seen
            seen += 1
            if seen == moment:
                own.stop()

        key = f"case {subject}"
        with hooked(ledger, "before_cursor_execute", fail), pytest.raises(StorageError) as error:
            workspace.forget(subjects=[owner(subject)], idempotency_key=key)
        assert one_line(error)
        own.start()
        steps += seen >= moment
        again = workspace.forget(subjects=[owner(subject)], idempotency_key=key)
        with pytest.raises(UnlearnError):
            workspace.forget(subjects=[owner(subject)])
        workspace.recover()
        (found,) = [item for item in workspace.requests() if item.idempotency_key == key]
        assert (found.id, found.state) == (again.id, RequestState.RECEIPTED)
    assert steps == 6
    kinds = [entry.event.kind for entry in ledger.entries()]
    assert kinds.count("submitted") == kinds.count("forgotten") == 6
    workspace.close()


def test_a_machine_without_a_server_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """These tests fail then, and say why: they are never skipped."""
    monkeypatch.setattr(servers, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install postgresql"), servers.running():
        pass


def test_acknowledged_requests_survive_the_server(tmp_path: Path, own: Server) -> None:
    """Killed as by a power cut right after the answer."""
    workspace = create(tmp_path / "ws", ledger=own.url)
    accepted = []
    for number in range(5):
        accepted.append(workspace.submit(subjects=[owner(number)]).id)
        own.stop()
        own.start()
    assert [item.id for item in workspace.requests()] == accepted
    assert json.loads((workspace.path / "workspace.json").read_text())["ledger"] == own.url
    workspace.close()
