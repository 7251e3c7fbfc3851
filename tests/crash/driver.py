"""The process to which the faults happen, or rather its parent: libraries load once, then every trial is a fork.

Started with the shim preloaded (see `lanes.py`). Reads one JSON object a line, does what it says, and answers with
one. What happens to a trial is said by the trial itself, through a pipe: `begin 3` before a step, `ack 3` after
it, `hit pwrite PATH` from the shim.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow  # noqa: F401 (libraries are loaded once, before the forks)
from sqlalchemy.exc import SQLAlchemyError

from shards.errors import UnlearnError
from tests.crash import aftermath, interrupt, simulator, story, trace
from tests.crash.aftermath import Expected, Rest, Said, said
from tests.crash.shim import Counted, Fault, Shim
from tests.crash.story import STEPS
from unlearn import Workspace
from unlearn.errors import LockedError
from unlearn.ledger import now

TRIES = 4
"""How often a step is tried when it is refused; a fault that happens once cannot refuse it twice in a row."""

PATIENCE_SECONDS = 120.0
"""How long processes that write to one workspace may take together; they take a few seconds."""

SHIM = Shim()


# --- a trial: what the forked process does -----------------------------------------------------------------------


def perform(
    path: Path, first: int, last: int, tries: int, patient: bool = False, workspace: Workspace | None = None
) -> Workspace | None:
    """Open or create a workspace and do steps of the script there, saying what is under way.

    Args:
        path: The workspace.
        first: The first step.
        last: The step before which to stop.
        tries: How often to try a step that is refused; 0: a refusal is an error.
        patient: Whether a locked workspace is no refusal.
        workspace: The workspace, if it is open already.

    Returns:
        The workspace, open; None if an operation was refused again and again.
    """

    def attempt(name: str, act: Callable[[], Any]) -> Any:
        refused = 0
        while True:
            try:
                return act()
            except LockedError:
                if not patient:
                    raise
            except UnlearnError as error:
                refused += 1
                SHIM.mark(f"refused {name}: {type(error).__name__}: {error}".replace("\n", " "))
                if not tries:
                    raise
                if refused == tries:
                    return None

    workspace = workspace or attempt("open", lambda: story.reopen(path))
    if workspace is None:
        return None
    SHIM.mark("opened")
    for number in range(first, last):
        SHIM.mark(f"begin {number}")
        done = attempt(STEPS[number].name, partial(STEPS[number].act, workspace))
        if done is None:
            workspace.close()
            return None
        SHIM.mark(f"ack {number} {done}".strip())
    return workspace


def forked(act: Callable[[], None], report: int) -> int:
    """Do something in a fork.

    Args:
        act: What to do.
        report: Handle to which an unexpected error is written.

    Returns:
        The process's id.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        gc.disable()
        act()
    except BaseException:  # noqa: BLE001 (whatever it is, the test is told)
        SHIM.ignore()
        os.write(report, ("raised " + json.dumps(traceback.format_exc()) + "\n").encode())
        os._exit(3)
    os._exit(0)


