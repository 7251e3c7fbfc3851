"""What editors that learn to edit learn from: edits of other facts, each with what it must and must not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit


@dataclass(frozen=True)
class Lesson:
    """An edit to learn from, as Mitchell et al. (2022) put them together.

    Attributes:
        edit: The edit; it is never made for good.
        wordings: Other prompts for the same fact, after which the new answer is to follow.
        kept: Prompts about something else, with what follows them before and after.
    """

    edit: Edit
    wordings: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt in it."""
        return (self.edit.prompt, *self.wordings, *(prompt for prompt, _ in self.kept))


def disjoint(lessons: Sequence[Lesson], edits: Sequence[Edit]) -> tuple[Lesson, ...]:
    """Refuse lessons that give away what is to be edited: an editor would be measured on what it was trained on.

    Args:
        lessons: What is to be learned from.
        edits: What is to be edited.

    Returns:
        The lessons.

    Raises:
        InputError: If the prompt of an edit stands in a lesson, or a lesson gives its subject its new answer.
    """
    prompts = {_bare(edit.prompt) for edit in edits}
    pairs = {(_bare(edit.subject), _bare(edit.target_new)) for edit in edits}
    for at, lesson in enumerate(lessons):
        shared = next((prompt for prompt in lesson.prompts if _bare(prompt) in prompts), None)
        if shared is None and (_bare(lesson.edit.subject), _bare(lesson.edit.target_new)) in pairs:
            shared = lesson.edit.prompt
        if shared is not None:
            raise InputError(
                f"lesson {at} holds an edited fact ({shared!r}): lessons must be about other facts than those edited"
            )
    return tuple(lessons)


def needed(lessons: Sequence[Lesson], edits: Sequence[Edit], editor: str) -> tuple[Lesson, ...]:
    """Refuse to train on nothing, or on what is to be edited.

    Args:
        lessons: What is to be learned from.
        edits: What is to be edited.
        editor: Name of the editor.

    Returns:
        The lessons.

    Raises:
        InputError: If there are none, none that says what is to stay, or one gives an edit away.
    """
    if not any(lesson.kept for lesson in lessons):
        raise InputError(
            f"{editor} is trained before it edits: give config lessons=(Lesson(edit, wordings, kept), …) about other "
            "facts, some of them with prompts in `kept`"
        )
    return disjoint(lessons, edits)


def _bare(text: str) -> str:
    return " ".join(text.casefold().split())
