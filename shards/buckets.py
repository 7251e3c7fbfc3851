"""What stores do beyond storing: keep what was deleted, and hold uploads that never ended.

A bucket that keeps old versions, or forbids deletion for a time, cannot forget: no program below it can destroy
what it holds. Such buckets are refused.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from shards.errors import DamageError, StorageError

_ROUNDS = 10
"""Of up to 1,000 unfinished uploads each."""


def s3_fault(versioning: Mapping[str, Any], lock: Mapping[str, Any]) -> str | None:
    """Why an S3 bucket cannot forget, if it cannot.

    Args:
        versioning: Answer of GetBucketVersioning.
        lock: Answer of GetObjectLockConfiguration; empty if there is none.

    Returns:
        What keeps it and what to do, or None.
    """
    status = versioning.get("Status")
    if status is not None:
        # A bucket whose versioning was suspended still holds the versions from before.
        return (
            f"its versioning is {str(status).lower()}, so it may keep what is deleted: use a bucket that never had it"
        )
    if lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled":
        return "it has object lock, which forbids deletion: use a bucket without it"
    return None


def gcs_fault(bucket: Mapping[str, Any]) -> str | None:
    """Why a bucket of Google Cloud Storage cannot forget, if it cannot.

    Args:
        bucket: Its metadata.

    Returns:
        What keeps it and what to do, or None.
    """
    if bucket.get("versioning", {}).get("enabled"):
        return "it has object versioning, so it keeps what is deleted: use a bucket without it"
    seconds = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if seconds:
        return (
            f"it keeps what is deleted for {seconds:,} seconds (soft delete, which new buckets have): use one made "
            "with `gcloud storage buckets create --soft-delete-duration=0`"
        )
    if bucket.get("retentionPolicy") or bucket.get("objectRetention", {}).get("mode") == "Enabled":
        return "it has a retention policy, which forbids deletion: use a bucket without one"
    if bucket.get("defaultEventBasedHold"):
        return "it holds every new object against deletion: use a bucket without a default event-based hold"
    return None


def check_s3(files: Any, bucket: str) -> str | None:
    """Ask S3 whether a bucket can forget.

    Args:
        files: An `s3fs.S3FileSystem`.
        bucket: Its name.

    Returns:
        What keeps it and what to do, or None.

    Raises:
        StorageError: If the question is refused.
    """
    try:
        permission = "s3:GetBucketVersioning"
        versioning = files.call_s3("get_bucket_versioning", Bucket=bucket)
        permission = "s3:GetBucketObjectLockConfiguration"
        return s3_fault(versioning, _object_lock(files, bucket))
    except PermissionError as error:
        raise StorageError(_silent(f"s3://{bucket}", permission, error)) from error


def _object_lock(files: Any, bucket: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = files.call_s3("get_object_lock_configuration", Bucket=bucket)
    except OSError as error:
        if not _has_no_lock(error):
            raise
        return {}
    return found


def _has_no_lock(error: OSError) -> bool:
    """Whether the answer says that there is no object lock, or that the store knows of no such thing."""
    response = getattr(error.__cause__, "response", {})
    code = response.get("Error", {}).get("Code", "")
    return code == "ObjectLockConfigurationNotFoundError" or error.errno == errno.ENOSYS


def check_gcs(files: Any, bucket: str) -> str | None:
    """Ask Google Cloud Storage whether a bucket can forget.

    Args:
        files: A `gcsfs.GCSFileSystem`.
        bucket: Its name.

    Returns:
        What keeps it and what to do, or None.

    Raises:
        StorageError: If the question is refused.
        OSError: If the call fails otherwise.
    """
    try:
        return gcs_fault(files.call("GET", "b/{}", bucket, json_out=True))
    except OSError as error:
        # gcsfs says so in words alone.
        if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
            raise StorageError(_silent(f"gs://{bucket}", "storage.buckets.get", error)) from error
        raise


def check_memory(files: Any, bucket: str) -> str | None:
    """The memory of a process forgets whatever is deleted."""
    del files, bucket
    return None


def _silent(bucket: str, permission: str, error: OSError) -> str:
    return (
        f"it cannot be told whether {bucket} keeps what is deleted, since it does not say ({error}): grant {permission}"
    )


def end_s3_uploads(files: Any, path: str) -> None:
    """Destroy the parts of uploads that never ended, which no listing of objects shows.

    Args:
        files: An `s3fs.S3FileSystem`.
        path: Bucket and prefix below which to look.

    Raises:
        DamageError: If some are there again and again.
        StorageError: If it is refused.
    """
    bucket, _, prefix = path.partition("/")
    for _ in range(_ROUNDS):
        try:
            found = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            # Some stores answer with more than was asked for.
            uploads = [upload for upload in found.get("Uploads", []) if upload["Key"].startswith(f"{prefix}/")]
            for upload in uploads:
                _end_s3_upload(files, bucket, upload)
        except PermissionError as error:
            raise StorageError(
                f"unfinished uploads to s3://{path} could not be destroyed ({error}): grant "
                "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, then repeat the command"
            ) from error
        if not uploads:
            return
    raise DamageError(f"unfinished uploads to s3://{path} come back: is another program writing to the workspace?")


def _end_s3_upload(files: Any, bucket: str, upload: Mapping[str, Any]) -> None:
    try:
        files.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except FileNotFoundError:
        return  # it ended meanwhile, or a repeated call ended it before


def end_no_uploads(files: Any, path: str) -> None:
    """For stores that show no unfinished uploads; Google destroys them after a week, and serves them to nobody."""
    del files, path
