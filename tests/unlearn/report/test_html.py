"""The page, without a browser: complete, well-formed, nobody's code in it, and never written over something else."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unlearn.report.made import HOSTILE, everything, nothing
from unlearn.errors import ConfigurationError, InputError
from unlearn.report import Report, render, write
from unlearn.report.html import MARK, NOTHING, TEMPLATES, code, duration, environment, frame, grouped, percent, rate

VOID = {"meta", "br", "img", "hr", "input", "link"}
SECTIONS = ["status", "requests", "forgotten", "shards", "cost", "audits", "epsilon", "receipts", "limits"]


class Page(HTMLParser):
    """Elements of a page, in order; refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag != "style").split())


@pytest.fixture(scope="module", params=[everything, nothing], ids=["everything", "nothing"])
def report(request: pytest.FixtureRequest) -> Report:
    found: Report = request.param()
    return found


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(render(report))


def test_sections_come_in_the_declared_order(page: Page) -> None:
    assert [item["id"] for item in page.all("section")] == SECTIONS
    assert [item["href"] for item in page.all("a")] == ["#status", *(f"#{name}" for name in SECTIONS)]


def test_an_older_state_alone_is_spoken_of_where_no_method_made_what_is_served() -> None:
    plain = everything()
    made = replace(plain.cost, services=(replace(plain.cost.services[0], by_method=True), *plain.cost.services[1:]))
    told = "what it made from a state that knew them"
    assert told not in Page(render(plain)).words
    assert told in Page(render(replace(plain, cost=made))).words


def test_ids_are_unique_and_what_refers_to_them_finds_them(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes, _ in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    referred = [item["href"] for item in page.all("a")]
    assert all(target is not None and target[0] == "#" and target[1:] in ids for target in referred)
    for _, attributes, _ in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)


