"""Published files of facts to edit: CounterFact and zsRE, as their authors and EasyEdit lay them out.

A row becomes an edit and what is asked after it. Nothing is downloaded: the file is the user's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.metrics import Probe


@dataclass(frozen=True)
class Case:
    """A row of a file.

    Attributes:
        edit: What is to be edited.
        probes: What is asked after it: other wordings, and facts that are to stay.
    """

    edit: Edit
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Cases:
    """What a file holds.

    Attributes:
        cases: Its rows, in order.
        unusable: Number of a row, from 0, and what is wrong with it: a subject that its prompt does not name, an empty
            answer. zsRE's training split has two such rows in its first thousand.
    """

    cases: tuple[Case, ...]
    unusable: tuple[tuple[int, str], ...] = ()


def read_cases(path: str | Path) -> Cases:
    """Read facts to edit.

    Three layouts are known by the fields of a row: CounterFact as published (Meng et al. 2022, `requested_rewrite`),
    CounterFact as EasyEdit has it (`prompt`, `target_new`, `rephrase_prompt`, `locality_prompt`), and zsRE as MEND has
    it (Mitchell et al. 2022: `src`, `alt`, `rephrase`, `loc`).

    Args:
        path: A JSON file that holds a list of objects, or one object a line.

    Returns:
        The rows. The old answer of zsRE is the first of `answers`: what is true, not what another model said.

    Raises:
        InputError: If the file cannot be read, is no such list, or a row has none of the layouts or lacks a field.
    """
    cases, unusable = [], []
    for at, row in enumerate(_rows(Path(path))):
        layout = next((reader for field, reader in _LAYOUTS.items() if field in row), None)
        if layout is None:
            raise InputError(
                f"{path}, row {at}: neither CounterFact nor zsRE: a row has one of {', '.join(_LAYOUTS)}; this one has "
                f"{', '.join(sorted(row)) or 'no field'}"
            )
        try:
            cases.append(layout(row))
        except KeyError as error:
            raise InputError(f"{path}, row {at}: the field {error} is missing") from error
        except InputError as error:
            unusable.append((at, str(error)))
        except (AttributeError, TypeError, IndexError) as error:
            raise InputError(f"{path}, row {at}: a field is of another type than the layout has: {error}") from error
    return Cases(tuple(cases), tuple(unusable))


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    try:
        # Only a line feed ends a line: others, such as U+2028, may stand inside of a text.
        whole = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.split("\n") if line.strip()]
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is neither a JSON list nor one JSON object a line: {error.msg} at {error.doc[error.pos :][:40]!r}"
        ) from error
    if not whole:
        raise InputError(f"{path} holds no rows")
    for at, row in enumerate(whole):
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {at}: not an object but a {type(row).__name__}")
        yield row


def _counterfact(row: Mapping[str, Any]) -> Case:
    """As published: the prompt has `{}` where the subject goes."""
    asked = row["requested_rewrite"]
    new, old, subject = asked["target_new"]["str"], asked["target_true"]["str"], asked["subject"]
    return Case(
        Edit(asked["prompt"].replace("{}", subject), subject, new, old),
        (
            *(Probe("generalization", prompt, new) for prompt in row["paraphrase_prompts"]),
            *(Probe("locality", prompt, old) for prompt in row["neighborhood_prompts"]),
            *(Probe("locality", prompt, new) for prompt in row.get("attribute_prompts", ())),
        ),
    )


def _flat(row: Mapping[str, Any]) -> Case:
    """CounterFact as EasyEdit has it."""
    return Case(
        Edit(row["prompt"], row["subject"], row["target_new"], row["ground_truth"]),
        (
            Probe("generalization", row["rephrase_prompt"], row["target_new"]),
            Probe("locality", row["locality_prompt"], row["locality_ground_truth"]),
        ),
    )


def _zsre(row: Mapping[str, Any]) -> Case:
    """As MEND has it: questions; locality from Natural Questions."""
    return Case(
        Edit(row["src"], row["subject"], row["alt"], row["answers"][0]),
        (Probe("generalization", row["rephrase"], row["alt"]), Probe("locality", row["loc"], row["loc_ans"])),
    )


_LAYOUTS: Mapping[str, Callable[[Mapping[str, Any]], Case]] = {
    "requested_rewrite": _counterfact,
    "target_new": _flat,
    "alt": _zsre,
}
"""The field by which a layout is known, and what reads a row of it."""
