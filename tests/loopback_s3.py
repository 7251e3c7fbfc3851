"""An S3 of our own on this machine's loopback: moto's server, and looks at what it holds."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True)
class S3:
    """A running server."""

    url: str

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process, and the workers it starts from now on, use it."""
        from shards.executors.local import close_workers

        for name, value in {**VARIABLES, "AWS_ENDPOINT_URL": self.url}.items():
            patch.setenv(name, value)
        forget_connections()
        close_workers()

    def bucket(self, **options: Any) -> str:
        """A new bucket's name."""
        name = f"test-{secrets.token_hex(6)}"
        self.files().call_s3("create_bucket", Bucket=name, **options)
        return name

    def files(self) -> Any:
        """The server's file system, without any of our code in between."""
        import s3fs

        return s3fs.S3FileSystem(
            key="nobody", secret="nothing", endpoint_url=self.url, use_listings_cache=False, skip_instance_cache=True
        )

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object of a bucket, by key."""
        files = self.files()
        return {path.partition("/")[2]: files.cat_file(path) for path in files.find(bucket)}


def forget_connections() -> None:
    """Connect anew from now on, as the environment says then."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server while the block runs."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
