"""Which failures of a store are worth another try, and how long to wait before it.

A decision alone: nothing is called and nobody sleeps here. Libraries of stores raise errors of many kinds; they are
told by what they carry (an error number, an HTTP status) and by the names of their classes, so that none of those
libraries has to be loaded to decide.
"""

from __future__ import annotations

import errno

ATTEMPTS = 7
"""Calls at most. Of a store that fails one call in ten, one in ten million comes to its end."""

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0

_NUMBERS = {
    errno.EIO,
    errno.EBUSY,
    errno.EAGAIN,
    errno.EINTR,
    errno.EPIPE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    getattr(errno, "EREMOTEIO", errno.EIO),
}

_STATUSES = {408, 425, 429, 500, 502, 503, 504, 509}

_CLASSES = {
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.ConnectionError",
    "aiohttp.client_exceptions.ClientConnectionError",
    "aiohttp.client_exceptions.ClientPayloadError",
    "aiohttp.http_exceptions.HttpProcessingError",
    "gcsfs.retry.ChecksumError",
    "google.auth.exceptions.TransportError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "requests.exceptions.ChunkedEncodingError",
}


def retry_after(error: BaseException, attempt: int, luck: float) -> float | None:
    """Decide what to do after a call failed.

    Args:
        error: What it raised.
        attempt: How many calls were made, from 1.
        luck: A random number in [0, 1), so that many workers do not come back at the same moment.

    Returns:
        Seconds to wait before the next try, or None: give up.
    """
    if attempt >= ATTEMPTS or not is_transient(error):
        return None
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (attempt - 1)) * (0.5 + luck / 2)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later.

    Args:
        error: What it raised.

    Returns:
        Whether. What is refused, absent or misused stays so.
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    status = _status(error) or _status(error.__cause__)
    if status is not None:
        return status in _STATUSES
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in _CLASSES for kind in type(error).__mro__)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status an error tells of, if it does: as botocore, aiohttp and gcsfs each say it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    for name in ("status", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    return None
