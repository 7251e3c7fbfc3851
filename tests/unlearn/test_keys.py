"""A workspace whose signing key is gone forgets all the same, says what it could not do, and makes up for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unlearn.helpers import canaries, filled, names
from unlearn import Workspace, verify
from unlearn.errors import UnsignedError
from unlearn.request import RequestState


def test_without_a_key(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    key = workspace.public_key
    shutil.move(workspace.path / "keys", tmp_path / "keys")
    with pytest.raises(UnsignedError, match=r"is done, but 1 receipts could not be signed: .*Restore the key"):
        workspace.forget(record_ids=names([3]))
    (request,) = workspace.requests()
    assert request.state is RequestState.FORGOTTEN
    assert workspace.receipts(request.id) == []
    workspace.submit(record_ids=names([4]))
    again = Workspace.open(tmp_path / "run")
    again.predict(canaries([50]))
    with pytest.raises(UnsignedError):  # the model is repaired, and what was submitted is served
        again.recover()
    assert [item.state for item in again.requests()] == [RequestState.RECOVERED, RequestState.RECOVERED]
    assert again.status().behind == ()

    shutil.move(tmp_path / "keys", workspace.path / "keys")
    last = Workspace.open(tmp_path / "run")
    assert [item.state for item in last.requests()] == [RequestState.RECEIPTED, RequestState.RECEIPTED]
    for item in last.requests():
        for receipt in last.receipts(item.id):
            verify(receipt, key, workspace=last)


def test_a_key_open_to_others_signs_nothing(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    (private,) = (path for path in (workspace.path / "keys").iterdir() if not path.name.endswith(".pub.pem"))
    assert private.stat().st_mode & 0o777 == 0o600
    private.chmod(0o640)
    with pytest.raises(UnsignedError, match="is open to others"):
        workspace.forget(record_ids=names([3]))
