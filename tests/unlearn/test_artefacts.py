"""What was derived from a model or its records is tainted by exactly the requests that touch what it depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unlearn.helpers import canaries, filled, labels, latest_first, names, shard_of
from unlearn import verify
from unlearn.errors import InputError, UnknownIdError


def test_a_student_of_the_model_is_tainted_by_what_the_model_had_seen(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    student = workspace.register("student", "distilled model", "s3://students/1")
    rows = range(30, 36)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train()
    later = workspace.forget(record_ids=names([33]))  # came after the student was taught
    assert workspace.receipt(later.id).statement["predicate"]["artefacts"] == []
    earlier = workspace.forget(record_ids=names([3]))
    named = workspace.receipt(earlier.id).statement["predicate"]["artefacts"]
    assert named == [{"name": "student", "kind": "distilled model", "location": "s3://students/1"}]
    (found,) = workspace.artefacts()
    assert found.id == student.id
    assert found.tainted_by == (earlier.id,)


def test_a_fallen_back_shard_taints_less(tmp_path: Path) -> None:
    """Registered while a shard serves an early slice, an artefact owes nothing to the later ones."""
    workspace = filled(tmp_path / "run")
    shards = {row: shard_of(workspace, name) for row, name in zip(range(30), names(range(30)), strict=True)}
    late = [row for row in latest_first(workspace, range(30)) if shards[row] == (0, 1)]
    workspace.forget(record_ids=names(late[:1]))
    export = workspace.register("export", "exported model", "there")
    workspace.forget(record_ids=names(late[1:2]))
    assert workspace.artefacts()[0].tainted_by == ()
    early = next(row for row, place in shards.items() if place == (0, 0))
    request = workspace.forget(record_ids=names([early]))
    assert workspace.artefacts()[0].tainted_by == (request.id,)
    workspace.retire(export.id)
    with pytest.raises(UnknownIdError):
        workspace.retire(export.id)
    other = next(row for row, place in shards.items() if place == (1, 0))
    assert workspace.receipt(workspace.forget(record_ids=names([other])).id).statement["predicate"]["artefacts"] == []


def test_a_cache_of_features_depends_on_every_record(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    rows = range(30, 40)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))  # and is not trained on
    workspace.register("cache", "feature cache", "there", source="records")
    workspace.register("model", "exported model", "there", source="model")
    request = workspace.forget(record_ids=names([34]))
    assert {item.name: item.tainted_by for item in workspace.artefacts()} == {"cache": (request.id,), "model": ()}
    with pytest.raises(InputError, match="source must be 'model' or 'records', got 'thin air'"):
        workspace.register("x", "y", "z", source="thin air")


def test_what_has_the_same_name_is_told_apart_by_where_it_is(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run")
    for place in ("s3://phones/7", "s3://phones/8", "s3://phones/8"):
        workspace.register("phone model", "distilled model", place)
    request = workspace.forget(record_ids=names([3]))
    receipt = verify(workspace.receipt(request.id), workspace.public_key)
    assert sorted(item.location for item in receipt.predicate.artefacts) == ["s3://phones/7", "s3://phones/8"]
    assert [item.tainted_by for item in workspace.artefacts()] == [(request.id,)] * 3
