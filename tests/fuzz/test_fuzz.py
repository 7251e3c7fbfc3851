"""Whatever bytes a reader is given, it reads them or says what is wrong with them (`targets`)."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, clean
from unlearn.errors import DamageError

pytestmark = pytest.mark.apart

ROOT = Path(__file__).parents[2]
SECONDS = 10
"""Of guided search, for each target."""


@pytest.fixture(scope="module", autouse=True)
def _scratch() -> Iterator[None]:
    yield
    clean()


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut out, repeated, or exchanged for such as parsers stumble over."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64))
        what = rng.randrange(6)
        if what == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[place : place + length]
        elif what == 2:
            data[place:place] = data[place : place + length]
        elif what == 3:
            data[place : place + length] = rng.randbytes(length)
        elif what == 4:
            data[place : place + length] = rng.choice(TOKENS)
        else:
            data = data[:place] if rng.random() < 0.1 else data
    return bytes(data)


TOKENS = (
    *(b"null", b"-1", b"1e999", b"NaN", b"9" * 400, b"0.5", b"true", b"[]", b"{}", b'""', b"[" * 400, b'{"a":' * 400),
    *(b"\\ud800", b"\xff\xfe", b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"../../x", b"\n", b",", b"\x80"),
)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_well_formed_is_read(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_well_formed_is_read_or_refused(name: str) -> None:
    seeds, rng = TARGETS[name].seeds(), random.Random(name)
    slowest, count, started = 0.0, 0, time.monotonic()
    while count < 3000 and time.monotonic() - started < 3:
        data = mutated(rng.choice(seeds), rng)
        before = time.monotonic()
        TARGETS[name](data)
        slowest = max(slowest, time.monotonic() - before)
        count += 1
    print(f"\n{name}: {count} inputs, the slowest took {slowest:.2f} s")
    assert slowest < 5


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
@settings(max_examples=60)
def test_anything_is_read_or_refused(name: str, data: bytes) -> None:
    TARGETS[name](data)


def withdrawn(**changes: list[Any]) -> bytes:
    """A log that ends with a withdrawal, of which some fields are others."""
    lines = TARGETS["log"].seeds()[0].split(b"\n")
    end = next(number for number, line in enumerate(lines) if b'"kind":"withdrawn"' in line)
    return b"\n".join((*lines[:end], json.dumps({**json.loads(lines[end]), **changes}).encode()))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log", withdrawn(counts=[])),
        ("log", withdrawn(counts=[0])),
        ("log", withdrawn(records=[])),
        ("log", withdrawn(shards=[0])),
    ],
)
def test_what_a_search_once_found_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(DamageError, match="cannot follow those before it"):
        TARGETS[name].read(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_what_a_guided_search_finds_is_read_or_refused(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--", f"-max_total_time={SECONDS}"]
    command.append(f"-artifact_prefix={tmp_path}/")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS + 240)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    assert tried, said[-6000:]
    print(f"\n{name}: {int(tried[1]):,} inputs in {SECONDS} s")
    assert int(tried[1]) > 50
