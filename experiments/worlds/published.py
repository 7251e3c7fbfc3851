"""Facts of a published file (CounterFact, zsRE) as something a small model can be taught."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.worlds.facts import World
from unlearn.language.editing.files import Case
from unlearn.language.editing.lessons import Lesson


def consistent(cases: Sequence[Case], number: int) -> tuple[Case, ...]:
    """The first cases that do not contradict each other: the same prompt has one answer, and a subject is edited once.

    Args:
        cases: Of a file, in the order in which they are wanted.
        number: How many.

    Returns:
        At most so many.
    """
    answers: dict[str, str] = {}
    subjects: set[str] = set()
    found: list[Case] = []
    for case in cases:
        told = dict(_told(case))
        if case.edit.subject in subjects or any(
            answers.get(prompt, answer) != answer for prompt, answer in told.items()
        ):
            continue
        answers |= told
        subjects.add(case.edit.subject)
        found.append(case)
        if len(found) == number:
            break
    return tuple(found)


def told(cases: Sequence[Case]) -> World:
    """What a model is taught before anything is edited: the old answers, in all wordings, and what is to stay.

    Args:
        cases: Consistent ones, whose old answers are known.

    Returns:
        A world that consists of prompts and answers alone.
    """
    pairs = dict(pair for case in cases for pair in _told(case))
    return World((), {}, tuple(pairs.items()))


def lessons_of(cases: Sequence[Case]) -> tuple[Lesson, ...]:
    """Lessons for editors that learn, each with what the next one is to keep as well.

    Args:
        cases: Such as are not edited.

    Returns:
        One lesson a case.
    """
    kept = [tuple((probe.prompt, probe.answer) for probe in case.probes if probe.kind == "locality") for case in cases]
    return tuple(
        Lesson(
            case.edit,
            tuple(probe.prompt for probe in case.probes if probe.kind == "generalization"),
            (*kept[at], *kept[(at + 1) % len(kept)]),
        )
        for at, case in enumerate(cases)
    )


def _told(case: Case) -> list[tuple[str, str]]:
    old = case.edit.target_old or ""
    wordings = [(probe.prompt, old) for probe in case.probes if probe.kind == "generalization"]
    return [
        (case.edit.prompt, old),
        *wordings,
        *((one.prompt, one.answer) for one in case.probes if one.kind == "locality"),
    ]
