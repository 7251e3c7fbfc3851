"""Killed while an edit is made: the model before stays as it was, and the edit is made once, or waits, or was never.

Run as a script, this file is the driver that is killed: it loads torch once and forks a process for every folder it is
told, which edits in its own process and not in a worker, and kills itself between two things it does to files.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.unlearn.editable import Here, edited, fact, save_model, with_model
from tests.unlearn.helpers import ROOT, filled, raw
from tests.unlearn.test_crash import Moments
from unlearn import Workspace, editing, verify_edit
from unlearn.facts import EditState

KEY = "case 1"


def perform(home: Path, kill_at: int) -> None:
    """Edit, and die on the way."""
    editing.LocalExecutor = Here  # type: ignore[assignment,misc,attr-defined]
    moments = Moments(home, kill_at)
    workspace = Workspace.open(home / "run")
    edited(workspace, workspace.artefacts()[0].id, home / "new", idempotency_key=KEY)
    workspace.close()
    os.write(1, f"finished {moments.count}\n".encode())


def main() -> None:
    """Fork a process for every folder on standard input."""
    import torch
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast  # noqa: F401 (loaded once, before the forks)

    import unlearn.language.requested  # noqa: F401

    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        kill_at, _, path = line.strip().partition(" ")
        if (pid := os.fork()) == 0:
            perform(Path(path), int(kill_at))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


@contextmanager
def driving() -> Iterator[Callable[[Path, int], int | None]]:
    """Gives what runs the driver: the number of moments it passed, or None if it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(path: Path, kill_at: int = -1) -> int | None:
        stdin.write(f"{kill_at} {path}\n")
        found = None
        while True:
            word, _, rest = stdout.readline().strip().partition(" ")
            if word == "finished":
                found = int(rest)
            else:
                assert (word, int(rest)) == ("ended", 0 if found is not None else -signal.SIGKILL)
                return found

    try:
        yield run
    finally:
        stdin.close()
        process.wait()


def check(home: Path, before: dict[str, bytes]) -> str:
    """Open what a killed process left, make what waits, and look at all of it; says how far it had come."""
    with closing(Workspace.open(home / "run")) as workspace:
        requests = workspace.edits()
        there = {path.name for path in home.iterdir()} - {"lm", "run"}
        if not requests:
            assert there == set()
            assert list((workspace.path / "edits").glob("*")) == []
            edited(workspace, workspace.artefacts()[0].id, home / "new", idempotency_key=KEY)
            reached = "unheard of"
        elif requests[0].state is EditState.SUBMITTED:
            assert there == set(), "what nobody noted is removed when it is opened"
            assert fact().prompt.encode() not in b"".join(raw(workspace.path).values())
            workspace.process()
            reached = "waits"
        else:
            assert there == {"new"}
            reached = "made"
        (request,) = workspace.edits()
        assert request.state is EditState.RECEIPTED
        assert list((workspace.path / "edits").iterdir()) == []
        assert fact().prompt.encode() not in b"".join(raw(workspace.path).values())
        assert len(workspace.artefacts()) == 2
        assert raw(home / "lm") == before
        receipt, key = workspace.receipt(request.id), workspace.public_key
        verify_edit(receipt, key, workspace=workspace, model=home / "new", model_before=home / "lm")
        assert workspace._site.ledger.operation() == ""
        return reached


@pytest.mark.parametrize(
    "share", [pytest.param(0.2, marks=pytest.mark.slow), pytest.param(1.0, marks=pytest.mark.exhaustive)]
)
def test_killed_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr("unlearn.editing.LocalExecutor", Here)
    first = tmp_path / "first"
    filled(first / "run").close()
    model = save_model(first / "lm")
    with_model(first / "run", model)[0].close()
    before = raw(model)

    def copy(name: str) -> Path:
        # The artefact's place is that of the first, whose model is edited in all of them.
        return Path(shutil.copytree(first, tmp_path / name))

    with driving() as run:
        whole = run(copy("whole"), -1)
        assert whole is not None
        assert check(tmp_path / "whole", before) == "made"
        moments = range(whole)
        chosen = sorted(random.Random(0).sample(moments, max(int(share * whole), 10)))
        reached = set()
        for moment in chosen:
            home = copy(str(moment))
            assert run(home, moment) is None
            reached.add(check(home, before))
            shutil.rmtree(home)
    assert reached == {"unheard of", "waits", "made"}
    assert raw(model) == before


if __name__ == "__main__":
    main()
