"""Small charts as inline SVG: data in, text out.

Lengths along the page are percentages, and texts keep the size of the page's, so a chart is as readable on a phone as
on paper. Colours are classes of the style sheet. Every chart has a title and a description for whoever cannot see it;
every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from unlearn.report.data import Claim, Finding, Phase, Service

_ROW = 30
"""Height of a bar with what is around it, in pixels."""

_BAR = 16
MINUS = "\N{MINUS SIGN}"

_AXIS = 62
"""Where an axis lies below the top of its chart, in pixels."""

_MARGIN = 0.06
"""What an axis has beyond the data on either side, as a share of their range."""


@dataclass(frozen=True)
class Bar:
    """A bar.

    Attributes:
        label: What stands before it.
        share: Its length, in [0, 1].
        text: What stands behind it.
        kind: Class of its colour.
    """

    label: str
    share: float
    text: str
    kind: str


def bars(name: str, title: str, description: str, items: Sequence[Bar]) -> str:
    """Bars below each other, each with a label above it.

    Args:
        name: Unique on the page.
        title: Of the chart.
        description: What it shows, in a sentence.
        items: The bars.

    Returns:
        SVG.
    """
    step = _ROW + 16
    parts = []
    for number, item in enumerate(items):
        top = number * step
        width = f"{100 * min(max(item.share, 0.0), 1.0):.2f}%"
        parts.append(f'<text x="0" y="{top + 13}">{escape(item.label)}</text>')
        parts.append(f'<text x="100%" y="{top + 13}" class="end figure">{escape(item.text)}</text>')
        parts.append(f'<rect x="0" y="{top + 20}" width="100%" height="{_BAR}" rx="3" class="track"/>')
        if item.share > 0:
            parts.append(
                f'<rect x="0" y="{top + 20}" width="{width}" height="{_BAR}" rx="3" class="{escape(item.kind)}"/>'
            )
    return _svg(name, title, description, len(items) * step - 8, parts)


def service_chart(name: str, service: Service) -> str:
    """How much of the data the model knew before a request, while it was behind, and after it was rebuilt.

    Args:
        name: Unique on the page.
        service: What a receipt says.

    Returns:
        SVG.
    """
    stages = [
        ("before", service.before, "kept"),
        ("behind", service.behind, "behind"),
        ("after", service.after, "good"),
    ]
    items = [
        Bar(f"{word}, {served.shards:,} shards", served.share, _of(served.records, served.present), kind)
        for word, served, kind in stages
        if served is not None
    ]
    said = "; ".join(f"{item.label}: {item.text}" for item in items)
    return bars(name, "Records that the served model knew", f"{said}.", items)


def phase_chart(name: str, phases: Sequence[Phase]) -> str:
    """What training and recoveries cost, beside training everything once.

    Args:
        name: Unique on the page.
        phases: In order.

    Returns:
        SVG.
    """
    most = max((phase.share for phase in phases), default=1.0)
    items = [
        Bar(
            f"{number}. {phase.kind}",
            phase.share / max(most, 1.0),
            f"{phase.visits:,} visits, {phase.share:.1%}",
            "kept" if phase.kind == "training" else "accent",
        )
        for number, phase in enumerate(phases, 1)
    ]
    said = "; ".join(f"{item.label}: {item.text}" for item in items)
    return bars(name, "Record-visits of training and recovery", f"{said} of training everything once.", items)


def interval_chart(name: str, finding: Finding) -> str:
    """An estimate with its interval, beside what it is if nothing is known, and if everything still is.

    Args:
        name: Unique on the page.
        finding: What was measured.

    Returns:
        SVG.
    """
    marks = [finding.low, finding.high, finding.value, finding.nothing]
    marks += [value for value in (finding.members, finding.detectable) if value is not None]
    place = _scale(marks)
    low, high, value, nothing = (place(at) for at in (finding.low, finding.high, finding.value, finding.nothing))
    parts = [
        f'<line x1="0" x2="100%" y1="{_AXIS}" y2="{_AXIS}" class="axis"/>',
        *_flag(nothing, 12, f"{number(finding.nothing)} if nothing is known", "null"),
    ]
    if finding.members is not None:
        at = place(finding.members)
        parts += _flag(at, 32, f"{number(finding.members)} for members of the data", "leader")
        parts.append(f'<circle cx="{at}" cy="{_AXIS}" r="6" class="members"/>')
    if finding.detectable is not None:
        said = f"{number(finding.detectable)}: found {finding.power:.0%} of the time"
        parts += _flag(place(finding.detectable), 116, said, "detectable")
    parts += [
        f'<line x1="{low}" x2="{high}" y1="{_AXIS}" y2="{_AXIS}" class="interval"/>',
        f'<line x1="{low}" x2="{low}" y1="{_AXIS - 7}" y2="{_AXIS + 7}" class="interval"/>',
        f'<line x1="{high}" x2="{high}" y1="{_AXIS - 7}" y2="{_AXIS + 7}" class="interval"/>',
        *_flag(value, 96, f"{number(finding.value)} found", "found"),
        f'<circle cx="{value}" cy="{_AXIS}" r="6" class="estimate"/>',
    ]
    description = (
        f"{finding.title}: {number(finding.value)} found, interval {number(finding.low)} to {number(finding.high)} at "
        f"{finding.confidence:.0%}; {number(finding.nothing)} if nothing is known"
        + ("" if finding.members is None else f"; {number(finding.members)} for members of the data")
        + (
            ""
            if finding.detectable is None
            else f"; {number(finding.detectable)} found {finding.power:.0%} of the time"
        )
        + "."
    )
    return _svg(name, "Estimate and interval", description, 122, parts)


def epsilon_chart(name: str, claim: Claim) -> str:
    """Epsilon: what is claimed, the bound that was found, the largest that could have been.

    Args:
        name: Unique on the page.
        claim: With what was found.

    Returns:
        SVG; empty where nothing was found.
    """
    if claim.found is None or claim.largest is None:
        return ""
    claimed = claim.epsilon
    place = _scale([0.0, claim.found, claim.largest, *([] if claimed is None else [claimed])])
    found, largest = place(claim.found), place(claim.largest)
    parts = [
        f'<line x1="0" x2="100%" y1="{_AXIS}" y2="{_AXIS}" class="axis"/>',
        f'<line x1="{place(0.0)}" x2="{largest}" y1="{_AXIS}" y2="{_AXIS}" class="reach"/>',
        *_flag(largest, 116, f"{claim.largest:.2f} could have been found", "detectable"),
        *([] if claimed is None else _flag(place(claimed), 32, f"{claimed:g} claimed", "null")),
        *_flag(found, 96, f"{claim.found:.2f} found, at least", "found"),
        f'<circle cx="{found}" cy="{_AXIS}" r="6" class="estimate"/>',
    ]
    said = "no epsilon claimed" if claimed is None else f"epsilon {claimed:g} claimed"
    description = (
        f"{said}; lower bound found {claim.found:.2f}; largest that could have been found {claim.largest:.2f}."
    )
    return _svg(name, "Epsilon claimed and found", description, 122, parts)


def _scale(values: Iterable[float]) -> _Scale:
    found = [value for value in values if math.isfinite(value)]
    low, high = min(found), max(found)
    spread = (high - low) or 1.0
    return _Scale(low - _MARGIN * spread, high + _MARGIN * spread)


@dataclass(frozen=True)
class _Scale:
    """Puts values on an axis across the page.

    Attributes:
        low: Its left end.
        high: Its right end.
    """

    low: float
    high: float

    def __call__(self, value: float) -> str:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{100 * share:.2f}%"


def _flag(at: str, y: int, text: str, kind: str) -> list[str]:
    """A text above or below the axis, where there is room for it, and a line from it to its place there."""
    share = float(at.rstrip("%"))
    side, shift = ("start", -4) if share < 30 else ("end", 4) if share > 70 else ("middle", 0)
    foot, head = (_AXIS + 9, y - 12) if y > _AXIS else (_AXIS + 9 if kind == "null" else _AXIS - 7, y + 4)
    return [
        f'<line x1="{at}" x2="{at}" y1="{foot}" y2="{head}" class="{kind}"/>',
        f'<text x="{at}" y="{y}" dx="{shift}" class="{side}">{escape(text)}</text>',
    ]


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[str]) -> str:
    # Texts last, so that no line runs through one.
    ordered = sorted(parts, key=lambda part: part.startswith("<text"))
    return (
        f'<svg role="img" width="100%" height="{height}" aria-labelledby="{name}-title {name}-about">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-about">{escape(description)}</desc>'
        f"{''.join(ordered)}</svg>"
    )


def number(value: float) -> str:
    """A figure with a real minus, and as many digits as say something."""
    text = f"{abs(value):.2f}" if abs(value) >= 1 else f"{abs(value):.3f}"
    if not float(text):
        return "0"
    return f"{MINUS}{text}" if value < 0 else text


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} records"
