"""What the tests that need a PostgreSQL server share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unlearn.ledger.server import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all of them. Without one they fail: they are chosen by their marker, never skipped."""
    with running() as found:
        yield found
