"""Mistakes about durability, made on purpose: what each changes in our source, and which fault must reveal it.

Run as a script with the name of one, this file is a driver whose modules are imported with that mistake in them
(in memory, see `tests/negative/doubles.py`; no file is changed).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.negative import doubles
from tests.negative.doubles import Control, Edit


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        name: Short name.
        mistake: What goes wrong, in words.
        edits: How to make it.
        reveals: The kind of fault after which something is found to be wrong: the name of a `Fault`; `"power"`;
            `"rivals"`, for two processes at once; `"clock"`; `"interrupt"`, for Ctrl-C.
        says: What is found to be wrong then: a pattern in its description.
        steps: The steps of the script at which to look.
    """

    name: str
    mistake: str
    edits: tuple[Edit, ...]
    reveals: str
    says: str
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


MISTAKES = (
    Mistake(
        "ctrl-c-inside-a-transaction",
        "Ctrl-C does not wait for the end of a transaction.",
        (
            Edit(
                "unlearn.ledger.database",
                "def write(self) -> Iterator[Connection]:",
                "def write(self) -> Iterator[Connection]:\n        return self._open_to_all()\n\n"
                "    @contextmanager\n    def _open_to_all(self) -> Iterator[Connection]:\n"
                "        with translating(self.name), self._connect() as connection, connection.begin():\n"
                "            self._take_turn(connection)\n            yield connection\n\n"
                "    def _before(self) -> Iterator[Connection]:",
            ),
            Edit("unlearn.ledger.database", "    @contextmanager\n    def write", "    def write"),
        ),
        "interrupt",
        "database is locked|ended with -9",
        ("forget a person", "forget a record"),
    ),
    Mistake(
        "publish-without-syncing-the-folder",
        "A checkpoint gets its name, but the name is not made durable.",
        (
            Edit(
                "shards.store_local",
                "        path.replace(final)\n        self.sync_checkpoints()\n",
                "        path.replace(final)\n",
            ),
        ),
        "power",
        "a checkpoint of .* is missing",
        ("train",),
    ),
    Mistake(
        "publish-without-rename",
        "A checkpoint is written under its final name.",
        (Edit("shards.store_local", "path.replace(final)", "final.write_bytes(path.read_bytes()), path.unlink()"),),
        "power",
        "the checkpoint .* is damaged",
        ("train",),
    ),
    Mistake(
        "slice-not-synced",
        "A slice's file is named in the ledger before its data is durable.",
        (Edit("shards.slicefile", "        os.fsync(file.fileno())\n", ""),),
        "power",
        "(slice|record) file .* (does not|is damaged|is missing)",
        ("ingest 0",),
    ),
    Mistake(
        "slices-folder-not-synced",
        "The slices of a batch are named in the ledger before their names are durable.",
        (Edit("unlearn.intake", "            site.folder(shard).sync_records()\n", "            pass\n"),),
        "power",
        "the record file .* is missing",
        ("ingest 0",),
    ),
    Mistake(
        "deletion-not-synced",
        "Files are deleted, and may come back.",
        (
            Edit(
                "shards.files",
                "    for parent in sorted({*folders, *(path.parent for path in gone)}):\n",
                "    for parent in ():\n",
            ),
        ),
        "power",
        "too much: Counter|is still in",
        ("forget a person",),
    ),
    Mistake(
        "finished-before-destruction",
        "A request is noted as forgotten before the slices that hold its records are rewritten.",
        (
            Edit("unlearn.forgetting", "    site.ledger.finish_forget()\n    return damaged\n", "    return damaged\n"),
            Edit(
                "unlearn.forgetting",
                "    # Checkpoints first: that also frees the room which rewriting needs.\n",
                "    site.ledger.finish_forget()\n",
            ),
            # What keeps the log from saying so while slices are to be rewritten.
            Edit("unlearn.ledger.ledger", "_under_way() & s.request.c.id.not_in(stuck)", "_under_way()"),
        ),
        "KILL",
        "not as it should be|is still in|too much|could not be destroyed yet",
        ("forget a person",),
    ),
    Mistake(
        "commit-not-synced",
        "The database commits without waiting for the disk.",
        (Edit("unlearn.ledger.database", '"synchronous=FULL"', '"synchronous=OFF"'),),
        "power",
        "lacks the tables|is gone|0 batches|is damaged",
        ("ingest 0", "forget a person"),
    ),
    Mistake(
        "no-transactions",
        "Every statement of a transaction is its own.",
        (
            Edit(
                "unlearn.ledger.database",
                '            connection.exec_driver_sql("BEGIN IMMEDIATE")\n            self._keep_name',
                "            self._keep_name",
            ),
        ),
        "KILL",
        "not as it should be",
        ("forget a person",),
    ),
    Mistake(
        "old-slice-first",
        "A slice's old file goes before its new one is there.",
        (
            Edit(
                "unlearn.erasure",
                "        folder.write_records(name, kept)\n",
                "        folder.purge_records([old])\n        folder.write_records(name, kept)\n",
            ),
        ),
        "KILL",
        "is missing|is damaged",
        ("forget a person",),
    ),
    Mistake(
        "refused-deletion-ignored",
        "A file that the disk refuses to delete counts as deleted.",
        (
            Edit(
                "shards.files",
                "        path.unlink(missing_ok=True)\n    for parent",
                "        try:\n            path.unlink(missing_ok=True)\n        except OSError:\n            return\n"
                "    for parent",
            ),
        ),
        "IO_ERROR",
        "the forgotten .* is still in",
        ("forget a person",),
    ),
    Mistake(
        "no-lock",
        "Everybody may write at any time.",
        (Edit("shards.lock", "while not _try_lock(handle):", "while False:"),),
        "rivals",
        "Error|ended with",
    ),
    Mistake(
        "time-believed",
        "What was requested later than now is not forgotten yet.",
        (
            Edit(
                "unlearn.ledger.ledger",
                "_under_way() & s.request.c.id.not_in(stuck)",
                "_under_way() & s.request.c.id.not_in(stuck) & (s.request.c.submitted_at <= now().isoformat())",
            ),
        ),
        "clock",
        "is submitted again|is not as it should be: requests",
    ),
)


def main(name: str) -> None:
    """Be a driver with a mistake in it."""
    (chosen,) = (item for item in MISTAKES if item.name == name)
    control = Control(chosen.name, chosen.mistake, chosen.edits, "")
    sys.meta_path.insert(0, doubles._Finder(control))
    from tests.crash import driver

    driver.main()


if __name__ == "__main__":
    main(sys.argv[1])
