"""Drivers at work side by side: each trial goes to whichever is free (see `driver.py`)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.cases import ROOT
from tests.crash import tally, trace
from tests.crash.shim import Counted, Fault
from tests.crash.trace import Operation


class Driver:
    """One driver.

    Args:
        library: The shim.
        mistake: Name of the mistake to be made in it, see `mistakes.py`; empty: none.
        variables: Environment variables beside the usual ones.
    """

    def __init__(self, library: Path, mistake: str, variables: Mapping[str, str]) -> None:
        module = ["tests.crash.mistakes", mistake] if mistake else ["tests.crash.driver"]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", *module],
            cwd=ROOT,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
                **variables,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def ask(self, do: str, **question: Any) -> Any:
        """Have something done, and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.poll() is None, f"the driver has ended with {self._process.returncode}"
        self._process.stdin.write((json.dumps({"do": do, **question}, default=str) + "\n").encode())
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise RuntimeError(f"the driver ended with {self._process.wait()}; what it said is in the captured output")
        return json.loads(line)

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Usual:
    """The script without faults.

    Attributes:
        starts: Before each step: a copy of the workspace, and what was said until then.
        expected: What it leaves, as `aftermath.Expected` in JSON.
        operations: What each step, with the opening before it and the closing after it, does to files.
        looks: How often each looks at the clock.
        seconds: How long each takes.
    """

    starts: tuple[dict[str, Any], ...]
    expected: dict[str, Any]
    operations: tuple[tuple[Operation, ...], ...]
    looks: tuple[int, ...]
    seconds: tuple[float, ...]

    def places(self, counted: Counted) -> list[tuple[int, int, str]]:
        """Every operation of a class: its step, its number there, and what it does to which kind of file."""
        if counted is Counted.LOOKS:
            return [(step, at, f"{step} LOOK") for step, number in enumerate(self.looks) for at in range(1, number + 1)]
        return [
            (step, number, f"{step} {self._describe(done)}")
            for step, operations in enumerate(self.operations)
            for number, done in enumerate((o for o in operations if o.is_counted(counted)), start=1)
        ]

    def _describe(self, done: Operation) -> str:
        path = Path(done.target or done.path)
        names = [re.sub("[0-9a-f]{8,}|[0-9]{4}", "#", name) for name in (path.parent.name, path.suffix or path.name)]
        return " ".join([done.kind.name, *names])


def selected(places: Sequence[tuple[int, int, str]], number: int) -> list[tuple[int, int]]:
    """Some of the operations: of each kind the first, then others, spread evenly.

    Args:
        places: What `Usual.places` returned.
        number: How many, at most.

    Returns:
        Step and number there.
    """
    first = {what: at for at, (*_, what) in reversed(list(enumerate(places)))}
    others = [at for at in range(len(places)) if at not in set(first.values())]
    wanted = _spread(sorted(first.values()), number)
    wanted += _spread(others, number - len(wanted))
    return [places[at][:2] for at in sorted(wanted)]


