"""What must hold after a fault: what was acknowledged is there, and the script ends where it always ends."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.digest import digest_arrays
from tests.crash import story
from tests.crash.story import STEPS
from unlearn import Workspace
from unlearn.errors import NotServingError
from unlearn.receipt.keys import public_key_from_pem
from unlearn.receipt.offline import verify_offline
from unlearn.request import Request


@dataclass(frozen=True)
class Rest:
    """A workspace at rest, as anybody can see it.

    Attributes:
        digest: Of the served state.
        predictions: Digest of what it predicts, or why it does not.
        batches: How many.
        records: How many.
        requests: State and stages of the receipts, by idempotency key.
    """

    digest: str
    predictions: str
    batches: int
    records: int
    requests: dict[str, list[str]]


@dataclass(frozen=True)
class Expected:
    """What the script leaves when nothing goes wrong.

    Attributes:
        rests: At rest before the first step, after the first, and so on.
        shape: Names of the files at the end, digests and random names aside, and how many there are of each.
    """

    rests: tuple[Rest, ...]
    shape: Counter[str]


@dataclass(frozen=True)
class Said:
    """What the process said until the fault.

    Attributes:
        created: Whether the workspace's creation was acknowledged.
        begun: How many steps were begun.
        acknowledged: How many of them were acknowledged; the same, or one less.
        requests: Id of each acknowledged request, by idempotency key.
    """

    created: bool
    begun: int
    acknowledged: int
    requests: dict[str, str]


def said(lines: Sequence[str]) -> Said:
    """Read what processes said (see `driver.perform`)."""
    created, begun, acknowledged, requests = False, 0, 0, dict[str, str]()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "opened":
            created = True
        elif word == "begin":
            begun = max(begun, int(rest) + 1)
        elif word == "ack":
            number, _, request = rest.partition(" ")
            acknowledged = max(acknowledged, int(number) + 1)
            if request:
                requests[STEPS[int(number)].key] = request
    return Said(created, begun, acknowledged, requests)


def look(workspace: Workspace) -> Rest:
    """Look at a workspace at rest."""
    status = workspace.status()
    try:
        features = np.array([item.values for item in story.FIRST])
        predictions = digest_arrays({"y": workspace.predict_proba(features)})
    except NotServingError:
        predictions = "none"
    requests = workspace.requests()
    keys = [str(request.idempotency_key) for request in requests]
    assert len(set(keys)) == len(keys), f"requests stand there more than once: {keys}"
    return Rest(
        digest=workspace.state_digest(),
        predictions=predictions,
        batches=status.batches,
        records=status.records,
        requests={str(request.idempotency_key): _progress(workspace, request) for request in requests},
    )


def _progress(workspace: Workspace, request: Request) -> list[str]:
    return [request.state.value, *(receipt.stage for receipt in workspace.receipts(request.id))]


def shape(path: Path) -> Counter[str]:
    """Names of all files but those that are only there to be locked; what is random or a digest is left out."""
    names = [str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and f.name not in {"lock", "busy"}]
    return Counter(re.sub(r"[0-9a-f]{16,}|[a-z]{64}", "#", name) for name in names)


def check_acknowledged(path: Path, told: Said, expected: Expected) -> None:
    """Look at the files as the fault left them, then open the workspace: everything acknowledged is there.

    Args:
        path: The workspace.
        told: What was said before the fault.
        expected: What the script leaves.
    """
    for step in STEPS[: told.acknowledged]:
        check_gone(path, step.forgets, f"after {step.name!r} was acknowledged, before anything opens the workspace")
    if not path.exists():
        assert not told.created, "the workspace is gone"
        return
    workspace = Workspace.open(path, executor=story.Light())
    found = look(workspace)
    done, after = expected.rests[told.acknowledged], expected.rests[told.begun]
    assert done.batches <= found.batches <= after.batches, f"{found.batches} batches, {done.batches} acknowledged"
    carried_out = {step.carries_out for step in STEPS[: told.acknowledged]}
    for key, request_id in told.requests.items():
        assert key in found.requests, f"the acknowledged request {key!r} is gone"
        request = workspace.status(request_id)
        assert request.idempotency_key == key
        if key in carried_out:
            assert request.forgotten_at is not None, f"the acknowledged request {key!r} is {request.state} again"
            assert "forgotten" in found.requests[key], f"the acknowledged request {key!r} has no receipt"
    assert set(found.requests) <= set(after.requests)
    if told.begun == told.acknowledged:
        check_same(found, done, "at rest")
    workspace.close()


def check_same(found: Rest, wanted: Rest, when: str) -> None:
    """Two workspaces at rest look alike."""
    others = [
        f"{name}: {value}, not {vars(wanted)[name]}"
        for name, value in vars(found).items()
        if value != vars(wanted)[name]
    ]
    assert not others, f"{when}, it is not as it should be: {'; '.join(others)}"


def check_end(path: Path, workspace: Workspace, expected: Expected) -> None:
    """After the whole script: the usual state, nothing left over, nothing forgotten left; closes the workspace.

    Args:
        path: The workspace's folder.
        workspace: It, open.
        expected: What the script leaves.
    """
    check_same(look(workspace), expected.rests[-1], "at the end")
    status = workspace.status()
    assert status.steps_missing == 0
    assert status.behind == ()
    assert status.overdue == ()
    for request in workspace.requests():
        assert request.state.is_terminal
        check_receipts(workspace, request)
    workspace.close()
    found = shape(path)
    assert found == expected.shape, f"too much: {found - expected.shape}; too little: {expected.shape - found}"
    check_gone(path, [needle for step in STEPS for needle in step.forgets], "at the end")
    everything = contents(path)
    for item in (*story.remaining(story.FIRST), *story.remaining(story.SECOND)):
        # What stays is found by the same search, which shows that the search can find.
        assert all(needle in everything for needle in item.needles), f"{item} is gone"


def check_receipts(workspace: Workspace, request: Request) -> None:
    """The receipts of a request hold, by themselves and together."""
    forgotten, recovered = workspace.receipts(request.id)
    key = public_key_from_pem(workspace.public_key.encode())
    verify_offline(forgotten.data, [key], request_id=request.id)
    verify_offline(recovered.data, [key], request_id=request.id, forgotten=forgotten.data)


def contents(path: Path) -> bytes:
    """All bytes of all files below a folder."""
    return b"\n".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def check_gone(path: Path, needles: Sequence[bytes], when: str) -> None:
    """No file of the folder holds one of the needles."""
    if not needles:
        return
    everything = contents(path)
    for needle in needles:
        if needle in everything:
            files = [str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and needle in f.read_bytes()]
            raise AssertionError(f"{when}, the forgotten {needle!r} is still in {', '.join(files)}")
