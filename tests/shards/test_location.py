"""A location is a path or the URL of a store that can forget, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.errors import ConfigurationError
from shards.location import normal_location, open_shard, open_store
from shards.store_local import ShardFolder, StoreFolder
from shards.store_objects import ShardObjects, StoreObjects

ID = "ab" * 16


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("/mnt/shared", "/mnt/shared"),
        ("file:///mnt/shared", "/mnt/shared"),
        ("file:///mnt/two%20words", "/mnt/two words"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3a://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("gcs://bucket/prefix", "gs://bucket/prefix"),
        ("memory://here", "memory://here"),
    ],
)
def test_it_is_written_down_in_one_way(given: str, written: str) -> None:
    assert normal_location(given) == written
    assert normal_location(written) == written


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normal_location("there") == str(tmp_path / "there")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAEXAMPLE:hush@bucket/prefix",
        "s3://hush@bucket",
        "s3://bucket/prefix?secret=hush",
        "s3://bucket/prefix#hush",
    ],
)
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no credentials") as caught:
        normal_location(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "http://host/path", "sftp://host/path", "s3://", "s3://b/a/../c", "s3://b/a//c", "s3://b/*", "file://host/x"],
)
def test_what_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        normal_location(url)


def test_it_is_opened_again_from_what_it_says() -> None:
    for location in ("/mnt/shared", "memory://here/and/there"):
        shard = open_store(location, ID).shard(3)
        assert shard.location == f"{location}/{ID}/0003"
        assert open_shard(shard.location).location == shard.location


def test_paths_are_folders_and_urls_are_objects() -> None:
    assert isinstance(open_store("file:///mnt", ID), StoreFolder)
    assert isinstance(open_shard("/mnt/0003"), ShardFolder)
    assert isinstance(open_store("memory://here", ID), StoreObjects)
    assert isinstance(open_shard("memory://here/0003", "token"), ShardObjects)
