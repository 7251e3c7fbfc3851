"""Receipts are verified alone, against the workspace, and by training again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shards.executors import process
from shards.lock import exclusive
from tests.unlearn.drifting import SWITCH, Drifting
from tests.unlearn.helpers import ROOT, filled, mlp, names, sgd
from unlearn import Workspace, verify
from unlearn.errors import InputError, LockedError, VerificationError
from unlearn.request import RequestState


def forgotten(folder: Path, make: Callable[[], object] = sgd) -> tuple[Workspace, str, str]:
    """A workspace with two requests, both recovered; id and opening of the first."""
    workspace = filled(folder, make())  # type: ignore[arg-type]
    first = workspace.forget(record_ids=names([3, 17]))
    workspace.recover()
    workspace.forget(record_ids=names([5]))
    workspace.recover()
    assert first.opening is not None
    return workspace, first.id, first.opening


@pytest.mark.parametrize("make", [sgd, mlp], ids=["sklearn", "torch"])
def test_both_receipts_stand_up_to_every_step(tmp_path: Path, make: Callable[[], object]) -> None:
    workspace, request, opening = forgotten(tmp_path / "run", make)
    first, second = workspace.receipts(request)
    assert (first.stage, second.stage) == ("forgotten", "recovered")
    assert workspace.receipt(request).path == second.path
    for receipt, earlier in ((first, None), (second, first)):
        found = verify(
            receipt,
            workspace.public_key,
            workspace=workspace,
            replay=True,
            request_id=request,
            opening=opening,
            record_ids=names([3, 17]),
            forgotten=earlier,
        )
        numbers = [step.number for step in found.steps]
        assert numbers == [n for n in range(1, 18) if n != 10 or earlier]
        assert found.predicate.request.n_records == 2
    steps = len(workspace._site.ledger.steps())
    assert found.steps[-1].detail.startswith(f"{steps} steps of 3 shards trained again in fresh processes, equal byte")


def test_a_receipt_needs_nothing_but_itself_and_a_key(tmp_path: Path) -> None:
    """Elsewhere, in a process that knows neither workspace nor torch nor a database."""
    workspace, request, _ = forgotten(tmp_path / "run")
    (tmp_path / "key.pem").write_text(workspace.public_key)
    (tmp_path / "receipt.json").write_bytes(workspace.receipt(request).data)
    script = """
