"""Risk classes of subjects: what a caller says of a batch, held to what was declared and to what is there already.

A class is kept nowhere: it decides where a subject's records go, and is found again by looking where each class would
put them. So nothing is left of it when the records are gone. As long as there are some, their subject keeps its class,
and thus one shard and one slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.placement import Region, keyed_tokens, place_subjects
from unlearn.errors import InputError, some
from unlearn.site import Site


def check_risks(
    site: Site, subjects: Sequence[str], risks: Sequence[str], otherwise: str = "nothing was ingested"
) -> list[Region] | None:
    """Hold the classes of some records to the declared ones.

    Args:
        site: The workspace.
        subjects: Whose the records are, `[n]`.
        risks: Their classes, `[n]`; empty: none were given.
        otherwise: What did not happen if they are refused, for the message.

    Returns:
        Where each record's subject may go, `[n]`; None in a workspace without risk classes.

    Raises:
        InputError: If classes are missing, were not declared, or were not asked for.
    """
    regions = site.declaration.regions
    if regions is None:
        if len(risks):
            raise InputError(
                f"{site.path} was created without risk classes: leave risk out, or create a workspace that declares "
                f"them; {otherwise}"
            )
        return None
    if len(risks) != len(subjects):
        raise InputError(
            f"{site.path} places subjects by their risk class, and none is given: give risk, {_listed(regions)} for "
            f"each record; {otherwise}"
        )
    unknown = list(dict.fromkeys(name for name in risks if name not in regions))
    if unknown:
        raise InputError(
            f"{some(unknown)}: no risk class of this name was declared; give {_listed(regions)}; {otherwise}"
        )
    return [regions[name] for name in risks]


def numbered(site: Site, risks: Sequence[str]) -> np.ndarray:
    """Numbers of declared classes, `[n]` int32, in the order in which they are declared."""
    index = {name: number for number, name in enumerate(site.declaration.regions or ())}
    return np.fromiter((index[name] for name in risks), dtype=np.int32, count=len(risks))


def refuse_two_classes(site: Site, tokens: np.ndarray, classes: np.ndarray) -> None:
    """Refuse a batch in which a subject has two classes, or another one than its records that are there.

    Reads every record file there is, one after the other, where there is more than one class.

    Args:
        site: The workspace.
        tokens: `[n, 16]` uint8, keyed pseudonyms of the subjects, by row.
        classes: `[n]` int, numbers of their classes (`numbered`).

    Raises:
        InputError: Naming rows, or subjects; nothing was changed.
        DamageError: If a record file cannot be read.
    """
    declared = site.declaration
    regions = declared.regions
    if regions is None or len(regions) < 2 or not len(tokens):
        return
    ordered, codes = _by_token(tokens, classes, list(regions))
    names = list(regions)
    found: set[str] = set()
    for (shard, position), item in sorted(site.ledger.slices().items()):
        data = site.folder(shard).read_records(item.file)
        there = _as_text(keyed_tokens(site.keys.pseudonyms, "subject", data.subjects))
        at = np.minimum(np.searchsorted(ordered, there), len(ordered) - 1)
        rows = np.flatnonzero(ordered[at] == there).tolist()
        if not rows:
            continue
        again = [data.subjects[row] for row in rows]
        wanted = [regions[names[code]] for code in codes[at[rows]].tolist()]
        shards, slices = place_subjects(site.keys.placement, again, declared.n_shards, declared.n_slices, wanted)
        moved = (shards != shard) | (slices != position % declared.n_slices)
        found |= {name for name, is_moved in zip(again, moved.tolist(), strict=True) if is_moved}
    if found:
        raise InputError(
            f"{len(found)} of the subjects ({some(sorted(found))}) have records of another risk class: a subject keeps "
            "its class, and so its place, while it has records. Give the class it came with; or forget it first, and "
            "name it in reconsent; nothing was ingested"
        )


def _by_token(tokens: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct tokens, ascending, and the class of each."""
    texts = _as_text(tokens)
    order = np.argsort(texts, kind="stable")
    ordered, codes = texts[order], classes[order]
    same = ordered[1:] == ordered[:-1]
    differ = np.flatnonzero(same & (codes[1:] != codes[:-1]))
    if len(differ):
        # By row, since the tokens' order is a secret one.
        first, second = min(sorted((int(order[at]), int(order[at + 1]))) for at in differ)
        one, other = names[classes[first]], names[classes[second]]
        raise InputError(
            f"rows {first} and {second} are of one subject, and of the risk classes {one!r} and {other!r}: give a "
            "subject one class; nothing was ingested"
        )
    chosen = np.concatenate([[True], ~same])
    return ordered[chosen], codes[chosen]


def _as_text(tokens: np.ndarray) -> np.ndarray:
    """`[n, 16]` bytes as `[n]` strings of fixed width, which numpy sorts and compares."""
    found: np.ndarray = np.ascontiguousarray(tokens).view("S16").reshape(-1)
    return found


def _listed(names: Sequence[str] | dict[str, Region]) -> str:
    return " or ".join(repr(name) for name in names)
