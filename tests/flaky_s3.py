"""An S3 some of whose calls fail, before or after they took effect. Installed by name, so that workers use it too."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

from s3fs import S3FileSystem

SHARE = "UNLEARN_TEST_FLAKY_SHARE"
LOG = "UNLEARN_TEST_FLAKY_LOG"

_rng = random.Random(0)


def stumble(what: str) -> None:
    """Fail now and then."""
    failed = _rng.random() < float(os.environ.get(SHARE, "0"))
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{os.getpid()} {what} {'failed' if failed else 'done'}\n")
    if failed:
        raise OSError(errno.EBUSY, "Please reduce your request rate.")


class FlakyS3(S3FileSystem):
    """s3fs, on a bad day."""

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        early = _rng.random() < 0.5
        if early:
            stumble(method)
        result = await super()._call_s3(method, *args, **kwargs)
        if not early:
            stumble(method)
        return result

    async def _lsdir(self, *args: Any, **kwargs: Any) -> Any:
        stumble("list")
        return await super()._lsdir(*args, **kwargs)


def install(folder: Path) -> None:
    """Make a folder that, on the path of an interpreter, puts this in the place of s3fs there."""
    info = folder / "flaky_s3-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky-s3\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fsspec.specs]\ns3 = tests.flaky_s3:FlakyS3\n")