import sys
from pathlib import Path
from unlearn.receipt import public_key_from_pem, verify_offline
found = verify_offline(Path(sys.argv[1]).read_bytes(), [public_key_from_pem(Path(sys.argv[2]).read_bytes())])
print(found.predicate.stage, len(found.steps), sorted({"torch", "sqlalchemy", "sklearn", "pyarrow"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "receipt.json"), str(tmp_path / "key.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split(maxsplit=2)[:2] == ["recovered", "8"]


def test_a_key_is_given_in_pem_or_by_its_file(tmp_path: Path) -> None:
    with filled(tmp_path / "run") as workspace:
        receipt = workspace.receipt(workspace.forget(record_ids=names([3])).id)
        text, file = workspace.public_key, tmp_path / "key.pem"
    file.write_text(text)
    for key in (text, text.encode(), file, str(file), [file], [str(file)]):
        assert verify(receipt, key).predicate.stage == "forgotten"
    for key in (tmp_path / "none.pem", "none.pem", "", "a\x00", [tmp_path]):
        with pytest.raises(InputError, match="no PEM and no file that can be read"):
            verify(receipt, key)
    with pytest.raises(InputError, match=r"cannot be read \(embedded null"):
        verify("a\x00", text)
    with pytest.raises(InputError, match="this is no public key"):
        verify(receipt, text[:-30])


def test_a_workspace_is_closed_at_the_end_of_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    with filled(tmp_path / "run") as workspace:
        monkeypatch.setattr(workspace._site.ledger, "close", lambda: closed.append(True))
        assert workspace.path == tmp_path / "run"
    with pytest.raises(RuntimeError, match="as it came"), workspace:
        raise RuntimeError("as it came")
    assert closed == [True, True]


@pytest.mark.slow
def test_receipts_stay_true_as_the_workspace_goes_on(tmp_path: Path) -> None:
    workspace, request, _ = forgotten(tmp_path / "run")
    key = workspace.public_key
    workspace.forget(record_ids=names([9]))  # behind: some states are gone
    for receipt in workspace.receipts(request):
        verify(receipt, key, workspace=workspace, replay=True)
    workspace.rotate_key()
    assert workspace.public_key != key
    later = workspace.forget(record_ids=names([11]))
    # Whoever trusts the old key trusts what the new one signs, and only so.
    verify(workspace.receipt(later.id), key, workspace=workspace)
    with pytest.raises(VerificationError, match=r"step 2 \(the signature\)"):
        verify(workspace.receipts(request)[0], workspace.public_key)


def test_shards_to_train_again_can_be_chosen(tmp_path: Path) -> None:
    workspace, request, _ = forgotten(tmp_path / "run")
    receipt, key = workspace.receipt(request), workspace.public_key
    found = verify(receipt, key, workspace=workspace, replay=True, shards=[1])
    assert "of 1 shards trained again" in found.steps[-1].detail
    with pytest.raises(InputError, match="there is no shard 7: they are 0 to 2"):
        verify(receipt, key, workspace=workspace, replay=True, shards=[7])
    with pytest.raises(InputError, match="the workspace is needed"):
        verify(receipt, key, replay=True)


def test_verifying_changes_nothing_and_waits_for_nobody(tmp_path: Path) -> None:
    workspace, request, _ = forgotten(tmp_path / "run")
    receipt, key = workspace.receipt(request), workspace.public_key
    before = workspace.state_digest(), workspace._site.ledger.head()
    verify(receipt, key, workspace=workspace.path, replay=True)
    assert (workspace.state_digest(), workspace._site.ledger.head()) == before
    assert not list(workspace.path.glob("shards/*/staging/*"))
    with exclusive(workspace.path / "lock", 0), pytest.raises(LockedError):
        verify(receipt, key, workspace=workspace)


def test_another_environment_is_named_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, request, _ = forgotten(tmp_path / "run", Drifting)
    receipt, key = workspace.receipt(request), workspace.public_key
    pinned = process.pinned_variables

    def drift(amount: float) -> None:
        def variables(base: Mapping[str, str], *, avx512: bool) -> dict[str, str]:
            return {**pinned(base, avx512=avx512), SWITCH: str(amount)}

        monkeypatch.setattr(process, "pinned_variables", variables)

    drift(1e-6)
    found = verify(receipt, key, workspace=workspace, replay=True)
    assert "0 steps" in found.steps[-1].detail
    assert "built in another environment" in found.steps[-1].detail
    with pytest.raises(VerificationError, match=r"step 17 .* more than the tolerance of 1e-12"):
        verify(receipt, key, workspace=workspace, replay=True, tolerance=1e-12)
    process.close_workers()


def test_an_unfinished_operation_is_no_state_to_verify(tmp_path: Path) -> None:
    workspace, request, _ = forgotten(tmp_path / "run")
    workspace._site.ledger.begin_operation("train")
    with pytest.raises(Exception, match="was interrupted and is not finished") as caught:
        verify(workspace.receipt(request), workspace.public_key, workspace=workspace)
    assert not isinstance(caught.value, VerificationError)


def test_what_a_receipt_says_is_what_happened(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    before = {step.shard: step.key for step in workspace._site.ledger.served()[1]}
    request = workspace.forget(record_ids=names([3, 17]))
    said = json.loads(json.dumps(workspace.receipt(request.id).statement))["predicate"]
    assert said["request"]["n_records"] == 2
    assert {int(shard) for shard in said["withdrawal"]["shards"]} == set(request.shards)
    hit = {shard: key for shard, key in before.items() if shard in request.shards}
    destroyed = {shard: key for shard, _, key in said["withdrawal"]["destroyed"]}
    assert all(destroyed[shard] == key for shard, key in hit.items())
    assert said["withdrawal"]["records"]["before"]["count"] == 30
    assert said["withdrawal"]["records"]["after"]["count"] == 28
    workspace.recover()
    assert workspace.status(request.id).state is RequestState.RECEIPTED
    rebuilt = workspace.receipt(request.id).statement["predicate"]["recovery"]["rebuilt"]
    steps = workspace._site.ledger.steps()
    assert [[s, p, steps[s, p].key, steps[s, p].environment] for s, p, _, _ in rebuilt] == rebuilt