def test_headings_go_down_by_one(page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_language_tables_and_pictures_are_described(page: Page, report: Report) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(item.get("scope") in {"col", "row", "colgroup"} for item in page.all("th"))
    charts = page.all("svg")
    assert len(charts) == len(page.all("title")) - 1 == len(page.all("desc"))
    assert all(item["role"] == "img" and item["aria-labelledby"] for item in charts)
    assert (len(charts) > 5) == bool(report.requests.total)


def test_nothing_is_loaded_and_nothing_runs(report: Report) -> None:
    text = render(report)
    page = Page(text)
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "video", "audio", "base", "image"}
    for tag, attributes, _ in page.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"src", "srcset", "style", "xlink:href"}
        ]
        assert tag == "a" or "href" not in attributes
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|@font-face|expression\(", style)
    policy = next(item["content"] for item in page.all("meta") if item.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_are_texts() -> None:
    text = render(everything())
    assert "<script" not in text
    assert "<img" not in text
    page = Page(text)
    # In the heading and title, the learner, a failure, a method, measured words, audits (two texts), an audit that was
    # refused, a claim, a receipt, a command, and a chart's description.
    assert page.words.count("<script>alert(1)</script>") >= 11
    assert page.words.count("{{ 7*7 }}") >= 11


def test_the_frame_for_notebooks_is_escaped_once_more() -> None:
    found = frame(everything())
    assert found == everything()._repr_html_()
    page = Page(found)
    (only,) = page.all("iframe")
    assert only["srcdoc"] == render(everything())
    assert only["sandbox"] is None
    assert len(page.elements) == 1


def test_the_page_says_all_that_the_data_says() -> None:
    report = everything()
    words = Page(render(report)).words
    for text in (
        report.status.sentence,
        "Somebody has to act",
        "2 earlier requests left out",
        "overdue by 3 days",
        "1 day late",
        "12 days left",
        "1,235",
        "1 mark was lifted",
        "1 still there saw forgotten records",
        "Left out: 2 shards that the fewest requests hit.",
        "94.7%",
        "no shard could predict",
        "REFUTED",
        "of an earlier state, not of the one that is served now",
        "3 others set aside",
        "38.25%",
        "1 of the 2 below were",
        "does not stand up",
        "0.40",
        report.limits.guarantee,
        report.limits.adaptive,
        *report.limits.not_proven,
        *report.limits.of_page,
        *report.limits.withheld,
    ):
        assert " ".join(text.replace("`", " ").split()) in words or text in words, text


def test_a_workspace_in_which_nothing_happened() -> None:
    words = Page(render(nothing())).words
    for text in (
        "There is no request.",
        "There are no records yet.",
        "Nothing was trained yet.",
        "There is no signed audit.",
        "No receipt was issued yet.",
        "so nothing is claimed",
        "Nothing is left to be done",
    ):
        assert text in words, text
    assert "What holds now" not in words


def test_every_dataclass_field_is_json() -> None:
    report = everything()
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["name"] == HOSTILE
    assert document["requests"]["shown"][0]["submitted_at"].startswith("2030-05-08")
    assert len(document["shards"]["rows"]) == 6


# --- the map -------------------------------------------------------------------------------------------------------


def test_the_map_shows_every_cell_in_words_and_in_colour() -> None:
    report = everything()
    page = Page(render(report))
    cells = [item for item in page.all("td") if (item.get("class") or "").startswith("cell ")]
    assert len(cells) == 36
    kinds = Counter((item["class"] or "").split()[1] for item in cells)
    states = [cell for row in report.shards.rows for cell in row.cells]
    assert kinds["missing"] == sum(cell.state == "missing" for cell in states)
    assert kinds["empty"] == sum(cell.state == "empty" for cell in states)
    built = [cell for cell in states if cell.state == "built"]
    assert kinds["hit"] == sum(cell.requests > 0 for cell in built)
    assert kinds["again"] == sum(cell.requests == 0 and cell.destroyed > 0 for cell in built)
    assert kinds["kept"] == sum(cell.requests == 0 and cell.destroyed == 0 for cell in built)
    spans = [item for item in page.all("th") if item.get("scope") == "colgroup"]
    assert [item["colspan"] for item in spans] == ["3", "3"]


# --- the file ------------------------------------------------------------------------------------------------------


def test_a_report_replaces_a_report(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert write(nothing(), file) == file
    assert file.read_bytes()[:1024].count(MARK.encode()) == 1
    write(everything(), str(file))
    assert "Somebody has to act" in file.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><p>mine</p>", b"\xff" * 5000, b"x" * 2000 + MARK.encode()])
def test_nothing_else_is_overwritten(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "thesis.html"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not a report"):
        write(nothing(), file)
    assert file.read_bytes() == content


def test_folders_are_neither_made_nor_replaced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write(nothing(), tmp_path / "missing" / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        write(nothing(), tmp_path)


def test_a_full_disk_leaves_the_older_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(nothing(), tmp_path / "report.html")
    before = file.read_bytes()

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write(everything(), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=r"sisa-unlearn\[report\]"):
        render(nothing())
    environment.cache_clear()


# --- colours -------------------------------------------------------------------------------------------------------

TEXT_ON_GROUND = [
    *(("ink", ground) for ground in ("paper", "surface", "done-paper", "wait-paper", "act-paper")),
    *(("muted", ground) for ground in ("paper", "surface")),
    *((name, f"{name}-paper") for name in ("done", "wait", "act")),
    ("wait", "paper"),
    ("act", "paper"),
    ("accent", "paper"),
    ("accent-ink", "accent"),
    ("soft-ink", "soft"),
    ("cell-ink", "cell"),
]


def colours() -> list[dict[str, str]]:
    """The colours of the light, the dark and the printed page."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    return [blocks[0] | block for block in blocks]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("text", "ground"), TEXT_ON_GROUND)
def test_contrast(text: str, ground: str) -> None:
    found = colours()
    assert len(found) == 3
    for block in found:
        dark, bright = sorted((luminance(block[text]), luminance(block[ground])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (block[text], block[ground])


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, NOTHING),
        (0.0, "0 ms"),
        (0.0042, "4 ms"),
        (1.0, "1.0 s"),
        (90.0, "1.5 min"),
        (7200.0, "2.0 h"),
        (864_000.0, "10.0 days"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0%"), (1e-6, "< 0.1%"), (0.925, "92.5%"), (0.9999, "> 99.9%"), (1.0, "100.0%")]
)
def test_shares_are_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_small_words() -> None:
    assert rate(0.95) == "95%"
    assert rate(0.3825) == "38.25%"
    assert grouped("0123456789abcdef0") == ["01234567", "89abcdef", "0"]
    assert code("run `a b` now") == [(False, "run "), (True, "a b"), (False, " now")]


def test_templates_are_part_of_the_package() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == ["report.html", "style.css"]
