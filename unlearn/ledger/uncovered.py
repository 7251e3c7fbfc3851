"""What verification of a workspace does not look at: said to whoever verifies, in decision 0011, and in the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Uncovered:
    """Something that may be changed without verification noticing.

    Attributes:
        what: What it is, and what comes of a change.
        columns: Table to the columns that hold it; of the table of single values, their names.
    """

    what: str
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)


UNCOVERED = (
    Uncovered(
        "names, kinds and locations of registered artefacts, which are your own words: a receipt repeats what they are "
        "when it is issued",
        {"artefact": frozenset({"name", "kind", "location"})},
    ),
    Uncovered(
        "the generation that tells processes to load the model again, the name of the key that new ids are encrypted "
        "under, how many labels noisy votes have published, and which process writes: they are kept beside the log",
        {"meta": frozenset({"generation", "epoch", "published", "writer"})},
    ),
    Uncovered(
        "the numbers that requests are listed by, but for the order they give",
        {"request": frozenset({"number"}), "edit": frozenset({"number"})},
    ),
    Uncovered("how long steps took to train", {"step": frozenset({"seconds"})}),
    Uncovered("what a database keeps in unused pages, in its journals and, if it is PostgreSQL, in pages and indices"),
    Uncovered("locks, and the keys of ids that wait: another key is found when they are served"),
    Uncovered("copies, backups and whatever lies outside of the workspace"),
)
"""All of it. A test flips bits everywhere, and takes from here where it may go unnoticed."""
