"""What the crash tests share: the shim, built once, and the processes to which faults happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.lanes import Lanes, Usual, opened


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes files fail."""
    return shim.build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def lanes(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """Drivers, started."""
    with opened(library, tmp_path_factory.mktemp("lanes")) as started:
        yield started


@pytest.fixture(scope="session")
def usual(lanes: Lanes) -> Usual:
    """What the script does and leaves when nothing goes wrong."""
    return lanes.prepare()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest's capture."""

    def told(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end=" ")

    return told
