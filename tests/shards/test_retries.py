"""What is tried again is decided without a store: from what an error carries, whichever library raised it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from shards.retries import ATTEMPTS, FIRST_SECONDS, LONGEST_SECONDS, is_transient, retry_after


def answered(status: int, code: str = "Any") -> Exception:
    from botocore.exceptions import ClientError

    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def translated(status: int, code: str) -> BaseException:
    """As s3fs raises it."""
    from s3fs.errors import translate_boto_error

    found: BaseException = translate_boto_error(answered(status, code))
    return found


def endpoint() -> Exception:
    from botocore.exceptions import EndpointConnectionError

    return EndpointConnectionError(endpoint_url="http://nowhere")


def missing_credentials() -> Exception:
    from botocore.exceptions import NoCredentialsError

    return NoCredentialsError()


def disconnected() -> Exception:
    from aiohttp import ServerDisconnectedError

    return ServerDisconnectedError()


def coded(code: int) -> Exception:
    """As gcsfs raises it."""
    error = Exception("from Google")
    error.code = code  # type: ignore[attr-defined]
    return error


TRANSIENT = [
    TimeoutError(),
    ConnectionResetError(),
    OSError(errno.EIO, "input/output error"),
    OSError(errno.EBUSY, "slow down"),
    translated(503, "SlowDown"),
    translated(500, "InternalError"),
    translated(503, "NobodyKnowsThis"),
    translated(400, "RequestTimeout"),
    answered(502),
    endpoint(),
    disconnected(),
    coded(429),
    coded(503),
]

FINAL = [
    FileNotFoundError(),
    PermissionError(),
    OSError(errno.ENOSPC, "no space left"),
    translated(403, "AccessDenied"),
    translated(404, "NoSuchKey"),
    translated(400, "NobodyKnowsThis"),  # s3fs calls it EIO
    translated(501, "NotImplemented"),
    missing_credentials(),
    coded(403),
    ValueError(),
    KeyError("a mistake of ours"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_passes_is_tried_again(error: BaseException) -> None:
    assert is_transient(error)
    assert retry_after(error, 1, 0.0) is not None


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_stays_is_not(error: BaseException) -> None:
    assert not is_transient(error)
    assert retry_after(error, 1, 0.0) is None


def test_the_waits_grow_and_end() -> None:
    waits = [retry_after(TimeoutError(), attempt, 0.5) for attempt in range(1, ATTEMPTS + 1)]
    assert waits[-1] is None
    known = [wait for wait in waits if wait is not None]
    assert len(known) == ATTEMPTS - 1
    assert known == sorted(known)
    assert sum(known) < 10, "a user waits for the one clear error for seconds, not minutes"


@pytest.mark.parametrize("luck", [0.0, 0.3, 0.999])
def test_luck_spreads_the_waits_and_no_more(luck: float) -> None:
    wait = retry_after(TimeoutError(), 1, luck)
    assert wait is not None
    assert FIRST_SECONDS / 2 <= wait < FIRST_SECONDS
    late = retry_after(TimeoutError(), ATTEMPTS - 1, luck)
    assert late is not None
    assert late <= LONGEST_SECONDS
