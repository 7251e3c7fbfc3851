"""The simulator on traces written by hand: what a power loss may leave, and what it may not."""

from __future__ import annotations

from random import Random

from tests.crash.simulator import Disk, Image, losses
from tests.crash.trace import CREATED, EMPTIED, Kind, Operation

ROOT = "/w"


def op(kind: Kind, path: str = "", target: str = "", **fields: object) -> Operation:
    """An entry; paths are below the root."""
    return Operation(
        kind,
        path=f"{ROOT}/{path}".rstrip("/") if path or kind is Kind.OPEN else "",
        target=f"{ROOT}/{target}" if target else "",
        **fields,  # type: ignore[arg-type]
    )


def written(name: str, handle: int, *parts: bytes, sync: bool = False) -> list[Operation]:
    """A new file, left open."""
    done, at = [op(Kind.OPEN, name, flag=CREATED, handle=handle)], 0
    for part in parts:
        done.append(op(Kind.WRITE, handle=handle, offset=at, data=part))
        at += len(part)
    return [*done, op(Kind.SYNC, handle=handle)] if sync else done


def synced(folder: str, handle: int = 99) -> list[Operation]:
    """A folder, synced."""
    return [op(Kind.OPEN, folder, handle=handle), op(Kind.SYNC, handle=handle), op(Kind.CLOSE, handle=handle)]


def disk(*parts: list[Operation], content: Image | None = None) -> Disk:
    """The disk after some operations."""
    made = Disk(ROOT, content)
    for part in parts:
        for done in part:
            made.apply(done)
    return made


def possible(made: Disk, number: int = 400) -> list[Image]:
    """Many of the disks that a power loss could leave."""
    return [made.mixed(Random(seed)) for seed in range(number)] + [made.lost(), made.kept()]


def contents(made: Disk, name: str) -> set[bytes | None]:
    """What a file may hold afterwards; None where it may be missing."""
    return {image.get(name) for image in possible(made)}


def test_what_was_not_synced_may_be_lost() -> None:
    assert contents(disk(written("a", 3, b"data")), "a") == {None, b"", bytes(4), b"data"}


def test_a_synced_file_needs_its_folder_synced_too() -> None:
    made = disk(written("a", 3, b"data", sync=True))
    assert contents(made, "a") == {None, b"data"}
    for done in synced(""):
        made.apply(done)
    assert contents(made, "a") == {b"data"}


def test_a_synced_name_does_not_make_its_data_durable() -> None:
    # The length may be there without the data: then there are zeros.
    assert contents(disk(written("a", 3, b"data"), synced("")), "a") == {b"", bytes(4), b"data"}


def test_a_file_in_a_folder_that_is_lost_is_lost() -> None:
    made = disk([op(Kind.MKDIR, "d")], written("d/a", 3, b"data", sync=True), synced("d"))
    assert made.lost() == {}
    for done in synced(""):
        made.apply(done)
    assert made.lost() == {"d": None, "d/a": b"data"}


def test_writes_tear_at_sectors() -> None:
    old, new = b"o" * 1536, b"n" * 1536
    made = disk([op(Kind.OPEN, "a", handle=3), op(Kind.WRITE, handle=3, offset=0, data=new)], content={"a": old})
    found = {bytes(data[at] for at in (0, 512, 1024)) for data in contents(made, "a") if data}
    assert found == {bytes(part) for part in ((a, b, c) for a in b"on" for b in b"on" for c in b"on")}
    assert all(
        data[at : at + 512] in (b"o" * 512, b"n" * 512) for data in contents(made, "a") if data for at in (0, 512)
    )


def test_a_sector_holds_what_it_held_at_some_time_and_nothing_else() -> None:
    writes = [op(Kind.WRITE, handle=3, offset=0, data=data) for data in (b"aa", b"b")]
    made = disk([op(Kind.OPEN, "a", handle=3), *writes], content={"a": b"--"})
    assert contents(made, "a") == {b"--", b"aa", b"ba"}


