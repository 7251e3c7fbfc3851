"""A PostgreSQL server of the tests' own: made when first needed, gone at the end, with a password of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

USER = "keeper"
DEBIAN = Path("/usr/lib/postgresql")
START_SECONDS = 60


def binaries() -> Path:
    """The folder of the newest server installed here; it is not on the path where Debian puts it."""
    found = [path for path in DEBIAN.glob("*/bin") if (path / "postgres").is_file()]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    where = shutil.which("initdb")
    if where is None:
        raise FileNotFoundError(
            f"these tests need a PostgreSQL server, and there is no `initdb` on the path or below {DEBIAN}: "
            "install one (Debian: apt-get install postgresql; macOS: brew install postgresql)"
        )
    return Path(where).resolve().parent


def _account() -> dict[str, Any]:
    """As whom to run it: it refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass
class Server:
    """A server that runs.

    Attributes:
        folder: Its own, with everything it writes.
        port: On the loopback interface.
        password: Of its only user.
    """

    folder: Path
    port: int
    password: str
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Of its database, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        """Where tables, write-ahead log and the rest lie."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on",
            "max_connections": 200,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **_account(),
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the PostgreSQL server did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once, as if its machine had failed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=60)
            self._process = None

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own."""
        with psycopg.connect(self.url, password=self.password, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_schema(self) -> str:
        """A name that is free."""
        return f"unlearn_{secrets.token_hex(16)}"

    def files(self) -> Iterator[Path]:
        """Everything it has written."""
        return (path for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def running() -> Iterator[Server]:
    """A server with an empty database; its password stands in PGPASSWORD meanwhile."""
    account = _account()
    binaries()
    folder = Path(tempfile.mkdtemp(prefix="unlearn-postgresql-"))
    server = Server(folder, _free_port(), secrets.token_hex(16))
    kept = os.environ.get("PGPASSWORD")
    try:
        (folder / "password").write_text(server.password)
        for path in (folder, folder / "password"):
            if account:
                os.chown(path, account["user"], account["group"])
        subprocess.run(
            [
                *(binaries() / "initdb", "-D", server.data, "--username", USER, "--auth", "scram-sha-256"),
                *("--pwfile", folder / "password", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **account,
        )
        server.start()
        os.environ["PGPASSWORD"] = server.password
        yield server
    finally:
        server.stop()
        if kept is None:
            os.environ.pop("PGPASSWORD", None)
        else:
            os.environ["PGPASSWORD"] = kept
        shutil.rmtree(folder)