def ended(pids: Sequence[int], seconds: float) -> list[int]:
    """Wait for forked processes, and kill those that take longer: two in each other's way may stay there for ever.

    Args:
        pids: Their ids.
        seconds: How long to wait for all of them.

    Returns:
        Their exit codes; `-SIGKILL` for one that had to be killed.
    """
    deadline, codes = time.monotonic() + seconds, dict[int, int]()
    while len(codes) < len(pids):
        late = time.monotonic() > deadline
        for pid in set(pids) - set(codes):
            if late:
                os.kill(pid, signal.SIGKILL)
            found, status = os.waitpid(pid, 0 if late else os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


class Report:
    """What forked processes say: a file, so that nobody has to listen meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND)

    def holds(self, line: str) -> bool:
        """Whether a line was said already, or an error instead."""
        found = self._path.read_text().splitlines()
        return line in found or any(other.startswith("raised ") for other in found)

    def lines(self) -> list[str]:
        """Every line, once all processes have ended."""
        os.close(self.handle)
        found = self._path.read_text().splitlines()
        self._path.unlink()
        return found


# --- what the driver can do --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """Where a trial begins.

    Attributes:
        folder: What is copied: a folder with a workspace in it, or with nothing.
        lines: What was said until then.
    """

    folder: Path
    lines: tuple[str, ...] = ()

    @property
    def said(self) -> Said:
        """The same, understood."""
        return said(self.lines)


def prepare(folder: Path) -> dict[str, Any]:
    """Do the script without a fault; keep a copy of the workspace before each step, and a trace of the step."""
    path, counts, rests, seconds, lines = folder / "usual" / "workspace", [], [], [], list[list[str]]()
    path.parent.mkdir()
    for number in range(len(STEPS) + 1):
        copy = folder / "before" / str(number)
        shutil.copytree(path.parent, copy)
        output = os.open(copy.with_suffix(".trace"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        report = Report(copy.with_suffix(".report"))
        SHIM.watch(path.parent, Fault.NONE, 0, report.handle, output)
        began = time.perf_counter()
        workspace = perform(path, number, min(number + 1, len(STEPS)), 0)
        assert workspace is not None
        workspace.close()
        seconds.append(time.perf_counter() - began)
        counts.append({counted.name: SHIM.count(counted) for counted in Counted})
        SHIM.ignore()
        os.close(output)
        lines.append(report.lines())
        if number == 0:
            fresh = story.create(folder / "nothing")
            rests.append(aftermath.look(fresh))
            fresh.close()
        if number < len(STEPS):
            workspace = story.reopen(path)
            rests.append(aftermath.look(workspace))
            workspace.close()
    return {
        "seconds": seconds,
        "rests": [asdict(rest) for rest in rests],
        "shape": aftermath.shape(path),
        "counts": counts[:-1],
        "starts": [
            {
                "folder": str(folder / "before" / str(number)),
                "lines": [line for part in lines[:number] for line in part],
            }
            for number in range(len(STEPS))
        ],
    }


def record(start: Start, path: Path, faults: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Trace processes that go on with the script to its end, one after another; all but the last meet a fault."""
    file = path.with_suffix(".trace")
    shutil.copytree(start.folder, path)
    output = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
    lines = list(start.lines)
    for kind, at in (*faults, ("NONE", 0)):
        report, first = Report(path.with_suffix(".report")), _next(said(lines))

        def act(fault: Fault = Fault[kind], at: int = at, report: Report = report, first: int = first) -> None:
            SHIM.watch(path, fault, at, report.handle, output)
            workspace = perform(path / "workspace", first, len(STEPS), TRIES)
            if workspace is not None:
                workspace.close()

        os.waitpid(forked(act, report.handle), 0)
        lines += report.lines()
    os.close(output)
    return {"trace": str(file), "lines": lines[len(start.lines) :]}


def _next(told: Said) -> int:
    """The step to go on with: the one under way, or the next."""
    return told.acknowledged


def trial(start: Start, path: Path, expected: Expected, fault: Fault, at: int) -> dict[str, Any]:
    """Do a step with a fault, then the rest of the script without, and look at what came of it."""
    shutil.copytree(start.folder, path)
    report, step = Report(path.with_suffix(".report")), _next(start.said)
    # Who lives on goes on to the end; who does not, need not.
    lives_on = fault in {Fault.SHORT, Fault.IO_ERROR, Fault.FULL_ONCE, Fault.NO_CLOCK}
    last = len(STEPS) if lives_on else step + 1

    def act() -> None:
        SHIM.watch(path, fault, at, report.handle)
        workspace = perform(path / "workspace", step, last, 1 if fault is Fault.FULL_FOR_GOOD else TRIES)
        if workspace is not None:
            workspace.close()

    _, status = os.waitpid(forked(act, report.handle), 0)
    lines = report.lines()
    hit = next((line[4:].replace(str(path), "") for line in lines if line.startswith("hit ")), None)
    code = os.waitstatus_to_exitcode(status)
    outcome = aftermath_of(path, said((*start.lines, *lines)), expected, again=at % 4 == 0)
    refused = [line[8:] for line in lines if line.startswith("refused ")]
    wrong = trouble(lines) + [line for line in refused if ": StorageError: " not in line]
    if hit is not None and code != (-signal.SIGKILL if fault.kills else 0):
        wrong.append(f"the process ended with {code}")
    if lives_on and said(lines).acknowledged < len(STEPS):
        wrong.append("it did not come to its end, though the fault happened once")
    return {
        "what": f"{fault.name} at operation {at} of step {step} ({STEPS[step].name})",
        "hit": hit,
        "refused": refused,
        "failure": _joined(wrong, outcome),
    }


def lines_of(start: Start, path: Path) -> int:
    """How many lines of Python a step executes, with the opening before it and the closing after it."""
    step = _next(start.said)
    for _ in range(2):  # the second time, libraries have what they keep
        shutil.copytree(start.folder, path)
        with interrupt.lines(0) as counted:
            workspace = perform(path / "workspace", step, step + 1, 0)
            assert workspace is not None
            workspace.close()
        shutil.rmtree(path)
    return counted.count


def interrupted(start: Start, path: Path, expected: Expected, at: int) -> dict[str, Any]:
    """Press Ctrl-C at a line of a step, then go on in the same process, as in a notebook, to the end of the script.

    Who pressed it keeps the error, and with it every frame that it passed. What they go on with is the workspace they
    had, if they had one, or the same opened again.
    """
    shutil.copytree(start.folder, path)
    report, step = Report(path.with_suffix(".report")), _next(start.said)

    def act() -> None:
        SHIM.watch(path, Fault.NONE, 0, report.handle)
        workspace, kept = None, None
        try:
            with interrupt.lines(at) as counted:
                workspace = story.reopen(path / "workspace")
                perform(path / "workspace", step, step + 1, 0, workspace=workspace)
                workspace.close()
                workspace = None
        except KeyboardInterrupt as error:
            kept = error
        SHIM.mark(f"interrupted {kept is not None} {counted.where}")
        done = perform(path / "workspace", step, len(STEPS), 0, workspace=workspace if at % 2 else None)
        assert done is not None
        done.close()
        del kept

    code = ended([forked(act, report.handle)], PATIENCE_SECONDS)[0]
    lines = report.lines()
    wrong = trouble(lines) + ([f"the process ended with {code}"] if code else [])
    where = next((line for line in lines if line.startswith("interrupted ")), "")
    outcome = aftermath_of(path, said((*start.lines, *lines)), expected, again=at % 4 == 0)
    return {
        "what": f"Ctrl-C at line {at} of step {step} ({STEPS[step].name}): {where}",
        "heard": where.startswith("interrupted True"),
        "failure": _joined(wrong, outcome),
    }


def trouble(lines: Sequence[str]) -> list[str]:
    """What a process said that it never should: errors of no kind of the project's, calls the shim does not know."""
    raised = [json.loads(line[7:]) for line in lines if line.startswith("raised ")]
    return raised + [line for line in lines if line.startswith("unknown ")]


def _joined(said_wrong: Sequence[str], outcome: str | None) -> str | None:
    return "\n".join([*said_wrong, outcome or ""]).strip() or None


def aftermath_of(path: Path, told: Said, expected: Expected, *, again: bool) -> str | None:
    """Check a workspace after a fault, finish the script there, check it again, and delete it.

    Args:
        path: The folder it is in.
        told: What was said before.
        expected: What the script leaves.
        again: Whether to do the script from its start, rather than from the step that was under way.

    Returns:
        What is wrong, or None.
    """
    try:
        aftermath.check_acknowledged(path / "workspace", told, expected)
        workspace = perform(path / "workspace", 0 if again else _next(told), len(STEPS), 0)
        assert workspace is not None
        aftermath.check_end(path / "workspace", workspace, expected)
    except (AssertionError, UnlearnError, SQLAlchemyError, OSError, ValueError, KeyError) as error:
        return f"{told}\n" + "".join(traceback.format_exception(error))
    finally:
        shutil.rmtree(path)
    return None


@dataclass(frozen=True)
class Losses:
    """What came of some power losses: how many disks of each kind were looked at, and what was wrong."""

    kinds: Counter[str]
    failures: list[str]


def lose(
    start: Start,
    path: Path,
    expected: Expected,
    *,
    file: Path,
    points: Sequence[int],
    kept: bool = True,
    mixed: int,
    seed: int,
    stop: bool = False,
    again: int = 0,
) -> Losses:
    """Check the disks that a power loss could leave at some points of a trace.

    If `again` is not 0, the power fails a second time while the script goes on, at so many moments of each disk.
    """
    operations = trace.read(file)
    found = Losses(Counter(), [])
    disk = simulator.Disk(operations[0].path, simulator.scan(start.folder))
    for loss in simulator.losses(disk, operations, set(points), kept=kept, mixed=mixed, seed=seed):
        lines = (*start.lines, *loss.marks)
        simulator.put(loss.image, path)
        where = f"{loss.kind} after {loss.after} ({operations[loss.after - 1]}) of {file.name}"
        if not again:
            found.kinds[loss.kind] += 1
            wrong = aftermath_of(path, said(lines), expected, again=loss.after % 4 == 0)
            found.failures.extend([] if wrong is None else [f"{where}: {wrong}"])
        else:
            second = lose_again(Start(path, lines), path.with_suffix(".again"), expected, again, loss.after)
            found.kinds.update(second.kinds)
            found.failures.extend(f"{where}, then {wrong}" for wrong in second.failures)
            shutil.rmtree(path)
        if stop and found.failures:
            break
    return found


def lose_again(start: Start, path: Path, expected: Expected, number: int, seed: int) -> Losses:
    """Go on with the script after a power loss, and have the power fail a second time."""
    file = Path(record(start, path, [])["trace"])
    shutil.rmtree(path)
    # Soon after the first loss, where what it left is cleared away.
    moments = [at for at, done in enumerate(trace.read(file), start=1) if done.kind.changes][:120]
    points = Random(seed).sample(moments, min(number, len(moments)))
    found = lose(start, path, expected, file=file, points=points, kept=False, mixed=1, seed=seed)
    file.unlink()
    return found


def lose_after(
    start: Start, path: Path, expected: Expected, *, fault: Fault, at: int, mixed: int, stop: bool
) -> Losses:
    """Have a fault happen, go on, and have the power fail right after each of the next two acknowledgements.

    What was done before the fault may not be durable yet when whoever goes on relies on it.
    """
    recorded = record(start, path, [(fault.name, at)])
    shutil.rmtree(path)
    file, wrong = Path(recorded["trace"]), trouble(recorded["lines"])
    points = [n for n, done in enumerate(trace.read(file), start=1) if done.path.startswith("ack ")][:2]
    found = lose(start, path, expected, file=file, points=points, kept=False, mixed=mixed, seed=at, stop=stop)
    file.unlink()
    step = _next(start.said)
    where = f"{fault.name} at operation {at} of step {step} ({STEPS[step].name})"
    return Losses(found.kinds, [f"{where}, then {failure}" for failure in (*wrong, *found.failures)])


def compete(
    start: Start, path: Path, expected: Expected, *, seed: int, faults: Sequence[tuple[str, int]], clock: bool
) -> dict[str, Any]:
    """Have several processes do the whole script in one workspace at once; some meet a fault."""
    shutil.copytree(start.folder, path)
    story.create(path / "workspace").close()
    report = Report(path.with_suffix(".report"))

    def act(number: int, fault: Fault, at: int) -> Callable[[], None]:
        def acted() -> None:
            SHIM.watch(path, fault, at, report.handle)
            SHIM.clock(seed * 100 + number + 1 if clock else 0)
            workspace = perform(path / "workspace", 0, len(STEPS), 0, patient=True)
            assert workspace is not None
            workspace.close()

        return acted

    pids = [forked(act(n, Fault[kind], at), report.handle) for n, (kind, at) in enumerate(faults)]
    codes = ended(pids, PATIENCE_SECONDS)
    lines = report.lines()
    wrong = trouble(lines)
    # One that meets no fault comes to its end.
    wrong += [f"{f} ended with {code}" for code, f in zip(codes, faults, strict=True) if code and f[0] == "NONE"]
    wrong = [f"{faults}: {item}" for item in wrong]
    # Whichever was ahead: what it began may have been done.
    told = said([*lines, f"begin {len(STEPS) - 1}"])
    return {"failure": _joined(wrong, aftermath_of(path, told, expected, again=True))}


def killed(start: Start, path: Path, expected: Expected, *, step: int, after: float) -> dict[str, Any]:
    """Kill a process that does the script, from outside, some seconds after it began a step; -1: after its start."""
    shutil.copytree(start.folder, path)
    report = Report(path.with_suffix(".report"))

    def act() -> None:
        SHIM.watch(path, Fault.NONE, 0, report.handle)
        perform(path / "workspace", 0, len(STEPS), 0)

    pid = forked(act, report.handle)
    while step >= 0 and not report.holds(f"begin {step}"):
        time.sleep(0.0005)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    lines = report.lines()
    told = said(lines)
    between = "between steps" if told.created else "create"
    return {
        "code": os.waitstatus_to_exitcode(status),
        "during": STEPS[told.begun - 1].name if told.begun > told.acknowledged else between,
        "failure": _joined(trouble(lines), aftermath_of(path, told, expected, again=told.begun % 2 == 0)),
    }


def years() -> list[int]:
    """What years the clock of the ledger says when it jumps."""
    SHIM.clock(1)
    found = [now().year for _ in range(50)]
    SHIM.clock(0)
    return found


ANSWERS: dict[str, Callable[..., Any]] = {
    "prepare": lambda folder: prepare(Path(folder)),
    "record": record,
    "trial": lambda fault, **question: trial(**question, fault=Fault[fault]),
    "lines": lines_of,
    "interrupt": interrupted,
    "lose": lambda file, **question: vars(lose(**question, file=Path(file))),
    "lose after": lambda fault, **question: vars(lose_after(**question, fault=Fault[fault])),
    "compete": compete,
    "kill": killed,
    "years": years,
}
"""What can be asked, and what answers."""


def answer(do: str, **question: Any) -> Any:
    """Do what is asked."""
    if "start" in question:
        question["start"] = Start(Path(question["start"]["folder"]), tuple(question["start"]["lines"]))
    if "path" in question:
        question["path"] = Path(question["path"])
    if "expected" in question:
        rests = tuple(Rest(**rest) for rest in question["expected"]["rests"])
        question["expected"] = Expected(rests, Counter(question["expected"]["shape"]))
    return ANSWERS[do](**question)


def main() -> None:
    """Answer questions until there are no more."""
    faulthandler.enable()
    SHIM.lazy()
    out = os.dup(1)
    os.dup2(2, 1)  # whatever is printed, only answers are answers
    for line in iter(sys.stdin.readline, ""):
        gc.collect()
        gc.freeze()
        os.write(out, (json.dumps(answer(**json.loads(line))) + "\n").encode())


if __name__ == "__main__":
    main()