def test_nothing_written_after_a_truncation_is_there_without_it() -> None:
    made = disk(
        [
            op(Kind.OPEN, "a", flag=EMPTIED, handle=3),
            op(Kind.WRITE, handle=3, offset=0, data=b"new"),
        ],
        content={"a": b"o" * 2000},
    )
    assert contents(made, "a") == {b"o" * 2000, b"", bytes(3), b"new"}


def test_a_rename_is_there_or_not() -> None:
    made = disk(written("s", 3, b"new", sync=True), synced(""), [op(Kind.RENAME, "s", "t")])
    found = {tuple(sorted(image.items())) for image in possible(made)}
    assert found == {(("s", b"new"),), (("t", b"new"),)}


def test_a_rename_across_folders_is_made_durable_by_either_and_takes_the_older_names_along() -> None:
    start = disk([op(Kind.MKDIR, "a"), op(Kind.MKDIR, "b")], synced(""), written("a/s", 3, b"new", sync=True))
    for done in [op(Kind.RENAME, "a/s", "b/t"), *synced("b")]:
        start.apply(done)
    assert {tuple(sorted(image)) for image in possible(start)} == {("a", "b", "b/t")}


def test_renames_are_reordered() -> None:
    start = disk(written("a", 3, b"1", sync=True), written("b", 4, b"2", sync=True), synced(""))
    for done in (op(Kind.RENAME, "a", "x"), op(Kind.RENAME, "b", "y")):
        start.apply(done)
    assert {tuple(sorted(image)) for image in possible(start)} == {("a", "b"), ("b", "x"), ("a", "y"), ("x", "y")}


def test_a_deleted_file_may_come_back_until_its_folder_is_synced() -> None:
    made = disk([op(Kind.UNLINK, "a")], content={"a": b"secret"})
    assert contents(made, "a") == {None, b"secret"}
    for done in synced(""):
        made.apply(done)
    assert contents(made, "a") == {None}


def test_what_a_failed_sync_was_to_write_is_lost_though_the_next_one_succeeds() -> None:
    made = disk(
        written("a", 3, b"data"),
        synced(""),
        [op(Kind.FAILED_SYNC, handle=3), op(Kind.SYNC, handle=3)],
    )
    assert made.kept()["a"] == b"data"
    assert made.lost()["a"] == bytes(4)
    for done in (op(Kind.WRITE, handle=3, offset=0, data=b"data"), op(Kind.SYNC, handle=3)):
        made.apply(done)
    assert made.lost()["a"] == b"data"


def test_handles_outlive_names() -> None:
    made = disk(
        written("a", 3, b"1"),
        [
            op(Kind.RENAME, "a", "b"),
            op(Kind.WRITE, handle=3, offset=1, data=b"2"),
            op(Kind.DUPLICATE, handle=3, other=5),
        ],
        [op(Kind.CLOSE, handle=3), op(Kind.WRITE, handle=5, offset=2, data=b"3"), op(Kind.SYNC, handle=5)],
    )
    assert made.kept() == {"b": b"123"}


def test_losses_come_once_each_with_what_was_said_before() -> None:
    trace = [
        *written("a", 3, b"1"),
        op(Kind.SYNC, handle=3),
        *synced(""),
        Operation(Kind.MARK, path="ack 0"),
        op(Kind.UNLINK, "a"),
    ]
    found = list(losses(Disk(ROOT), trace, range(1, len(trace) + 1), kept=True, mixed=3, seed=0))
    assert len({(tuple(sorted(loss.image.items())), loss.marks) for loss in found}) == len(found)
    assert {loss.marks for loss in found if loss.after > 6} == {("ack 0",)}
    again = list(losses(Disk(ROOT), trace, range(1, len(trace) + 1), kept=True, mixed=3, seed=0))
    assert again == found
