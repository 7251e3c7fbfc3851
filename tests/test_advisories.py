"""Known weaknesses of packages: one that concerns us fails, and a silent service is not taken for good news."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "advisories.py"


@pytest.fixture(scope="module")
def advisories() -> ModuleType:
    spec = importlib.util.spec_from_file_location("advisories", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def audit(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"], "description": "x"}],
}
UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1.0)"}


def test_a_known_weakness_fails_and_is_named(advisories: ModuleType) -> None:
    lines, status = advisories.judge(audit(GOOD, BAD, UNKNOWN), {})
    assert status == 1
    assert lines == [
        "bad 2.0: PYSEC-1, fixed in 2.1; KNOWN WEAKNESS",
        "advisories: 2 packages looked up, 1 unknown to the service",
    ]
    assert advisories.judge(audit(GOOD), {}) == (["advisories: 1 packages looked up"], 0)


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_one_that_does_not_concern_us_is_shown_with_the_reason(advisories: ModuleType, name: str) -> None:
    lines, status = advisories.judge(audit(BAD), {name: "we never call it"})
    assert (lines[0], status) == ("bad 2.0: PYSEC-1, fixed in 2.1; ignored: we never call it", 0)
    lines, _ = advisories.judge(audit(GOOD), {name: "we never call it"})
    assert lines[0] == f"{name} is ignored and not found any more: take it out"


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", audit(UNKNOWN, UNKNOWN), audit()])
def test_a_service_that_tells_nothing_fails_nobody_and_clears_nobody(advisories: ModuleType, said: str) -> None:
    (line,), status = advisories.judge(said, {})
    assert status == 0
    assert line.startswith("advisories: NOT LOOKED AT: ")


def test_what_is_ignored_is_explained() -> None:
    import tomllib

    ignored = tomllib.loads(SCRIPT.parents[1].joinpath("pyproject.toml").read_text())["tool"]["advisories"]["ignore"]
    assert all(isinstance(why, str) and len(why.split()) > 3 for why in ignored.values())
