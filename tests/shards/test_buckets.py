"""A bucket that keeps what is deleted is refused, and one that does not say whether it does."""

from __future__ import annotations

from typing import Any

import pytest

from shards.buckets import check_gcs, check_s3, end_s3_uploads, gcs_fault, s3_fault
from shards.errors import DamageError, StorageError
from shards.remote import connect
from tests.loopback_s3 import S3


@pytest.mark.parametrize(
    ("versioning", "lock", "says"),
    [
        ({}, {}, None),
        ({"Status": "Enabled"}, {}, "versioning is enabled"),
        ({"Status": "Suspended"}, {}, "versioning is suspended"),
        ({}, {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}, "object lock"),
    ],
)
def test_s3(versioning: dict[str, Any], lock: dict[str, Any], says: str | None) -> None:
    said = s3_fault(versioning, lock)
    assert said is None if says is None else says in str(said)


@pytest.mark.parametrize(
    ("bucket", "says"),
    [
        ({"name": "plain"}, None),
        ({"versioning": {"enabled": False}, "softDeletePolicy": {"retentionDurationSeconds": "0"}}, None),
        ({"versioning": {"enabled": True}}, "object versioning"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, "604,800 seconds"),
        ({"retentionPolicy": {"retentionPeriod": "60"}}, "retention policy"),
        ({"objectRetention": {"mode": "Enabled"}}, "retention policy"),
        ({"defaultEventBasedHold": True}, "event-based hold"),
    ],
)
def test_gcs(bucket: dict[str, Any], says: str | None) -> None:
    asked: list[tuple[Any, ...]] = []

    class Fake:
        def call(self, *args: Any, json_out: bool) -> dict[str, Any]:
            asked.append(args)
            return bucket

    assert gcs_fault(bucket) == check_gcs(Fake(), "there")
    assert asked == [("GET", "b/{}", "there")]
    said = gcs_fault(bucket)
    assert said is None if says is None else says in str(said)


class Refusing:
    """A file system that answers some calls with an error."""

    def __init__(self, **errors: OSError) -> None:
        self.errors = errors

    def call_s3(self, method: str, **kwargs: Any) -> dict[str, Any]:
        if method in self.errors:
            raise self.errors[method]
        return {}

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise self.errors["call"]


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("get_bucket_versioning", "s3:GetBucketVersioning"),
        ("get_object_lock_configuration", "s3:GetBucketObjectLockConfiguration"),
    ],
)
def test_a_bucket_that_may_not_be_asked_is_refused(method: str, permission: str) -> None:
    with pytest.raises(StorageError, match=permission):
        check_s3(Refusing(**{method: PermissionError("Access Denied")}), "there")
    with pytest.raises(OSError, match="another"):
        check_s3(Refusing(**{method: OSError(5, "another failure")}), "there")


def test_a_google_bucket_that_may_not_be_asked_is_refused() -> None:
    with pytest.raises(StorageError, match=r"storage\.buckets\.get"):
        check_gcs(Refusing(call=OSError("Forbidden: https://storage.googleapis.com/b/there")), "there")
    with pytest.raises(OSError, match="another"):
        check_gcs(Refusing(call=OSError("another failure")), "there")


def test_uploads_that_may_not_be_listed_are_no_silent_leftovers() -> None:
    with pytest.raises(StorageError, match="s3:ListBucketMultipartUploads"):
        end_s3_uploads(Refusing(list_multipart_uploads=PermissionError("Access Denied")), "there/prefix")


def test_uploads_that_come_back_are_noticed() -> None:
    class Stubborn:
        def call_s3(self, method: str, **kwargs: Any) -> dict[str, Any]:
            return {"Uploads": [{"Key": "prefix/a", "UploadId": "1"}]}

    with pytest.raises(DamageError, match="come back"):
        end_s3_uploads(Stubborn(), "there/prefix")


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_a_versioned_bucket_is_refused(s3: S3, status: str) -> None:
    bucket = s3.bucket()
    connect("s3").check(f"{bucket}/prefix")
    s3.files().call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": status})
    with pytest.raises(StorageError, match=f"cannot forget.*{status.lower()}"):
        connect("s3").check(f"{bucket}/prefix")


def test_a_locked_bucket_is_refused(s3: S3) -> None:
    with pytest.raises(StorageError, match="cannot forget"):
        connect("s3").check(s3.bucket(ObjectLockEnabledForBucket=True))


def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket is not there"):
        connect("s3").check("no-such-bucket/prefix")
