"""Every mistake in `doubles.py`, made on purpose, turns the test that is named beside it red.

A test that cannot fail proves nothing, so each named test is run in a process of its own in which one module is
imported with the mistake in it. It must fail in its body, by an assertion or by the project's own error that
the control expects, and the modules must really have been changed, in the processes that count. Without the
variable the same tests pass, `sitecustomize` on the path or not.

To add a mistake: one `Control` in `doubles.py`, naming the fastest test that notices it; if there is none, write
one. If a control says that a piece of source is not there any more, the source has moved on: make the same
mistake in the new words.

To see one by hand:

    PYTHONPATH=tests/negative/site UNLEARN_NEGATIVE_CONTROL=NAME UNLEARN_NEGATIVE_CONTROL_MARKS=marks \\
        python -m pytest NODE_ID
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cases import ROOT
from tests.negative.doubles import CONTROLS, MARKS, VARIABLE, Control

SITE = ROOT / "tests" / "negative" / "site"

SOME = CONTROLS[::12]
"""Those that are tried by default; the others take minutes, and count as slow."""

OTHERS = tuple(control for control in CONTROLS if control not in SOME)
GROUPS = {"none of some": SOME, "none of others": OTHERS}
"""For the runs without a mistake: no control has such a name."""

AT_ONCE = 2
"""Runs at the same time; each mostly waits for its imports."""


@dataclass(frozen=True)
class Outcome:
    """How one run of pytest ended.

    Attributes:
        status: Its exit status.
        failures: Message of each test that failed in its body.
        errors: Message of each error outside of a body: collection, fixtures, teardown.
        passed: How many tests passed.
        marks: `"driver module"` or `"worker module"` of each module that was changed.
        said: Everything it printed.
    """

    status: int
    failures: tuple[str, ...]
    errors: tuple[str, ...]
    passed: int
    marks: frozenset[str]
    said: str


def noticing(controls: Sequence[Control]) -> tuple[str, ...]:
    """The tests that notice some mistakes, each once."""
    return tuple(dict.fromkeys(control.test for control in controls))


def run(folder: Path, tests: tuple[str, ...], variables: Mapping[str, str]) -> Outcome:
    """Run tests in a process of its own that has `sitecustomize` on its path."""
    folder.mkdir()
    report, marks = folder / "report.xml", folder / "marks"
    path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--basetemp={folder / 'tmp'}", f"--junitxml={report}", "-o", "junit_family=xunit1"],
        env={
            **{name: value for name, value in os.environ.items() if name != VARIABLE},
            "PYTHONPATH": path,
            MARKS: str(marks),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
            **variables,
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failures = tuple(item.get("message", "") for case in cases for item in case.findall("failure"))
    errors = tuple(item.get("message", "") for case in cases for item in case.findall("error"))
    return Outcome(
        status=done.returncode,
        failures=failures,
        errors=errors,
        passed=sum(
            1 for case in cases if len(case) == 0 or {item.tag for item in case} <= {"system-out", "system-err"}
        ),
        marks=frozenset(marks.read_text().split("\n")[:-1]) if marks.exists() else frozenset(),
        said=done.stdout,
    )


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """The runs of all controls that were selected, and of their tests without a mistake; started together."""
    folder = tmp_path_factory.mktemp("controls")
    selected = {item.name for item in request.session.items if isinstance(item, pytest.Function)}
    pool = ThreadPoolExecutor(AT_ONCE)
    started = {}
    for name, group in GROUPS.items():
        if f"{test_without_a_mistake_the_same_tests_pass.__name__}[{name}]" in selected:
            started[name] = pool.submit(run, folder / name, noticing(group), {})
    for control in CONTROLS:
        if f"{test_the_named_test_notices.__name__}[{control}]" in selected:
            started[control.name] = pool.submit(run, folder / control.name, (control.test,), {VARIABLE: control.name})
    yield started
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "control", [*SOME, *(pytest.param(control, marks=pytest.mark.slow) for control in OTHERS)], ids=str
)
def test_the_named_test_notices(control: Control, outcomes: Mapping[str, Future[Outcome]]) -> None:
    for edit in control.edits:
        spec = find_spec(edit.module)
        assert spec is not None
        assert spec.origin is not None
        found = Path(spec.origin).read_text().count(edit.old)
        assert found == 1, (
            f"{edit.module} holds {found} times instead of once, make the mistake in other words: {edit.old}"
        )
    outcome = outcomes[control.name].result()
    assert outcome.status == 1, outcome.said
    assert outcome.errors == (), outcome.said
    assert len(outcome.failures) == 1, outcome.said
    assert re.search(control.red, outcome.failures[0], re.DOTALL), outcome.said
    marks = {mark for mark in outcome.marks if mark.startswith("worker ") or not control.in_worker}
    assert {mark.split()[1] for mark in marks} == {edit.module for edit in control.edits}, outcome.said


def test_names_are_unique() -> None:
    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)


def test_each_control_names_one_test() -> None:
    """A name without the parameters in brackets names several, and says less than it seems to."""
    named = noticing(CONTROLS)
    command = [sys.executable, "-m", "pytest", *named, "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    assert set(filter(lambda line: "::" in line, done.stdout.splitlines())) == set(named)


@pytest.mark.parametrize("group", ["none of some", pytest.param("none of others", marks=pytest.mark.slow)])
def test_without_a_mistake_the_same_tests_pass(group: str, outcomes: Mapping[str, Future[Outcome]]) -> None:
    """What turns them red is the mistake, and not that `sitecustomize` is on the path."""
    outcome = outcomes[group].result()
    assert outcome.status == 0, outcome.said
    assert outcome.passed == len(noticing(GROUPS[group]))
    assert outcome.marks == frozenset()


def test_without_a_mistake_nothing_is_installed() -> None:
    code = (
        "import json, sys; print(json.dumps([[getattr(f, '__name__', type(f).__name__) for f in sys.meta_path], "
        "sorted(sys.modules), sys.path]))"
    )

    def ask(path: Path) -> list[list[str]]:
        variables = {**os.environ, "PYTHONPATH": str(path)}
        variables.pop(VARIABLE, None)
        done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True)
        finders, modules, paths = json.loads(done.stdout)
        return [finders, modules, [item for item in paths if item != str(path)]]

    plain, beside = ask(ROOT / "tests"), ask(SITE)
    assert "_negative_doubles" not in beside[1]
    # The module itself is read, and what it imports; an environment may have one of its own.
    ours = {"sitecustomize", "__future__"}
    assert plain[0] == beside[0]
    assert set(plain[1]) - ours == set(beside[1]) - ours
    assert plain[2] == beside[2]
