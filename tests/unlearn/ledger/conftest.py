"""The ledger's tests run against both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unlearn.ledger.where import Where


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Where]:
    """A place for databases of one kind."""
    server = request.getfixturevalue("server") if request.param == "postgresql" else None
    place = Where(tmp_path, server)
    yield place
    place.close()
