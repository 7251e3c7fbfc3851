"""Settings as they are read off configurations."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearn.methods.settings import Setting, settings


@dataclass(frozen=True)
class Parent:
    """One line.

    More of it.

    Attributes:
        rate: How fast; with a colon: here,
            and over two lines.
        seed: Of the draw.

    After it.
    """

    rate: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Child(Parent):
    """No attributes at all: those of the parent hold."""

    seed: int = 7
    rates: tuple[float, ...] = field(default_factory=lambda: (1.0, 2.0))


def test_fields_have_defaults_and_descriptions_also_inherited_ones() -> None:
    assert settings(Child) == (
        Setting("rate", "float", 0.5, "How fast; with a colon: here, and over two lines."),
        Setting("seed", "int", 7, "Of the draw."),
        Setting("rates", "tuple[float, ...]", (1.0, 2.0), ""),
    )