def _spread(items: Sequence[int], number: int) -> list[int]:
    if number >= len(items):
        return list(items)
    return [items[at * len(items) // number] for at in range(number)]


@dataclass(frozen=True)
class Outcome:
    """What came of some faults.

    Attributes:
        tried: How many happened.
        failures: What was wrong after some of them.
        line: How many there were, in words.
    """

    tried: int
    failures: tuple[str, ...]
    line: str


class Lanes:
    """Some drivers.

    Args:
        drivers: The drivers.
        folder: Where their workspaces are.
    """

    def __init__(self, drivers: Sequence[Driver], folder: Path) -> None:
        self._drivers = drivers
        self._folder = folder
        self._numbers = count()
        self._usual: Usual | None = None

    def prepare(self) -> Usual:
        """Have the script done without faults, once."""
        found = self._drivers[0].ask("prepare", folder=self._folder)
        expected = {name: found[name] for name in ("rests", "shape")}
        operations = []
        for step, counts in enumerate(found["counts"]):
            done = _with_paths(trace.read(self._folder / "before" / f"{step}.trace"))
            for counted in set(Counted) - {Counted.LOOKS}:
                number = sum(item.is_counted(counted) for item in done)
                assert number == counts[counted.name], f"{counted} {number} in the trace, {counts} counted"
            operations.append(tuple(done))
        looks = tuple(counts[Counted.LOOKS.name] for counts in found["counts"])
        self._usual = Usual(tuple(found["starts"]), expected, tuple(operations), looks, tuple(found["seconds"]))
        return self._usual

    def path(self) -> Path:
        """A folder that does not exist yet."""
        return self._folder / f"{next(self._numbers)}"

    @property
    def usual(self) -> Usual:
        """What `prepare` found."""
        assert self._usual is not None
        return self._usual

    def each(self, questions: Sequence[dict[str, Any]], *, until: Callable[[Any], bool] = lambda _: False) -> list[Any]:
        """Ask the drivers questions, each whichever is free; answers in order.

        Args:
            questions: What to ask.
            until: Asked of each answer; once it says yes, no further question is begun.
        """
        waiting, answers = iter(list(enumerate(questions))), dict[int, Any]()
        done = False

        def work(driver: Driver) -> None:
            nonlocal done
            for number, question in waiting:
                answers[number] = driver.ask(**question)
                done = done or until(answers[number])
                if done:
                    return

        with ThreadPoolExecutor(len(self._drivers)) as pool:
            for future in [pool.submit(work, driver) for driver in self._drivers]:
                future.result()
        return [answers[number] for number in sorted(answers)]

    def faults(self, name: str, fault: Fault, places: Sequence[tuple[int, int]], *, stop: bool = False) -> Outcome:
        """Try a fault at some operations.

        Args:
            name: What to call it in the tally; empty: it does not count.
            fault: Its kind.
            places: Step and number there.
            stop: Whether to be content with the first failure.
        """
        questions = [
            {
                "do": "trial",
                "start": self.usual.starts[step],
                "path": self.path(),
                "expected": self.usual.expected,
                "fault": fault.name,
                "at": at,
            }
            for step, at in places
        ]
        answers = self.each(questions, until=lambda trial: stop and bool(trial["failure"]))
        trials = [trial for trial in answers if trial["hit"] is not None or trial["failure"]]
        failures = tuple(f"{t['what']}, {t['hit']}, {t['refused']}:\n{t['failure']}" for t in trials if t["failure"])
        return _outcome(name, len(trials), failures)

    def lines(self) -> list[int]:
        """How many lines of Python each step of the script executes."""
        return self.each([{"do": "lines", "start": start, "path": self.path()} for start in self.usual.starts])

    def interrupts(self, name: str, places: Sequence[tuple[int, int]], *, stop: bool = False) -> Outcome:
        """Press Ctrl-C at some lines of Python.

        Args:
            name: What to call it in the tally; empty: it does not count.
            places: Step, and number of the line there.
            stop: Whether to be content with the first failure.
        """
        questions = [
            {
                "do": "interrupt",
                "start": self.usual.starts[step],
                "path": self.path(),
                "expected": self.usual.expected,
                "at": at,
            }
            for step, at in places
        ]
        answers = self.each(questions, until=lambda answer: stop and bool(answer["failure"]))
        failures = tuple(f"{answer['what']}:\n{answer['failure']}" for answer in answers if answer["failure"])
        return _outcome(name, sum(answer["heard"] for answer in answers), failures)

    def record(self) -> Recording:
        """Trace one process that does the whole script."""
        start = self.usual.starts[0]
        (found,) = self.each([{"do": "record", "start": start, "path": self.path(), "faults": []}])
        wrong = [line for line in found["lines"] if line.startswith(("raised ", "unknown "))]
        assert wrong == [], wrong
        return Recording(start, Path(found["trace"]), tuple(trace.read(Path(found["trace"]))))

    def losses(
        self,
        name: str,
        traced: Recording,
        points: Sequence[int],
        *,
        mixed: int,
        seed: int = 0,
        stop: bool = False,
        again: int = 0,
    ) -> Outcome:
        """Check what a power loss could leave at moments of a trace.

        Args:
            name: What to call it in the tally; empty: it does not count.
            traced: The trace.
            points: The moments: after so many entries.
            mixed: How many random disks to draw at each moment.
            seed: Of those disks.
            stop: Whether to be content with the first failure.
            again: At how many moments the power fails a second time, after each disk; 0: it does not.
        """
        size = max(1, 24 // (mixed + 2))
        answers = self.each(
            [
                {
                    "do": "lose",
                    "start": traced.start,
                    "path": self.path(),
                    "expected": self.usual.expected,
                    "file": traced.file,
                    "points": points[at : at + size],
                    "mixed": mixed,
                    "seed": seed,
                    "stop": stop,
                    "again": again,
                }
                for at in range(0, len(points), size)
            ],
            until=lambda answer: stop and bool(answer["failures"]),
        )
        return _losses(name, answers)

    def losses_after(
        self, name: str, fault: Fault, places: Sequence[tuple[int, int]], *, mixed: int, stop: bool = False
    ) -> Outcome:
        """Let the power fail right after something was acknowledged, shortly after a fault.

        Args:
            name: What to call it in the tally; empty: it does not count.
            fault: The fault before.
            places: Where it happens: step and number there.
            mixed: How many random disks to draw each time.
            stop: Whether to be content with the first failure.
        """
        questions = [
            {
                "do": "lose after",
                "start": self.usual.starts[step],
                "path": self.path(),
                "expected": self.usual.expected,
                "fault": fault.name,
                "at": at,
                "mixed": mixed,
                "stop": stop,
            }
            for step, at in places
        ]
        return _losses(name, self.each(questions, until=lambda answer: stop and bool(answer["failures"])))

    def kills(self, name: str, moments: Sequence[tuple[int, float]]) -> tuple[str, list[str], Counter[str]]:
        """Kill processes from outside.

        Args:
            name: What to call it in the tally.
            moments: For each: a step, and how many seconds after it began; step -1 is the process's start.

        Returns:
            How many there were, in words; what was wrong after some; how many hit which step.
        """
        common = {"do": "kill", "start": self.usual.starts[0], "expected": self.usual.expected}
        found = self.each([{**common, "path": self.path(), "step": step, "after": after} for step, after in moments])
        failures = [f"killed during {item['during']!r}: {item['failure']}" for item in found if item["failure"]]
        killed = [item for item in found if item["code"] == -signal.SIGKILL]
        return tally.add(name, len(killed), len(failures)), failures, Counter(item["during"] for item in killed)

    def rivals(
        self, name: str, rivals: Sequence[Sequence[tuple[Fault, int]]], *, clock: bool = False, stop: bool = False
    ) -> Outcome:
        """Have processes do the whole script in one workspace at once.

        Args:
            name: What to call it in the tally; empty: it does not count.
            rivals: For each workspace, what happens to each of its processes.
            clock: Whether their clocks jump.
            stop: Whether to be content with the first failure.
        """
        questions = [
            {
                "do": "compete",
                "start": self.usual.starts[0],
                "path": self.path(),
                "expected": self.usual.expected,
                "seed": number,
                "faults": [(fault.name, at) for fault, at in group],
                "clock": clock,
            }
            for number, group in enumerate(rivals)
        ]
        found = self.each(questions, until=lambda answer: stop and bool(answer["failure"]))
        return _outcome(name, len(found), tuple(answer["failure"] for answer in found if answer["failure"]))

    def years(self) -> list[int]:
        """What years the clock says that jumps."""
        (found,) = self.each([{"do": "years"}])
        return list(found)


@dataclass(frozen=True)
class Recording:
    """A trace of the script, or of a part of it.

    Attributes:
        start: Where it began.
        file: Where it is written.
        entries: What it holds.
    """

    start: dict[str, Any]
    file: Path
    entries: tuple[Operation, ...]

    def moments(self, share: float = 1.0) -> list[int]:
        """Moments right after something was changed; a share of them, evenly spread."""
        every = [at for at, done in enumerate(self.entries, start=1) if done.kind.changes]
        return [every[at] for at in _spread(range(len(every)), int(len(every) * share))]

    def around(self, step: int) -> list[int]:
        """The moment right after a step was acknowledged, and those before it, latest first."""
        begun, acknowledged = (
            next(at for at, done in enumerate(self.entries, start=1) if done.path.split()[:2] == [word, str(step)])
            for word in ("begin", "ack")
        )
        return list(range(acknowledged, begun, -1))


def _with_paths(operations: Sequence[Operation]) -> list[Operation]:
    """Operations on handles under the path that the handle was opened with."""
    paths: dict[int, str] = {}
    found = []
    for done in operations:
        if done.path and done.handle >= 0:
            paths[done.handle] = done.path
        found.append(Operation(done.kind, done.flag, path=done.path or paths.get(done.handle, ""), target=done.target))
    return found


def _losses(name: str, answers: Sequence[Any]) -> Outcome:
    failures = tuple(failure for answer in answers for failure in answer["failures"])
    return _outcome(name, sum(sum(answer["kinds"].values()) for answer in answers), failures)


def _outcome(name: str, tried: int, failures: tuple[str, ...]) -> Outcome:
    line = tally.add(name, tried, len(failures)) if name else f"faults tried: {tried}, lost: {len(failures)}"
    return Outcome(tried, failures, line)


@contextmanager
def opened(
    library: Path,
    folder: Path,
    *,
    mistake: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    number: int = 2,
) -> Iterator[Lanes]:
    """Start drivers, and end them afterwards.

    Args:
        library: The shim.
        folder: Where their workspaces may be.
        mistake: Name of the mistake to be made in them; empty: none.
        variables: Environment variables beside the usual ones.
        number: How many.

    Yields:
        The drivers.
    """
    with ExitStack() as stack:
        drivers = [Driver(library, mistake, variables) for _ in range(number)]
        for driver in drivers:
            stack.callback(driver.close)
        yield Lanes(drivers, folder)
